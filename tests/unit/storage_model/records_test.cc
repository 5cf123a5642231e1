// Goal: one name has one value; conditional writes are refused exactly when they should be; names reach the
// root, also after a partition and through the death of their writer. Method: clusters in virtual time with
// cuts, kills and concurrent writers.
#include "tests/unit/storage_model/cluster.h"

namespace shoal::storage::testing {
namespace {

struct Names : ::testing::Test {
  Names() {
    for (std::uint64_t n = 1; n <= 3; ++n) cloud.push_back(cluster.add(n, {1}));
    for (std::uint64_t n = 4; n <= 6; ++n) fog.push_back(cluster.add(n, {1, 2}));
    for (std::uint64_t n = 7; n <= 8; ++n) edge.push_back(cluster.add(n, {1, 2, 3}));
    for (std::uint64_t n = 9; n <= 10; ++n) other.push_back(cluster.add(n, {1, 4}));
    cluster.settle();
  }
  Result<Record> set(AgentId id, const std::string& name, const std::string& value, Level level = Level::kLocal) {
    return cluster.wait<out::RecordSet>(id, cluster.set(id, name, value, level)).record;
  }
  Result<Record> create(AgentId id, const std::string& name, const std::string& value) {
    in::SetRecord request;
    request.name = name;
    request.value = Bytes(value);
    request.must_be_new = true;
    return cluster.wait<out::RecordSet>(id, cluster.ask(id, request)).record;
  }
  Result<Record> swap(AgentId id, const std::string& name, const std::string& value, Epoch expected) {
    in::SetRecord request;
    request.name = name;
    request.value = Bytes(value);
    request.expected = expected;
    return cluster.wait<out::RecordSet>(id, cluster.ask(id, request)).record;
  }
  Result<Record> remove(AgentId id, const std::string& name) {
    in::SetRecord request;
    request.name = name;
    request.remove = true;
    return cluster.wait<out::RecordSet>(id, cluster.ask(id, request)).record;
  }
  std::vector<AgentId> everyone() const {
    std::vector<AgentId> out;
    for (const auto* group : {&cloud, &fog, &edge, &other}) out.insert(out.end(), group->begin(), group->end());
    return out;
  }
  Cluster cluster;
  std::vector<AgentId> cloud, fog, edge, other;
};

TEST_F(Names, SetAtAnEdgeIsReadEverywhereAtOnce) {
  auto record = set(edge[1], "alias/model", "v1");
  ASSERT_TRUE(record) << record.error().message;
  EXPECT_EQ(record->epoch, Epoch(1));
  EXPECT_EQ(record->writer, edge[1]);
  for (AgentId id : everyone()) {
    auto read = cluster.get(id, "alias/model");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->value, "v1");
  }
}

TEST_F(Names, TheNewestIsReadEverywhereWhoeverWroteIt) {
  std::uint64_t n = 0;
  for (AgentId writer : everyone()) {
    auto record = set(writer, "alias/x", std::to_string(++n));
    ASSERT_TRUE(record);
    EXPECT_EQ(record->epoch, Epoch(n));
    for (AgentId reader : {edge[0], other[1], cloud[2]})
      EXPECT_EQ(cluster.get(reader, "alias/x")->value, std::to_string(n));
  }
}

TEST_F(Names, MustBeNew) {
  ASSERT_TRUE(create(edge[0], "stream/s", "a"));
  for (AgentId id : everyone()) {
    auto again = create(id, "stream/s", "b");
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, Code::kExists);
  }
  ASSERT_TRUE(remove(cloud[1], "stream/s"));
  EXPECT_EQ(cluster.get(edge[0], "stream/s").error().code, Code::kNotFound);
  EXPECT_EQ(remove(fog[1], "stream/s").error().code, Code::kNotFound);
  ASSERT_TRUE(create(other[0], "stream/s", "c"));
  EXPECT_EQ(cluster.get(edge[0], "stream/s")->value, "c");
}

// Ten agents in four regions create the same name at the same moment: one wins, and everyone sees the winner.
TEST_F(Names, ConcurrentCreationHasOneWinner) {
  for (int round = 0; round < 20; ++round) {
    const std::string name = "alias/race" + std::to_string(round);
    std::vector<std::pair<AgentId, std::uint64_t>> requests;
    for (AgentId id : everyone()) {
      in::SetRecord request;
      request.name = name;
      request.value = Bytes(id.hex());
      request.must_be_new = true;
      requests.emplace_back(id, cluster.ask(id, request));
    }
    std::string winner;
    for (auto& [id, request] : requests) {
      auto record = cluster.wait<out::RecordSet>(id, request).record;
      if (!record) {
        EXPECT_EQ(record.error().code, Code::kExists);
        continue;
      }
      EXPECT_TRUE(winner.empty()) << "two winners";
      winner = id.hex();
    }
    EXPECT_FALSE(winner.empty());
    for (AgentId id : everyone()) EXPECT_EQ(cluster.get(id, name)->value, winner);
  }
}

