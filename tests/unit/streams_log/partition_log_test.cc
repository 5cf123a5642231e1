// Goal: what was appended is read back, in order, after restarts, torn writes, full disks and kill -9; retention
// removes whole old segments only; a repeated batch is recognised across restarts. Method: real files in a temporary
// directory, small segments so that every path runs, damage done by hand.
#include "streams/log/partition_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "tests/unit/streams_log/temporary_directory.h"

namespace shoal::streams {
namespace {

namespace fs = std::filesystem;

LogOptions small_segments() {
  LogOptions options;
  options.segment_bytes = 4096;
  return options;
}

Bytes batch_of(int first, int count, const ProducerStamp& stamp = {}) {
  std::vector<Record> records;
  for (int i = first; i < first + count; ++i) {
    Record record;
    record.value = Bytes("record " + std::to_string(i));
    record.timestamp_ms = i;
    records.push_back(std::move(record));
  }
  BatchOptions options;
  options.stamp = stamp;
  return *encode_batch(records, options);
}

std::unique_ptr<PartitionLog> open_log(const std::string& path, LogOptions options = small_segments()) {
  auto log = PartitionLog::open(path, options);
  EXPECT_TRUE(log) << log.error().message;
  (*log)->check_invariants();
  return std::move(*log);
}

void expect_records(PartitionLog& log, int first, int last) {
  std::vector<StoredRecord> all;
  Offset at = log.start();
  while (at < log.end()) {
    auto some = log.read(0, at, log.end(), 17, 1000);
    ASSERT_TRUE(some) << some.error().message;
    ASSERT_FALSE(some->empty());
    at = some->back().offset + 1;
    all.insert(all.end(), some->begin(), some->end());
  }
  ASSERT_EQ(all.size(), static_cast<std::size_t>(last - first + 1));
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].offset, first + static_cast<Offset>(i));
    EXPECT_EQ(all[i].record.value, "record " + std::to_string(first + static_cast<int>(i)));
  }
}

std::string newest_segment(const std::string& directory) {
  std::string newest;
  for (const std::string& name : list_directory(directory)) {
    if (name.ends_with(".log")) newest = name;
  }
  return directory + "/" + newest;
}

TEST(PartitionLog, AppendsReadsAndReopens) {
  TemporaryDirectory directory;
  {
    auto log = open_log(directory.path());
    for (int i = 0; i < 1000; i += 10) {
      auto appended = log->append(batch_of(i, 10), OnGap::kRefuse);
      ASSERT_TRUE(appended);
      EXPECT_EQ(appended->offsets, (OffsetRange{i, i + 9}));
    }
    EXPECT_GT(log->segments(), 3U);
    expect_records(*log, 0, 999);
  }
  auto log = open_log(directory.path());
  EXPECT_EQ(log->end(), 1000);
  EXPECT_EQ(log->cut_bytes(), 0U);
  expect_records(*log, 0, 999);
  auto from_middle = log->read(0, 555, log->end(), 3, 1 << 20);
  ASSERT_TRUE(from_middle);
  EXPECT_EQ(from_middle->front().offset, 555);
  EXPECT_EQ(from_middle->size(), 3U);
}

TEST(PartitionLog, ReadsWithoutIndexFiles) {
  TemporaryDirectory directory;
  {
    auto log = open_log(directory.path());
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(log->append(batch_of(i, 1), OnGap::kRefuse));
  }
  for (const std::string& name : list_directory(directory.path())) {
    if (!name.ends_with(".log")) fs::remove(directory.path() + "/" + name);
  }
  auto log = open_log(directory.path());
  expect_records(*log, 0, 499);
}

