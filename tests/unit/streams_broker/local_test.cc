// Goal: on one agent, streams can be opened, written, read by groups of every mode, closed, kept over restarts and
// deleted, and every wrong request gets an error that helps. Method: one broker in virtual time with real files.
#include <algorithm>

#include "cluster.h"

namespace shoal::streams {
namespace {

TEST(BrokerLocal, OpenPublishPollClose) {
  Cluster cluster(1);
  auto opened = cluster.call(0, 1, "streams.open", {{"name", "s"}});
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ((*opened)["created"], Dynamic(true));
  EXPECT_EQ((*opened)["partitions"], Dynamic(1));
  EXPECT_EQ(opened->text_or("owner", ""), cluster.agent(0).hex());
  EXPECT_EQ((*cluster.call(0, 2, "streams.open", {{"name", "s"}}))["created"], Dynamic(false));
  ASSERT_TRUE(cluster.call(0, 1, "streams.add_writer", {{"name", "s"}, {"writer", "w"}}));
  auto published = cluster.call(0, 1, "streams.publish", Cluster::records("s", 0, 10));
  ASSERT_TRUE(published);
  EXPECT_EQ((*published)["offsets"], Dynamic(Array{0, 9}));
  EXPECT_EQ(published->text_or("durability", ""), "process");
  auto poll = cluster.call(0, 2, "streams.poll", {{"name", "s"}, {"consumer", "c"}, {"max", 4}});
  EXPECT_EQ(Cluster::values(poll), expected(0, 4));
  ASSERT_TRUE(cluster.call(0, 1, "streams.close", {{"name", "s"}, {"writer", "w"}}));
  bool closed = false;
  EXPECT_EQ(cluster.drain(0, 2, {{"name", "s"}, {"consumer", "c"}}, &closed), expected(4, 6));
  EXPECT_TRUE(closed);
  EXPECT_EQ(cluster.call(0, 1, "streams.publish", Cluster::records("s", 10, 1)).error().code, Code::kInvalid);
  cluster.check();
}

TEST(BrokerLocal, KeysTimestampsAndHeadersComeBack) {
  Cluster cluster(1);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}, {"codec", "zstd"}}));
  Array rows;
  rows.push_back(Array{Dynamic(Bytes("v")), Dynamic(Bytes("k")), 12345, Map{{"unit", Dynamic(Bytes("m"))}}});
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", {{"name", "s"}, {"records", rows}}));
  auto poll = cluster.call(0, 1, "streams.poll", {{"name", "s"}});
  ASSERT_TRUE(poll);
  EXPECT_EQ((*(*poll)["records"].as_array())[0],
            Dynamic(Array{Dynamic(Bytes("v")), Dynamic(Bytes("k")), 12345, Map{{"unit", Dynamic(Bytes("m"))}}, 0, 0}));
}

TEST(BrokerLocal, APollWaitsForRecordsAndForItsTimeout) {
  Cluster cluster(1);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}}));
  const auto waiting = cluster.request(0, 2, "streams.poll", {{"name", "s"}, {"timeout_ms", 5000}});
  EXPECT_FALSE(cluster.answer(waiting));
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("s", 0, 1)));
  ASSERT_TRUE(cluster.answer(waiting)) << "a publish wakes the poll";
  EXPECT_EQ(Cluster::values(*cluster.answer(waiting)), expected(0, 1));
  const auto empty = cluster.request(0, 2, "streams.poll", {{"name", "s"}, {"timeout_ms", 5000}});
  cluster.advance(milliseconds(4900));
  EXPECT_FALSE(cluster.answer(empty));
  cluster.advance(milliseconds(200));
  ASSERT_TRUE(cluster.answer(empty));
  EXPECT_TRUE(Cluster::values(*cluster.answer(empty)).empty());
}