TEST_F(Names, CompareAndSet) {
  ASSERT_TRUE(swap(fog[0], "alias/c", "a", Epoch(0)));
  auto stale = swap(edge[0], "alias/c", "b", Epoch(0));
  ASSERT_FALSE(stale);
  EXPECT_EQ(stale.error().code, Code::kStale);
  ASSERT_TRUE(swap(edge[0], "alias/c", "b", Epoch(1)));
  EXPECT_EQ(cluster.get(other[0], "alias/c")->value, "b");
}

// A counter incremented by compare-and-set from all over: no increment is lost.
TEST_F(Names, CompareAndSetLosesNothing) {
  ASSERT_TRUE(set(cloud[0], "alias/n", "0"));
  int increments = 0;
  for (int round = 0; round < 8; ++round) {
    std::vector<std::pair<AgentId, std::uint64_t>> requests;
    for (AgentId id : {edge[0], fog[2], cloud[1], other[1]}) {
      auto current = cluster.get(id, "alias/n");
      ASSERT_TRUE(current);
      in::SetRecord request;
      request.name = "alias/n";
      request.value = Bytes(std::to_string(std::stoi(current->value) + 1));
      request.expected = current->epoch;
      requests.emplace_back(id, cluster.ask(id, request));
    }
    for (auto& [id, request] : requests) increments += cluster.wait<out::RecordSet>(id, request).record ? 1 : 0;
  }
  EXPECT_GE(increments, 8);
  EXPECT_EQ(cluster.get(edge[1], "alias/n")->value, std::to_string(increments));
}

TEST_F(Names, LevelsAreDurableWhereTheySay) {
  auto durable_in = [&](const std::vector<AgentId>& group, const std::string& name) {
    return std::count_if(group.begin(), group.end(), [&](AgentId id) { return cluster.at(id).records.contains(name); });
  };
  ASSERT_TRUE(set(edge[0], "alias/r", "x", Level::kRegion));
  EXPECT_EQ(durable_in(edge, "alias/r"), 2);
  ASSERT_TRUE(set(edge[0], "alias/p", "x", Level::kParent));
  EXPECT_GE(durable_in(fog, "alias/p") + durable_in(cloud, "alias/p"), 1);
  ASSERT_TRUE(set(edge[0], "alias/cl", "x", Level::kCloud));
  EXPECT_GE(durable_in(cloud, "alias/cl"), 1);
  ASSERT_TRUE(set(cloud[0], "alias/root", "x", Level::kCloud));
  EXPECT_GE(durable_in(cloud, "alias/root"), 2);
  auto refused = set(cloud[0], "alias/no", "x", Level::kParent);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  cluster.settle();
  EXPECT_GE(durable_in(fog, "alias/r"), 1) << "names go to every ancestor region";
  EXPECT_GE(durable_in(cloud, "alias/r"), 1);
}

TEST_F(Names, WritesGoOnInACutOffPartAndReachTheRootAfterwards) {
  ASSERT_TRUE(set(cloud[0], "alias/both", "before"));
  cluster.settle();
  cluster.cut(2);
  auto at_once = set(edge[1], "alias/early", "1");  // before anyone noticed the cut
  ASSERT_TRUE(at_once) << at_once.error().message;
  cluster.run(seconds(6));
  ASSERT_TRUE(set(edge[1], "alias/late", "2"));
  ASSERT_TRUE(set(fog[1], "alias/both", "inside"));
  EXPECT_EQ(cluster.get(fog[2], "alias/early")->value, "1");
  EXPECT_EQ(cluster.get(edge[0], "alias/late")->value, "2");
  auto above = set(edge[0], "alias/cloudy", "3", Level::kCloud);
  ASSERT_FALSE(above);
  EXPECT_EQ(above.error().code, Code::kTimeout);
  EXPECT_FALSE(cluster.get(cloud[0], "alias/late"));
  cluster.heal();
  cluster.run(seconds(10));
  cluster.settle();
  for (AgentId id : everyone()) {
    EXPECT_EQ(cluster.get(id, "alias/early")->value, "1");
    EXPECT_EQ(cluster.get(id, "alias/late")->value, "2");
    EXPECT_EQ(cluster.get(id, "alias/cloudy")->value, "3") << "carried on, as the error said";
    EXPECT_EQ(cluster.get(id, "alias/both")->value, "inside");
  }
}

TEST_F(Names, BothSidesOfAPartitionAgreeAfterwards) {
  cluster.cut(2);
  cluster.run(seconds(6));
  ASSERT_TRUE(set(edge[1], "alias/k", "edge"));
  ASSERT_TRUE(set(other[1], "alias/k", "other"));
  cluster.heal();
  cluster.run(seconds(10));
  cluster.settle();
  const std::string agreed = cluster.get(cloud[0], "alias/k")->value;
  for (AgentId id : everyone()) EXPECT_EQ(cluster.get(id, "alias/k")->value, agreed);
}

