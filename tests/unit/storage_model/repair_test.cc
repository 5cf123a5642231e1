// Goal: objects are found and kept through the death, restart and damage of agents, wherever they were put.
// Method: clusters in virtual time with kills, restarts, wiped disks and corrupt copies.
#include "tests/unit/storage_model/cluster.h"

namespace shoal::storage::testing {
namespace {

struct Tree : ::testing::Test {
  Tree() {
    for (std::uint64_t n = 1; n <= 3; ++n) cloud.push_back(cluster.add(n, {1}));
    for (std::uint64_t n = 4; n <= 8; ++n) fog.push_back(cluster.add(n, {1, 2}));
    for (std::uint64_t n = 9; n <= 10; ++n) edge.push_back(cluster.add(n, {1, 2, 3}));
    for (std::uint64_t n = 11; n <= 12; ++n) other_edge.push_back(cluster.add(n, {1, 2, 4}));
    cluster.settle();
  }
  // Copies in the fog region.
  std::size_t in_fog(ObjectId object) {
    std::size_t held = 0;
    for (AgentId id : fog) held += cluster.at(id).store && cluster.at(id).disk.contains(object) ? 1 : 0;
    return held;
  }
  // True when one of the first holders named is alive and has it.
  bool readable(const Result<Manifest>& manifest) {
    if (!manifest) {
      ADD_FAILURE() << manifest.error().message;
      return false;
    }
    const auto& holders = manifest->holders;
    return std::any_of(holders.begin(), holders.end(), [&](const wire::Address& holder) {
      return cluster.at(holder.agent).store && cluster.at(holder.agent).disk.contains(manifest->object);
    });
  }
  Cluster cluster;
  std::vector<AgentId> cloud, fog, edge, other_edge;
};

TEST_F(Tree, FoundFromEveryOtherAgent) {
  cluster.wait<out::PutDone>(edge[0], cluster.put(edge[0], object_id(1), Level::kLocal));
  cluster.settle();
  for (const auto& group : {cloud, fog, edge, other_edge}) {
    for (AgentId id : group) EXPECT_TRUE(readable(cluster.locate(id, object_id(1))));
  }
  cluster.wait<out::PutDone>(cloud[2], cluster.put(cloud[2], object_id(2), Level::kLocal));
  cluster.settle();
  EXPECT_TRUE(readable(cluster.locate(other_edge[1], object_id(2))));
  EXPECT_EQ(cluster.locate(edge[1], object_id(2))->bytes, 100U);
}

TEST_F(Tree, AHolderListsItselfFirst) {
  cluster.wait<out::PutDone>(fog[1], cluster.put(fog[1], object_id(1), Level::kRegion));
  auto manifest = cluster.locate(fog[1], object_id(1), microseconds(0));
  ASSERT_TRUE(manifest);
  EXPECT_EQ(manifest->holders.front().agent, fog[1]);
  EXPECT_EQ(manifest->holders.size(), 2U);
}

// The promise that is checked with real processes: kill -9 right after a region receipt, read elsewhere
// within 2 s.
TEST_F(Tree, WriterKilledRightAfterItsReceipt) {
  for (std::uint64_t n = 0; n < 40; ++n) {
    Cluster fresh(n);
    std::vector<AgentId> agents;
    for (std::uint64_t a = 1; a <= 5; ++a) agents.push_back(fresh.add(a, {1}));
    const AgentId below = fresh.add(6, {1, 2});
    fresh.settle();
    auto done = fresh.wait<out::PutDone>(agents[n % 5], fresh.put(agents[n % 5], object_id(n), Level::kRegion));
    ASSERT_TRUE(done.receipt);
    fresh.kill(agents[n % 5]);
    for (AgentId reader : {agents[(n + 1) % 5], agents[(n + 2) % 5], below}) {
      const Instant start = fresh.now();
      auto manifest = fresh.locate(reader, object_id(n));
      bool found = false;
      std::vector<AgentId> failed;
      // What a driver does: try the holders, and ask again naming those that failed.
      for (int tries = 0; tries < 3 && manifest && !found; ++tries) {
        for (const wire::Address& holder : manifest->holders) {
          found = found || (fresh.at(holder.agent).store && fresh.at(holder.agent).disk.contains(object_id(n)));
          if (!found) failed.push_back(holder.agent);
        }
        if (!found) manifest = fresh.locate(reader, object_id(n), seconds(2), failed);
      }
      EXPECT_TRUE(found) << "run " << n;
      EXPECT_LE(fresh.now() - start, seconds(2));
    }
  }
}

TEST_F(Tree, LostCopiesAreMadeUp) {
  for (std::uint64_t n = 0; n < 100; ++n)
    cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(n), Level::kRegion));
  cluster.settle();
  cluster.kill(fog[0]);
  cluster.run(seconds(10));
  cluster.settle();
  for (std::uint64_t n = 0; n < 100; ++n) {
    EXPECT_EQ(in_fog(object_id(n)), 2U) << n;
    EXPECT_TRUE(readable(cluster.locate(edge[0], object_id(n))));
  }
  cluster.run(milliseconds(10));  // answers that nobody waits for any more
  EXPECT_TRUE(cluster.idle()) << "no timer stays armed";
}

