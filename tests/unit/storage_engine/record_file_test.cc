// Goal: what append() acknowledged is read again, whatever a crash or a bad disk does to what comes after it. Method: a
// file cut at every length, and with every byte turned over.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "storage/engine/record_file.h"

namespace shoal::storage::testing {
namespace {

constexpr std::string_view kKind = "testfile";

class RecordFiles : public ::testing::Test {
 protected:
  RecordFiles() {
    std::string name = "/tmp/record_file.XXXXXX";
    dir_ = ::mkdtemp(name.data());
    path_ = dir_ + "/file";
  }
  ~RecordFiles() override { std::filesystem::remove_all(dir_); }

  Result<RecordFile::Opened> open() { return RecordFile::open(path_, kKind, 2); }
  std::string bytes() {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& content) { std::ofstream(path_, std::ios::binary | std::ios::trunc) << content; }
  // Three records, and where each ends.
  std::vector<std::uint64_t> fill() {
    auto opened = open();
    std::vector<std::uint64_t> ends{opened->file.size()};
    for (const auto& record : records_) {
      EXPECT_TRUE(opened->file.append({record}).has_value());
      ends.push_back(opened->file.size());
    }
    return ends;
  }
  const std::vector<Bytes> records_{Bytes("first"), Bytes("the second one"), Bytes("3")};
  std::string dir_;
  std::string path_;
};

TEST_F(RecordFiles, GiveBackWhatWasAppended) {
  fill();
  auto opened = open();
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  EXPECT_EQ(opened->records, records_);
  EXPECT_EQ(opened->cut_bytes, 0u);
  ASSERT_TRUE(opened->file.append({Bytes("4"), Bytes("5")}).has_value());
  opened = tl::unexpected<Error>(Error{Code::kFailed, ""});  // closed
  EXPECT_EQ(open()->records.size(), 5u);
}

TEST_F(RecordFiles, LoseOnlyTheTornTail) {
  const auto ends = fill();
  const std::string whole = bytes();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    write(whole.substr(0, length));
    auto opened = open();
    ASSERT_TRUE(opened.has_value()) << length << ": " << opened.error().message;
    std::size_t left = 0;
    while (left < records_.size() && ends[left + 1] <= length) ++left;
    EXPECT_EQ(opened->records.size(), left) << length;
    ASSERT_TRUE(opened->file.append({Bytes("more")}).has_value());
    opened = tl::unexpected<Error>(Error{Code::kFailed, ""});
    auto again = open();
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->records.size(), left + 1) << "what was torn is not in the way, at " << length;
    EXPECT_EQ(again->records.back(), "more");
  }
}

TEST_F(RecordFiles, NeverGiveWhatWasNotWritten) {
  const auto ends = fill();
  const std::string whole = bytes();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int bit : {0, 7}) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      write(damaged);
      auto opened = open();
      if (at < ends[0]) {
        EXPECT_FALSE(opened.has_value()) << "a damaged head, at " << at;
        continue;
      }
      ASSERT_TRUE(opened.has_value()) << at;
      std::size_t before = 0;
      while (ends[before + 1] <= at) ++before;
      ASSERT_EQ(opened->records.size(), before) << at;
      for (std::size_t i = 0; i < before; ++i) EXPECT_EQ(opened->records[i], records_[i]);
      EXPECT_EQ(opened->cut_bytes, whole.size() - ends[before]);
    }
  }
}

TEST_F(RecordFiles, BelongToOneAtATime) {
  auto first = open();
  auto second = open();
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Code::kUnavailable);
}

TEST_F(RecordFiles, RefuseOtherFilesAndNewerFormats) {
  write("a text that somebody keeps here");
  EXPECT_EQ(open().error().code, Code::kInvalid);
  EXPECT_EQ(bytes(), "a text that somebody keeps here");
  write("short");
  EXPECT_EQ(open().error().code, Code::kInvalid);
  std::filesystem::remove(path_);
  {
    auto newer = RecordFile::open(path_, kKind, 3);
  }
  EXPECT_EQ(open().error().code, Code::kUnsupported);
}

TEST_F(RecordFiles, RefuseRecordsOfNoUse) {
  auto opened = open();
  EXPECT_EQ(opened->file.append({Bytes()}).error().code, Code::kInvalid);
  EXPECT_TRUE(opened->file.append({}).has_value());
}

}  // namespace
}  // namespace shoal::storage::testing
