// Goal: whatever happens to agents and links, once it stops the overlay is whole again: every region agrees
// on who lives and who is head, everyone reaches everyone, no epoch ever had two heads, and no agent lives
// twice under one incarnation. Method: a three-level hierarchy under a random schedule of crashes (with and
// without loss of what was not yet on disk), restarts, partitions and stalls; then everything is healed and
// started, and the world has two minutes. SHOAL_OVERLAY_SEEDS=first:count runs other seeds than the usual
// few.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "protocol/overlay/limits.h"
#include "tests/unit/overlay/harness.h"

namespace shoal::overlay {
namespace {

struct Chaos {
  explicit Chaos(std::uint64_t seed) : world(seed), rng(Rng(seed).split("chaos")) {}

  World world;
  Rng rng;
  std::vector<AgentId> all;
  std::map<AgentId, Incarnation> seen;  // largest incarnation that another agent heard of
  std::size_t events_read = 0;

  void build() {
    const auto grow = [&](std::uint64_t first, std::uint64_t n, std::vector<AgentId> contacts,
                          const std::string& name) {
      for (std::uint64_t i = 0; i < n; ++i) {
        const bool dialable = name.empty() || i == 0 || !rng.chance(150'000);
        all.push_back(world.start(first + i, contacts, name, dialable));
        world.run_for(milliseconds(static_cast<std::int64_t>(rng.below(800))));
      }
    };
    const AgentId root = world.start(1, {});
    all.push_back(root);
    for (std::uint64_t i = 2; i <= 2 + rng.below(8); ++i) all.push_back(world.start(i, {root}));
    world.run_for(seconds(3));
    grow(100, 1 + rng.below(10), {root}, "fog");
    world.run_for(seconds(8));
    grow(200, 1 + rng.below(4), {World::id(100)}, "edge");
    grow(300, 1 + rng.below(3), {root}, "annex");
    world.run_for(seconds(20));
  }

  void disturb() {
    const AgentId agent = all[rng.below(all.size())];
    switch (rng.below(8)) {
      case 0:
      case 1:
      case 2:
        if (world.running(agent)) world.kill(agent, rng.chance(500'000) ? Death::kLoud : Death::kSilent);
        break;
      case 3:
      case 4:
        restart(agent);
        break;
      case 5: {
        std::set<AgentId> side;
        for (AgentId a : all) {
          if (rng.chance(400'000)) side.insert(a);
        }
        world.partition(side);
        break;
      }
      case 6:
        world.heal();
        break;
      default:
        world.stalls_per_million(static_cast<std::uint32_t>(rng.below(20'000)));
        break;
    }
    world.run_for(milliseconds(static_cast<std::int64_t>(rng.below(6000))));
  }

  void restart(AgentId agent) {
    learn();
    world.restart(agent);
    const auto& members = world[agent].members(Scope::kHome);
    auto self = members.find(agent);
    if (self != members.end()) {
      EXPECT_GT(self->second.incarnation, seen[agent]) << agent.low();
    }
  }

  void learn() {
    for (; events_read < world.events().size(); ++events_read) {
      if (const auto* up = std::get_if<out::MemberUp>(&world.events()[events_read].output)) {
        seen[up->member.id] = std::max(seen[up->member.id], up->member.incarnation);
      }
    }
  }

  void recover() {
    world.heal();
    world.stalls_per_million(0);
    for (AgentId agent : all) {
      if (!world.running(agent)) restart(agent);
    }
  }

  std::map<RegionId, std::vector<AgentId>> regions() {
    std::map<RegionId, std::vector<AgentId>> by_home;
    for (AgentId agent : all) {
      const auto& path = world[agent].address().path;
      by_home[path.empty() ? RegionId() : path.back()].push_back(agent);
    }
    return by_home;
  }

  // The head of every region but the root's has its seat in the table of all natives of the region above.
  std::string seat_missing(const std::map<RegionId, std::vector<AgentId>>& by_home) {
    for (const auto& [region, agents] : by_home) {
      const auto& path = world[agents[0]].address().path;
      const AgentId head = *world.common_head(agents);
      if (path.size() < 2) continue;
      auto above = by_home.find(path[path.size() - 2]);
      if (above == by_home.end()) return "the region above " + std::to_string(head.low()) + " does not exist";
      for (AgentId agent : above->second) {
        if (world[agent].members(Scope::kHome).count(head) == 0) {
          return std::to_string(agent.low()) + " does not know head " + std::to_string(head.low());
        }
        if (world[head].members(Scope::kParent).count(agent) == 0) {
          return "head " + std::to_string(head.low()) + " does not know " + std::to_string(agent.low());
        }
      }
      auto expected = world[above->second[0]].address().path;
      expected.push_back(region);
      if (path != expected) return "the path of " + std::to_string(head.low()) + " is not the one above and itself";
    }
    return "";
  }

  std::string fault() {
    const auto by_home = regions();
    for (const auto& [region, agents] : by_home) {
      if (region.is_zero()) return "agent " + std::to_string(agents[0].low()) + " has no region";
      if (!world.agree(agents)) return "the region of " + std::to_string(agents[0].low()) + " does not agree";
      if (!world.common_head(agents)) return "the region of " + std::to_string(agents[0].low()) + " has no head";
      for (AgentId agent : agents) {
        if (world[agent].address().path != world[agents[0]].address().path) return "paths differ";
        if (world[agent].isolated()) return "agent " + std::to_string(agent.low()) + " is isolated";
      }
    }
    return seat_missing(by_home);
  }

  // What everyone sees, for whoever has to find out why.
  std::string views() {
    std::string text;
    for (AgentId agent : all) {
      const Overlay& overlay = world[agent];
      text += "\n" + std::to_string(agent.low()) + (overlay.is_head() ? " head" : "") +
              (overlay.isolated() ? " isolated" : "") + " epoch " + std::to_string(overlay.head_epoch().value()) +
              " of " + std::to_string(overlay.head().value_or(AgentId()).low()) + " path";
      for (RegionId region : overlay.address().path) text += " " + region.brief();
      for (const Scope scope : {Scope::kHome, Scope::kParent}) {
        text += scope == Scope::kHome ? " home:" : " parent:";
        for (const auto& [id, member] : overlay.members(scope)) {
          text += " " + std::to_string(id.low()) + (member.status == Status::kSuspect ? "?" : "") +
                  (id == agent || world.linked(id, agent) ? "" : "~");
        }
      }
      text += " gone:";
      const auto agents = overlay.report("agents");
      for (const auto& other : *agents["agents"].as_array()) {
        const std::string state = other.text_or("status", "");
        if (state == "dead" || state == "left") text += " " + other.text_or("name", "").substr(6) + state.substr(0, 1);
      }
      const auto status = overlay.report("status");
      text += " voters " + std::to_string(status.int_or("voters", 0)) + " promised " +
              std::to_string(status.int_or("promised", 0));
      if (status.text_or("endpoint", "").empty()) text += " dials out";
      text += " join " + std::to_string(status.bool_or("joining", false)) + " " + status.text_or("join_error", "");
    }
    return text;
  }

  std::string lost_route() {
    for (AgentId from : all) {
      for (AgentId to : all) {
        if (from == to) continue;
        // A link that has just been given up may still have to be dialled again.
        bool reached = false;
        for (int tries = 0; tries < 20 && !reached; ++tries)
          reached = world.route(from, world[to].address()).has_value();
        if (!reached) {
          return std::to_string(from.low()) + " does not reach " + std::to_string(to.low()) + ", lost " + world.loss();
        }
      }
    }
    return "";
  }
};

TEST(OverlayChaos, HealsFromAnything) {
  std::uint64_t first = 1;
  std::uint64_t count = 12;
  if (const char* seeds = std::getenv("SHOAL_OVERLAY_SEEDS")) {
    char* rest = nullptr;
    first = std::strtoull(seeds, &rest, 10);
    if (*rest == ':') count = std::strtoull(rest + 1, nullptr, 10);
  }
  Duration slowest;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    Chaos chaos(seed);
    chaos.build();
    for (int i = 0; i < 40; ++i) chaos.disturb();
    chaos.recover();
    const Instant healed = chaos.world.now();
    EXPECT_TRUE(chaos.world.run_until([&] { return chaos.fault().empty(); }, seconds(120)))
        << "SHOAL_OVERLAY_SEEDS=" << seed << ":1  " << chaos.fault() << chaos.views();
    slowest = std::max(slowest, chaos.world.now() - healed);
    EXPECT_EQ(chaos.lost_route(), "") << "SHOAL_OVERLAY_SEEDS=" << seed << ":1" << chaos.views();
    chaos.world.run_for(seconds(30));
    EXPECT_EQ(chaos.fault(), "") << "SHOAL_OVERLAY_SEEDS=" << seed << ":1  after it had healed";
  }
  RecordProperty("slowest_to_heal_ms", static_cast<int>(slowest.us / 1000));
}

}  // namespace
}  // namespace shoal::overlay