TEST(BrokerLocal, WithoutCommitRecordsComeAgainAfterAConsumerIsGone) {
  Cluster cluster(1);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}}));
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("s", 0, 10)));
  for (const char* mode : {"partitioned", "shared"}) {
    const Map poll = {{"name", "s"}, {"group", mode}, {"mode", mode}, {"consumer", "c"}, {"max", 4}};
    EXPECT_EQ(Cluster::values(cluster.call(0, 2, "streams.poll", poll)), expected(0, 4));
    EXPECT_EQ(Cluster::values(cluster.call(0, 2, "streams.poll", poll)), expected(4, 4));
    cluster.client_gone(0, 2);
    Map other = poll;
    other["consumer"] = "d";
    EXPECT_EQ(Cluster::values(cluster.call(0, 3, "streams.poll", other)), expected(4, 4)) << mode;
  }
  cluster.check();
}

TEST(BrokerLocal, ExplicitCommits) {
  Cluster cluster(1);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}}));
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("s", 0, 10)));
  const Map poll = {{"name", "s"}, {"consumer", "c"}, {"auto_commit", false}, {"max", 6}};
  EXPECT_EQ(Cluster::values(cluster.call(0, 2, "streams.poll", poll)), expected(0, 6));
  ASSERT_TRUE(cluster.call(0, 2, "streams.commit", {{"name", "s"}, {"offsets", Map{{"0", 3}}}}));
  cluster.client_gone(0, 2);
  EXPECT_EQ(cluster.drain(0, 3, {{"name", "s"}, {"timeout_ms", 0}}), expected(3, 7));
  EXPECT_FALSE(cluster.call(0, 2, "streams.commit", {{"name", "s"}, {"offsets", Map{{"7", 3}}}}));
  EXPECT_FALSE(cluster.call(0, 2, "streams.commit", {{"name", "s"}, {"group", "none"}, {"offsets", Map{}}}));
  ASSERT_TRUE(cluster.call(0, 3, "streams.commit", {{"name", "s"}, {"offsets", Map{{"0", 8}}}, {"seek", true}}));
  EXPECT_EQ(cluster.drain(0, 3, {{"name", "s"}, {"timeout_ms", 0}}), expected(8, 2));
}

TEST(BrokerLocal, SharedConsumersGetFairSharesAndTheEnd) {
  Cluster cluster(1);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}, {"partitions", 2}}));
  ASSERT_TRUE(cluster.call(0, 1, "streams.add_writer", {{"name", "s"}, {"writer", "w"}}));
  std::vector<std::uint64_t> polls;
  const auto poll = [&](std::uint64_t client) {
    return cluster.request(0, client, "streams.poll", {{"name", "s"}, {"mode", "shared"}, {"timeout_ms", 10'000}});
  };
  for (std::uint64_t client = 10; client < 14; ++client) polls.push_back(poll(client));
  std::map<std::size_t, std::size_t> share;
  std::vector<std::string> all;
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("s", round * 8, 8)));
    for (std::size_t i = 0; i < polls.size(); ++i) {
      const auto answer = cluster.answer(polls[i]);
      if (!answer) continue;
      const auto some = Cluster::values(*answer);
      share[i] += some.size();
      all.insert(all.end(), some.begin(), some.end());
      polls[i] = poll(10 + i);
    }
  }
  for (const std::uint64_t waiting : polls) {
    if (!cluster.answer(waiting)) continue;
    const auto some = Cluster::values(*cluster.answer(waiting));
    all.insert(all.end(), some.begin(), some.end());
  }
  std::sort(all.begin(), all.end());
  auto everything = expected(0, 400);
  std::sort(everything.begin(), everything.end());
  EXPECT_EQ(all, everything);
  for (const auto& [i, records] : share) EXPECT_NEAR(static_cast<double>(records), 100, 20) << i;
  ASSERT_TRUE(cluster.call(0, 1, "streams.close", {{"name", "s"}, {"writer", "w"}}));
  for (std::size_t i = 0; i < 4; ++i) polls[i] = poll(10 + i);
  for (std::size_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(cluster.answer(polls[i])) << "all have committed, so all are told of the end at once";
    EXPECT_EQ((**cluster.answer(polls[i]))["closed"], Dynamic(true));
  }
  cluster.check();
}