TEST_F(Tree, OneAfterTheOtherDies) {
  cluster.wait<out::PutDone>(fog[4], cluster.put(fog[4], object_id(1), Level::kRegion));
  for (std::size_t i : {4, 0, 1}) {
    cluster.kill(fog[i]);
    cluster.run(seconds(15));
    EXPECT_EQ(in_fog(object_id(1)), 2U);
  }
  EXPECT_TRUE(readable(cluster.locate(cloud[0], object_id(1))));
}

TEST_F(Tree, ARestartNeedsNoNewCopies) {
  for (std::uint64_t n = 0; n < 20; ++n)
    cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(n), Level::kRegion));
  cluster.settle();
  const std::uint64_t pulls = cluster.pulls;
  cluster.detection = milliseconds(100);
  cluster.kill(fog[0]);
  cluster.run(milliseconds(200));
  cluster.restart(fog[0]);
  cluster.run(seconds(20));
  cluster.settle();
  EXPECT_EQ(cluster.pulls, pulls) << "its disk still has them";
  for (std::uint64_t n = 0; n < 20; ++n) EXPECT_TRUE(readable(cluster.locate(fog[3], object_id(n))));
}

// Too fast for the detector: only the session number tells that the disk may be gone.
TEST_F(Tree, AnAgentThatReturnsWithAnEmptyDiskCountsNoMore) {
  for (std::uint64_t n = 0; n < 20; ++n)
    cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(n), Level::kRegion));
  cluster.settle();
  cluster.at(fog[0]).store.reset();
  cluster.wipe(fog[0]);
  cluster.restart(fog[0]);
  cluster.run(seconds(20));
  cluster.settle();
  for (std::uint64_t n = 0; n < 20; ++n) EXPECT_EQ(in_fog(object_id(n)), 2U) << n;
}

TEST_F(Tree, ACorruptCopyIsReplaced) {
  cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(1), Level::kRegion));
  cluster.settle();
  cluster.at(fog[0]).disk.erase(object_id(1));
  cluster.step(fog[0], in::Corrupt{object_id(1)});
  cluster.run(seconds(3));
  EXPECT_TRUE(cluster.at(fog[0]).disk.contains(object_id(1)));
  EXPECT_TRUE(readable(cluster.locate(fog[0], object_id(1))));
  EXPECT_EQ(in_fog(object_id(1)), 2U);
}

