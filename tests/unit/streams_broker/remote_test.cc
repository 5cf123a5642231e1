// Goal: a stream of another agent behaves like one's own; a lost uplink, lost frames, killed agents on either side and
// races of creation cost time, never records, order or duplicates. Method: several brokers in virtual time, links that
// can be cut, directories that outlive their brokers.
#include <algorithm>

#include "cluster.h"

namespace shoal::streams {
namespace {

constexpr std::size_t kOwner = 0;
constexpr std::size_t kEdge = 1;

TEST(BrokerRemote, AStreamOfAnotherAgentBehavesLikeOnesOwn) {
  Cluster cluster(2);
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}, {"partitions", 2}}));
  auto opened = cluster.call(kEdge, 1, "streams.open", {{"name", "s"}});
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->text_or("owner", ""), cluster.agent(kOwner).hex());
  EXPECT_EQ((*opened)["partitions"], Dynamic(2));
  ASSERT_TRUE(cluster.call(kEdge, 1, "streams.add_writer", {{"name", "s"}, {"writer", "w"}}));
  auto published = cluster.call(kEdge, 1, "streams.publish", Cluster::records("s", 0, 10));
  ASSERT_TRUE(published);
  EXPECT_EQ((*published)["queued"], Dynamic(true));
  auto poll = cluster.call(kOwner, 2, "streams.poll", {{"name", "s"}, {"consumer", "c"}, {"max", 4}});
  EXPECT_EQ(Cluster::values(poll), expected(0, 4)) << "forwarded at once";
  cluster.client_gone(kOwner, 2);
  const Map far = {{"name", "s"}, {"consumer", "far"}, {"max", 4}};
  EXPECT_EQ(Cluster::values(cluster.call(kEdge, 3, "streams.poll", far)), expected(0, 4));
  EXPECT_EQ(Cluster::values(cluster.call(kEdge, 3, "streams.poll", far)), expected(4, 4));
  ASSERT_TRUE(cluster.call(kEdge, 1, "streams.close", {{"name", "s"}, {"writer", "w"}}));
  bool closed = false;
  EXPECT_EQ(cluster.drain(kEdge, 3, far, &closed), expected(8, 2));
  EXPECT_TRUE(closed);
  auto status = cluster.call(kEdge, 3, "streams.status", {{"name", "s"}});
  ASSERT_TRUE(status);
  EXPECT_EQ((*status)["closed"], Dynamic(true));
  EXPECT_EQ((*cluster.call(kEdge, 3, "streams.list", {}))["streams"].as_array()->size(), 1U);
  cluster.check();
}

TEST(BrokerRemote, AWaitingPollOfAnotherAgentIsWokenByAPublish) {
  Cluster cluster(2);
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}}));
  const auto poll = cluster.request(kEdge, 2, "streams.poll", {{"name", "s"}, {"timeout_ms", 60'000}});
  cluster.advance(seconds(40));
  EXPECT_FALSE(cluster.answer(poll)) << "kept alive by its agent";
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.publish", Cluster::records("s", 0, 3)));
  ASSERT_TRUE(cluster.answer(poll));
  EXPECT_EQ(Cluster::values(*cluster.answer(poll)), expected(0, 3));
}

// The issue's own case: the uplink is cut, the forwarding agent is killed in the middle, the owner too.
TEST(BrokerRemote, PublishingGoesOnWhileTheOwnerIsAway) {
  for (const char* durability : {"process", "local"}) {
    Cluster cluster(2);
    ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}, {"durability", durability}}));
    ASSERT_TRUE(cluster.call(kEdge, 1, "streams.add_writer", {{"name", "s"}, {"writer", "w"}}));
    ASSERT_TRUE(cluster.call(kEdge, 1, "streams.publish", Cluster::records("s", 0, 5)));
    cluster.cut(kOwner, kEdge);
    for (int i = 5; i < 50; ++i) {
      auto published = cluster.call(kEdge, 1, "streams.publish", Cluster::records("s", i, 1));
      ASSERT_TRUE(published) << published.error().message;
      EXPECT_EQ(published->text_or("durability", ""), durability);
    }
    EXPECT_TRUE(Cluster::values(cluster.call(kEdge, 2, "streams.poll", {{"name", "s"}, {"consumer", "x"}})).empty())
        << "no error";
    cluster.stop(kEdge);
    cluster.start(kEdge);
    ASSERT_TRUE(cluster.call(kEdge, 1, "streams.add_writer", {{"name", "s"}, {"writer", "w"}}));
    for (int i = 50; i < 60; ++i) ASSERT_TRUE(cluster.call(kEdge, 1, "streams.publish", Cluster::records("s", i, 1)));
    ASSERT_TRUE(cluster.call(kEdge, 1, "streams.close", {{"name", "s"}, {"writer", "w"}}));
    cluster.stop(kOwner);
    cluster.advance(seconds(20));
    cluster.start(kOwner);
    cluster.heal(kOwner, kEdge);
    bool closed = false;
    EXPECT_EQ(cluster.drain(kOwner, 2, {{"name", "s"}, {"consumer", "c"}}, &closed), expected(0, 60));
    EXPECT_TRUE(closed) << "the close arrived after the records";
    EXPECT_EQ(cluster.broker(kEdge).counters().outbox_bytes, 0U);
    cluster.check();
  }
}

