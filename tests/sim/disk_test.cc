// Goal: a simulated disk loses exactly what a real one may lose: un-synced writes, from some point of a lane on.
// Method: write, stop before or after the sync, and compare what is recovered with what was reported durable.
#include "tools/sim/disk.h"

#include <gtest/gtest.h>

namespace shoal::sim {
namespace {

struct DiskTest : ::testing::Test {
  EventQueue queue;
  std::vector<Ticket> durable;
  int failures = 0;
  Disk disk{queue, Rng(7), Disk::Events{[this](Ticket t) { durable.push_back(t); }, [this] { ++failures; }}};

  void write(std::uint64_t ticket, const std::string& key) {
    disk.persist({Ticket(ticket), node::out::Lane::kSynced, key, Bytes("v")});
  }
  void run() {
    while (queue.run_next()) {
    }
  }
};

TEST_F(DiskTest, ReportsDurableInOrderOnceSynced) {
  write(1, "a");
  write(2, "b");
  EXPECT_FALSE(disk.is_durable(Ticket(1)));
  EXPECT_TRUE(disk.contents().empty());
  run();
  EXPECT_EQ(durable, (std::vector<Ticket>{Ticket(1), Ticket(2)}));
  EXPECT_EQ(disk.contents().size(), 2u);
  EXPECT_GE(queue.now(), Instant{800});
}

TEST_F(DiskTest, AnEmptyValueErases) {
  write(1, "a");
  run();
  disk.persist({Ticket(2), node::out::Lane::kSynced, "a", Bytes()});
  run();
  EXPECT_TRUE(disk.contents().empty());
}

TEST_F(DiskTest, ACrashKeepsAPrefixOfTheUnsyncedTail) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    EventQueue own_queue;
    Disk own(own_queue, Rng(seed), Disk::Events{[](Ticket) {}, [] {}});
    for (int i = 0; i < 5; ++i) {
      own.persist({Ticket(), node::out::Lane::kSynced, "k" + std::to_string(i), Bytes("v")});
    }
    Rng rng(seed);
    own.crash(rng);
    const auto& kept = own.contents();
    for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(kept.count("k" + std::to_string(i))) << "seed " << seed;
    while (own_queue.run_next()) {
    }
    EXPECT_EQ(own.contents().size(), kept.size()) << "a sync of an earlier life took effect";
  }
}

TEST_F(DiskTest, ACrashNeverLosesWhatWasSynced) {
  write(1, "a");
  run();
  Rng rng(1);
  disk.crash(rng);
  EXPECT_EQ(disk.contents().count("a"), 1u);
}

TEST_F(DiskTest, ALyingDiskLosesIt) {
  disk.lie_about_syncs();
  write(1, "a");
  run();
  EXPECT_EQ(durable.size(), 1u);
  Rng rng(1);
  disk.crash(rng);
  EXPECT_EQ(disk.contents().count("a"), 0u);
}

TEST_F(DiskTest, AFullDiskHoldsWritesBackUntilThereIsSpace) {
  disk.set_full(true);
  write(1, "a");
  run();
  EXPECT_TRUE(durable.empty());
  disk.set_full(false);
  run();
  EXPECT_EQ(durable.size(), 1u);
}

TEST_F(DiskTest, AFailedSyncStopsTheProcess) {
  disk.fail_next_sync();
  write(1, "a");
  run();
  EXPECT_EQ(failures, 1);
  EXPECT_TRUE(durable.empty());
}

TEST_F(DiskTest, AnObjectIsDurableTogetherWithItsManifest) {
  bool done = false;
  const ObjectId id(1, 2);
  disk.put_object(id, {100, 42, false}, "s/m/x", Bytes("manifest"), [&] {
    done = true;
    EXPECT_EQ(disk.contents().count("s/m/x"), 1u);
    EXPECT_EQ(disk.objects().at(id).content, 42u);
  });
  run();
  EXPECT_TRUE(done);
}

}  // namespace
}  // namespace shoal::sim