TEST_F(Tree, ACorruptLastCopyIsKeptForRescueAndNotServed) {
  Cluster lonely;
  const AgentId alone = lonely.add(1, {1});
  lonely.settle();
  lonely.wait<out::PutDone>(alone, lonely.put(alone, object_id(1), Level::kLocal));
  lonely.step(alone, in::Corrupt{object_id(1)});
  lonely.run(seconds(3));
  EXPECT_TRUE(lonely.at(alone).disk.contains(object_id(1))) << "not erased";
  EXPECT_FALSE(lonely.locate(alone, object_id(1)));
}

TEST_F(Tree, TheCopyAboveIsReplacedWhenItsAgentDies) {
  Cluster small;
  std::vector<AgentId> up;
  for (std::uint64_t n = 1; n <= 3; ++n) up.push_back(small.add(n, {1}));
  const AgentId lone = small.add(4, {1, 2});
  small.settle();
  small.wait<out::PutDone>(lone, small.put(lone, object_id(1), Level::kParent));
  small.settle();
  for (AgentId id : up) {
    if (small.at(id).disk.contains(object_id(1))) small.kill(id);
  }
  ASSERT_EQ(small.copies(object_id(1)), 1U);
  small.run(seconds(15));
  EXPECT_EQ(small.copies(object_id(1)), 2U);
}

TEST_F(Tree, DirectoryAgentsMayComeAndGo) {
  for (std::uint64_t n = 0; n < 50; ++n) cluster.put(fog[0], object_id(n), Level::kLocal);
  cluster.settle();
  for (std::uint64_t n = 20; n < 24; ++n) fog.push_back(cluster.add(n, {1, 2}));
  cluster.settle();
  for (std::uint64_t n = 0; n < 50; ++n) {
    EXPECT_TRUE(readable(cluster.locate(fog.back(), object_id(n), milliseconds(250)))) << "without asking everyone";
  }
}

TEST_F(Tree, ANewHeadKnowsItsRegion) {
  for (std::uint64_t n = 0; n < 30; ++n)
    cluster.wait<out::PutDone>(edge[1], cluster.put(edge[1], object_id(n), Level::kRegion));
  cluster.settle();
  cluster.kill(edge[0]);  // the first of a region is its head here
  cluster.kill(cloud[0]);
  cluster.run(seconds(10));
  cluster.settle();
  for (std::uint64_t n = 0; n < 30; ++n) EXPECT_TRUE(readable(cluster.locate(cloud[2], object_id(n))));
}

TEST_F(Tree, UnknownObjectsAreToldApartFromSilence) {
  auto missing = cluster.locate(edge[0], object_id(99));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  cluster.cut(2);
  missing = cluster.locate(edge[0], object_id(99));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kTimeout) << "the cloud may know it";
}

TEST_F(Tree, WhenAllHoldersAreDownTheErrorNamesThem) {
  const auto request = cluster.put(edge[0], object_id(1), Level::kLocal, 1);
  ASSERT_TRUE(cluster.wait<out::PutDone>(edge[0], request).receipt);
  cluster.settle();
  cluster.kill(edge[0]);
  cluster.run(seconds(10));
  auto found = cluster.locate(edge[1], object_id(1));
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Code::kUnavailable);
  EXPECT_NE(found.error().message.find(edge[0].brief()), std::string::npos) << found.error().message;
  cluster.restart(edge[0]);
  cluster.run(seconds(3));
  EXPECT_TRUE(readable(cluster.locate(edge[1], object_id(1))));
}

// ---- deletion ----

TEST_F(Tree, DeletedEverywhere) {
  cluster.wait<out::PutDone>(edge[0], cluster.put(edge[0], object_id(1), Level::kCloud));
  cluster.settle();
  ASSERT_GE(cluster.copies(object_id(1)), 4U);
  auto done = cluster.wait<out::DeleteDone>(other_edge[0], cluster.ask(other_edge[0], in::Delete{0, object_id(1)}));
  ASSERT_TRUE(done.result) << done.result.error().message;
  EXPECT_EQ(cluster.copies(object_id(1)), 0U);
  cluster.settle();
  for (AgentId id : {edge[0], fog[0], cloud[0], other_edge[0]}) EXPECT_FALSE(cluster.locate(id, object_id(1)));
  done = cluster.wait<out::DeleteDone>(cloud[0], cluster.ask(cloud[0], in::Delete{0, object_id(1)}));
  ASSERT_FALSE(done.result);
  EXPECT_EQ(done.result.error().code, Code::kNotFound);
}

