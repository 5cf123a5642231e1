// Goal: a checkpoint gives back what was written, or less, never something else. Method: folders with values of every
// form, opened again whole, and after damage to the journal and to values.
#include "agent/daemon/checkpoint_folder.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "agent/packing/directory_archive.h"

namespace shoal::daemon {
namespace {

namespace fs = std::filesystem;
using Form = ValueTable::Form;

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

class CheckpointFolders : public ::testing::Test {
 protected:
  CheckpointFolders() {
    std::string name = "/tmp/checkpoint_folder.XXXXXX";
    base_ = ::mkdtemp(name.data());
    dir_ = base_ + "/deep/er";
  }
  ~CheckpointFolders() override { fs::remove_all(base_); }

  static CheckpointRecord record(std::uint64_t task, std::vector<SavedValue> values = {}) {
    CheckpointRecord out;
    out.entry.task = TaskId(task);
    out.entry.function = "app.f";
    out.entry.call = task * 7;
    out.entry.outputs.push_back({client::Inline{Bytes("inline")}, false, 0});
    for (auto& value : values) {
      value.output = static_cast<std::uint32_t>(out.entry.outputs.size());
      out.entry.outputs.push_back({client::Nothing{}, true, value.bytes});
      out.values.push_back(std::move(value));
    }
    return out;
  }

  // Three tasks: small, with a large value and a file, with a directory.
  void fill() {
    auto opened = CheckpointFolder::open(dir_);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    write(base_ + "/large", std::string(3'000'000, 'x'));
    write(base_ + "/table.csv", "1,2,3\n");
    fs::create_directories(base_ + "/tree/sub");
    write(base_ + "/tree/sub/leaf", "green");
    auto large = opened->folder.save(base_ + "/large", Form::kMemory, "");
    auto file = opened->folder.save(base_ + "/table.csv", Form::kFile, "table.csv");
    auto tree = opened->folder.save(base_ + "/tree", Form::kDirectory, "tree");
    ASSERT_TRUE(large && file && tree);
    ASSERT_TRUE(opened->folder.append({record(1)}).has_value());
    ASSERT_TRUE(opened->folder.append({record(2, {*large, *file}), record(3, {*tree})}).has_value());
  }

  std::string base_;
  std::string dir_;
};

TEST_F(CheckpointFolders, GiveBackValuesFilesAndDirectories) {
  fill();
  auto opened = CheckpointFolder::open(dir_);
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  ASSERT_EQ(opened->records.size(), 3u);
  EXPECT_EQ(opened->lost_values, 0u);
  EXPECT_EQ(opened->records[0].entry.function, "app.f");
  EXPECT_EQ(opened->records[0].entry.call, 7u);
  const auto& second = opened->records[1];
  ASSERT_EQ(second.values.size(), 2u);
  EXPECT_EQ(read(opened->folder.path_of(second.values[0])), std::string(3'000'000, 'x'));
  EXPECT_EQ(second.values[1].name, "table.csv");
  EXPECT_EQ(read(opened->folder.path_of(second.values[1])), "1,2,3\n");
  const auto& third = opened->records[2].values.at(0);
  ASSERT_TRUE(packing::unpack_directory(opened->folder.path_of(third), base_ + "/copy").has_value());
  EXPECT_EQ(read(base_ + "/copy/sub/leaf"), "green");
}

TEST_F(CheckpointFolders, KeepOneCopyOfEqualValues) {
  fill();
  auto opened = CheckpointFolder::open(dir_);
  const auto files = [&] { return std::distance(fs::directory_iterator(dir_ + "/values"), fs::directory_iterator()); };
  const auto before = files();
  auto again = opened->folder.save(base_ + "/large", Form::kMemory, "");
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(files(), before);
}

TEST_F(CheckpointFolders, LeaveOutValuesThatAreNotWhatTheyWere) {
  fill();
  std::string table;
  {
    auto opened = CheckpointFolder::open(dir_);
    table = opened->folder.path_of(opened->records[1].values[1]);
    fs::remove(opened->folder.path_of(opened->records[2].values[0]));
  }
  fs::permissions(table, fs::perms::owner_all);
  write(table, "1,2,4\n");
  auto opened = CheckpointFolder::open(dir_);
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(opened->lost_values, 2u);
  EXPECT_EQ(opened->records[1].values.size(), 1u);
  EXPECT_TRUE(opened->records[2].values.empty());
  EXPECT_TRUE(opened->records[2].entry.outputs[1].held) << "to be made again";
  EXPECT_FALSE(fs::exists(table)) << "nobody names it any more";
}

TEST_F(CheckpointFolders, GoOnAfterATornTail) {
  fill();
  const std::string journal = dir_ + "/journal";
  const std::string whole = read(journal);
  write(journal, whole.substr(0, whole.size() - 5));
  {
    auto opened = CheckpointFolder::open(dir_);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    EXPECT_EQ(opened->records.size(), 2u);
    EXPECT_GT(opened->cut_bytes, 0u);
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_ + "/values"), fs::directory_iterator()), 2)
        << "the directory's archive belonged to the record that is gone";
    ASSERT_TRUE(opened->folder.append({record(3)}).has_value());
  }
  EXPECT_EQ(CheckpointFolder::open(dir_)->records.size(), 3u);
}

TEST_F(CheckpointFolders, BelieveTheLastRecordOfATask) {
  fill();
  {
    auto opened = CheckpointFolder::open(dir_);
    CheckpointRecord other = record(2);
    other.entry.call = 1;
    ASSERT_TRUE(opened->folder.append({other}).has_value());
  }
  auto opened = CheckpointFolder::open(dir_);
  ASSERT_EQ(opened->records.size(), 3u);
  EXPECT_EQ(opened->records[1].entry.call, 1u);
  EXPECT_TRUE(opened->records[1].values.empty());
}

TEST_F(CheckpointFolders, RefuseRecordsThatNameWhatCannotBe) {
  for (int what = 0; what < 4; ++what) {
    fs::remove_all(dir_);
    auto opened = CheckpointFolder::open(dir_);
    SavedValue value{0, Form::kFile, "name", std::string(64, 'a'), 1};
    if (what == 1) value.digest = "../../../etc/passwd";
    if (what == 2) value.name = "../up";
    CheckpointRecord bad = record(1, {value});
    if (what == 0) bad.values[0].output = 7;
    if (what == 3) bad.values[0].output = 0;  // which has its value inline
    ASSERT_TRUE(opened->folder.append({bad}).has_value());
    opened = tl::unexpected<Error>(Error{Code::kFailed, ""});  // closed
    auto again = CheckpointFolder::open(dir_);
    ASSERT_FALSE(again.has_value()) << what;
    EXPECT_EQ(again.error().code, Code::kCorrupt);
  }
}

TEST_F(CheckpointFolders, SayWhoHasIt) {
  auto first = CheckpointFolder::open(dir_);
  auto second = CheckpointFolder::open(dir_);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Code::kUnavailable);
  write(base_ + "/plain", "");
  EXPECT_FALSE(CheckpointFolder::open(base_ + "/plain").has_value());
}

}  // namespace
}  // namespace shoal::daemon