TEST(BrokerRemote, LostFramesAreSentAgainAndDuplicatesRejected) {
  Cluster cluster(2);
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}}));
  int next = 0;
  for (int round = 0; round < 20; ++round) {
    if (round % 3 == 0) cluster.lose(kEdge, kOwner, 1);
    if (round % 3 == 1) cluster.lose(kOwner, kEdge, 1);  // the answer: the records have arrived
    ASSERT_TRUE(cluster.call(kEdge, 1, "streams.publish", Cluster::records("s", next, 3)));
    next += 3;
    cluster.advance(seconds(7));
  }
  EXPECT_EQ(cluster.drain(kOwner, 2, {{"name", "s"}}), expected(0, next));
  EXPECT_GT(cluster.broker(kOwner).counters().duplicates, 0U);
}

TEST(BrokerRemote, KilledForwarderResendsAndTheOwnerHasItOnce) {
  Cluster cluster(2);
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}}));
  int next = 0;
  for (int round = 0; round < 10; ++round) {
    cluster.lose(kOwner, kEdge, 1);  // delivered, but the cursor does not move before the kill
    ASSERT_TRUE(cluster.call(kEdge, 1, "streams.publish", Cluster::records("s", next, 2)));
    next += 2;
    cluster.stop(kEdge);
    cluster.start(kEdge);
    cluster.advance(seconds(1));
  }
  EXPECT_EQ(cluster.drain(kOwner, 2, {{"name", "s"}}), expected(0, next));
  cluster.check();
}

TEST(BrokerRemote, ALostAnswerToAPollLosesNoRecord) {
  Cluster cluster(2);
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}}));
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.publish", Cluster::records("s", 0, 10)));
  const Map poll = {{"name", "s"}, {"consumer", "c"}, {"max", 5}, {"timeout_ms", 100}};
  EXPECT_EQ(Cluster::values(cluster.call(kEdge, 2, "streams.poll", poll)), expected(0, 5));
  cluster.lose(kOwner, kEdge, 1);
  EXPECT_TRUE(Cluster::values(cluster.call(kEdge, 2, "streams.poll", poll)).empty());
  EXPECT_EQ(Cluster::values(cluster.call(kEdge, 2, "streams.poll", poll)), expected(5, 5));
  EXPECT_TRUE(Cluster::values(cluster.call(kEdge, 2, "streams.poll", poll)).empty());
}

TEST(BrokerRemote, ConsumersOfADeadAgentLoseTheirRecordsToOthers) {
  Cluster cluster(3);
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}}));
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.publish", Cluster::records("s", 0, 10)));
  const Map poll = {{"name", "s"}, {"mode", "shared"}, {"timeout_ms", 100}};
  EXPECT_EQ(Cluster::values(cluster.call(1, 2, "streams.poll", poll)), expected(0, 10));
  EXPECT_TRUE(Cluster::values(cluster.call(2, 2, "streams.poll", poll)).empty());
  cluster.stop(1);
  cluster.agent_dead(kOwner, 1);
  EXPECT_EQ(Cluster::values(cluster.call(2, 2, "streams.poll", poll)), expected(0, 10));
  cluster.client_gone(2, 2);
  cluster.check();
  // Silence is enough too, it only takes the lease.
  EXPECT_EQ(Cluster::values(cluster.call(2, 3, "streams.poll", poll)), expected(0, 10));
  cluster.stop(2);
  cluster.advance(seconds(31));
  EXPECT_EQ(Cluster::values(cluster.call(kOwner, 4, "streams.poll", poll)), expected(0, 10));
}

