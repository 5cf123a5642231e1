// Goal: what is acknowledged is there after a restart, for keys and for objects of every size; a directory
// that cannot be used is refused with a clear error. Method: a real engine in a temporary directory, closed
// and opened again.
#include <sys/mount.h>
#include <unistd.h>

#include "tests/unit/storage_engine/fixture.h"

namespace shoal::storage::testing {
namespace {

TEST_F(EngineTest, KeysSurviveARestart) {
  open();
  engine->persist({{"a/1", Bytes("one")}, {"a/2", Bytes("two")}, {"b/1", Bytes("three")}}, ++last);
  ASSERT_TRUE(wait(last));
  ASSERT_TRUE(persist("a/1", ""));
  reopen();
  auto all = engine->load("");
  ASSERT_TRUE(all);
  EXPECT_EQ(*all, (std::map<std::string, Bytes>{{"a/2", Bytes("two")}, {"b/1", Bytes("three")}}));
  EXPECT_EQ(engine->load("a/")->size(), 1U);
  EXPECT_TRUE(engine->load("c/")->empty());
}

TEST_F(EngineTest, RelaxedWritesSurviveACleanClose) {
  open();
  for (int i = 0; i < 100; ++i) engine->persist({{"k" + std::to_string(i), Bytes("v")}}, ++last, Durability::kProcess);
  ASSERT_TRUE(wait(last));
  reopen();
  EXPECT_EQ(engine->load("k")->size(), 100U);
}

TEST_F(EngineTest, CompletionsComeInOrderOfTheCalls) {
  open();
  for (std::uint64_t i = 1; i <= 500; ++i) engine->persist({{"k", Bytes(std::to_string(i))}}, i);
  std::vector<Completion> finished;
  while (finished.size() < 500) {
    pollfd event{engine->event_fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&event, 1, 10'000), 1);
    engine->poll_completions(finished);
  }
  for (std::uint64_t i = 0; i < 500; ++i) EXPECT_EQ(finished[i].id, i + 1);
  EXPECT_EQ(engine->load("k")->at("k"), "500");
}

TEST_F(EngineTest, ObjectsOfAllSizes) {
  open();
  const std::vector<std::size_t> sizes{0, 1, 100, 16'384, 16'385, 65'535, 65'536, 65'537, 1'000'003, 5U << 20};
  for (std::size_t i = 0; i < sizes.size(); ++i) ASSERT_TRUE(put(object_id(i), content_of(i, sizes[i])));
  for (int life = 0; life < 2; ++life) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const Bytes expected = content_of(i, sizes[i]);
      auto got = engine->get(object_id(i));
      ASSERT_TRUE(got) << got.error().message;
      EXPECT_EQ(*got, expected) << sizes[i];
      auto mapping = engine->map(object_id(i));
      ASSERT_TRUE(mapping) << mapping.error().message;
      EXPECT_EQ(mapping->content(), expected);
      EXPECT_EQ(mapping->fd() >= 0, sizes[i] > config.inline_bytes_max);
      auto part = engine->get_range(object_id(i), 50, 70'000);
      ASSERT_TRUE(part);
      EXPECT_EQ(*part, std::string_view(expected).substr(std::min<std::size_t>(50, expected.size()), 70'000));
    }
    EXPECT_EQ(engine->manifests().size(), sizes.size());
    EXPECT_EQ(engine->usage().objects, sizes.size());
    reopen();
  }
}

TEST_F(EngineTest, FilesAreTakenAsTheyAre) {
  open();
  const Bytes content = content_of(9, 3'000'000);
  const std::string path = root + "/input";
  std::ofstream(path, std::ios::binary) << content;
  engine->put_async(manifest_of(object_id(9), content.size()), FileSource{path}, ++last);
  ASSERT_TRUE(wait(last));
  EXPECT_EQ(*engine->get(object_id(9)), content);
  engine->put_async(manifest_of(object_id(10), content.size()), FileSource{root + "/missing"}, ++last);
  EXPECT_EQ(wait(last).error().code, Code::kNotFound);
}

TEST_F(EngineTest, WrongContentIsRefused) {
  open();
  const Bytes large = content_of(1, 100'000);
  const Bytes small = content_of(2, 100);
  EXPECT_TRUE(put(fake_hash(large), large, Verify::kYes));
  EXPECT_TRUE(put(fake_hash(small), small, Verify::kYes));
  EXPECT_EQ(put(object_id(1), large, Verify::kYes).error().code, Code::kCorrupt);
  EXPECT_EQ(put(object_id(2), small, Verify::kYes).error().code, Code::kCorrupt);
  EXPECT_FALSE(engine->contains(object_id(1)));
  EXPECT_EQ(engine->get(object_id(1)).error().code, Code::kNotFound);
  engine->put_async(manifest_of(object_id(3), 99), small, ++last);
  EXPECT_EQ(wait(last).error().code, Code::kInvalid) << "the manifest says another size";
  EXPECT_EQ(*engine->get(fake_hash(large)), large);
}

TEST_F(EngineTest, ManifestsCanBeReplaced) {
  open();
  ASSERT_TRUE(put(object_id(1), content_of(1, 50)));
  Manifest manifest = manifest_of(object_id(1), 50);
  manifest.policy.replicas = 5;
  engine->put_manifest(manifest, ++last);
  ASSERT_TRUE(wait(last));
  engine->put_manifest(manifest_of(object_id(2), 50), ++last);
  EXPECT_EQ(wait(last).error().code, Code::kNotFound);
  reopen();
  EXPECT_EQ(engine->manifest(object_id(1))->policy.replicas, 5U);
}

TEST_F(EngineTest, EraseAndPutAgainInOneBreath) {
  open();
  const Bytes content = content_of(1, 200'000);
  engine->put_async(manifest_of(object_id(1), content.size()), content, ++last);
  engine->erase(object_id(1), ++last);
  engine->put_async(manifest_of(object_id(1), content.size()), content, ++last);
  engine->erase(object_id(2), ++last);
  ASSERT_TRUE(wait(last)) << "erasing what is not there is no error";
  EXPECT_EQ(*engine->get(object_id(1)), content);
  ASSERT_TRUE(erase(object_id(1)));
  EXPECT_EQ(engine->get(object_id(1)).error().code, Code::kNotFound);
  reopen();
  EXPECT_FALSE(engine->contains(object_id(1)));
  EXPECT_EQ(engine->usage().objects, 0U);
}

TEST_F(EngineTest, SpaceOfErasedObjectsComesBack) {
  config.segment_bytes = 1U << 20;
  open();
  for (std::uint64_t n = 0; n < 40; ++n) ASSERT_TRUE(put(object_id(n), content_of(n, 200'000)));
  EXPECT_GE(engine->usage().segments, 8U);
  auto kept = engine->map(object_id(3));
  ASSERT_TRUE(kept);
  for (std::uint64_t n = 0; n < 40; ++n) {
    if (n % 4 == 0) continue;
    ASSERT_TRUE(erase(object_id(n)));
  }
  engine->compact(++last);
  ASSERT_TRUE(wait(last));
  EXPECT_LE(engine->usage().segment_bytes, 2 * engine->usage().object_bytes + config.segment_bytes);
  for (int life = 0; life < 2; ++life) {
    for (std::uint64_t n = 0; n < 40; n += 4) EXPECT_EQ(*engine->get(object_id(n)), content_of(n, 200'000));
    reopen();
  }
  EXPECT_EQ(kept->content(), content_of(3, 200'000)) << "a mapping outlives the erase";
}

// ---- directories that cannot be used ----

TEST_F(EngineTest, ASecondEngineIsToldWhoHasTheDirectory) {
  open();
  auto second = Engine::open(config);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kUnavailable);
  EXPECT_NE(second.error().message.find(std::to_string(::getpid())), std::string::npos) << second.error().message;
  EXPECT_NE(second.error().message.find(config.dir), std::string::npos);
  ASSERT_TRUE(persist("still", "fine"));
}

TEST_F(EngineTest, AForeignDirectoryIsLeftAlone) {
  std::filesystem::create_directories(config.dir);
  std::ofstream(config.dir + "/thesis.tex") << "precious";
  auto opened = Engine::open(config);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kInvalid);
  EXPECT_NE(opened.error().message.find("thesis.tex"), std::string::npos);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(config.dir), {}), 1) << "nothing was added";
}

TEST_F(EngineTest, ANewerFormatIsRefused) {
  open();
  engine.reset();
  std::ofstream(config.dir + "/marker") << "shoal store, format 99\n";
  auto opened = Engine::open(config);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kUnsupported);
  EXPECT_NE(opened.error().message.find("99"), std::string::npos);
}

TEST_F(EngineTest, AMissingParentIsNamed) {
  config.dir = root + "/no/such/place";
  auto opened = Engine::open(config);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find(config.dir), std::string::npos);
}

TEST_F(EngineTest, AReadOnlyDirectoryIsDenied) {
  SmallDisk disk(root + "/ro", "size=1m,ro");
  if (!disk.mounted) GTEST_SKIP() << "mounting a file system is not allowed here";
  config.dir = disk.path;
  auto opened = Engine::open(config);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kDenied) << opened.error().message;
}

// ---- full disk ----

// Goal: a full disk refuses writes and nothing else; room made, writes go on; nothing acknowledged is lost.
TEST_F(EngineTest, FullDisk) {
  SmallDisk disk(root + "/small", "size=40m");
  if (!disk.mounted) GTEST_SKIP() << "mounting a file system is not allowed here";
  config.dir = disk.path + "/store";
  config.segment_bytes = 4U << 20;
  open();
  std::vector<std::uint64_t> stored;
  Result<> last_put;
  for (std::uint64_t n = 0; n < 100 && last_put; ++n) {
    last_put = put(object_id(n), content_of(n, 1U << 20));
    if (last_put) stored.push_back(n);
  }
  ASSERT_FALSE(last_put);
  EXPECT_EQ(last_put.error().code, Code::kExhausted) << last_put.error().message;
  EXPECT_TRUE(persist("note", "the key-value lane still has its reserve"));

  // Something else takes the rest: now notes are refused as well, reads go on.
  {
    std::ofstream hog(disk.path + "/hog", std::ios::binary);
    const std::string block(1U << 20, 'x');
    while (hog.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  auto refused = persist("more", "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kExhausted) << refused.error().message;
  EXPECT_EQ(put(object_id(1'000), content_of(1, 10)).error().code, Code::kExhausted);
  for (std::uint64_t n : stored) EXPECT_EQ(*engine->get(object_id(n)), content_of(n, 1U << 20));

  std::filesystem::remove(disk.path + "/hog");
  EXPECT_TRUE(persist("more", "x"));
  for (std::size_t i = 0; i < stored.size() / 2; ++i) ASSERT_TRUE(erase(object_id(stored[i])));
  EXPECT_TRUE(put(object_id(2'000), content_of(5, 1U << 20)));
  reopen();
  EXPECT_EQ(engine->load("")->size(), 2U);
  for (std::size_t i = stored.size() / 2; i < stored.size(); ++i) {
    EXPECT_EQ(*engine->get(object_id(stored[i])), content_of(stored[i], 1U << 20));
  }
  engine.reset();
}

}  // namespace
}  // namespace shoal::storage::testing
