// From a ready task (or a delegated job) to the place that runs it, and back with its result.
#include <algorithm>

#include "protocol/base/check.h"
#include "scheduler/impl.h"

namespace shoal::scheduler {

namespace {

constexpr std::uint64_t kWorthMoving = 1U << 20;  // bytes of inputs that make another place better than this one
constexpr std::uint64_t kBacklogUs = 10'000;      // short attempts wait this long for us rather than travel

}  // namespace

// What the last calls of a master ask for. Ends when nothing is left, because carrying out one may bring about another.
void Scheduler::Impl::drain(Master& master) {
  MasterEffects& effects = master.effects();
  while (!effects.empty()) {
    for (auto& keep : std::exchange(effects.keep, {}))
      worker.keep(master.app(), keep.name, keep.value, keep.borrowed, *out);
    for (const WorkIndex work : std::exchange(effects.revoke, {})) cancel_work(work);
    if (!effects.ready.empty()) {
      for (const std::uint32_t task : effects.ready) add_task(master, task);
      effects.ready.clear();
    }
    for (const auto& need : std::exchange(effects.needs, {})) {
      const Version& version = master.graph().version(need.version);
      if (const client::Value* here = worker.values().find(key_of(master.app(), version.name))) {
        const client::Value value = *here;  // an attempt that is still running brought it
        master.fetched(need.version, true, value);
        continue;
      }
      std::vector<wire::Address> holders;
      for (const AgentIndex holder : version.holders) holders.push_back(agents.address(holder));
      worker.fetch(master.app(), key_of(master.app(), version.name), version.bytes, holders,
                   {false, master.app(), need.version, 0}, *out);
    }
    for (auto& entry : std::exchange(effects.saves, {})) out->emplace_back(out::Save{master.app(), std::move(entry)});
    for (const auto& freed : std::exchange(effects.freed, {})) free_value(master.app(), freed);
    // Before the replies: what the program does with a result is known only after the result is.
    for (auto& entry : effects.journal) out->emplace_back(out::Journal{master.app(), std::move(entry)});
    effects.journal.clear();
    for (auto& reply : effects.replies) out->emplace_back(std::move(reply));
    effects.replies.clear();
  }
}

WorkIndex Scheduler::Impl::new_work() {
  const WorkIndex index = works.add();
  Work& work = works[index];
  work.live = true;
  work.serial = work.seq = ++works_made;
  work.since = now;
  return index;
}

void Scheduler::Impl::free_work(WorkIndex index) {
  Work& work = works[index];
  if (work.master != nullptr && !work.cancelled && work.task != kNone) {
    Task& task = work.master->graph().task(work.task);
    if (task.work == index) task.work = kNone;
  }
  queues.leave(work.klass);
  works.free(index);
}

void Scheduler::Impl::add_task(Master& master, std::uint32_t index) {
  Task& task = master.graph().task(index);
  if (task.state != TaskState::kReady || task.work != kNone) return;
  Master::Function& function = master.function(task.function);
  const WorkIndex work_index = new_work();
  Work& work = works[work_index];
  task.work = work_index;
  work.master = &master;
  work.task = index;
  work.app = master.app();
  const client::TaskOptions& how = master.options(task);
  work.priority = how.priority;
  if (task.options || task.only != kNone || how.is_distributed) {
    Demand demand;
    if (auto parsed = master.demand_of(function, how)) demand = *parsed;
    demand.language = function.spec.language;
    if (task.only != kNone) {
      demand.only = task.only;
    } else if (how.is_distributed) {
      if (const auto able = able_agents(demand); !able.empty()) demand.only = master.in_turn(able);
    }
    work.klass = queues.intern(function.spec.function, demand);
  } else {
    if (!queues.is(function.klass, function.klass_made)) {
      function.klass = queues.intern(function.spec.function, function.demand);
      function.klass_made = queues[function.klass].made;
    }
    work.klass = function.klass;
  }
  queues.join(work.klass);
  queues.push(work_index, work);
}

void Scheduler::Impl::cancel_work(WorkIndex index) {
  Work& work = works[index];
  switch (work.where) {
    case Where::kQueued:
    case Where::kDelayed:
      work.cancelled = true;
      return;  // freed when its turn comes
    case Where::kHere:
      if (worker.cancel(index, *out)) free_work(index);
      return;
    case Where::kAway:
      grants.settle(work.agent, work.job);
      peers.take_back(work.agent, work.behind, work.charge64);
      revokes[work.agent].jobs.push_back(work.job);
      work.cancelled = true;
      free_work(index);
      return;
  }
}

void Scheduler::Impl::requeue(WorkIndex index) {
  Work& work = works[index];
  work.where = Where::kQueued;
  work.agent = kNone;
  work.launched = false;
  if (work.spread) arm_handback(index);
  queues.put_back(index, work);
}

// A delegated job that finds no place here for two heartbeats goes back: there may be room elsewhere.
void Scheduler::Impl::arm_handback(WorkIndex index) {
  works[index].handback = now + config.heartbeat * 2;
  handbacks.emplace(works[index].handback, index);
}

void Scheduler::Impl::delay(WorkIndex index) {
  works[index].where = Where::kDelayed;
  delayed.emplace(now + config.heartbeat, index);
}

// Gives out what there is room for: oldest first over all classes, each class until it finds no place.
void Scheduler::Impl::pump() {
  worker.pump(now);
  if (queues.size() == 0) return;
  std::set<std::pair<ReadyQueues::Order, std::uint32_t>> heads;
  for (const std::uint32_t klass : queues.active()) heads.emplace(queues.order(klass, works), klass);
  while (!heads.empty()) {
    const std::uint32_t klass = heads.begin()->second;
    heads.erase(heads.begin());
    bool stuck = false;
    pump_class(klass, heads.empty() ? nullptr : &heads.begin()->first, stuck);
    if (!stuck && queues[klass].size() > 0) heads.emplace(queues.order(klass, works), klass);
  }
}

// Works on one class until it is empty, stuck, or its head is younger than `until`.
void Scheduler::Impl::pump_class(std::uint32_t klass, const ReadyQueues::Order* until, bool& stuck) {
  while (queues[klass].size() > 0) {
    if (until != nullptr && queues.order(klass, works) > *until) return;
    const WorkIndex index = queues.head(klass);
    queues.pop(klass);
    if (works[index].cancelled) {
      free_work(index);
      continue;
    }
    if (place(index)) continue;
    if (works[index].master == nullptr && !is_possible(works[index])) {
      return_job(index, "no agent known to this delegate could ever run it", true);
      free_work(index);
      continue;
    }
    queues.put_back(index, works[index]);
    stuck = true;
    if (works[index].master != nullptr) note_homeless(klass);
    return;
  }
}

bool Scheduler::Impl::is_home_left(const Work& work) const {
  if (!work.assignment || address.path.empty()) return false;
  const auto& left = work.assignment->left_regions;
  return std::find(left.begin(), left.end(), address.path.back()) != left.end();
}

// Attempts that take microseconds are not worth sending while the queue is about to drain by itself.
bool Scheduler::Impl::worth_waiting(const ReadyQueues::Class& klass) const {
  if (klass.mean_us == 0 || klass.mean_us >= kShortUs) return false;
  return klass.size() * klass.mean_us / std::max<std::uint64_t>(resources.computing_units, 1) < kBacklogUs;
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

// True when the work left the queue. False leaves it as it was.
bool Scheduler::Impl::place(WorkIndex index) {
  Work& work = works[index];
  const ReadyQueues::Class& klass = queues[work.klass];
  work.charge64 = charge64(klass.demand, klass.mean_us);
  work.memory_mb = klass.demand.memory_mb;
  Wanted wanted;
  wanted.demand = &klass.demand;
  wanted.charge64 = work.charge64;
  wanted.function = klass.function;
  wanted.app = work.master != nullptr ? work.master->app() : work.assignment->app;
  if (work.assignment) wanted.left = &work.assignment->left_regions;
  std::map<AgentIndex, std::uint64_t> held;
  std::uint64_t missing_here = 0;
  if (work.master != nullptr) {
    const Task& task = work.master->graph().task(work.task);
    wanted.avoid = task.avoid;
    if (task.large) {
      work.master->input_bytes(work.task, held, wanted.input_bytes);
      wanted.held = &held;
      missing_here = wanted.input_bytes - std::min(wanted.input_bytes, held[kSelf]);
    }
  }
  if (klass.demand.only && work.master != nullptr && *klass.demand.only != kSelf) {
    const Peer* peer = peers.find(*klass.demand.only);
    if (peer != nullptr && !peer->down) {
      const bool room = peers.room_here(*peer, now) >= work.charge64;
      return room && send_away(index, {peer->agent, false});
    }
  }
  const bool able = can_meet(resources, klass.demand) && !is_home_left(work);
  const bool fits = able && worker.waiting() == 0 && worker.ledger().fits(work.charge64, work.memory_mb);
  if (klass.demand.only == kSelf && able) return fits && run_here(index);
  if (fits && wanted.avoid != kSelf && missing_here < kWorthMoving) return run_here(index);
  if (able && !fits && worth_waiting(klass)) return false;
  const Place place = peers.choose(wanted, address.path.empty() ? RegionId() : address.path.back(), now);
  // It failed here: another agent may have what this one lacks, and is worth a moment.
  if (fits && wanted.avoid == kSelf && place.agent == kNone && work.master != nullptr &&
      peers.anyone(klass.demand, {}, now)) {
    constexpr std::uint16_t kHeldBackMax = 2;  // heartbeats
    if (Task& task = work.master->graph().task(work.task); task.held_back < kHeldBackMax) {
      ++task.held_back;
      delay(index);
      return true;
    }
  }
  if (fits) {
    // Somewhere else only if that is a worker nearby which has more of the inputs, or because it failed here.
    const bool better = place.agent != kNone && !place.behind &&
                        (wanted.avoid == kSelf || held[place.agent] >= held[kSelf] + kWorthMoving);
    if (!better) return run_here(index);
  }
  return place.agent != kNone && send_away(index, place);
}

// False when the work is gone, because an input turned out to be lost.
bool Scheduler::Impl::prepare(WorkIndex index, bool here, Assignment& assignment) {
  Work& work = works[index];
  Master& master = *work.master;
  const std::uint32_t task = work.task;
  master.set_now(now);
  // While it is being prepared the task has no work: it may end, or become ready once more, on the way.
  master.graph().task(task).work = kNone;
  if (!master.prepare(task, agents, here, assignment)) {
    work.task = kNone;
    free_work(index);
    drain(master);
    return false;
  }
  master.graph().task(task).work = index;
  master.started(task);
  if (!master.effects().empty()) drain(master);
  return true;
}

// Both return true also when the work is gone.
bool Scheduler::Impl::run_here(WorkIndex index) {
  Work& work = works[index];
  Assignment assignment;
  if (work.master != nullptr) {
    if (!prepare(index, true, assignment)) return true;
  } else {
    assignment = *work.assignment;
  }
  worker.start(index, std::move(assignment), true, now, *out);
  return true;
}

bool Scheduler::Impl::send_away(WorkIndex index, Place place) {
  Work& work = works[index];
  Assignment assignment;
  if (work.master != nullptr) {
    if (!prepare(index, false, assignment)) return true;
  } else {
    assignment = *work.assignment;
  }
  const ReadyQueues::Class& klass = queues[work.klass];
  work.where = Where::kAway;
  work.agent = place.agent;
  work.behind = place.behind;
  work.job = grants.grant(place.agent, index, assignment.app, now);
  peers.give(place.agent, place.behind, work.charge64);
  assignment.job = work.job;
  assignment.demand = klass.demand;
  assignment.mean_us = klass.mean_us;
  assignment.spread = place.behind;
  if (place.behind) {
    // Not back to where it could not be placed. A head's own region and the one above are both such.
    if (!address.path.empty()) assignment.left_regions.push_back(address.path.back());
    const Peer* peer = peers.find(place.agent);
    if (peer != nullptr && peer->above && address.path.size() > 1) {
      assignment.left_regions.push_back(address.path[address.path.size() - 2]);
    }
  }
  Assign& assign = assigns[place.agent];
  add_function(assign, *grants.find(place.agent), assignment);
  assign.jobs.push_back(std::move(assignment));
  return true;
}

void Scheduler::Impl::add_function(Assign& assign, Grants::Pair& pair, const Assignment& assignment) {
  if (!pair.functions.emplace(assignment.app, assignment.function).second) return;
  if (const FunctionSpec* spec = worker.spec(assignment.app, assignment.function)) assign.functions.push_back(*spec);
}

// ---- what nobody can run ----

// Whether any agent known here, idle or not, could run it.
bool Scheduler::Impl::is_possible(const Work& work) const {
  static const std::vector<RegionId> kNoneLeft;
  const Demand& demand = queues[work.klass].demand;
  const std::vector<RegionId>& left = work.assignment ? work.assignment->left_regions : kNoneLeft;
  return (can_meet(resources, demand) && !is_home_left(work)) || peers.anyone(demand, left, now);
}

void Scheduler::Impl::note_homeless(std::uint32_t index) {
  ReadyQueues::Class& klass = queues[index];
  if (is_possible(works[queues.head(index)])) {
    klass.homeless_since = Instant::never();
    homeless.erase(index);
  } else if (klass.homeless_since == Instant::never()) {
    klass.homeless_since = now;
    homeless.insert(index);
  }
}

void Scheduler::Impl::refuse_homeless() {
  const std::set<std::uint32_t> suspects = homeless;
  for (const std::uint32_t index : suspects) {
    ReadyQueues::Class& klass = queues[index];
    if (klass.homeless_since + config.patience > now) continue;
    homeless.erase(index);
    klass.homeless_since = Instant::never();
    if (klass.size() == 0 || is_possible(works[queues.head(index)])) continue;
    const std::string why =
        "it asks for " + scheduler::describe(klass.demand) +
        ", which no agent known here has. There are: this agent: " + scheduler::describe(resources) +
        peers.describe(agents);
    while (klass.size() > 0) {
      const WorkIndex head = queues.head(index);
      queues.pop(index);
      Work& work = works[head];
      if (work.cancelled) {
        free_work(head);
      } else if (work.master != nullptr) {
        Master& master = *work.master;
        const std::uint32_t task = work.task;
        free_work(head);
        master.set_now(now);
        master.refuse(task, Code::kInvalid, why);
        drain(master);
      } else {
        return_job(head, why);
        free_work(head);
      }
    }
  }
}

// ---- the way back ----

// The end of an attempt that ran here or elsewhere. The work is in no queue and under no lease now.
void Scheduler::Impl::deliver(WorkIndex index, JobResult& result) {
  Work& work = works[index];
  if (result.outcome == client::Outcome::kDone) queues.learn(work.klass, result.run_us);
  if (result.outcome == client::Outcome::kNotStarted && work.agent != kNone && work.agent != kSelf && !work.behind)
    peers.set_unstartable(work.agent, work.master != nullptr ? work.master->app() : work.assignment->app,
                          queues[work.klass].function, now);
  if (work.master == nullptr) {
    const bool returned = result.outcome == client::Outcome::kReturned || result.outcome == client::Outcome::kCancelled;
    if (returned && work.spread) {
      if (result.moved || result.unknown_function || result.impossible) {
        requeue(index);
      } else {
        delay(index);
      }
      return;
    }
    if (returned && work.pinned) {
      worker.start(index, std::move(*work.assignment), false, now, *out);
      return;
    }
    result_to(work.upstream, work.assignment->job, std::move(result));
    free_work(index);
    return;
  }
  Master& master = *work.master;
  master.set_now(now);
  AgentIndex ran_on = agents.add(result.ran_on);
  if (ran_on == kNone) ran_on = work.agent == kNone ? kSelf : work.agent;  // the table is full; the way to it is known
  if (ran_on == kSelf) master.adopt_inputs(work.task, worker.values());
  const Verdict verdict = master.finished(work.task, result, ran_on, agents);
  switch (verdict) {
    case Verdict::kEnded:
      work.task = kNone;  // its record may be somebody else's by now
      free_work(index);
      break;
    case Verdict::kAgain:
      // Refused by another agent: not to be asked again at once.
      if (result.outcome == client::Outcome::kReturned && ran_on != kSelf && !result.moved &&
          !result.unknown_function && !result.impossible) {
        delay(index);
      } else {
        requeue(index);
      }
      break;
    case Verdict::kLater:
      delay(index);
      break;
  }
  if (!master.effects().empty()) drain(master);
}

}  // namespace shoal::scheduler