TEST_F(Names, TheWriterRestartsWhileCutOff) {
  cluster.cut(3);
  cluster.run(seconds(6));
  ASSERT_TRUE(set(edge[0], "alias/w", "kept"));
  cluster.settle();
  cluster.kill(edge[0]);
  cluster.kill(edge[1]);
  cluster.run(seconds(6));
  cluster.restart(edge[0]);
  cluster.run(seconds(6));
  cluster.heal();
  cluster.run(seconds(10));
  EXPECT_EQ(cluster.get(cloud[2], "alias/w")->value, "kept");
  EXPECT_EQ(cluster.get(other[0], "alias/w")->value, "kept");
}

TEST_F(Names, AnAgentBackFromTheDeadDoesNotBringOldValues) {
  ASSERT_TRUE(set(fog[1], "alias/old", "1", Level::kRegion));
  cluster.settle();
  cluster.kill(fog[1]);
  cluster.run(seconds(6));
  ASSERT_TRUE(set(cloud[0], "alias/old", "2"));
  ASSERT_TRUE(remove(cloud[0], "alias/old"));
  ASSERT_TRUE(set(cloud[1], "alias/old", "3"));
  cluster.restart(fog[1]);
  cluster.run(seconds(6));
  for (AgentId id : everyone()) EXPECT_EQ(cluster.get(id, "alias/old")->value, "3");
}

TEST_F(Names, SilentDirectoryAgentsAreGoneAround) {
  for (int i = 0; i < 10; ++i) {
    const AgentId victim = cloud[static_cast<std::size_t>(i) % 3];
    cluster.kill(victim);
    const std::string name = "alias/silent" + std::to_string(i);
    auto record = set(edge[0], name, "x");
    ASSERT_TRUE(record) << record.error().message;
    EXPECT_EQ(cluster.get(fog[1], name)->value, "x");
    cluster.run(seconds(6));
    cluster.restart(victim);
    cluster.run(seconds(6));
    EXPECT_EQ(cluster.get(victim, name)->value, "x");
  }
}

TEST_F(Names, Listing) {
  std::set<std::string> names;
  for (std::uint64_t n = 0; n < 60; ++n) {
    const auto all = everyone();
    names.insert("alias/n" + std::to_string(n));
    ASSERT_TRUE(set(all[n % all.size()], "alias/n" + std::to_string(n), "x"));
  }
  ASSERT_TRUE(set(cloud[0], "stream/s", "x"));
  ASSERT_TRUE(remove(cloud[0], "alias/n7"));
  names.erase("alias/n7");
  cluster.settle();
  for (AgentId id : {cloud[0], fog[0], edge[1], other[1]}) {
    auto listed =
        cluster.wait<out::RecordsListed>(id, cluster.ask(id, in::ListRecords{0, "alias/"}), seconds(2)).records;
    std::set<std::string> got;
    for (const Record& record : listed) got.insert(record.name);
    EXPECT_EQ(got, names);
  }
  EXPECT_EQ(cluster.wait<out::RecordsListed>(fog[2], cluster.ask(fog[2], in::ListRecords{0, ""})).records.size(),
            names.size() + 1);
}

TEST_F(Names, ListingDoesNotWaitForTheDead) {
  ASSERT_TRUE(set(edge[0], "alias/a", "x"));
  cluster.settle();
  cluster.kill(fog[1]);
  auto listed = cluster.wait<out::RecordsListed>(edge[1], cluster.ask(edge[1], in::ListRecords{0, "alias/"}),
                                                 milliseconds(1'100));
  EXPECT_EQ(listed.records.size(), 1U);
}

TEST_F(Names, BadNamesAndValues) {
  EXPECT_EQ(set(fog[0], "", "x").error().code, Code::kInvalid);
  EXPECT_EQ(set(fog[0], std::string(600, 'a'), "x").error().code, Code::kInvalid);
  EXPECT_EQ(set(fog[0], "~gone/abc", "x").error().code, Code::kInvalid);
  EXPECT_EQ(set(fog[0], "alias/big", std::string(70'000, 'x')).error().code, Code::kExhausted);
  EXPECT_EQ(cluster.get(fog[0], "").error().code, Code::kInvalid);
  EXPECT_EQ(cluster.get(fog[0], "alias/none").error().code, Code::kNotFound);
}

TEST(NamesAlone, OneAgentNeedsNobody) {
  Cluster cluster;
  const AgentId alone = cluster.add(1, {1});
  cluster.settle();
  auto record = cluster.wait<out::RecordSet>(alone, cluster.set(alone, "alias/a", "x"), milliseconds(10)).record;
  ASSERT_TRUE(record);
  EXPECT_EQ(cluster.get(alone, "alias/a")->value, "x");
  EXPECT_FALSE(cluster.wait<out::RecordSet>(alone, cluster.set(alone, "alias/a", "y", Level::kRegion)).record);
  cluster.kill(alone);
  cluster.restart(alone);
  cluster.settle();
  EXPECT_EQ(cluster.get(alone, "alias/a")->value, "x");
  EXPECT_TRUE(cluster.idle());
}

}  // namespace
}  // namespace shoal::storage::testing