TEST(PartitionLog, CutsATornTailAtEveryLength) {
  TemporaryDirectory directory;
  {
    auto log = open_log(directory.path(), {});
    ASSERT_TRUE(log->append(batch_of(0, 5), OnGap::kRefuse));
    ASSERT_TRUE(log->append(batch_of(5, 1), OnGap::kRefuse));
  }
  const std::string segment = newest_segment(directory.path());
  const auto size = fs::file_size(segment);
  const auto first_batch = batch_of(0, 5).size();
  const std::string original = [&] {
    std::ifstream in(segment, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }();
  for (std::size_t kept = first_batch; kept < size; ++kept) {
    std::ofstream(segment, std::ios::binary | std::ios::trunc) << original.substr(0, kept);
    auto log = open_log(directory.path(), {});
    EXPECT_EQ(log->end(), 5);
    EXPECT_EQ(log->cut_bytes(), kept - first_batch);
    ASSERT_TRUE(log->append(batch_of(5, 1), OnGap::kRefuse));
    expect_records(*log, 0, 5);
  }
}

TEST(PartitionLog, CutsAfterAFlippedBitAndAfterZeros) {
  TemporaryDirectory directory;
  {
    auto log = open_log(directory.path(), {});
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(log->append(batch_of(i, 1), OnGap::kRefuse));
  }
  const std::string segment = newest_segment(directory.path());
  {
    std::fstream file(segment, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(batch_of(0, 1).size() + 30));
    file.put('\x7f');
  }
  {
    auto log = open_log(directory.path(), {});
    expect_records(*log, 0, 0);
  }
  std::ofstream(segment, std::ios::binary | std::ios::app) << std::string(5000, '\0');
  auto log = open_log(directory.path(), {});
  EXPECT_EQ(log->cut_bytes(), 5000U);
  expect_records(*log, 0, 0);
}

TEST(PartitionLog, DamageInASealedSegmentIsAnErrorThatNamesTheFile) {
  TemporaryDirectory directory;
  auto log = open_log(directory.path());
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(log->append(batch_of(i, 1), OnGap::kRefuse));
  ASSERT_GT(log->segments(), 2U);
  {
    std::fstream file(directory.path() + "/00000000000000000000.log", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(70);
    file.put('\x7f');
  }
  const auto read = log->read(0, 0, log->end(), 10, 1 << 20);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kCorrupt);
  EXPECT_NE(read.error().message.find("00000000000000000000.log"), std::string::npos);
  EXPECT_TRUE(log->read(0, 200, log->end(), 10, 1 << 20)) << "the rest is readable";
}

TEST(PartitionLog, RejectsRepeatedBatchesAcrossRestartsAndSegments) {
  TemporaryDirectory directory;
  for (const bool with_snapshots : {true, false}) {
    const std::string path = directory.path() + (with_snapshots ? "/with" : "/without");
    {
      auto log = open_log(path);
      for (int i = 0; i < 300; ++i) ASSERT_TRUE(log->append(batch_of(i, 1, {7, 0, i}), OnGap::kRefuse));
      const auto repeated = log->append(batch_of(299, 1, {7, 0, 299}), OnGap::kRefuse);
      ASSERT_TRUE(repeated);
      EXPECT_TRUE(repeated->duplicate);
      EXPECT_EQ(repeated->offsets, (OffsetRange{299, 299}));
    }
    if (!with_snapshots) {
      for (const std::string& name : list_directory(path)) {
        if (name.ends_with(".producers")) fs::remove(path + "/" + name);
      }
    }
    auto log = open_log(path);
    EXPECT_TRUE(log->append(batch_of(250, 1, {7, 0, 250}), OnGap::kRefuse)->duplicate);
    const auto partial = log->append(batch_of(298, 4, {7, 0, 298}), OnGap::kRefuse);
    ASSERT_TRUE(partial);
    EXPECT_EQ(partial->offsets, (OffsetRange{300, 301})) << "two of four were new";
    EXPECT_EQ(log->append(batch_of(900, 1, {7, 0, 900}), OnGap::kRefuse).error().code, Code::kInvalid);
    EXPECT_TRUE(log->append(batch_of(302, 1, {7, 1, 0}), OnGap::kRefuse));
    EXPECT_EQ(log->append(batch_of(303, 1, {7, 0, 302}), OnGap::kRefuse).error().code, Code::kStale);
    expect_records(*log, 0, 302);
  }
}

TEST(PartitionLog, RetentionRemovesWholeOldSegments) {
  TemporaryDirectory directory;
  auto log = open_log(directory.path());
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(log->append(batch_of(i, 1), OnGap::kRefuse));
  const std::size_t before = log->segments();
  const auto dropped = log->retain(3 * 4096, 0);
  EXPECT_GT(dropped.records, 0);
  EXPECT_LE(log->bytes(), 3U * 4096);
  EXPECT_LT(log->segments(), before);
  EXPECT_EQ(log->start(), dropped.records);
  expect_records(*log, static_cast<int>(log->start()), 999);
  const auto by_age = log->retain(0, std::numeric_limits<std::int64_t>::max() / 2);
  EXPECT_GT(by_age.records, 0);
  EXPECT_EQ(log->segments(), 1U) << "the newest segment stays";
  const Offset start = log->start();
  log.reset();
  log = open_log(directory.path());
  EXPECT_EQ(log->start(), start);
  EXPECT_EQ(log->end(), 1000);
  log->drop_before(1000);
  EXPECT_EQ(log->bytes(), log->segments() == 1 && log->start() == 1000 ? 0U : log->bytes());
}

// A file size limit stands in for the full disk: the write fails half way, as it does with ENOSPC.
TEST(PartitionLog, AFailedWriteLeavesTheLogGood) {
  TemporaryDirectory directory;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    auto log = PartitionLog::open(directory.path(), LogOptions{});
    const rlimit limit{1000, 1000};
    if (!log || ::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(1);
    int accepted = 0;
    while ((*log)->append(batch_of(accepted, 1), OnGap::kRefuse)) ++accepted;
    if ((*log)->append(batch_of(accepted, 1), OnGap::kRefuse)) ::_exit(2);
    if (!(*log)->read(0, 0, (*log)->end(), 1000, 1 << 20)) ::_exit(3);
    ::_exit(accepted == (*log)->end() && accepted > 5 ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  auto log = open_log(directory.path(), {});
  EXPECT_EQ(log->cut_bytes(), 0U);
  expect_records(*log, 0, static_cast<int>(log->end()) - 1);
}

TEST(PartitionLog, KillNineLosesNothingThatWasAppended) {
  TemporaryDirectory directory;
  for (int round = 0; round < 5; ++round) {
    const std::string path = directory.path() + "/" + std::to_string(round);
    int acknowledged[2];
    ASSERT_EQ(::pipe(acknowledged), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      auto log = PartitionLog::open(path, small_segments());
      for (int i = 0; log; ++i) {
        if (!(*log)->append(batch_of(i, 1), OnGap::kRefuse)) ::_exit(1);
        if (::write(acknowledged[1], &i, sizeof i) != sizeof i) ::_exit(1);
      }
      ::_exit(1);
    }
    ::close(acknowledged[1]);
    int last = -1;
    while (last < 200 * (round + 1)) ASSERT_EQ(::read(acknowledged[0], &last, sizeof last), ssize_t{sizeof last});
    ::kill(child, SIGKILL);
    int next = 0;
    while (::read(acknowledged[0], &next, sizeof next) == sizeof next) last = next;
    ::close(acknowledged[0]);
    ::waitpid(child, nullptr, 0);
    auto log = open_log(path);
    EXPECT_GE(log->end(), last + 1);
    expect_records(*log, 0, static_cast<int>(log->end()) - 1);
  }
}

TEST(PartitionLog, RefusesJunk) {
  TemporaryDirectory directory;
  auto log = open_log(directory.path());
  EXPECT_EQ(log->append(Bytes("junk"), OnGap::kRefuse).error().code, Code::kInvalid);
  Bytes two = batch_of(0, 1);
  two += batch_of(1, 1);
  EXPECT_EQ(log->append(two, OnGap::kRefuse).error().code, Code::kInvalid);
  EXPECT_EQ(log->end(), 0);
}

}  // namespace
}  // namespace shoal::streams
