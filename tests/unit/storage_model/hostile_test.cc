// Goal: whatever a peer sends, the machine stays in order and within its limits; equal inputs give equal
// outputs. Method: random and mutated frames, floods against small limits, the same seed twice.
#include "protocol/wire/codec.h"
#include "tests/unit/storage_model/cluster.h"

namespace shoal::storage::testing {
namespace {

template <class M>
in::Frame frame_of(const wire::Address& from, const wire::Address& to, const M& message) {
  wire::Envelope envelope;
  envelope.kind = static_cast<std::uint16_t>(M::kKind);
  envelope.source = from;
  envelope.target = to;
  envelope.body = wire::encode(message);
  return in::Frame{envelope};
}

struct Hostile : ::testing::Test {
  void build() {
    for (std::uint64_t n = 1; n <= 3; ++n) agents.push_back(cluster.add(n, {1}));
    cluster.settle();
    victim = agents[0];
    enemy = cluster.at(agents[1]).address();
  }
  template <class M>
  void attack(const M& message) {
    cluster.step(victim, frame_of(enemy, cluster.at(victim).address(), message));
  }
  std::int64_t counter(const char* name) {
    const std::uint64_t id = 900'000 + ++queries;
    cluster.step(victim, in::Query{id, "store", {}});
    return std::get<out::Answer>(cluster.at(victim).answers.at(id)).result->int_or(name, -1);
  }
  Cluster cluster;
  std::vector<AgentId> agents;
  AgentId victim;
  wire::Address enemy;
  std::uint64_t queries = 0;
};

TEST_F(Hostile, RandomBytesAreCountedAndIgnored) {
  build();
  Rng rng(3);
  for (int i = 0; i < 5'000; ++i) {
    wire::Envelope envelope;
    envelope.kind = static_cast<std::uint16_t>(0x0300 + rng.below(16));
    envelope.source = enemy;
    envelope.target = cluster.at(victim).address();
    for (std::uint64_t n = rng.below(60); n > 0; --n) envelope.body.push_back(static_cast<char>(rng.next()));
    cluster.step(victim, in::Frame{envelope});
  }
  EXPECT_GT(counter("bad_frames"), 3'000);
  EXPECT_TRUE(cluster.wait<out::PutDone>(victim, cluster.put(victim, object_id(1), Level::kRegion)).receipt);
}

TEST_F(Hostile, MutatedFramesOfRealTraffic) {
  build();
  Rng rng(5);
  Manifest manifest;
  manifest.object = object_id(1);
  manifest.bytes = 10;
  manifest.type = "bytes";
  manifest.holders = {enemy};
  Record record{"alias/a", Bytes("v"), Epoch(3), enemy.agent, false};
  std::vector<in::Frame> frames;
  const wire::Address to = cluster.at(victim).address();
  frames.push_back(frame_of(enemy, to, msg::Announce{5, 6, {manifest}, {{object_id(1), enemy.agent}}, {record}}));
  frames.push_back(frame_of(enemy, to, msg::AnnounceAck{5, 6, {record}, {"alias/a"}}));
  frames.push_back(frame_of(enemy, to, msg::Replicate{manifest, enemy, -1}));
  frames.push_back(frame_of(enemy, to, msg::Place{manifest, enemy, 0, 1, 1}));
  frames.push_back(frame_of(enemy, to, msg::Copied{object_id(1), 0, 0, "", {record}}));
  frames.push_back(frame_of(enemy, to, msg::Ask{1, msg::What::kList, object_id(1), "alias/", true, seconds(1)}));
  frames.push_back(frame_of(enemy, to, msg::Tell{1, {manifest}, {record}, true}));
  msg::Decide decide;
  decide.name = "alias/a";
  decide.seen = record;
  frames.push_back(frame_of(enemy, to, decide));
  frames.push_back(frame_of(enemy, to, msg::Decided{1, 0, "", record, 0}));
  frames.push_back(frame_of(enemy, to, msg::Forget{1, {record}}));
  frames.push_back(frame_of(enemy, to, msg::Lost{enemy.agent}));
  for (int i = 0; i < 6'000; ++i) {
    in::Frame frame = frames[rng.below(frames.size())];
    for (std::uint64_t n = rng.below(4); n > 0 && !frame.envelope.body.empty(); --n) {
      frame.envelope.body[rng.below(frame.envelope.body.size())] = static_cast<char>(rng.next());
    }
    cluster.step(victim, frame);
    if (i % 100 == 0) cluster.run(milliseconds(20));
  }
  cluster.run(seconds(60));
  EXPECT_TRUE(cluster.wait<out::PutDone>(victim, cluster.put(victim, object_id(2), Level::kRegion)).receipt);
}

TEST_F(Hostile, TablesStopAtTheirMaximum) {
  cluster.limits.directory_max = 100;
  cluster.limits.records_max = 100;
  cluster.limits.pulls_queued_max = 20;
  cluster.limits.searches_max = 10;
  build();
  for (std::uint64_t n = 1; n <= 50; ++n) {
    msg::Announce announce;
    announce.session = 1;
    for (std::uint64_t i = 0; i < 20; ++i) {
      Manifest manifest;
      manifest.object = object_id(n * 1'000 + i);
      manifest.holders = std::vector<wire::Address>(200, enemy);
      announce.objects.push_back(manifest);
      announce.records.push_back({"alias/" + std::to_string(n * 1'000 + i), Bytes("x"), Epoch(1), enemy.agent, false});
    }
    attack(announce);
    Manifest manifest;
    manifest.object = object_id(n);
    attack(msg::Replicate{manifest, enemy, -1});
    msg::Decide decide;
    decide.name = "alias/d" + std::to_string(n);
    attack(decide);
    attack(msg::Ask{n, msg::What::kObject, object_id(n), "", true, seconds(100)});
    cluster.at(victim).store->check_invariants();
  }
  EXPECT_LE(counter("directory_entries"), 100);
  EXPECT_LE(counter("records"), 100);
  EXPECT_GT(counter("refused"), 100);
  EXPECT_EQ(cluster.wait<out::RecordSet>(victim, cluster.set(victim, "alias/full", "x")).record.error().code,
            Code::kExhausted);
}

TEST_F(Hostile, RequestsStopAtTheirMaximum) {
  cluster.limits.requests_max = 5;
  cluster.limits.searches_max = 5;
  cluster.limits.objects_max = 20;
  build();
  for (AgentId id : agents) cluster.at(id).disk_full = true;
  for (std::uint64_t n = 0; n < 5; ++n) cluster.put(victim, object_id(n), Level::kRegion);
  auto refused = cluster.wait<out::PutDone>(victim, cluster.put(victim, object_id(9), Level::kRegion), microseconds(0));
  EXPECT_EQ(refused.receipt.error().code, Code::kExhausted);
  cluster.run(seconds(20));
  for (AgentId id : agents) cluster.at(id).disk_full = false;
  Result<Receipt> last;
  for (std::uint64_t n = 10; n < 40; ++n) {
    last = cluster.wait<out::PutDone>(victim, cluster.put(victim, object_id(n), Level::kLocal)).receipt;
  }
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().code, Code::kExhausted);
  int refused_searches = 0;
  for (std::uint64_t n = 0; n < 10; ++n) {
    const auto request = cluster.ask(victim, in::Locate{0, object_id(7'000 + n)});
    auto& answers = cluster.at(victim).answers;
    if (answers.contains(request)) {
      refused_searches += std::get<out::Located>(answers.at(request)).manifest.error().code == Code::kExhausted ? 1 : 0;
    }
  }
  EXPECT_EQ(refused_searches, 5);
}

// Claims about copies count only from those who can know.
TEST_F(Hostile, AForgedCopyGivesNoReceipt) {
  build();
  for (AgentId id : agents) cluster.at(id).disk_full = true;
  const auto request = cluster.put(victim, object_id(1), Level::kRegion);
  wire::Address outsider{agent_id(77), {region_id(1)}};
  cluster.step(victim, frame_of(outsider, cluster.at(victim).address(), msg::Copied{object_id(1), -1, 0, "", {}}));
  outsider.path = {region_id(9)};
  cluster.step(victim, frame_of(outsider, cluster.at(victim).address(), msg::Copied{object_id(1), 0, 0, "", {}}));
  EXPECT_FALSE(cluster.at(victim).answers.contains(request));
}

TEST_F(Hostile, QueriesWithWrongParameters) {
  build();
  cluster.put(victim, object_id(1), Level::kLocal);
  std::uint64_t id = 500'000;
  auto query = [&](const std::string& method, wire::Dynamic params) {
    cluster.step(victim, in::Query{++id, method, std::move(params)});
    return cluster.wait<out::Answer>(victim, id).result;
  };
  EXPECT_EQ(query("locate", {}).error().code, Code::kInvalid);
  EXPECT_EQ(query("nonsense", {}).error().code, Code::kUnsupported);
  EXPECT_EQ(query("objects", wire::Dynamic::Map{{"limit", -5}})->as_array()->size(), 0U);
  auto rows = query("objects", {});
  ASSERT_EQ(rows->as_array()->size(), 1U);
  EXPECT_EQ(rows->as_array()->front().text_or("id", ""), object_id(1).hex());
  auto found = query("locate", wire::Dynamic::Map{{"object", object_id(1).hex()}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->int_or("bytes", 0), 100);
}

// A scenario with everything in it, as a trace of all outputs.
std::string scenario(std::uint64_t seed) {
  Cluster cluster(seed);
  std::vector<AgentId> agents;
  for (std::uint64_t n = 1; n <= 4; ++n) agents.push_back(cluster.add(n, {1}));
  for (std::uint64_t n = 5; n <= 8; ++n) agents.push_back(cluster.add(n, {1, 2}));
  cluster.run(seconds(1));
  for (std::uint64_t n = 0; n < 40; ++n) {
    cluster.put(agents[n % 8], object_id(n), Level::kRegion);
    cluster.set(agents[(n * 3) % 8], "alias/" + std::to_string(n % 7), "x");
    if (n == 20) cluster.kill(agents[4]);
    if (n == 30) cluster.restart(agents[4]);
    if (n == 25) cluster.cut(2);
    if (n == 35) cluster.heal();
    cluster.run(milliseconds(700));
  }
  cluster.settle();
  return cluster.trace();
}

TEST(Determinism, EqualSeedsGiveEqualTraces) {
  EXPECT_EQ(scenario(1), scenario(1));
  EXPECT_NE(scenario(1), scenario(2));
}

}  // namespace
}  // namespace shoal::storage::testing