TEST(BrokerRemote, WritersOfADeadAgentEndWithItsLease) {
  Cluster cluster(2);
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}}));
  ASSERT_TRUE(cluster.call(kEdge, 1, "streams.add_writer", {{"name", "s"}, {"writer", "w"}}));
  const auto closed = [&] { return (*cluster.call(kOwner, 9, "streams.status", {{"name", "s"}}))["closed"]; };
  cluster.cut(kOwner, kEdge);
  cluster.agent_dead(kOwner, kEdge);
  cluster.advance(seconds(100));
  EXPECT_EQ(closed(), Dynamic(false)) << "a cut uplink is no reason to end a stream";
  cluster.heal(kOwner, kEdge);
  cluster.advance(seconds(200));
  EXPECT_EQ(closed(), Dynamic(false));
  cluster.stop(kEdge);
  cluster.agent_dead(kOwner, kEdge);
  cluster.advance(seconds(121));
  EXPECT_EQ(closed(), Dynamic(true));
}

TEST(BrokerRemote, AWriterWhoseProcessDiedElsewhereEndsAfterItsRecords) {
  Cluster cluster(2);
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}}));
  ASSERT_TRUE(cluster.call(kEdge, 1, "streams.add_writer", {{"name", "s"}, {"writer", "w"}}));
  cluster.cut(kOwner, kEdge);
  ASSERT_TRUE(cluster.call(kEdge, 1, "streams.publish", Cluster::records("s", 0, 5)));
  cluster.client_gone(kEdge, 1);
  cluster.advance(seconds(15));
  cluster.heal(kOwner, kEdge);
  bool closed = false;
  EXPECT_EQ(cluster.drain(kOwner, 2, {{"name", "s"}}, &closed), expected(0, 5));
  EXPECT_TRUE(closed);
}

TEST(BrokerRemote, RegisteringAWriterWhileTheOwnerIsAway) {
  Cluster cluster(2);
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}}));
  ASSERT_TRUE(cluster.call(kEdge, 1, "streams.open", {{"name", "s"}}));
  cluster.cut(kOwner, kEdge);
  ASSERT_TRUE(cluster.call(kEdge, 1, "streams.add_writer", {{"name", "s"}, {"writer", "w"}}));
  ASSERT_TRUE(cluster.call(kEdge, 1, "streams.publish", Cluster::records("s", 0, 5)));
  ASSERT_TRUE(cluster.call(kEdge, 1, "streams.close", {{"name", "s"}, {"writer", "w"}}));
  auto status = cluster.call(kEdge, 1, "streams.status", {{"name", "s"}});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kUnavailable);
  cluster.heal(kOwner, kEdge);
  bool closed = false;
  EXPECT_EQ(cluster.drain(kOwner, 2, {{"name", "s"}}, &closed), expected(0, 5));
  EXPECT_TRUE(closed);
}

