// Goal: a receipt says exactly what was proved, and a level that cannot be had is refused at once.
// Method: clusters of one, two and three levels in virtual time; after each receipt the disks are counted.
#include "tests/unit/storage_model/cluster.h"

namespace shoal::storage::testing {
namespace {

// Root region 1 (agents 1-3), fog region 2 (4-6), edge regions 3 (7, 8) and 4 (9).
struct ThreeLevels : ::testing::Test {
  ThreeLevels() {
    for (std::uint64_t n = 1; n <= 3; ++n) cloud.push_back(cluster.add(n, {1}));
    for (std::uint64_t n = 4; n <= 6; ++n) fog.push_back(cluster.add(n, {1, 2}));
    for (std::uint64_t n = 7; n <= 8; ++n) edge.push_back(cluster.add(n, {1, 2, 3}));
    lone = cluster.add(9, {1, 2, 4});
    cluster.settle();
  }
  bool has(const std::vector<AgentId>& agents, ObjectId object) {
    return std::any_of(agents.begin(), agents.end(), [&](AgentId id) { return cluster.at(id).disk.contains(object); });
  }
  Cluster cluster;
  std::vector<AgentId> cloud, fog, edge;
  AgentId lone;
};

TEST_F(ThreeLevels, LocalIsAnsweredAtOnceAndCompletedInTheBackground) {
  const auto request = cluster.put(edge[0], object_id(1), Level::kLocal);
  auto done = cluster.wait<out::PutDone>(edge[0], request, microseconds(0));
  ASSERT_TRUE(done.receipt);
  EXPECT_EQ(done.receipt->level, Level::kLocal);
  EXPECT_EQ(done.receipt->copies, 1U);
  cluster.settle();
  EXPECT_EQ(cluster.copies(object_id(1)), 2U);
  EXPECT_TRUE(cluster.at(edge[1]).disk.contains(object_id(1)));
}

TEST_F(ThreeLevels, RegionMeansTwoAgentsOfTheHomeRegion) {
  auto done = cluster.wait<out::PutDone>(fog[2], cluster.put(fog[2], object_id(2), Level::kRegion));
  ASSERT_TRUE(done.receipt);
  EXPECT_EQ(done.receipt->level, Level::kRegion);
  EXPECT_GE(done.receipt->copies, 2U);
  std::size_t held = 0;
  for (AgentId id : fog) held += cluster.at(id).disk.contains(object_id(2)) ? 1 : 0;
  EXPECT_EQ(held, 2U);
}

TEST_F(ThreeLevels, ParentAddsACopyInTheParentRegion) {
  auto done = cluster.wait<out::PutDone>(edge[1], cluster.put(edge[1], object_id(3), Level::kParent));
  ASSERT_TRUE(done.receipt) << done.receipt.error().message;
  EXPECT_EQ(done.receipt->level, Level::kParent);
  EXPECT_EQ(done.receipt->copies, 3U);
  EXPECT_TRUE(has(fog, object_id(3)));
  EXPECT_FALSE(has(cloud, object_id(3)));
}

TEST_F(ThreeLevels, CloudReachesTheRoot) {
  auto done = cluster.wait<out::PutDone>(edge[1], cluster.put(edge[1], object_id(4), Level::kCloud));
  ASSERT_TRUE(done.receipt) << done.receipt.error().message;
  EXPECT_EQ(done.receipt->level, Level::kCloud);
  EXPECT_TRUE(has(fog, object_id(4)));
  EXPECT_TRUE(has(cloud, object_id(4)));
}

TEST_F(ThreeLevels, ALoneAgentsSecondCopyGoesToTheParentRegion) {
  auto done = cluster.wait<out::PutDone>(lone, cluster.put(lone, object_id(5), Level::kParent));
  ASSERT_TRUE(done.receipt) << done.receipt.error().message;
  EXPECT_EQ(done.receipt->level, Level::kParent);
  cluster.wait<out::PutDone>(lone, cluster.put(lone, object_id(6), Level::kLocal));
  cluster.settle();
  EXPECT_EQ(cluster.copies(object_id(6)), 2U) << "replicas=2 is completed above when the region has one agent";
}

TEST_F(ThreeLevels, ImpossibleLevelsAreRefusedAtOnceWithTheReason) {
  auto refused = cluster.wait<out::PutDone>(lone, cluster.put(lone, object_id(7), Level::kRegion), microseconds(0));
  ASSERT_FALSE(refused.receipt);
  EXPECT_EQ(refused.receipt.error().code, Code::kUnavailable);
  EXPECT_NE(refused.receipt.error().message.find("no other agent"), std::string::npos);
  EXPECT_FALSE(cluster.at(lone).disk.contains(object_id(7))) << "what was refused is not kept";

  refused = cluster.wait<out::PutDone>(cloud[0], cluster.put(cloud[0], object_id(8), Level::kParent), microseconds(0));
  ASSERT_FALSE(refused.receipt);
  EXPECT_NE(refused.receipt.error().message.find("root"), std::string::npos);

  EXPECT_FALSE(cluster.wait<out::PutDone>(cloud[0], cluster.put(cloud[0], object_id(9), Level::kLocal, 0)).receipt);
  EXPECT_FALSE(cluster.wait<out::PutDone>(cloud[0], cluster.put(cloud[0], object_id(9), Level::kLocal, 99)).receipt);
}

TEST_F(ThreeLevels, TheRootRegionItselfIsTheCloud) {
  auto done = cluster.wait<out::PutDone>(cloud[1], cluster.put(cloud[1], object_id(10), Level::kCloud));
  ASSERT_TRUE(done.receipt);
  EXPECT_EQ(done.receipt->level, Level::kCloud);
  EXPECT_EQ(done.receipt->copies, 2U);
}

TEST_F(ThreeLevels, AFullDiskElsewhereMeansAnotherAgentIsAsked) {
  for (AgentId id : fog) cluster.at(id).disk_full = id != fog[1];
  for (std::uint64_t n = 20; n < 40; ++n) {
    auto done = cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(n), Level::kRegion));
    ASSERT_TRUE(done.receipt) << done.receipt.error().message;
    EXPECT_TRUE(cluster.at(fog[1]).disk.contains(object_id(n)));
  }
}

