// From a ready task (or a delegated job) to the place that runs it, and back with its result.
#include <algorithm>

#include "protocol/base/check.h"
#include "scheduler/impl.h"

namespace shoal::scheduler {

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
    for (const std::uint32_t index : std::exchange(effects.raised, {})) {
      const Task& task = master.graph().task(index);
      if (task.state != TaskState::kReady || task.work == kNone) continue;
      const Work& work = works[task.work];
      const int urgent = work.priority ? kUrgentRank : 0;
      queues.rerank(task.work, static_cast<std::uint8_t>(urgent + path_rank(task.path_us)), works);
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
  drop_load(index);
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
    work.klass = queues.intern(work.app, function.spec.function, demand);
  } else {
    if (!queues.is(function.klass, function.klass_made)) {
      function.klass = queues.intern(work.app, function.spec.function, function.demand);
      function.klass_made = queues[function.klass].made;
    }
    work.klass = function.klass;
  }
  queues.join(work.klass);
  const int urgent = work.priority ? kUrgentRank : 0;
  work.rank = static_cast<std::uint8_t>(urgent + (by_path(master.policy()) ? path_rank(task.path_us) : 0));
  find_home(work_index);
  queues.push(work_index, works);
}

void Scheduler::Impl::cancel_work(WorkIndex index) {
  Work& work = works[index];
  switch (work.where) {
    case Where::kQueued:
      queues.take(index, works);
      work.cancelled = true;
      free_work(index);
      return;
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
  drop_load(index);
  if (work.spread) arm_handback(index);
  find_home(index);
  queues.put_back(index, works);
}

// From now on the agent is expected to be busy with it.
void Scheduler::Impl::add_load(WorkIndex index, AgentIndex agent, std::uint64_t wait_us) {
  Work& work = works[index];
  const ReadyQueues::Class& klass = queues[work.klass];
  drop_load(index);
  work.loads = agent;
  work.load_units = std::max<std::uint64_t>(klass.demand.units, 1);
  work.load_end = now + microseconds(static_cast<std::int64_t>(wait_us + klass.run_us(agent, kNeutralRunUs)));
  estimates.add(agent, work.load_units, work.load_end, now);
}

void Scheduler::Impl::drop_load(WorkIndex index) {
  Work& work = works[index];
  if (work.loads == kNone) return;
  estimates.remove(work.loads, work.load_units, work.load_end, now);
  if (std::exchange(work.transfers, false)) estimates.remove_transfer(work.loads);
  if (work.master != nullptr && !work.cancelled) work.master->unexpect_inputs(work.loads, work.coming);
  work.coming.clear();
  work.loads = kNone;
}

// A delegated job that finds no place here for two heartbeats goes back: there may be room elsewhere.
void Scheduler::Impl::arm_handback(WorkIndex index) {
  works[index].handback = now + config.heartbeat * 2;
  handbacks.emplace(works[index].handback, index);
}

void Scheduler::Impl::delay(WorkIndex index) {
  works[index].where = Where::kDelayed;
  drop_load(index);
  delayed.emplace(now + config.heartbeat, index);
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

// The work may be gone after these.
void Scheduler::Impl::run_here(WorkIndex index, bool reserve) {
  Work& work = works[index];
  Assignment assignment;
  if (work.master != nullptr) {
    if (!prepare(index, true, assignment)) return;
  } else {
    assignment = *work.assignment;
  }
  worker.start(index, std::move(assignment), reserve, now, *out);
}

void Scheduler::Impl::send_away(WorkIndex index, Place place) {
  Work& work = works[index];
  Assignment assignment;
  if (work.master != nullptr) {
    if (!prepare(index, false, assignment)) return;
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
  if (is_possible(works[queues.any(index, works)])) {
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
    if (klass.size == 0 || is_possible(works[queues.any(index, works)])) continue;
    const std::string why =
        "it asks for " + scheduler::describe(klass.demand) +
        ", which no agent known here has. There are: this agent: " + scheduler::describe(resources) +
        peers.describe(agents);
    while (klass.size > 0) {
      const WorkIndex head = queues.any(index, works);
      queues.take(head, works);
      Work& work = works[head];
      if (work.master != nullptr) {
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

// What the attempt says of its function, and of the way that its inputs took.
void Scheduler::Impl::learn(Work& work, const JobResult& result) {
  if (const std::uint64_t charged = std::exchange(work.charged_us, 0); charged != 0) {
    const std::uint64_t units = std::max<std::uint64_t>(queues[work.klass].demand.units, 1);
    queues.settle(work.app, charged, units * result.run_us);
  }
  if (result.outcome != client::Outcome::kDone) return;
  const bool behind = work.where == Where::kAway && work.behind;
  const AgentIndex agent = work.where == Where::kAway ? work.agent : kSelf;
  queues.learn(work.klass, behind ? kNone : agent, result.run_us);
  if (!behind && work.source != kNone) estimates.moved(work.source, agent, result.fetch_bytes, result.fetch_us);
  if (work.master == nullptr || work.task == kNone) return;
  work.master->function(work.master->graph().task(work.task).function).mean_us = queues[work.klass].mean_us;
}

// The end of an attempt that ran here or elsewhere. The work is in no queue and under no lease now.
void Scheduler::Impl::deliver(WorkIndex index, JobResult& result) {
  Work& work = works[index];
  drop_load(index);
  learn(work, result);
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
      add_load(index, kSelf, 0);
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
  const TaskId ended = master.graph().task(work.task).id;
  const Verdict verdict = master.finished(work.task, result, ran_on, agents);
  if (!work.candidates.empty()) master.note_candidates(ended, std::move(work.candidates));
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