TEST(BrokerLocal, TheEndIsNotSaidWhileAnotherConsumerMayFail) {
  Cluster cluster(1);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}}));
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("s", 0, 10)));
  ASSERT_TRUE(cluster.call(0, 1, "streams.close", {{"name", "s"}, {"force", true}}));
  const Map poll = {{"name", "s"}, {"mode", "shared"}, {"timeout_ms", 3000}};
  EXPECT_EQ(Cluster::values(cluster.call(0, 2, "streams.poll", poll)), expected(0, 10));
  const auto survivor = cluster.request(0, 3, "streams.poll", poll);
  cluster.advance(seconds(1));
  EXPECT_FALSE(cluster.answer(survivor)) << "client 2 has not finished its ten";
  cluster.client_gone(0, 2);
  ASSERT_TRUE(cluster.answer(survivor));
  EXPECT_EQ(Cluster::values(*cluster.answer(survivor)), expected(0, 10));
  auto end = cluster.call(0, 3, "streams.poll", poll);
  EXPECT_EQ((*end)["closed"], Dynamic(true));
}

TEST(BrokerLocal, BroadcastGivesEverythingToEverybody) {
  Cluster cluster(1);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}, {"partitions", 3}}));
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("s", 0, 30)));
  const auto latest = cluster.request(
      0, 9, "streams.poll",
      {{"name", "s"}, {"mode", "broadcast"}, {"consumer", "late"}, {"offset", "latest"}, {"timeout_ms", 60'000}});
  for (const char* consumer : {"a", "b"}) {
    auto all = cluster.drain(0, 2, {{"name", "s"}, {"mode", "broadcast"}, {"consumer", consumer}, {"timeout_ms", 0}});
    EXPECT_EQ(all.size(), 30U);
  }
  EXPECT_FALSE(cluster.answer(latest));
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("s", 30, 1)));
  ASSERT_TRUE(cluster.answer(latest));
  EXPECT_EQ(Cluster::values(*cluster.answer(latest)), expected(30, 1));
}

