// What this agent and others say to each other: as upstream side (Report, RenewAck, Steal come in) and as downstream
// side (Assign, Renew, Revoke, Free, AppGone come in). The source of an envelope is a claim; everything in a body is
// bounded, and a number that fits nothing here is ignored.
#include <algorithm>

#include "scheduler/impl.h"

namespace shoal::scheduler {

namespace {

constexpr std::size_t kJobsPerMessage = 256;
constexpr std::size_t kBytesPerMessage = 4U << 20;
constexpr std::size_t kRenewedMax = 65'536;

std::size_t weight(const std::vector<client::Argument>& arguments) {
  std::size_t bytes = 0;
  for (const auto& argument : arguments) {
    bytes += 64 + argument.name.size() + weight(argument.items);
    if (const auto* inlined = std::get_if<client::Inline>(&argument.value)) bytes += inlined->bytes.size();
  }
  return bytes;
}

std::size_t weight(const Assignment& job) {
  return 256 + weight(job.arguments) + job.inputs.size() * 128;
}

std::size_t weight(const JobResult& result) {
  std::size_t bytes = 256 + result.message.size() + result.error.size();
  for (const auto& output : result.outputs) {
    bytes += 32;
    if (const auto* inlined = std::get_if<client::Inline>(&output.value)) bytes += inlined->bytes.size();
  }
  return bytes;
}

std::uint64_t saturated(std::uint64_t a, std::uint64_t b) {
  return a > b ? a - b : 0;
}

}  // namespace

template <class Message>
void Scheduler::Impl::send(AgentIndex agent, Kind kind, const Message& message) {
  wire::Envelope envelope;
  envelope.kind = static_cast<std::uint16_t>(kind);
  envelope.source = address;
  envelope.target = agents.address(agent);
  envelope.body = wire::encode(message);
  out->emplace_back(out::Send{std::move(envelope)});
}
template void Scheduler::Impl::send(AgentIndex, Kind, const AppGone&);

void Scheduler::Impl::on(const in::Frame& frame) {
  const wire::Envelope& envelope = frame.envelope;
  // Only who gives us work is remembered for it; all others are known already, or what they say fits nothing here.
  const bool gives_work = envelope.kind == static_cast<std::uint16_t>(Kind::kAssign) ||
                          envelope.kind == static_cast<std::uint16_t>(Kind::kRenew);
  const AgentIndex from = gives_work ? agents.add(envelope.source) : agents.find(envelope.source.agent);
  if (from == kNone || from == kSelf) return;
  const auto with = [&](auto message, auto handle) {
    if (auto decoded = wire::decode<decltype(message)>(envelope.body)) handle(*decoded);
  };
  switch (static_cast<Kind>(envelope.kind)) {
    case Kind::kAssign:
      with(Assign(), [&](Assign& m) { on_assign(from, m); });
      return;
    case Kind::kReport:
      with(Report(), [&](Report& m) { on_report(from, m); });
      return;
    case Kind::kRenew:
      with(Renew(), [&](Renew& m) { on_renew(from, m); });
      return;
    case Kind::kRenewAck:
      with(RenewAck(), [&](RenewAck& m) { on_renew_ack(from, m); });
      return;
    case Kind::kRevoke:
      with(Revoke(), [&](Revoke& m) { on_revoke(from, m); });
      return;
    case Kind::kFree:
      with(Free(), [&](Free& m) { on_free(m); });
      return;
    case Kind::kAppGone:
      with(AppGone(), [&](AppGone& m) { on_app_gone(m.app); });
      return;
    case Kind::kSteal:
      with(Steal(), [&](Steal& m) { on_steal(from, m); });
      return;
  }
}

// ---- downstream side ----

void Scheduler::Impl::on_assign(AgentIndex from, Assign& assign) {
  Holdings::Pair* known = holdings.find(from);
  if (known != nullptr && known->life != 0 && known->life != assign.life) abandon(from);  // it was restarted
  Holdings::Pair& pair = holdings[from];
  pair.life = assign.life;
  pair.heard = now;
  pair.lapsed = false;
  for (const auto& spec : assign.functions) worker.learn(spec);
  for (auto& job : assign.jobs) take_job(from, pair, std::move(job));
}

void Scheduler::Impl::take_job(AgentIndex from, Holdings::Pair& pair, Assignment&& job) {
  if (pair.jobs.contains(job.job)) return;
  pair.seen = std::max(pair.seen, job.job);
  pair.apps.insert(job.app);
  JobResult refusal;
  refusal.outcome = client::Outcome::kReturned;
  refusal.ran_on = address;
  const std::uint32_t klass = queues.intern(job.app, job.function, job.demand);
  if (worker.spec(job.app, job.function) == nullptr) {
    refusal.unknown_function = true;
  } else if (pair.jobs.size() >= config.limits.attempts_max) {
    refusal.message = "this agent holds too many jobs of that agent";
  } else if (!job.spread && !can_meet(resources, job.demand)) {
    refusal.message = "this agent has only " + scheduler::describe(resources);
  } else {
    refusal.outcome = client::Outcome::kDone;
  }
  if (refusal.outcome == client::Outcome::kReturned) {
    result_to(from, job.job, std::move(refusal));
    return;
  }
  const WorkIndex index = new_work();
  Work& work = works[index];
  pair.jobs[job.job] = index;
  work.upstream = from;
  work.app = job.app;
  work.priority = job.priority;
  work.spread = job.spread;
  work.pinned = !job.spread;
  work.klass = klass;
  queues.join(klass);
  if (queues[klass].mean_us == 0) queues[klass].mean_us = job.mean_us;
  work.charge64 = charge64(job.demand, queues[klass].mean_us);
  work.memory_mb = job.demand.memory_mb;
  work.rank = work.priority ? kUrgentRank : 0;
  if (work.pinned) {
    add_load(index, kSelf, 0);
    worker.start(index, std::move(job), false, now, *out);
    return;
  }
  work.assignment = std::make_unique<Assignment>(std::move(job));
  arm_handback(index);
  find_home(index);
  queues.push(index, works);
}

void Scheduler::Impl::on_renew(AgentIndex from, const Renew& renew) {
  Holdings::Pair* pair = holdings.find(from);
  if (pair != nullptr && pair->life != renew.life) {
    abandon(from);
    pair = nullptr;
  }
  RenewAck ack;
  ack.life = life;
  ack.room = room_for(from);
  if (pair != nullptr) {
    pair->heard = now;
    pair->lapsed = false;
  }
  for (const std::uint64_t job : renew.jobs) {
    if (pair == nullptr || !pair->jobs.contains(job)) ack.unknown.push_back(job);
  }
  // Results of this very step are on no wire yet: they have to arrive before the word that their jobs are unknown.
  flush();
  send(from, Kind::kRenewAck, ack);
}

void Scheduler::Impl::on_revoke(AgentIndex from, const Revoke& revoke) {
  Holdings::Pair* pair = holdings.find(from);
  if (pair == nullptr) return;
  for (const std::uint64_t job : revoke.jobs) {
    auto it = pair->jobs.find(job);
    if (it == pair->jobs.end()) continue;
    const WorkIndex index = it->second;
    pair->jobs.erase(it);
    cancel_work(index);
  }
}

void Scheduler::Impl::on_free(const Free& free) {
  if (masters.contains(free.app)) return;  // only its master says what is not needed, and that is here
  for (const auto& name : free.names) worker.drop(free.app, name);
}

void Scheduler::Impl::on_app_gone(AppId app) {
  if (masters.contains(app)) return;
  for (auto& [agent, pair] : holdings.pairs()) {
    if (pair.apps.erase(app) == 0) continue;
    for (auto it = pair.jobs.begin(); it != pair.jobs.end();) {
      const WorkIndex index = it->second;
      if (works[index].app != app) {
        ++it;
        continue;
      }
      it = pair.jobs.erase(it);
      cancel_work(index);
    }
  }
  std::vector<AgentIndex> done;
  for (const auto& [agent, pair] : holdings.pairs()) {
    if (pair.apps.empty() && pair.jobs.empty()) done.push_back(agent);
  }
  for (const AgentIndex agent : done) holdings.erase(agent);
  worker.flush(*out);
  worker.drop_app(app, *out);
  queues.drop_app(app);
  for (const AgentIndex agent : grants.forget_app(app)) send(agent, Kind::kAppGone, AppGone{app});
}

void Scheduler::Impl::result_to(AgentIndex upstream, std::uint64_t job, JobResult result) {
  if (Holdings::Pair* pair = holdings.find(upstream)) pair->jobs.erase(job);
  result.job = job;
  reports[upstream].results.push_back(std::move(result));
}

void Scheduler::Impl::return_job(WorkIndex index, const std::string& why, bool impossible) {
  JobResult result;
  result.impossible = impossible;
  result.outcome = client::Outcome::kReturned;
  result.message = why;
  result.ran_on = address;
  result_to(works[index].upstream, works[index].assignment->job, std::move(result));
}

// The lease of what `agent` gave us ended: our attempts may be running elsewhere already.
void Scheduler::Impl::drop_upstream(AgentIndex agent) {
  Holdings::Pair* pair = holdings.find(agent);
  if (pair == nullptr) return;
  for (const auto& [job, index] : std::exchange(pair->jobs, {})) cancel_work(index);
  reports.erase(agent);
}

// It will not come back for the values it left here.
void Scheduler::Impl::abandon(AgentIndex agent) {
  Holdings::Pair* pair = holdings.find(agent);
  if (pair == nullptr) return;
  drop_upstream(agent);
  const std::set<AppId> apps = pair->apps;
  holdings.erase(agent);
  for (const AppId app : apps) {
    const bool shared = std::any_of(holdings.pairs().begin(), holdings.pairs().end(),
                                    [&](const auto& other) { return other.second.apps.contains(app); });
    if (!shared) on_app_gone(app);
  }
}

// ---- upstream side ----

void Scheduler::Impl::on_report(AgentIndex from, Report& report) {
  if (grants.find(from) == nullptr) return;
  if (!grants.heard(from, report.life, now)) lose(from, true);
  for (auto& result : report.results) {
    const auto index = grants.settle(from, result.job);
    if (!index) continue;  // of an attempt that was given up
    Work& work = works[*index];
    peers.take_back(from, work.behind, work.charge64);
    if (result.unknown_function) {
      if (Grants::Pair* pair = grants.find(from)) pair->functions.erase({work.app, queues[work.klass].function});
    }
    if (result.impossible) peers.set_impossible(from, queues[work.klass].demand, now);
    deliver(*index, result);
  }
  peers.set_room(from, report.room, grants.find(from), works, now);
}

void Scheduler::Impl::on_renew_ack(AgentIndex from, const RenewAck& ack) {
  if (grants.find(from) == nullptr) return;
  if (!grants.heard(from, ack.life, now)) {
    lose(from, true);
    return;
  }
  for (const std::uint64_t job : ack.unknown) {
    // The assignment, or its report, was lost with a link.
    const auto index = grants.settle(from, job);
    if (!index) continue;
    Work& work = works[*index];
    if (work.master != nullptr) work.master->lost_attempt();
    requeue(*index);
  }
  peers.set_room(from, ack.room, grants.find(from), works, now);
}

void Scheduler::Impl::on_steal(AgentIndex from, const Steal& steal) {
  peers.set_room(from, steal.room, grants.find(from), works, now);
  // What was given to us and has not started goes back to who gave it, who now knows of somebody idle as well.
  for (const WorkIndex index : worker.give_up(steal.room.here64)) {
    if (works[index].master != nullptr) {
      requeue(index);  // it had been called here ahead of time
      continue;
    }
    JobResult result;
    result.outcome = client::Outcome::kReturned;
    result.moved = true;
    result.ran_on = address;
    result_to(works[index].upstream, works[index].assignment->job, std::move(result));
    free_work(index);
  }
}

// All leases of the agent are over: what it had is run again, with new job numbers.
void Scheduler::Impl::lose(AgentIndex agent, bool values) {
  assigns.erase(agent);
  const std::vector<WorkIndex> lost = grants.revoke(agent);
  for (auto it = lost.rbegin(); it != lost.rend(); ++it) {
    Work& work = works[*it];
    if (work.master != nullptr) {
      work.master->lost_attempt();
      work.master->graph().task(work.task).avoid = agent;
    }
    requeue(*it);
  }
  if (Peer* peer = peers.find(agent)) peer->given_here64 = peer->given_behind64 = 0;
  if (!values) return;
  for (auto& [app, master] : masters) {
    master->set_now(now);
    master->agent_lost(agent);
    drain(*master);
  }
}

void Scheduler::Impl::renew_leases() {
  for (const AgentIndex agent : grants.due(now)) {
    Renew renew;
    renew.life = life;
    for (const auto& [job, entry] : grants.find(agent)->jobs) {
      if (entry.granted + config.heartbeat > now || renew.jobs.size() >= kRenewedMax) break;
      renew.jobs.push_back(job);
    }
    send(agent, Kind::kRenew, renew);
  }
}

// Idle, and a neighbour has more than it can run: asks the one with the longest queue, once per heartbeat.
void Scheduler::Impl::ask_for_work() {
  if (steal_at.us == 0 || now < steal_at) return;
  steal_at = Instant{};
  const bool idle = worker.ledger().free64() > 0 && worker.waiting() == 0 && queues.size() == queues.homed_elsewhere();
  const Peer* busiest = nullptr;
  for (const auto& [agent, peer] : peers.all()) {
    if (peer.above || peer.child || peer.down || peer.state.queued == 0) continue;
    if (busiest == nullptr || peer.state.queued > busiest->state.queued) busiest = &peer;
  }
  if (busiest == nullptr) return;
  steal_at = now + config.heartbeat;
  if (idle) send(busiest->agent, Kind::kSteal, Steal{room_for(busiest->agent)});
}

Room Scheduler::Impl::room_for(AgentIndex agent) const {
  Room room;
  const auto it = holdings.pairs().find(agent);
  if (it != holdings.pairs().end()) room.seen = it->second.seen;
  const std::uint64_t backlog = (queues.size() - queues.homed_elsewhere()) * kUnit64;
  room.here64 = saturated(worker.ledger().free64(), worker.waiting64() + backlog);
  const Peer* peer = peers.find(agent);
  // A neighbour above wants what lies in this region and below, all others what lies above.
  room.behind64 = saturated(free_on(peer == nullptr || !peer->above), backlog);
  return room;
}

void Scheduler::Impl::free_value(AppId app, const GraphEvents::Freed& freed) {
  worker.drop(app, freed.name);  // also what an attempt fetched
  for (const AgentIndex holder : freed.holders) {
    if (holder != kSelf && holder != kNone) {
      Free& free = frees[{holder, app}];
      free.app = app;
      free.names.push_back(freed.name);
    }
  }
}

// Everything that collected during the step, in messages of bounded size.
void Scheduler::Impl::flush() {
  worker.flush(*out);
  for (auto& [agent, report] : std::exchange(reports, {})) {
    Report part;
    part.life = life;
    part.room = room_for(agent);
    std::size_t bytes = 0;
    for (auto& result : report.results) {
      bytes += weight(result);
      part.results.push_back(std::move(result));
      if (part.results.size() < kJobsPerMessage && bytes < kBytesPerMessage) continue;
      send(agent, Kind::kReport, part);
      part.results.clear();
      bytes = 0;
    }
    if (!part.results.empty()) send(agent, Kind::kReport, part);
  }
  for (auto& [agent, revoke] : std::exchange(revokes, {})) send(agent, Kind::kRevoke, revoke);
  for (auto& [key, free] : std::exchange(frees, {})) send(key.first, Kind::kFree, free);
  for (auto& [agent, assign] : std::exchange(assigns, {})) {
    Assign part;
    part.life = life;
    part.functions = std::move(assign.functions);
    std::size_t bytes = 0;
    for (const auto& spec : part.functions) bytes += spec.function.payload.size();
    for (auto& job : assign.jobs) {
      bytes += weight(job);
      part.jobs.push_back(std::move(job));
      if (part.jobs.size() < kJobsPerMessage && bytes < kBytesPerMessage) continue;
      send(agent, Kind::kAssign, part);
      part.functions.clear();
      part.jobs.clear();
      bytes = 0;
    }
    if (!part.jobs.empty()) send(agent, Kind::kAssign, part);
  }
}

}  // namespace shoal::scheduler
