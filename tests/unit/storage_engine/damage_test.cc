// Goal: damaged bytes are found, never served, and harm nothing else; what was not acknowledged disappears
// quietly. Method: files are changed behind the engine's back.
#include "tests/unit/storage_engine/fixture.h"

namespace shoal::storage::testing {
namespace {

TEST_F(EngineTest, EveryFlippedByteOfAnObjectIsDetected) {
  open();
  constexpr std::size_t kBytes = 300'000;
  ASSERT_TRUE(put(object_id(1), content_of(1, kBytes)));
  ASSERT_TRUE(put(object_id(2), content_of(2, kBytes)));
  auto mapping = engine->map(object_id(1));
  ASSERT_TRUE(mapping);
  const std::uint64_t start = mapping->offset();
  const std::string file = segment_files().front();
  std::uint64_t random = 7;
  for (int round = 0; round < 200; ++round) {
    random = mix64(random + 1);
    const std::uint64_t at = start + random % kBytes;
    flip_byte(file, at);
    auto got = engine->get(object_id(1));
    ASSERT_FALSE(got) << "byte " << at;
    EXPECT_EQ(got.error().code, Code::kCorrupt);
    EXPECT_EQ(*engine->get(object_id(2)), content_of(2, kBytes)) << "the neighbour is fine";
    flip_byte(file, at);
  }
  EXPECT_EQ(*engine->get(object_id(1)), content_of(1, kBytes));
}

TEST_F(EngineTest, ADamagedChecksumTableIsDamage) {
  open();
  ASSERT_TRUE(put(object_id(1), content_of(1, 100'000)));
  const std::uint64_t start = engine->map(object_id(1))->offset();
  flip_byte(segment_files().front(), start + 100'000 + 1);
  EXPECT_EQ(engine->get(object_id(1)).error().code, Code::kCorrupt);
}

TEST_F(EngineTest, AMapIsCheckedWhenItIsFirstMade) {
  open();
  ASSERT_TRUE(put(object_id(1), content_of(1, 9'000'000)));
  reopen();
  flip_byte(segment_files().front(), 5'000'000);
  auto mapping = engine->map(object_id(1));
  ASSERT_FALSE(mapping);
  EXPECT_EQ(mapping.error().code, Code::kCorrupt);
}

TEST_F(EngineTest, ADamagedObjectCanBePutAgain) {
  open();
  const Bytes content = content_of(1, 100'000);
  const ObjectId object = fake_hash(content);
  ASSERT_TRUE(put(object, content));
  flip_byte(segment_files().front(), 50'000);
  ASSERT_FALSE(engine->get(object));
  ASSERT_TRUE(put(object, content, Verify::kYes)) << "a verified copy replaces what is there";
  EXPECT_EQ(*engine->get(object), content);
  EXPECT_EQ(engine->usage().objects, 1U);
}

TEST_F(EngineTest, ATornTailIsCutOff) {
  open();
  ASSERT_TRUE(put(object_id(1), content_of(1, 100'000)));
  engine.reset();
  const std::string file = segment_files().front();
  const auto size = std::filesystem::file_size(file);
  std::ofstream(file, std::ios::app | std::ios::binary) << std::string(12'345, 'x');
  open();
  EXPECT_EQ(std::filesystem::file_size(file), size);
  ASSERT_TRUE(put(object_id(2), content_of(2, 100'000)));
  reopen();
  EXPECT_EQ(*engine->get(object_id(1)), content_of(1, 100'000));
  EXPECT_EQ(*engine->get(object_id(2)), content_of(2, 100'000));
}

TEST_F(EngineTest, ALostTailIsDamageOfThatObjectOnly) {
  open();
  ASSERT_TRUE(put(object_id(1), content_of(1, 100'000)));
  ASSERT_TRUE(put(object_id(2), content_of(2, 100'000)));
  engine.reset();
  const std::string file = segment_files().front();
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 50'000);
  open();
  ASSERT_TRUE(put(object_id(3), content_of(3, 100'000)));
  EXPECT_EQ(*engine->get(object_id(1)), content_of(1, 100'000));
  EXPECT_EQ(engine->get(object_id(2)).error().code, Code::kCorrupt);
  EXPECT_EQ(engine->map(object_id(2)).error().code, Code::kCorrupt);
  EXPECT_EQ(*engine->get(object_id(3)), content_of(3, 100'000));
}

TEST_F(EngineTest, AMissingSegmentIsDamage) {
  open();
  ASSERT_TRUE(put(object_id(1), content_of(1, 100'000)));
  engine.reset();
  std::filesystem::remove(segment_files().front());
  open();
  EXPECT_EQ(engine->get(object_id(1)).error().code, Code::kCorrupt);
  EXPECT_EQ(engine->map(object_id(1)).error().code, Code::kCorrupt);
  ASSERT_TRUE(put(object_id(2), content_of(2, 100'000)));
  EXPECT_EQ(*engine->get(object_id(2)), content_of(2, 100'000));
}

// ---- journals ----

TEST_F(EngineTest, JournalsKeepOrderAndSurviveRestarts) {
  open();
  for (int i = 0; i < 1'000; ++i) engine->append("app-1", Bytes("record " + std::to_string(i)), i == 999 ? ++last : 0);
  ASSERT_TRUE(wait(last));
  reopen();
  engine->append("app-1", Bytes("more"), ++last);
  ASSERT_TRUE(wait(last));
  auto records = engine->read_journal("app-1");
  ASSERT_TRUE(records);
  ASSERT_EQ(records->size(), 1'001U);
  EXPECT_EQ(records->at(42), "record 42");
  EXPECT_EQ(records->back(), "more");
  EXPECT_TRUE(engine->read_journal("other")->empty());
  engine->remove_journal("app-1");
  EXPECT_TRUE(engine->read_journal("app-1")->empty());
  engine->append("../escape", Bytes("x"), ++last);
  EXPECT_EQ(wait(last).error().code, Code::kInvalid);
  engine->append("empty", Bytes(), ++last);
  EXPECT_EQ(wait(last).error().code, Code::kInvalid);
}

TEST_F(EngineTest, ATornJournalTailIsCutAndDamageInsideIsTold) {
  open();
  for (int i = 0; i < 10; ++i) engine->append("j", Bytes("record number " + std::to_string(i)), ++last);
  ASSERT_TRUE(wait(last));
  engine.reset();
  const std::string file = config.dir + "/journals/j.log";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 3);
  open();
  EXPECT_EQ(engine->read_journal("j")->size(), 9U);
  engine->append("j", Bytes("after the tear"), ++last);
  ASSERT_TRUE(wait(last));
  EXPECT_EQ(engine->read_journal("j")->back(), "after the tear");
  EXPECT_EQ(engine->read_journal("j")->size(), 10U);
  engine.reset();
  flip_byte(file, 30);
  open();
  EXPECT_EQ(engine->read_journal("j").error().code, Code::kCorrupt);
  engine->append("j", Bytes("not here"), ++last);
  EXPECT_EQ(wait(last).error().code, Code::kCorrupt);
}

}  // namespace
}  // namespace shoal::storage::testing