TEST(BrokerLocal, ClosesWhenTheLastWriterClosedOrItsLeaseEnded) {
  Cluster cluster(1);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}}));
  ASSERT_TRUE(cluster.call(0, 1, "streams.add_writer", {{"name", "s"}, {"writer", "a"}}));
  ASSERT_TRUE(cluster.call(0, 2, "streams.add_writer", {{"name", "s"}, {"writer", "b"}}));
  EXPECT_EQ((*cluster.call(0, 1, "streams.close", {{"name", "s"}, {"writer", "a"}}))["closed"], Dynamic(false));
  const auto closed = [&] { return (*cluster.call(0, 9, "streams.status", {{"name", "s"}}))["closed"]; };
  EXPECT_EQ(closed(), Dynamic(false));
  cluster.client_gone(0, 2);
  cluster.advance(seconds(8));
  EXPECT_EQ(closed(), Dynamic(false));
  ASSERT_TRUE(cluster.call(0, 3, "streams.add_writer", {{"name", "s"}, {"writer", "b"}}));
  cluster.advance(seconds(60));
  EXPECT_EQ(closed(), Dynamic(false)) << "the task was started again and took its writer back";
  const auto poll = cluster.request(0, 9, "streams.poll", {{"name", "s"}, {"timeout_ms", 60'000}});
  cluster.client_gone(0, 3);
  cluster.advance(seconds(11));
  EXPECT_EQ(closed(), Dynamic(true));
  ASSERT_TRUE(cluster.answer(poll));
  EXPECT_EQ((**cluster.answer(poll))["closed"], Dynamic(true));
}

TEST(BrokerLocal, EverythingSurvivesARestart) {
  Cluster cluster(1);
  for (const char* durability : {"memory", "process", "local"}) {
    const std::string name = std::string("s/ ") + durability;
    ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", name}, {"durability", durability}}));
    ASSERT_TRUE(cluster.call(0, 1, "streams.add_writer", {{"name", name}, {"writer", "w"}}));
    Map publish = Cluster::records(name, 0, 10);
    publish["producer"] = 5;
    publish["epoch"] = 0;
    publish["sequence"] = 0;
    ASSERT_TRUE(cluster.call(0, 1, "streams.publish", publish));
    Map poll = {{"name", name}, {"consumer", "c"}, {"max", 3}};
    EXPECT_EQ(Cluster::values(cluster.call(0, 2, "streams.poll", poll)), expected(0, 3));
    EXPECT_EQ(Cluster::values(cluster.call(0, 2, "streams.poll", poll)), expected(3, 3));
    cluster.stop(0);
    cluster.start(0);
    auto repeated = cluster.call(0, 1, "streams.publish", publish);
    ASSERT_TRUE(repeated);
    EXPECT_EQ((*repeated)["duplicate"], Dynamic(true));
    EXPECT_EQ((*repeated)["offsets"], Dynamic(Array{0, 9}));
    EXPECT_EQ(cluster.drain(0, 2, {{"name", name}, {"consumer", "c"}, {"timeout_ms", 0}}), expected(3, 7));
    cluster.advance(seconds(11));
    EXPECT_EQ((*cluster.call(0, 9, "streams.status", {{"name", name}}))["closed"], Dynamic(true))
        << "the writer's process did not come back";
    cluster.stop(0);
    cluster.start(0);
    EXPECT_EQ((*cluster.call(0, 9, "streams.status", {{"name", name}}))["closed"], Dynamic(true));
  }
  cluster.check();
}

TEST(BrokerLocal, RetentionIsKeptAndStatusTells) {
  Cluster cluster(1);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}, {"retention_bytes", 512 << 10}}));
  Array rows{Dynamic(Array{Dynamic(Bytes(std::string(1000, 'x')))})};
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(cluster.call(0, 1, "streams.publish", {{"name", "s"}, {"records", rows}}));
  cluster.advance(seconds(2));
  auto status = cluster.call(0, 1, "streams.status", {{"name", "s"}});
  ASSERT_TRUE(status);
  EXPECT_LE(status->int_or("bytes", 0), 512 << 10);
  const Dynamic& partition = (*(*status)["partitions"].as_array())[0];
  EXPECT_GT(partition.int_or("start", 0), 1000);
  EXPECT_EQ(partition.int_or("end", 0), 2000);
  EXPECT_EQ(cluster.drain(0, 2, {{"name", "s"}, {"timeout_ms", 0}}).size(),
            static_cast<std::size_t>(2000 - partition.int_or("start", 0)));
}

TEST(BrokerLocal, ListAndDelete) {
  Cluster cluster(1);
  for (const char* name : {"b", "a"}) ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", name}}));
  auto list = cluster.call(0, 1, "streams.list", {});
  ASSERT_TRUE(list);
  ASSERT_EQ((*list)["streams"].as_array()->size(), 2U);
  EXPECT_EQ((*(*list)["streams"].as_array())[0].text_or("name", ""), "a");
  const auto poll = cluster.request(0, 2, "streams.poll", {{"name", "a"}, {"timeout_ms", 60'000}});
  ASSERT_TRUE(cluster.call(0, 1, "streams.delete", {{"name", "a"}}));
  ASSERT_TRUE(cluster.answer(poll));
  EXPECT_EQ(cluster.answer(poll)->error().code, Code::kNotFound);
  EXPECT_EQ(cluster.call(0, 1, "streams.publish", Cluster::records("a", 0, 1)).error().code, Code::kNotFound);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "a"}}));
  EXPECT_TRUE(cluster.drain(0, 2, {{"name", "a"}, {"timeout_ms", 0}}).empty()) << "a new stream begins empty";
  cluster.check();
}