TEST_F(ThreeLevels, ATimeOutSaysWhatWasReachedAndWhy) {
  for (AgentId id : fog) cluster.at(id).disk_full = true;
  auto done = cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(41), Level::kRegion));
  ASSERT_FALSE(done.receipt);
  EXPECT_EQ(done.receipt.error().code, Code::kTimeout);
  EXPECT_NE(done.receipt.error().message.find("'local'"), std::string::npos) << done.receipt.error().message;
  EXPECT_NE(done.receipt.error().message.find("disk is full"), std::string::npos) << done.receipt.error().message;
}

TEST_F(ThreeLevels, PuttingTheSameContentAgainAnswersFromWhatIsThere) {
  cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(50), Level::kRegion));
  auto again = cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(50), Level::kRegion), microseconds(0));
  ASSERT_TRUE(again.receipt);
  EXPECT_EQ(again.receipt->level, Level::kRegion);
}

TEST_F(ThreeLevels, ThreeReplicas) {
  auto done = cluster.wait<out::PutDone>(fog[0], cluster.put(fog[0], object_id(51), Level::kLocal, 3));
  ASSERT_TRUE(done.receipt);
  cluster.settle();
  EXPECT_EQ(cluster.copies(object_id(51)), 3U);
}

// Copies prefer another failure domain.
TEST(Receipts, OtherHostsFirst) {
  Cluster cluster;
  const AgentId writer = cluster.add(1, {1}, "a");
  for (std::uint64_t n = 2; n <= 8; ++n) cluster.add(n, {1}, "a");
  const AgentId elsewhere = cluster.add(9, {1}, "b");
  cluster.settle();
  for (std::uint64_t n = 0; n < 20; ++n) {
    cluster.wait<out::PutDone>(writer, cluster.put(writer, object_id(n), Level::kRegion));
    EXPECT_TRUE(cluster.at(elsewhere).disk.contains(object_id(n)));
  }
}

TEST(Receipts, AgentAloneKeepsItsObjectsWithoutTimers) {
  Cluster cluster;
  const AgentId alone = cluster.add(1, {1});
  cluster.settle();
  ASSERT_TRUE(cluster.wait<out::PutDone>(alone, cluster.put(alone, object_id(1), Level::kLocal)).receipt);
  EXPECT_TRUE(cluster.locate(alone, object_id(1)));
  auto missing = cluster.locate(alone, object_id(2));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  cluster.run(seconds(10));
  EXPECT_TRUE(cluster.idle());
}

// A thousand puts at once: paced, and all of them complete.
TEST(Receipts, ManyPutsAreNotLost) {
  Cluster cluster;
  std::vector<AgentId> agents;
  for (std::uint64_t n = 1; n <= 6; ++n) agents.push_back(cluster.add(n, {1}));
  cluster.settle();
  std::vector<std::uint64_t> requests;
  for (std::uint64_t n = 0; n < 1'000; ++n) requests.push_back(cluster.put(agents[0], object_id(n), Level::kRegion));
  for (std::uint64_t request : requests) ASSERT_TRUE(cluster.wait<out::PutDone>(agents[0], request).receipt);
  cluster.settle();
  for (std::uint64_t n = 0; n < 1'000; ++n) EXPECT_EQ(cluster.copies(object_id(n)), 2U);
  EXPECT_TRUE(cluster.idle());
}

}  // namespace
}  // namespace shoal::storage::testing
