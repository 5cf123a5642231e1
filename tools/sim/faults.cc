#include "tools/sim/faults.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <tuple>
#include <utility>

#include "tools/sim/agent.h"

namespace shoal::sim {
namespace {

constexpr std::array kNames = {
    "crash",    "vanish",        "restart-storm",  "head-kill",      "power-cut",      "total-loss",
    "leave",    "pause",         "slow-cpu",       "partition-pair", "partition-site", "partition-random",
    "one-way",  "reset",         "clog",           "slow-disk",      "full-disk",      "sync-error",
    "bit-flip", "executor-loss", "hostile-frames", "disconnect"};
static_assert(kNames.size() == static_cast<std::size_t>(FaultKind::kCount));

// Whole agents may go for good so often in a run; the rest must be able to carry on.
constexpr std::uint32_t kDeparturesMax = 2;

}  // namespace

const char* fault_name(FaultKind kind) {
  return kNames.at(static_cast<std::size_t>(kind));
}

std::string describe(const Fault& fault) {
  return std::string(fault_name(fault.kind)) + " at " + std::to_string(fault.at.us / 1000) + " ms for " +
         std::to_string(fault.length.us / 1000) + " ms";
}

std::vector<Fault> make_schedule(const FaultPlan& plan, Rng rng) {
  std::vector<FaultKind> armed;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    const auto kind = static_cast<FaultKind>(i);
    if (!plan.menu.empty() && plan.menu.count(kind) == 0) continue;
    if (plan.menu.empty() && !rng.chance(400'000)) continue;
    armed.push_back(kind);
  }
  std::vector<Fault> out;
  if (armed.empty()) return out;
  const std::uint64_t entries = rng.below(plan.entries_max + 1);
  for (std::uint64_t i = 0; i < entries; ++i) {
    Fault fault;
    fault.kind = armed[rng.below(armed.size())];
    fault.at = Instant{rng.between(plan.from.us, plan.until.us)};
    // Most faults are short; some outlast every time-out of the system.
    fault.length = rng.chance(700'000) ? milliseconds(rng.between(20, 6000)) : milliseconds(rng.between(6000, 30'000));
    fault.draw = rng.next();
    out.push_back(fault);
  }
  std::sort(out.begin(), out.end(),
            [](const Fault& a, const Fault& b) { return std::tie(a.at, a.draw) < std::tie(b.at, b.draw); });
  return out;
}

Faults::Faults(World& world, Rng rng, const MembershipChecks& membership, TaskClients* tasks, StoreClients* store)
    : world_(world), rng_(rng), membership_(membership), tasks_(tasks), store_(store) {}

void Faults::arm(const std::vector<Fault>& schedule, const std::set<std::size_t>& skip) {
  for (std::size_t i = 0; i < schedule.size(); ++i) {
    if (skip.count(i) != 0) continue;
    world_.queue().at(schedule[i].at, [this, fault = schedule[i]] {
      if (!ended_) strike(fault);
    });
  }
}

std::optional<std::uint32_t> Faults::pick(std::uint64_t draw) const {
  std::vector<std::uint32_t> running;
  for (std::uint32_t i = 0; i < world_.agents(); ++i) {
    if (world_.agent(i).up() && !world_.agent(i).left()) running.push_back(i);
  }
  if (running.empty()) return std::nullopt;
  return running[Rng(draw).below(running.size())];
}

std::size_t Faults::natives_beside(std::uint32_t agent) const {
  const auto& path = world_.agent(agent).core().address().path;
  std::size_t count = 0;
  for (std::uint32_t i = 0; i < world_.agents(); ++i) {
    if (i != agent && world_.agent(i).up() && world_.agent(i).core().address().path == path) ++count;
  }
  return count;
}

void Faults::strike(const Fault& fault) {
  if (world_.options().trace_agent)
    std::printf("%12lld fault %s\n", static_cast<long long>(world_.now().us), describe(fault).c_str());
  if (fault.kind <= FaultKind::kSlowCpu) {
    strike_machine(fault);
  } else if (fault.kind <= FaultKind::kClog) {
    strike_network(fault);
  } else if (fault.kind <= FaultKind::kBitFlip) {
    if (auto target = pick(fault.draw)) strike_disk(fault, *target);
  } else if (fault.kind == FaultKind::kDisconnect) {
    if (tasks_ != nullptr) tasks_->disconnect_one();
  } else if (auto target = pick(fault.draw)) {
    Rng rng(fault.draw);
    if (fault.kind == FaultKind::kExecutorLoss) world_.agent(*target).executor().lose_process(rng);
    if (fault.kind == FaultKind::kHostileFrames) hostile(*target, rng);
  }
}

void Faults::crash_for(std::uint32_t agent, bool vanish, Duration length) {
  world_.agent(agent).crash(vanish);
  world_.queue().after(length, [this, agent] { world_.agent(agent).start(); });
}

void Faults::strike_machine(const Fault& fault) {
  auto target = pick(fault.draw);
  if (fault.kind == FaultKind::kHeadKill) {
    std::vector<AgentId> heads;
    for (const auto& [region, head] : membership_.heads()) heads.push_back(head);
    if (heads.empty()) return;
    target = world_.index(heads[Rng(fault.draw).below(heads.size())]);
    if (target && !world_.agent(*target).up()) return;
  }
  if (!target) return;
  SimAgent& agent = world_.agent(*target);
  switch (fault.kind) {
    case FaultKind::kCrash:
    case FaultKind::kHeadKill:
      crash_for(*target, false, fault.length);
      break;
    case FaultKind::kVanish:
      crash_for(*target, true, fault.length);
      break;
    case FaultKind::kPowerCut: {
      Rng rng(fault.draw);
      for (std::uint32_t i = 0; i < world_.agents(); ++i) {
        if (!world_.agent(i).up() || world_.agent(i).site() != agent.site()) continue;
        crash_for(i, true, fault.length / 2 + microseconds(rng.between(0, fault.length.us / 2)));
      }
      break;
    }
    case FaultKind::kRestartStorm:
      for (int i = 0; i < 5; ++i) {
        world_.queue().after(fault.length / 5 * i, [this, index = *target] {
          if (world_.agent(index).up() && !ended_) crash_for(index, false, milliseconds(40));
        });
      }
      break;
    case FaultKind::kTotalLoss:
      if (departures_ >= kDeparturesMax || natives_beside(*target) < 2) return;
      if (store_ != nullptr && !store_->survives_without(*target)) return;
      ++departures_;
      if (store_ != nullptr) store_->excuse(*target);
      agent.lose_everything();
      replace(*target, fault.length);
      break;
    case FaultKind::kLeave:
      if (departures_ >= kDeparturesMax || natives_beside(*target) < 2) return;
      if (store_ != nullptr && !store_->survives_without(*target)) return;
      ++departures_;
      if (store_ != nullptr) store_->excuse(*target);
      agent.leave();
      break;
    case FaultKind::kPause:
      agent.pause(fault.length);
      break;
    default:  // slow processor
      agent.slow_down(milliseconds(rng_.between(1, 20)), 10);
      world_.queue().after(fault.length, [&agent] { agent.slow_down({}, 1); });
      break;
  }
}

// A machine that lost its disk lost its key with it: what comes back is a new agent on the same address.
void Faults::replace(std::uint32_t agent, Duration after) {
  world_.queue().after(after, [this, agent] {
    AgentOptions options;
    options.config = world_.agent(agent).config();
    options.site = world_.agent(agent).site();
    options.config.id = AgentId{combine64(options.config.id.high(), 1), rng_.next()};
    options.config.name += "'";
    options.config.curve_key = Bytes(options.config.id.bytes() + options.config.id.bytes());
    // It comes with a new token, which names agents of the region that are there now.
    options.config.child_region.clear();
    options.config.contacts.clear();
    for (std::uint32_t i = 0; i < world_.agents() && options.config.contacts.size() < 3; ++i) {
      const auto& other = world_.agent(i).config();
      if (i == agent || world_.agent(i).gone() || other.endpoint.empty() || world_.agent(i).site() != options.site)
        continue;
      options.config.contacts.push_back({other.id, other.endpoint, other.curve_key});
    }
    if (!options.config.contacts.empty()) world_.add_agent(std::move(options)).start();
  });
}

void Faults::strike_network(const Fault& fault) {
  auto target = pick(fault.draw);
  if (!target) return;
  Rng rng(fault.draw);
  if (fault.kind == FaultKind::kReset)
    return world_.network().reset_links(*target, 1 + static_cast<std::uint32_t>(rng.below(6)));
  if (fault.kind == FaultKind::kClog) return world_.network().clog(*target, world_.now() + fault.length);
  std::set<std::uint32_t> side{*target};
  if (fault.kind == FaultKind::kPartitionSite) {
    for (std::uint32_t i = 0; i < world_.agents(); ++i) {
      if (world_.agent(i).site() == world_.agent(*target).site()) side.insert(i);
    }
  } else if (fault.kind == FaultKind::kPartitionRandom) {
    for (std::uint32_t i = 0; i < world_.agents(); ++i) {
      if (rng.chance(400'000)) side.insert(i);
    }
  }
  const std::uint64_t name = ++last_partition_;
  world_.network().partition(name, std::move(side), fault.kind == FaultKind::kOneWay);
  world_.queue().after(fault.length, [this, name] { world_.network().heal(name); });
}

void Faults::strike_disk(const Fault& fault, std::uint32_t target) {
  Disk& disk = world_.agent(target).disk();
  switch (fault.kind) {
    case FaultKind::kSlowDisk:
      disk.slow_down(milliseconds(rng_.between(50, 3000)));
      world_.queue().after(fault.length, [&disk] { disk.slow_down({}); });
      break;
    case FaultKind::kFullDisk:
      disk.set_full(true);
      world_.queue().after(fault.length, [&disk] { disk.set_full(false); });
      break;
    case FaultKind::kSyncError:
      disk.fail_next_sync();
      world_.queue().after(fault.length, [this, target] { world_.agent(target).start(); });
      break;
    default:
      if (store_ != nullptr) store_->flip_a_bit(target);
      break;
  }
}

// A neighbour that is authenticated and has turned hostile: junk bodies, forged sources, absurd addresses.
void Faults::hostile(std::uint32_t from, Rng rng) {
  for (const std::uint32_t victim : world_.network().neighbours(from)) {
    for (int i = 0; i < 8; ++i) {
      wire::Envelope envelope;
      envelope.version = rng.chance(100'000) ? static_cast<std::uint16_t>(rng.next()) : std::uint16_t{1};
      const std::int64_t plane = rng.between(1, 6);
      envelope.kind = static_cast<std::uint16_t>(plane << 8 | rng.between(0, 24));
      envelope.hops = static_cast<std::uint8_t>(rng.below(20));
      envelope.source = world_.agent(from).core().address();
      if (rng.chance(200'000)) envelope.source.agent = AgentId{rng.next(), rng.next()};
      envelope.target = world_.agent(victim).core().address();
      if (rng.chance(100'000)) {
        const RegionId region{rng.next(), 1};
        envelope.target.path.assign(rng.below(12), region);
      }
      const std::uint64_t length = rng.below(64);
      for (std::uint64_t k = 0; k < length; ++k) envelope.body.push_back(static_cast<char>(rng.next()));
      // Half of the bodies begin like a message: an array of small things.
      if (rng.chance(500'000) && !envelope.body.empty()) envelope.body[0] = static_cast<char>(0x90 | rng.below(16));
      world_.network().inject(from, victim, std::move(envelope));
    }
  }
}

void Faults::heal() {
  ended_ = true;
  world_.network().heal_all();
  for (std::uint32_t i = 0; i < world_.agents(); ++i) {
    SimAgent& agent = world_.agent(i);
    agent.slow_down({}, 1);
    agent.disk().heal();
    agent.resume();
    agent.start();
    agent.scrub();
  }
}

}  // namespace shoal::sim