TEST(BrokerRemote, AFullOutboxBlocksOrDropsAsThePolicySays) {
  for (const char* when_full : {"block", "drop_oldest"}) {
    BrokerLimits limits;
    limits.outbox_bytes_max = 256 << 10;
    Cluster cluster(2, limits);
    ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}, {"when_full", when_full}}));
    ASSERT_TRUE(cluster.call(kEdge, 1, "streams.add_writer", {{"name", "s"}, {"writer", "w"}}));
    cluster.cut(kOwner, kEdge);
    int accepted = 0;
    std::optional<Error> refusal;
    for (int i = 0; i < 1000 && !refusal; ++i) {
      Array rows{Dynamic(Array{Dynamic(Bytes(std::to_string(i) + std::string(1000, '.')))})};
      auto published = cluster.call(kEdge, 1, "streams.publish", {{"name", "s"}, {"records", rows}});
      if (published) {
        ++accepted;
      } else {
        refusal = published.error();
      }
    }
    ASSERT_TRUE(cluster.call(kEdge, 1, "streams.close", {{"name", "s"}, {"writer", "w"}}));
    EXPECT_LE(cluster.broker(kEdge).counters().outbox_bytes, limits.outbox_bytes_max + 4096);
    cluster.heal(kOwner, kEdge);
    bool closed = false;
    const auto all = cluster.drain(kOwner, 2, {{"name", "s"}}, &closed);
    EXPECT_TRUE(closed);
    auto status = cluster.call(kOwner, 1, "streams.status", {{"name", "s"}});
    const Array& gaps = *(*status)["gaps"].as_array();
    if (std::string(when_full) == "block") {
      ASSERT_TRUE(refusal);
      EXPECT_EQ(refusal->code, Code::kExhausted);
      EXPECT_GT(accepted, 200);
      EXPECT_EQ(all.size(), static_cast<std::size_t>(accepted)) << "what was accepted arrived";
      EXPECT_TRUE(gaps.empty());
    } else {
      EXPECT_FALSE(refusal);
      ASSERT_EQ(gaps.size(), 1U);
      EXPECT_EQ(static_cast<std::int64_t>(all.size()) + gaps[0].int_or("count", 0), 1000) << "every loss is counted";
      EXPECT_EQ(all.back().substr(0, 4), "999.");
    }
    cluster.check();
  }
}

TEST(BrokerRemote, ABlockedOutboxAcceptsAgainAfterItDrained) {
  BrokerLimits limits;
  limits.outbox_bytes_max = 128 << 10;
  Cluster cluster(2, limits);
  ASSERT_TRUE(cluster.call(kOwner, 1, "streams.open", {{"name", "s"}}));
  Array rows{Dynamic(Array{Dynamic(Bytes(std::string(1000, '.')))})};
  for (int round = 0; round < 5; ++round) {
    cluster.cut(kOwner, kEdge);
    while (cluster.call(kEdge, 1, "streams.publish", {{"name", "s"}, {"records", rows}})) {
    }
    cluster.heal(kOwner, kEdge);
    for (int i = 0; i < 50; ++i) {
      auto published = cluster.call(kEdge, 1, "streams.publish", {{"name", "s"}, {"records", rows}});
      ASSERT_TRUE(published) << published.error().message;
    }
  }
}

TEST(BrokerRemote, TwoCreatorsOfOneNameEndUpWithOneStream) {
  Cluster cluster(2);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}}));
  const Registration first = cluster.store.at("stream/s");
  cluster.store.clear();  // the other side of a partition
  ASSERT_TRUE(cluster.call(1, 1, "streams.open", {{"name", "s"}}));
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("s", 0, 5)));
  ASSERT_TRUE(cluster.call(1, 1, "streams.publish", Cluster::records("s", 5, 5)));
  cluster.store["stream/s"] = first;  // agent 0's registration wins
  cluster.advance(seconds(40));
  auto all = cluster.drain(0, 2, {{"name", "s"}});
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, expected(0, 10));
  EXPECT_EQ(cluster.call(1, 1, "streams.open", {{"name", "s"}})->text_or("owner", ""), cluster.agent(0).hex());
  ASSERT_TRUE(cluster.call(1, 1, "streams.publish", Cluster::records("s", 10, 1)));
  EXPECT_EQ(cluster.drain(0, 2, {{"name", "s"}}), expected(10, 1));
  cluster.check();
}

TEST(BrokerRemote, JunkFramesAreIgnored) {
  Cluster cluster(1);
  ASSERT_TRUE(cluster.call(0, 1, "streams.open", {{"name", "s"}}));
  for (std::uint16_t kind = 0x0400; kind < 0x0410; ++kind) {
    for (const char* body : {"", "junk", "\x90", "\x95\x01\x02\x03\x04\x05"}) {
      wire::Envelope envelope;
      envelope.kind = kind;
      envelope.source.agent = cluster.agent(0);
      envelope.target.agent = cluster.agent(0);
      envelope.body = Bytes(body);
      std::vector<Output> out;
      cluster.broker(0).on_frame(cluster.now, envelope, out);
    }
  }
  cluster.check();
}

}  // namespace
}  // namespace shoal::streams