TEST_F(Tree, ACrashBetweenTombstoneAndEraseDoesNotBringTheObjectBack) {
  cluster.wait<out::PutDone>(edge[0], cluster.put(edge[0], object_id(1), Level::kLocal));
  const auto left_behind = cluster.at(edge[0]).disk;
  ASSERT_TRUE(cluster.wait<out::DeleteDone>(edge[0], cluster.ask(edge[0], in::Delete{0, object_id(1)})).result);
  cluster.kill(edge[0]);
  for (const auto& [object, manifest] : left_behind) {
    if (object == object_id(1)) cluster.at(edge[0]).disk[object] = manifest;
  }
  cluster.restart(edge[0]);
  cluster.settle();
  EXPECT_EQ(cluster.copies(object_id(1)), 0U);
  EXPECT_FALSE(cluster.locate(edge[0], object_id(1)));
}

TEST_F(Tree, AHolderThatSleptThroughADeleteDropsItsCopy) {
  cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(1), Level::kRegion));
  cluster.settle();
  cluster.kill(fog[0]);
  cluster.run(seconds(10));
  ASSERT_TRUE(cluster.wait<out::DeleteDone>(cloud[1], cluster.ask(cloud[1], in::Delete{0, object_id(1)})).result);
  cluster.restart(fog[0]);
  cluster.run(seconds(20));
  EXPECT_EQ(cluster.copies(object_id(1)), 0U);
  EXPECT_FALSE(cluster.locate(fog[0], object_id(1)));
}

// A delete buries what it saw: content put at the same time by an agent that did not know of it stays.
TEST_F(Tree, APutThatDidNotKnowOfTheDeleteWins) {
  cluster.wait<out::PutDone>(cloud[0], cluster.put(cloud[0], object_id(1), Level::kRegion));
  cluster.settle();
  cluster.cut(3);
  cluster.run(seconds(6));
  ASSERT_TRUE(cluster.wait<out::PutDone>(edge[0], cluster.put(edge[0], object_id(1), Level::kRegion)).receipt);
  ASSERT_TRUE(cluster.wait<out::DeleteDone>(cloud[1], cluster.ask(cloud[1], in::Delete{0, object_id(1)})).result);
  cluster.heal();
  cluster.run(seconds(10));
  for (AgentId id : {edge[0], edge[1]}) EXPECT_TRUE(cluster.at(id).disk.contains(object_id(1)));
  EXPECT_TRUE(readable(cluster.locate(cloud[0], object_id(1))));
  ASSERT_TRUE(cluster.wait<out::DeleteDone>(cloud[0], cluster.ask(cloud[0], in::Delete{0, object_id(1)})).result);
  EXPECT_EQ(cluster.copies(object_id(1)), 0U);
}

TEST_F(Tree, DeletedContentCanBePutAgain) {
  cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(1), Level::kRegion));
  ASSERT_TRUE(cluster.wait<out::DeleteDone>(fog[1], cluster.ask(fog[1], in::Delete{0, object_id(1)})).result);
  cluster.settle();
  for (AgentId writer : {fog[1], edge[1]}) {  // one that knows of the deletion, one that does not
    cluster.wait<out::PutDone>(writer, cluster.put(writer, object_id(1), Level::kLocal));
    cluster.settle();
    EXPECT_TRUE(readable(cluster.locate(cloud[1], object_id(1))));
    EXPECT_TRUE(cluster.at(writer).disk.contains(object_id(1)));
    EXPECT_GE(cluster.copies(object_id(1)), 2U);
  }
}

}  // namespace
}  // namespace shoal::storage::testing
