// Goal: what an overlay promises to the rest of an agent: regions form, everyone knows who lives, someone
// speaks for each region, anyone reaches anyone, and none of it needs an agent that must not die. Method:
// small worlds in virtual time (harness.h); every step also checks the machine's invariants, and every head
// that appears is checked to be alone in its epoch.
#include "protocol/overlay/overlay.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "protocol/overlay/limits.h"
#include "protocol/overlay/messages.h"
#include "tests/unit/overlay/harness.h"

namespace shoal::overlay {
namespace {

// A root region of `n`, numbered from 1, grown from agent 1.
std::vector<AgentId> grow(World& world, std::uint64_t n, std::uint64_t first = 1) {
  std::vector<AgentId> agents{world.start(first, {})};
  for (std::uint64_t i = 1; i < n; ++i) {
    agents.push_back(world.start(first + i, {agents.front()}));
    world.run_for(milliseconds(20));
  }
  EXPECT_TRUE(world.run_until([&] { return world.agree(agents); }, seconds(20)));
  world.run_for(seconds(15));
  EXPECT_TRUE(world.agree(agents));
  EXPECT_TRUE(world.common_head(agents).has_value());
  return agents;
}

std::vector<AgentId> without(std::vector<AgentId> agents, AgentId agent) {
  std::erase(agents, agent);
  return agents;
}

TEST(Overlay, FounderIsHeadOfEpochOne) {
  World world;
  const AgentId a = world.start(1, {});
  EXPECT_TRUE(world[a].is_head());
  EXPECT_EQ(world[a].head(), a);
  EXPECT_EQ(world[a].head_epoch(), Epoch(1));
  EXPECT_EQ(world[a].address().path.size(), 1U);
  EXPECT_EQ(world[a].members(Scope::kHome).size(), 1U);
}

TEST(Overlay, ThreeLevelsReachEachOther) {
  World world;
  const AgentId cloud1 = world.start(1, {});
  world.run_for(seconds(1));
  const AgentId cloud2 = world.start(2, {cloud1});
  const AgentId fog1 = world.start(11, {cloud1}, "fog");
  const AgentId fog2 = world.start(12, {cloud2}, "fog");  // asks another agent: still one fog region
  world.run_for(seconds(5));
  const AgentId edge1 = world.start(21, {fog2}, "edge-a");
  const AgentId edge2 = world.start(22, {fog1}, "edge-b");
  const AgentId edge3 = world.start(23, {edge2});
  world.run_for(seconds(30));
  EXPECT_TRUE(world.agree({cloud1, cloud2}));
  EXPECT_TRUE(world.agree({fog1, fog2}));
  EXPECT_TRUE(world.agree({edge1}));
  EXPECT_TRUE(world.agree({edge2, edge3}));
  EXPECT_EQ(world[cloud2].address().path.size(), 1U);
  EXPECT_EQ(world[fog1].address().path, world[fog2].address().path);
  EXPECT_EQ(world[edge3].address().path.size(), 3U);
  EXPECT_EQ(world[edge3].address().path[1], world[fog1].address().path[1]);
  for (AgentId from : world.running()) {
    for (AgentId to : world.running()) {
      if (from == to) continue;
      const auto hops = world.route(from, world[to].address());
      ASSERT_TRUE(hops.has_value()) << from.low() << " to " << to.low();
      EXPECT_LE(*hops, 6);
    }
  }
}

TEST(Overlay, KilledAgentIsKnownToAllWithinSixSeconds) {
  for (const Death death : {Death::kSilent, Death::kLoud}) {
    World world(7);
    const std::vector<AgentId> agents = grow(world, 20);
    const AgentId victim = agents[9];
    const Instant killed = world.now();
    world.kill(victim, death);
    const auto rest = without(agents, victim);
    ASSERT_TRUE(world.run_until([&] { return world.agree(rest); }, death == Death::kLoud ? seconds(1) : seconds(6)));
    std::size_t told = 0;
    for (const Event& event : world.events()) {
      const auto* down = std::get_if<out::MemberDown>(&event.output);
      if (down == nullptr) continue;
      EXPECT_EQ(down->agent, victim);
      EXPECT_GE(event.at, killed);
      EXPECT_EQ(down->proven, death == Death::kLoud);
      ++told;
    }
    EXPECT_EQ(told, rest.size());
  }
}

TEST(Overlay, StallsAndSlownessKillNobody) {
  World world(3);
  world.stalls_per_million(20'000);
  const std::vector<AgentId> agents = grow(world, 24);
  world.run_for(seconds(120));
  for (const Event& event : world.events()) EXPECT_FALSE(std::holds_alternative<out::MemberDown>(event.output));
  EXPECT_TRUE(world.run_until([&] { return world.agree(agents); }, seconds(5)));
}

TEST(Overlay, NewHeadUnderAHigherEpochTakesTheSeatAbove) {
  World world(11);
  const AgentId root = world.start(1, {});
  world.run_for(seconds(1));
  std::vector<AgentId> fog;
  for (std::uint64_t i = 0; i < 5; ++i) {
    fog.push_back(world.start(10 + i, {root}, "fog"));
    world.run_for(seconds(1));
  }
  world.run_for(seconds(10));
  ASSERT_TRUE(world.agree(fog));
  const auto first = world.common_head(fog);
  ASSERT_TRUE(first.has_value());
  const Epoch epoch = world[fog[1]].head_epoch();
  const auto guest_of = [&]() -> std::optional<Member> {
    for (const auto& [id, member] : world[root].members(Scope::kHome)) {
      if (member.home_name == "fog") return member;
    }
    return std::nullopt;
  };
  ASSERT_TRUE(guest_of().has_value());
  EXPECT_EQ(guest_of()->id, *first);

  world.kill(*first, Death::kSilent);
  const auto rest = without(fog, *first);
  ASSERT_TRUE(world.run_until([&] { return world.common_head(rest).has_value(); }, seconds(10)));
  const AgentId second = *world.common_head(rest);
  EXPECT_GT(world[second].head_epoch(), epoch);
  ASSERT_TRUE(world.run_until([&] { return guest_of() && guest_of()->id == second; }, seconds(10)));
  EXPECT_EQ(guest_of()->head_epoch, world[second].head_epoch());
  // The path is as before: nobody below has to learn a new address.
  EXPECT_EQ(world[rest.back()].address().path.front(), world[root].address().path.front());

  // The old head returns as an ordinary member.
  world.restart(*first);
  ASSERT_TRUE(world.run_until([&] { return world.agree(fog) && world.common_head(fog) == second; }, seconds(20)));
}

TEST(Overlay, PairWithAParentElectsByItsWitness) {
  World world(5);
  const AgentId root = world.start(1, {});
  const AgentId fog1 = world.start(11, {root}, "fog");
  world.run_for(seconds(2));
  const AgentId fog2 = world.start(12, {root}, "fog");
  world.run_for(seconds(20));
  ASSERT_EQ(world.common_head({fog1, fog2}), fog1);
  world.kill(fog1, Death::kSilent);
  ASSERT_TRUE(world.run_until([&] { return world[fog2].is_head(); }, seconds(20)));
  EXPECT_LT(world[fog2].head_epoch(), Epoch(std::uint64_t{1} << kForcedShift)) << "by votes, not by force";
}

TEST(Overlay, MinorityElectsNobody) {
  World world(9);
  const std::vector<AgentId> agents = grow(world, 9);
  const AgentId head = *world.common_head(agents);
  const std::set<AgentId> minority{head, agents[5], agents[6]};
  std::vector<AgentId> majority;
  for (AgentId agent : agents) {
    if (minority.count(agent) == 0) majority.push_back(agent);
  }
  world.partition(minority);
  ASSERT_TRUE(world.run_until([&] { return world.common_head(majority).value_or(head) != head; }, seconds(20)));
  EXPECT_TRUE(world[head].is_head());
  EXPECT_GT(world[majority[0]].head_epoch(), world[head].head_epoch());
  world.run_for(seconds(60));
  EXPECT_FALSE(world[agents[5]].is_head());

  world.heal();
  ASSERT_TRUE(
      world.run_until([&] { return world.agree(agents) && world.common_head(agents).has_value(); }, seconds(30)));
  EXPECT_NE(world.common_head(agents), head);
}

TEST(Overlay, HealedPartitionHasOneTableAgain) {
  World world(13);
  const std::vector<AgentId> agents = grow(world, 20);
  std::set<AgentId> side(agents.begin(), agents.begin() + 8);
  world.partition(side);
  world.run_for(seconds(60));
  EXPECT_EQ(world[agents[0]].members(Scope::kHome).size(), 8U);
  EXPECT_EQ(world[agents[19]].members(Scope::kHome).size(), 12U);
  const std::size_t events_before = world.events().size();
  world.heal();
  ASSERT_TRUE(world.run_until([&] { return world.agree(agents); }, seconds(30)));
  // Nobody is taken for dead by the side it never left.
  for (std::size_t i = events_before; i < world.events().size(); ++i) {
    EXPECT_FALSE(std::holds_alternative<out::MemberDown>(world.events()[i].output));
  }
}

TEST(Overlay, AgentCutOffAloneDistrustsItself) {
  World world(17);
  const std::vector<AgentId> agents = grow(world, 12);
  world.partition({agents[4]});
  ASSERT_TRUE(world.run_until([&] { return world[agents[4]].isolated(); }, seconds(10)));
  EXPECT_EQ(world[agents[4]].members(Scope::kHome).size(), 12U);
  EXPECT_TRUE(world.run_until([&] { return world.agree(without(agents, agents[4])); }, seconds(2)));
  world.heal();
  ASSERT_TRUE(world.run_until([&] { return world.agree(agents) && !world[agents[4]].isolated(); }, seconds(30)));
}

TEST(Overlay, LeavingIsNotDying) {
  World world(19);
  const std::vector<AgentId> agents = grow(world, 10);
  const AgentId head = *world.common_head(agents);
  const Epoch epoch = world[head].head_epoch();
  world.leave(head);
  EXPECT_TRUE(std::any_of(world.events().begin(), world.events().end(),
                          [](const Event& e) { return std::holds_alternative<out::LeaveDone>(e.output); }));
  world.run_for(milliseconds(200));
  world.kill(head, Death::kLoud);
  const auto rest = without(agents, head);
  ASSERT_TRUE(world.run_until([&] { return world.agree(rest) && world.common_head(rest).has_value(); }, seconds(4)));
  EXPECT_GT(world[rest[0]].head_epoch(), epoch);
  for (const Event& event : world.events()) {
    const auto* down = std::get_if<out::MemberDown>(&event.output);
    if (down != nullptr) {
      EXPECT_TRUE(down->left);
    }
  }
}

TEST(Overlay, RestartReturnsUnderAHigherIncarnation) {
  World world(23);
  const std::vector<AgentId> agents = grow(world, 6);
  const AgentId agent = agents[3];
  const auto path = world[agent].address().path;
  const Incarnation before = world[agents[0]].members(Scope::kHome).at(agent).incarnation;
  world.restart(agent);
  ASSERT_TRUE(world.run_until([&] { return world.agree(agents); }, seconds(10)));
  const Incarnation after = world[agents[0]].members(Scope::kHome).at(agent).incarnation;
  EXPECT_EQ(life_of(after), life_of(before) + 1);
  EXPECT_EQ(world[agent].address().path, path);

  // With its disk lost it claims an old incarnation, is told so, and goes beyond.
  world.kill(agent, Death::kLoud);
  world.wipe(agent);
  world.restart(agent);
  ASSERT_TRUE(world.run_until([&] { return world.agree(agents); }, seconds(10)));
  EXPECT_GT(world[agents[0]].members(Scope::kHome).at(agent).incarnation, after);
}

TEST(Overlay, WholeRegionComesBackFromItsDisks) {
  World world(29);
  const std::vector<AgentId> agents = grow(world, 9);
  const auto path = world[agents[0]].address().path;
  const Epoch epoch = world[agents[0]].head_epoch();
  for (AgentId agent : agents) world.kill(agent, Death::kSilent);
  world.run_for(seconds(3));
  for (AgentId agent : agents) {
    world.restart(agent);
    world.run_for(milliseconds(300));
  }
  ASSERT_TRUE(
      world.run_until([&] { return world.agree(agents) && world.common_head(agents).has_value(); }, seconds(60)));
  EXPECT_EQ(world[agents[5]].address().path, path);
  EXPECT_GT(world[agents[5]].head_epoch(), epoch);
}

TEST(Overlay, AgentsThatOnlyDialOutAreReachedThroughARelay) {
  World world(31);
  const AgentId a = world.start(1, {});
  const AgentId b = world.start(2, {a});
  const AgentId nat1 = world.start(3, {a}, "", false);
  const AgentId nat2 = world.start(4, {b}, "", false);
  world.run_for(seconds(20));
  ASSERT_TRUE(world.agree({a, b, nat1, nat2}));
  EXPECT_FALSE(world.linked(nat1, nat2));
  EXPECT_EQ(world.route(nat1, world[nat2].address()), 2);
  EXPECT_EQ(world.route(b, world[nat1].address()), 1);
  // Their relay dies: there is another.
  const AgentId head = *world.common_head({a, b, nat1, nat2});
  world.kill(head, Death::kSilent);
  world.run_for(seconds(8));
  EXPECT_EQ(world.route(nat2, world[nat1].address()), 2);
}

TEST(Overlay, WantedPeersGetADirectLink) {
  World world(37);
  const std::vector<AgentId> agents = grow(world, 40);
  const AgentId from = agents[20];
  AgentId to;
  for (AgentId agent : agents) {
    if (agent != from && !world.linked(from, agent)) to = agent;
  }
  ASSERT_FALSE(to.is_zero());
  EXPECT_EQ(world.route(from, world[to].address()), 2);
  world.input(from, in::Want{to});
  world.input(to, in::Want{from});
  world.run_for(seconds(1));
  EXPECT_TRUE(world.linked(from, to));
  // And loses it when nobody wants it any more.
  EXPECT_TRUE(world.run_until([&] { return !world.linked(from, to); }, seconds(120)));
  EXPECT_TRUE(world.agree(agents));
}

TEST(Overlay, RegionThatLostItsParentAttachesToTheGrandparent) {
  World world(41);
  const AgentId root = world.start(1, {});
  world.run_for(seconds(1));
  const AgentId fog = world.start(11, {root}, "fog");
  world.run_for(seconds(5));
  const AgentId edge1 = world.start(21, {fog}, "edge");
  world.run_for(seconds(5));
  const AgentId edge2 = world.start(22, {fog}, "edge");
  world.run_for(seconds(40));
  ASSERT_EQ(world[edge2].address().path.size(), 3U);
  world.kill(fog, Death::kSilent);
  ASSERT_TRUE(world.run_until([&] { return world[edge2].address().path.size() == 2; }, seconds(60)));
  EXPECT_EQ(world[edge2].address().path.front(), world[root].address().path.front());
  EXPECT_TRUE(world.route(root, world[edge2].address()).has_value());
  EXPECT_TRUE(world.route(edge2, world[root].address()).has_value());
  EXPECT_TRUE(world.agree({edge1, edge2}));
}

TEST(Overlay, StateAndSummariesTravelToWhomTheyConcern) {
  World world(43);
  const AgentId root1 = world.start(1, {});
  const AgentId root2 = world.start(2, {root1});
  world.run_for(seconds(2));
  const AgentId fog1 = world.start(11, {root1}, "fog");
  world.run_for(seconds(2));
  const AgentId fog2 = world.start(12, {root1}, "fog");
  world.run_for(seconds(10));
  ASSERT_TRUE(world[fog1].is_head());
  world.input(fog2, in::LocalState{Bytes("load of fog2")});
  world.input(fog1, in::Summaries{Bytes("fog has 2"), Bytes("above is root")});
  world.run_for(seconds(3));
  EXPECT_EQ(world[fog1].members(Scope::kHome).at(fog2).state, Bytes("load of fog2"));
  EXPECT_EQ(world[root2].members(Scope::kHome).at(fog1).state, Bytes("fog has 2"));
  bool told = false;
  for (const Event& event : world.events()) {
    const auto* changed = std::get_if<out::DownwardChanged>(&event.output);
    if (changed != nullptr && event.agent == fog2) told = told || changed->downward == Bytes("above is root");
  }
  EXPECT_TRUE(told);
}

TEST(Overlay, FullRegionRefusesWithAReason) {
  World world(47);
  const AgentId first = world.start(1, {});
  for (std::uint64_t i = 2; i <= kNativesMax; ++i) {
    world.start(i, {first});
    if (i % 8 == 0) world.run_for(milliseconds(100));
  }
  world.run_for(seconds(5));
  ASSERT_EQ(world[first].members(Scope::kHome).size(), kNativesMax);
  const AgentId late = world.start(1000, {first});
  world.run_for(seconds(3));
  EXPECT_TRUE(world[late].address().path.empty());
  EXPECT_NE(world[late].report("status").text_or("join_error", "").find("is full (128)"), std::string::npos);
  // It may still found a child region there.
  const AgentId child = world.start(1001, {first}, "annex");
  world.run_for(seconds(3));
  EXPECT_EQ(world[child].address().path.size(), 2U);
}

TEST(Overlay, IdleTrafficIsBounded) {
  World world(53);
  const std::vector<AgentId> agents = grow(world, 64);
  world.run_for(seconds(60));
  const std::uint64_t frames = world.frames();
  const std::uint64_t bytes = world.bytes();
  world.run_for(seconds(60));
  EXPECT_LE((world.frames() - frames) / 60, 8 * agents.size());
  EXPECT_LE((world.bytes() - bytes) / 60, 600 * agents.size());
  RecordProperty("messages_per_agent_s_x100", static_cast<int>((world.frames() - frames) * 100 / 60 / agents.size()));
  RecordProperty("bytes_per_agent_s", static_cast<int>((world.bytes() - bytes) / 60 / agents.size()));
}

TEST(Overlay, TenPercentKilledAtOnceAreAllFound) {
  World world(59);
  world.stalls_per_million(1000);
  const std::vector<AgentId> agents = grow(world, 64);
  std::vector<AgentId> rest = agents;
  const Instant killed = world.now();
  for (const std::size_t victim : {0U, 7U, 20U, 33U, 41U, 63U}) {
    world.kill(agents[victim], Death::kSilent);
    std::erase(rest, agents[victim]);
  }
  ASSERT_TRUE(world.run_until([&] { return world.agree(rest); }, seconds(6)));
  for (const Event& event : world.events()) {
    const auto* down = std::get_if<out::MemberDown>(&event.output);
    if (down == nullptr) continue;
    EXPECT_EQ(std::count(rest.begin(), rest.end(), down->agent), 0);
    EXPECT_LE((event.at - killed).us, seconds(6).us);
  }
  EXPECT_TRUE(world.run_until([&] { return world.common_head(rest).has_value(); }, seconds(10)));
}

TEST(Overlay, HostileFramesChangeNothing) {
  World world(61);
  const std::vector<AgentId> agents = grow(world, 4);
  const AgentId stranger = World::id(666);
  const auto table = world[agents[1]].members(Scope::kHome);
  const auto frame = [&](AgentId from, std::uint16_t kind, Bytes body) {
    wire::Envelope envelope;
    envelope.kind = kind;
    envelope.source.agent = from;
    envelope.target.agent = agents[1];
    envelope.body = std::move(body);
    return envelope;
  };
  const RegionId region = world[agents[1]].address().path.back();
  const message::Claim murder{agents[2], table.at(agents[2]).incarnation, Status::kDead, true, stranger};
  const Bytes delta = wire::encode(message::Delta{region, {}, {murder}});
  const auto kind = [](message::Kind k) { return static_cast<std::uint16_t>(k); };
  // A stranger, a stranger's words relayed by a member, and a member that sends junk.
  world.inject(agents[1], stranger, frame(stranger, kind(message::Kind::kDelta), delta));
  world.inject(agents[1], agents[0], frame(stranger, kind(message::Kind::kDelta), delta));
  world.inject(agents[1], agents[0], frame(agents[3], kind(message::Kind::kDelta), delta));
  Rng rng(1);
  for (int i = 0; i < 2000; ++i) {
    Bytes junk;
    for (std::uint64_t n = rng.below(64); n > 0; --n) junk.push_back(static_cast<char>(rng.next()));
    world.inject(agents[1], agents[0], frame(agents[0], static_cast<std::uint16_t>(0x0100 + rng.below(16)), junk));
  }
  // Well formed, but beyond the limits.
  Member fat = table.at(agents[2]);
  fat.incarnation = Incarnation(fat.incarnation.value() + 1);
  fat.name.assign(kNameBytesMax + 1, 'x');
  world.inject(agents[1], agents[0],
               frame(agents[0], kind(message::Kind::kDelta), wire::encode(message::Delta{region, {fat}, {}})));
  message::Announcement usurper;
  usurper.region = region;
  usurper.epoch = Epoch(99);
  world.inject(agents[1], agents[0], frame(agents[0], kind(message::Kind::kAnnounce), wire::encode(usurper)));
  EXPECT_EQ(world[agents[1]].members(Scope::kHome), table);
  EXPECT_GE(world[agents[1]].report("status").int_or("frames_dropped", 0), 5);
  world.run_for(seconds(10));
  EXPECT_TRUE(world.agree(agents));
}

TEST(Overlay, EqualSeedsGiveEqualTraces) {
  const auto run = [](std::uint64_t seed) {
    World world(seed);
    world.stalls_per_million(5000);
    const std::vector<AgentId> agents = grow(world, 16);
    world.kill(agents[0], Death::kSilent);
    world.kill(agents[3], Death::kLoud);
    world.run_for(seconds(10));
    world.restart(agents[3]);
    world.partition({agents[5], agents[6], agents[7]});
    world.run_for(seconds(20));
    world.heal();
    world.run_for(seconds(20));
    return world.trace_hash();
  };
  const std::uint64_t once = run(71);
  EXPECT_EQ(once, run(71));
  EXPECT_NE(once, run(72));
}

TEST(Overlay, ReportsForPeople) {
  World world;
  const std::vector<AgentId> agents = grow(world, 3);
  const auto status = world[agents[1]].report("status");
  EXPECT_EQ(status.int_or("members", 0), 3);
  EXPECT_EQ(status.text_or("region", ""), "root");
  EXPECT_EQ(status.text_or("head", ""), agents[0].hex());
  ASSERT_NE(world[agents[1]].report("agents")["agents"].as_array(), nullptr);
  EXPECT_EQ(world[agents[1]].report("agents")["agents"].as_array()->size(), 3U);
  EXPECT_EQ(world[agents[1]].report("topology")["region"].text_or("name", ""), "root");
  EXPECT_NE(world[agents[1]].report("nonsense").text_or("error", "").find("status, agents or topology"),
            std::string::npos);
}

}  // namespace
}  // namespace shoal::overlay