TEST(BrokerLocal, WrongRequestsAreRefusedWithAReason) {
  Cluster cluster(1);
  const auto code = [&](const std::string& method, Map params) {
    auto result = cluster.call(0, 1, method, std::move(params));
    EXPECT_FALSE(result) << method;
    if (result) return Code{};
    EXPECT_GT(result.error().message.size(), 15U);
    return result.error().code;
  };
  EXPECT_EQ(code("streams.open", {}), Code::kInvalid);
  EXPECT_EQ(code("streams.open", {{"name", std::string(300, 'x')}}), Code::kInvalid);
  EXPECT_EQ(code("streams.open", {{"name", "s"}, {"partitions", 0}}), Code::kInvalid);
  EXPECT_EQ(code("streams.open", {{"name", "s"}, {"durability", "strong"}}), Code::kInvalid);
  EXPECT_EQ(code("streams.open", {{"name", "s"}, {"durability", "cloud"}}), Code::kUnsupported);
  EXPECT_EQ(code("streams.open", {{"name", "s"}, {"url", "kafka://nowhere"}}), Code::kInvalid);
  EXPECT_EQ(code("streams.open", {{"name", "s"}, {"url", "http://x"}}), Code::kInvalid);
  EXPECT_EQ(code("streams.poll", {{"name", "missing"}}), Code::kNotFound);
  EXPECT_EQ(code("streams.dance", {{"name", "s"}}), Code::kUnsupported);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}}));
  EXPECT_EQ(code("streams.publish", {{"name", "s"}}), Code::kInvalid);
  EXPECT_EQ(code("streams.publish", {{"name", "s"}, {"records", Array{Dynamic(7)}}}), Code::kInvalid);
  Map publish = Cluster::records("s", 0, 1);
  publish["partition"] = 4;
  EXPECT_EQ(code("streams.publish", publish), Code::kInvalid);
  publish = Cluster::records("s", 0, 1);
  publish["producer"] = 1;
  EXPECT_EQ(code("streams.publish", publish), Code::kInvalid) << "a producer needs a sequence";
  publish["records"] = Array{Dynamic(Array{Dynamic(Bytes(std::string(9 << 20, 'x')))})};
  EXPECT_EQ(code("streams.publish", publish), Code::kExhausted);
  EXPECT_EQ(code("streams.poll", {{"name", "s"}, {"mode", "magic"}}), Code::kInvalid);
  EXPECT_EQ(code("streams.poll", {{"name", "s"}, {"max", 0}}), Code::kInvalid);
  EXPECT_EQ(code("streams.poll", {{"name", "s"}, {"offset", "middle"}}), Code::kInvalid);
  EXPECT_EQ(code("streams.close", {{"name", "s"}}), Code::kInvalid);
  EXPECT_EQ(code("streams.add_writer", {{"name", "s"}}), Code::kInvalid);
  cluster.check();
}

TEST(BrokerLocal, OneBrokerPerDirectory) {
  Cluster cluster(1);
  BrokerConfig config;
  config.dir = cluster.dir(0);
  auto second = Broker::open(config);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kDenied);
  config.dir = "/proc/nowhere";
  EXPECT_FALSE(Broker::open(config));
}

TEST(BrokerLocal, AStoreThatCannotAnswerIsAnError) {
  Cluster cluster(1);
  cluster.store_available = false;
  EXPECT_EQ(cluster.call(0, 1, "streams.open", {{"name", "s"}}).error().code, Code::kUnavailable);
  cluster.store_available = true;
  EXPECT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}}));
  cluster.store_available = false;
  EXPECT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("s", 0, 1))) << "an owned stream needs no store";
}

}  // namespace
}  // namespace shoal::streams
