// Where an attempt is to run. Under the policy `completion`: where it is expected to be complete first, which is the
// larger of the wait for a unit and the way of the missing inputs (they travel while it waits), then its run. Under the
// others: wherever there is room now.
#include <algorithm>

#include "scheduler/access.h"
#include "scheduler/impl.h"

namespace shoal::scheduler {

namespace {

constexpr std::uint64_t kWorthMoving = 1U << 20;  // bytes of inputs that make another place better than this one
constexpr std::uint64_t kBacklogUs = 10'000;      // short attempts wait this long for us rather than travel
constexpr std::uint64_t kMessageUs = 200;         // to another agent and back
constexpr std::uint64_t kFetchUs = 500;           // what a transfer takes besides its bytes
constexpr std::uint64_t kBeyondUs = 5'000;        // what another region costs besides

bool better(const Candidate& a, const Candidate& b) {
  if (a.total_us() != b.total_us()) return a.total_us() < b.total_us();
  if (a.room != b.room) return a.room;
  return a.wait_us < b.wait_us;
}

}  // namespace

Policy Scheduler::Impl::policy_of(const Work& work) const {
  return work.master != nullptr ? work.master->policy() : Policy::kCompletion;
}

bool Scheduler::Impl::is_home_left(const Work& work) const {
  if (!work.assignment || address.path.empty()) return false;
  const auto& left = work.assignment->left_regions;
  return std::find(left.begin(), left.end(), address.path.back()) != left.end();
}

// Attempts that take microseconds are not worth sending while the queue is about to drain by itself.
bool Scheduler::Impl::worth_waiting(const ReadyQueues::Class& klass) const {
  if (klass.mean_us == 0 || klass.mean_us >= kShortUs) return false;
  return klass.size * klass.mean_us / std::max<std::uint64_t>(resources.computing_units, 1) < kBacklogUs;
}

// Those known here, but for gateways, whatever they are doing now.
std::vector<AgentIndex> Scheduler::Impl::able_agents(const Demand& demand) const {
  std::vector<AgentIndex> able;
  if (can_meet(resources, demand)) able.push_back(kSelf);
  if (demand.local) return able;
  for (const auto& [agent, peer] : peers.all()) {
    const bool offered = !peer.down && !peer.child && !peers.excluded(peer.address.agent);
    if (offered && can_meet(peer.state.resources, demand)) able.push_back(agent);
  }
  return able;
}

bool Scheduler::Impl::able_here(const Work& work) const {
  return can_meet(resources, queues[work.klass].demand) && !is_home_left(work);
}

bool Scheduler::Impl::fits_here(const Work& work) const {
  return worker.waiting() == 0 && worker.ledger().fits(work.charge64, work.memory_mb);
}

Scheduler::Impl::Inputs Scheduler::Impl::inputs_of(const Work& work) const {
  Inputs inputs;
  if (work.master != nullptr) {
    if (work.master->graph().task(work.task).large)
      work.master->input_bytes(work.task, inputs.held, inputs.coming, inputs.total);
    return inputs;
  }
  for (const RemoteInput& input : work.assignment->inputs) {
    inputs.total += input.bytes;
    for (const wire::Address& holder : input.holders) {
      const AgentIndex agent = agents.find(holder.agent);
      if (agent != kNone) inputs.held[agent] += input.bytes;
    }
  }
  return inputs;
}

// The agent whose lane it waits in: who has most of what it reads, or, for comparison, anyone.
void Scheduler::Impl::find_home(WorkIndex index) {
  Work& work = works[index];
  const Policy policy = policy_of(work);
  const AgentIndex former = std::exchange(work.home, kNone);
  const Demand& demand = queues[work.klass].demand;
  if (policy == Policy::kRandom) {
    const auto able = able_agents(demand);
    const bool keeps = std::find(able.begin(), able.end(), former) != able.end();
    if (!able.empty() && !demand.only) work.home = keeps ? former : able[rng.below(able.size())];
    return;
  }
  if (!by_data(policy) || peers.all().empty()) return;
  const Inputs inputs = inputs_of(work);
  std::uint64_t most = kWorthMoving - 1;
  for (const auto& [agent, bytes] : inputs.held) {
    const Peer* peer = peers.find(agent);
    if (bytes <= most || (agent != kSelf && (peer == nullptr || peer->down || peer->child))) continue;
    most = bytes;
    work.home = agent;
  }
}

// From where most of what `agent` lacks would come.
AgentIndex Scheduler::Impl::source_for(AgentIndex agent, const Inputs& inputs) const {
  AgentIndex source = kNone;
  std::uint64_t most = 0;
  for (const auto& [holder, bytes] : inputs.held) {
    if (holder == agent || bytes <= most) continue;
    most = bytes;
    source = holder;
  }
  return source;
}

void Scheduler::Impl::add_candidate(std::vector<Candidate>& to, const Work& work, View view, const Inputs& inputs,
                                    const Peer* peer) const {
  const ReadyQueues::Class& klass = queues[work.klass];
  Candidate candidate;
  candidate.agent = peer == nullptr ? kSelf : peer->agent;
  const AgentIndex agent = candidate.agent;
  const std::uint64_t total_units =
      std::max<std::uint64_t>(peer == nullptr ? resources.computing_units : peer->state.resources.computing_units, 1);
  const auto bytes_at = [&](const std::map<AgentIndex, std::uint64_t>& at) {
    auto it = at.find(agent);
    return it == at.end() ? 0 : it->second;
  };
  const std::uint64_t held = std::min(inputs.total, bytes_at(inputs.held));
  candidate.coming_bytes = std::min(inputs.total - held, bytes_at(inputs.coming));
  candidate.missing_bytes = inputs.total - held - candidate.coming_bytes;
  std::uint64_t room64 = 0;
  if (peer != nullptr) {
    room64 = peers.room_here(*peer, now);
    candidate.room = room64 >= work.charge64;
  } else {
    // Those whose inputs travel need their units later, but before another one whose inputs travel.
    const bool travels = candidate.missing_bytes + candidate.coming_bytes > 0;
    room64 = worker.ledger().free64();
    if (travels) room64 -= std::min(room64, worker.waiting64());
    candidate.room = fits_here(work) && room64 >= work.charge64;
  }
  candidate.run_us = klass.run_us(agent, kNeutralRunUs);
  // What waits for that agent and goes before: all of its lane for the last in it, nothing for the first.
  std::uint64_t before = queues.homed_us(agent);
  if (agent == work.home) {
    before = view == View::kTail ? before - std::min(before, work.homed_us) : 0;
  } else if (work.home == kNone && view == View::kTail) {
    before += klass.size * candidate.run_us;
  } else if (candidate.room && (work.home == kNone || view == View::kTail)) {
    before = 0;  // whoever was meant for it did not want this room
  }
  std::uint64_t busy = before;
  if (!candidate.room || work.charge64 < kUnit64) busy += estimates.remaining(agent, now);
  if (!candidate.room) {
    // Units that others gave work to: half a run of the kind that we know.
    const std::uint64_t taken = total_units - std::min(total_units, room64 / kUnit64);
    const std::uint64_t own = estimates.units(agent);
    if (taken > own) busy += (taken - own) * candidate.run_us / 2;
    // What is overdue already, or unknown to us, is expected to take as long again as nothing was heard of it.
    const bool unsure = taken > own || estimates.remaining(agent, now) == 0;
    const auto waited = static_cast<std::uint64_t>(std::max<std::int64_t>((now - work.since).us, 0));
    const std::uint64_t silence = own == 0 ? waited : std::min(waited, estimates.silence_us(agent, now));
    if (unsure) busy = std::max(busy, silence * total_units);
    busy = std::max<std::uint64_t>(busy, 1);
  }
  candidate.wait_us = (busy + total_units - 1) / total_units;
  if (candidate.missing_bytes + candidate.coming_bytes > 0) {
    candidate.rate = estimates.rate(source_for(agent, inputs), agent);
    candidate.transfer_us =
        kFetchUs + estimates.inbound_us(agent, now) + candidate.missing_bytes * 1'000 / candidate.rate;
  }
  if (agent != kSelf) candidate.transfer_us += kMessageUs;
  to.push_back(candidate);
}

std::vector<Candidate> Scheduler::Impl::candidates_for(const Work& work, View view, const Inputs& inputs) const {
  static const std::vector<RegionId> kNoneLeft;
  const ReadyQueues::Class& klass = queues[work.klass];
  const std::vector<RegionId>& left = work.assignment ? work.assignment->left_regions : kNoneLeft;
  const bool bound = policy_of(work) == Policy::kRandom && work.home != kNone;
  std::vector<Candidate> found;
  if (able_here(work) && (!bound || work.home == kSelf)) add_candidate(found, work, view, inputs, nullptr);
  if (klass.demand.local) return found;
  for (const auto& [agent, peer] : peers.all()) {
    if ((bound && agent != work.home) || !peers.may_run(peer, klass.demand, left)) continue;
    if (!peers.is_unstartable(agent, klass.app, klass.function)) add_candidate(found, work, view, inputs, &peer);
  }
  std::stable_sort(found.begin(), found.end(), better);
  return found;
}

// Ahead of time only if that gains something, which is a transfer while it waits, and one attempt for each unit.
bool Scheduler::Impl::may_call(const Work& work, const Candidate& candidate) const {
  constexpr std::uint64_t kWorthCalling = 64U << 10;
  if (candidate.missing_bytes + candidate.coming_bytes < kWorthCalling) return false;
  if (candidate.agent == kSelf) return worker.waiting64() + work.charge64 <= worker.ledger().total64();
  const Peer* peer = peers.find(candidate.agent);
  const std::uint64_t total64 = peer->state.resources.computing_units * kUnit64;
  return estimates.units(candidate.agent) * kUnit64 + work.charge64 <= 2 * total64;
}

Scheduler::Impl::Decision Scheduler::Impl::decide(WorkIndex index, View view) {
  Work& work = works[index];
  const ReadyQueues::Class& klass = queues[work.klass];
  work.charge64 = charge64(klass.demand, klass.mean_us);
  work.memory_mb = klass.demand.memory_mb;
  Decision decision;
  if (klass.demand.only && work.master != nullptr && *klass.demand.only != kSelf) {
    const Peer* peer = peers.find(*klass.demand.only);
    if (peer != nullptr && !peer->down) {
      if (peers.room_here(*peer, now) >= work.charge64) decision.kind = Decision::Kind::kAway;
      decision.place.agent = peer->agent;
      return decision;
    }
  }
  const bool able = able_here(work);
  const bool fits = able && fits_here(work);
  if (klass.demand.only == kSelf && able) {
    if (fits) decision.kind = Decision::Kind::kHere;
    return decision;
  }
  const Policy policy = policy_of(work);
  const AgentIndex avoid = work.master != nullptr ? work.master->graph().task(work.task).avoid : kNone;
  const bool drawn = policy == Policy::kRandom && work.home != kNone;
  const Inputs inputs = by_data(policy) || drawn ? inputs_of(work) : Inputs();
  if (fits && avoid != kSelf && !drawn) {
    auto held = inputs.held.find(kSelf);
    const std::uint64_t here = held == inputs.held.end() ? 0 : held->second;
    const bool nearby = inputs.total <= here || inputs.total - here < kWorthMoving;
    // Nobody else is known to be faster.
    if (nearby && (klass.mean_us < kShortUs || klass.mean_by_agent.size() < 2 || policy != Policy::kCompletion)) {
      decision.kind = Decision::Kind::kHere;
      decision.source = source_for(kSelf, inputs);
      return decision;
    }
  }
  if (able && !fits && work.home == kNone && worth_waiting(klass)) return decision;
  // Where it failed last is left to the simple rule: anywhere else first.
  if (avoid == kNone && (policy == Policy::kCompletion || drawn)) return decide_by_completion(index, view, inputs);
  return decide_by_room(index, inputs, fits);
}

Scheduler::Impl::Decision Scheduler::Impl::decide_by_completion(WorkIndex index, View view, const Inputs& inputs) {
  const Work& work = works[index];
  const ReadyQueues::Class& klass = queues[work.klass];
  Decision decision;
  decision.candidates = candidates_for(work, view, inputs);
  auto& candidates = decision.candidates;
  if (candidates.empty() || !candidates.front().room) {
    Wanted wanted;
    wanted.demand = &klass.demand;
    wanted.charge64 = work.charge64;
    wanted.gateways_only = true;
    if (work.assignment) wanted.left = &work.assignment->left_regions;
    const Place way = peers.choose(wanted, address.path.empty() ? RegionId() : address.path.back(), now);
    if (way.agent != kNone) {
      Candidate beyond;
      beyond.agent = way.agent;
      beyond.behind = beyond.room = true;
      beyond.missing_bytes = inputs.total;
      beyond.rate = kNeutralRate;
      beyond.transfer_us = kBeyondUs + inputs.total * 1'000 / kNeutralRate;
      beyond.run_us = klass.run_us(kNone, kNeutralRunUs);
      candidates.insert(std::upper_bound(candidates.begin(), candidates.end(), beyond, better), beyond);
    }
  }
  if (candidates.empty()) return decision;
  const Candidate best = candidates.front();
  decision.by_choice = std::any_of(candidates.begin(), candidates.end(), [](const Candidate& c) { return c.room; });
  decision.wait_us = best.total_us() - best.run_us;
  decision.place = {best.agent, best.behind};
  if (best.missing_bytes > 0) {
    decision.transfer_us = best.missing_bytes * 1'000 / best.rate;
    decision.source = source_for(best.agent, inputs);
  }
  if (best.room || may_call(work, best)) {
    decision.kind = best.agent != kSelf ? Decision::Kind::kAway
                    : best.room         ? Decision::Kind::kHere
                                        : Decision::Kind::kAhead;
  }
  constexpr std::size_t kRemembered = 4;
  if (candidates.size() > kRemembered) candidates.resize(kRemembered);
  if (candidates.size() == 1) candidates.clear();
  return decision;
}

Scheduler::Impl::Decision Scheduler::Impl::decide_by_room(WorkIndex index, const Inputs& inputs, bool fits) {
  const Work& work = works[index];
  const ReadyQueues::Class& klass = queues[work.klass];
  Decision decision;
  Wanted wanted;
  wanted.demand = &klass.demand;
  wanted.charge64 = work.charge64;
  wanted.function = klass.function;
  wanted.app = klass.app;
  if (work.assignment) wanted.left = &work.assignment->left_regions;
  if (work.master != nullptr) wanted.avoid = work.master->graph().task(work.task).avoid;
  wanted.held = &inputs.held;
  wanted.input_bytes = inputs.total;
  const Place place = peers.choose(wanted, address.path.empty() ? RegionId() : address.path.back(), now);
  decision.place = place;
  // It failed here: another agent may have what this one lacks, and is worth a moment.
  if (fits && wanted.avoid == kSelf && place.agent == kNone && work.master != nullptr &&
      peers.anyone(klass.demand, {}, now)) {
    constexpr std::uint16_t kHeldBackMax = 2;  // heartbeats
    if (Task& task = work.master->graph().task(work.task); task.held_back < kHeldBackMax) {
      ++task.held_back;
      decision.kind = Decision::Kind::kDelay;
      return decision;
    }
  }
  if (fits) {
    // Somewhere else only if that is a worker nearby which has more of the inputs, or because it failed here.
    const auto held_by = [&](AgentIndex agent) {
      auto it = inputs.held.find(agent);
      return it == inputs.held.end() ? 0 : it->second;
    };
    const bool other = place.agent != kNone && !place.behind &&
                       (wanted.avoid == kSelf || held_by(place.agent) >= held_by(kSelf) + kWorthMoving);
    if (!other) {
      decision.kind = Decision::Kind::kHere;
      decision.source = source_for(kSelf, inputs);
      return decision;
    }
  }
  if (place.agent == kNone) return decision;
  decision.kind = Decision::Kind::kAway;
  decision.source = source_for(place.agent, inputs);
  return decision;
}

}  // namespace shoal::scheduler
