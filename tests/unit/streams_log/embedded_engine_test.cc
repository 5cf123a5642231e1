// Goal: an append under `local` is acknowledged and visible only once it is on disk, in groups; the others at once.
// Method: a real engine and its commit thread; the wake descriptor says when to look.
#include "streams/log/embedded_engine.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/streams_log/temporary_directory.h"

namespace shoal::streams {
namespace {

class EmbeddedEngineTest : public ::testing::Test {
 protected:
  ~EmbeddedEngineTest() override {
    engine_.reset();
    commits_.reset();
    ::close(wake_fd_);
  }
  void open(Durability durability) {
    EmbeddedOptions options;
    options.partitions = 2;
    options.durability = durability;
    auto engine = EmbeddedEngine::open(directory_.path(), options, *commits_);
    ASSERT_TRUE(engine);
    engine_ = std::move(*engine);
  }
  static Bytes batch() {
    Record record;
    record.value = Bytes("value");
    return *encode_batch(std::span(&record, 1));
  }
  // Waits for the wake descriptor until `count` appends are reported.
  std::vector<Appended> collect(std::size_t count) {
    std::vector<Appended> done;
    engine_->collect(done);
    while (done.size() < count) {
      pollfd poll{wake_fd_, POLLIN, 0};
      EXPECT_EQ(::poll(&poll, 1, 10'000), 1) << "no commit in 10 s";
      std::uint64_t ignored = 0;
      [[maybe_unused]] const ssize_t n = ::read(wake_fd_, &ignored, sizeof ignored);
      engine_->collect(done);
    }
    return done;
  }

  TemporaryDirectory directory_;
  int wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  std::unique_ptr<GroupCommit> commits_ = std::make_unique<GroupCommit>(wake_fd_);
  std::unique_ptr<EmbeddedEngine> engine_;
};

TEST_F(EmbeddedEngineTest, ProcessLevelAnswersAtOnceAndNeverSyncs) {
  open(Durability::kProcess);
  engine_->append(1, 1, batch(), OnGap::kRefuse);
  std::vector<Appended> done;
  engine_->collect(done);
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].token, 1U);
  EXPECT_EQ(done[0].offsets, (OffsetRange{0, 0}));
  EXPECT_EQ(engine_->extent(1).end, 1);
  EXPECT_EQ(engine_->extent(0).end, 0);
  EXPECT_EQ(commits_->syncs(), 0U);
}

TEST_F(EmbeddedEngineTest, LocalLevelWaitsForTheDiskAndSharesSyncs) {
  open(Durability::kLocal);
  for (std::uint64_t token = 1; token <= 200; ++token) {
    engine_->append(token, static_cast<std::uint32_t>(token % 2), batch(), OnGap::kRefuse);
  }
  EXPECT_LE(engine_->extent(0).end, 100);
  const auto done = collect(200);
  EXPECT_EQ(done.size(), 200U);
  for (const Appended& appended : done) EXPECT_TRUE(appended.offsets);
  EXPECT_EQ(engine_->extent(0).end, 100);
  EXPECT_EQ(engine_->extent(1).end, 100);
  EXPECT_LT(commits_->syncs(), 100U);
  engine_->check_invariants();
  engine_.reset();
  open(Durability::kLocal);
  EXPECT_EQ(engine_->extent(1).end, 100);
}

TEST_F(EmbeddedEngineTest, RefusalsAreReportedToo) {
  open(Durability::kLocal);
  engine_->append(1, 9, batch(), OnGap::kRefuse);
  engine_->append(2, 0, Bytes("junk"), OnGap::kRefuse);
  const auto done = collect(2);
  EXPECT_FALSE(done[0].offsets);
  EXPECT_FALSE(done[1].offsets);
  EXPECT_TRUE(engine_->is_fresh(engine_->refresh()));
}

}  // namespace
}  // namespace shoal::streams
