#include "scheduler/scheduler.h"

#include <algorithm>

#include "protocol/base/check.h"
#include "scheduler/impl.h"

namespace shoal::scheduler {

Scheduler::Scheduler(SchedulerConfig config, Rng rng) : impl_(std::make_unique<Impl>(std::move(config), rng)) {}
Scheduler::~Scheduler() = default;
void Scheduler::step(Instant now, const Input& input, std::vector<Output>& out) {
  impl_->step(now, input, out);
}
Instant Scheduler::next_deadline() const {
  return impl_->deadline;
}

void Scheduler::check_invariants() const {
  const Impl& impl = *impl_;
  impl.worker.check_invariants();
  impl.queues.check_invariants(impl.works);
  for (const auto& [app, master] : impl.masters) master->check_invariants();
  std::size_t away = 0;
  for (const auto& [agent, pair] : impl.grants.pairs()) {
    for (const auto& [job, entry] : pair.jobs) {
      const Work& work = impl.works[entry.work];
      SHOAL_CHECK(work.live && work.where == Where::kAway && work.agent == agent && work.job == job,
                  "a granted job and its work know each other");
      ++away;
    }
  }
  std::size_t away_works = 0;
  std::map<std::uint32_t, std::uint64_t> users;
  for (WorkIndex i = 0; i < impl.works.end(); ++i) {
    const Work& work = impl.works[i];
    if (!work.live) continue;
    ++users[work.klass];
    if (work.where == Where::kAway) ++away_works;
    SHOAL_CHECK(work.queued == (work.where == Where::kQueued), "what is queued waits in a lane");
    if (work.master == nullptr || work.cancelled) continue;
    const Task& task = work.master->graph().task(work.task);
    SHOAL_CHECK(task.state == TaskState::kReady && task.work == i, "a task and its work know each other");
  }
  for (const auto& [klass, count] : users) {
    SHOAL_CHECK(impl.queues[klass].users == count, "the users of a class are counted");
  }
  SHOAL_CHECK(away == away_works, "work that is away is under a lease");
}

Scheduler::Impl::Impl(SchedulerConfig c, Rng r)
    : config(std::move(c)),
      rng(r),
      life(rng.next() | 1),
      agents(config.id, config.limits.agents_max),
      worker(works),
      peers(config.heartbeat * 2),
      grants({config.lease, config.heartbeat}, rng.next() >> 16),
      holdings({config.lease, config.heartbeat}) {
  address.agent = config.id;
}

void Scheduler::Impl::step(Instant at, const Input& input, std::vector<Output>& outputs) {
  now = at;
  out = &outputs;
  worker.set_now(now);
  if (deadline <= now) run_timers();
  std::visit([this](const auto& message) { on(message); }, input);
  pump();
  flush();
  update_gossip();
  deadline = earliest_deadline();
  out = nullptr;
}

// What time alone brings about. Leases that other agents hold here come first: a worker that was stopped for a while
// must give up before it looks at results.
void Scheduler::Impl::run_timers() {
  for (const AgentIndex agent : holdings.lapsed(now)) drop_upstream(agent);
  for (const AgentIndex agent : holdings.abandoned(now)) abandon(agent);
  for (const AgentIndex agent : grants.lapsed(now))
    lose(agent, peers.find(agent) == nullptr || peers.find(agent)->down);
  for (auto it = doomed.begin(); it != doomed.end();) {
    if (it->second > now) {
      ++it;
      continue;
    }
    const AgentIndex agent = it->first;
    it = doomed.erase(it);
    peers.remove(agent);
    peers_changed = true;
    lose(agent, true);
  }
  while (!delayed.empty() && delayed.begin()->first <= now) {
    const WorkIndex index = delayed.begin()->second;
    delayed.erase(delayed.begin());
    if (works[index].cancelled) {
      free_work(index);
    } else {
      requeue(index);
    }
  }
  while (!handbacks.empty() && handbacks.begin()->first <= now) {
    const WorkIndex index = handbacks.begin()->second;
    handbacks.erase(handbacks.begin());
    Work& work = works[index];
    if (!work.live || work.handback > now || work.where != Where::kQueued || work.cancelled) continue;
    return_job(index, "no room was found");
    queues.take(index, works);
    free_work(index);
  }
  peers.forget_unstartable(now);
  worker.expire(now, *out);
  refuse_homeless();
  renew_leases();
  ask_for_work();
}

Instant Scheduler::Impl::earliest_deadline() const {
  Instant next =
      std::min({grants.next_deadline(), holdings.next_deadline(), worker.next_deadline(), peers.next_unstartable()});
  next = std::min({next, state_due, summaries_due});
  if (!delayed.empty()) next = std::min(next, delayed.begin()->first);
  if (!handbacks.empty()) next = std::min(next, handbacks.begin()->first);
  for (const std::uint32_t klass : homeless) next = std::min(next, queues[klass].homeless_since + config.patience);
  for (const auto& [agent, at] : doomed) next = std::min(next, at);
  if (steal_at.us != 0) next = std::min(next, steal_at);
  next = std::min(next, reconsider_at);
  return next;
}

// ---- who is there ----

void Scheduler::Impl::on(const in::Self& self) {
  address = self.address;
  resources = self.resources;
  agents.add(address);
  worker.ledger().set_total(resources.computing_units, resources.memory_mb);
  peers_changed = true;
  resources_changed = true;
}

void Scheduler::Impl::on(const in::PeerUp& up) {
  const AgentIndex agent = agents.add(up.address);
  if (agent == kNone || agent == kSelf) return;
  doomed.erase(agent);
  peers.up(up, agent);
  peers_changed = true;
  const Peer* peer = peers.find(agent);
  // Somebody has more than it can run, and we have nothing to do.
  if (!peer->above && !peer->child && peer->state.queued > 0 && steal_at.us == 0) steal_at = now + config.heartbeat;
}

void Scheduler::Impl::on(const in::PeerDown& down) {
  const AgentIndex agent = agents.find(down.agent);
  if (agent == kNone || agent == kSelf) return;
  peers_changed = true;
  if (down.proven) {
    doomed.erase(agent);
    peers.remove(agent);
    lose(agent, true);
    drop_upstream(agent);
    abandon(agent);
    return;
  }
  if (Peer* peer = peers.find(agent)) peer->down = true;
  doomed[agent] = now + config.lease + config.heartbeat;
}

void Scheduler::Impl::on(const in::Exclude& exclude) {
  peers.exclude(exclude.agent, exclude.excluded);
  peers_changed = true;
}

void Scheduler::Impl::on(const in::Above& above) {
  above_head = above.head;
  peers.set_above(above.head ? agents.add(*above.head) : kNone, above.summary);
  peers_changed = true;
}

// ---- applications ----

Master* Scheduler::Impl::master_of(ClientId client) {
  auto it = clients.find(client);
  if (it == clients.end()) return nullptr;
  Master* master = masters.find(it->second)->second.get();
  master->set_now(now);
  return master;
}

void Scheduler::Impl::on(const in::OpenApp& open) {
  const auto refuse = [&](Code code, std::string why) {
    out->emplace_back(
        out::ToClient{open.client, client::Reply{0, static_cast<std::uint8_t>(code), std::move(why), {}, {}}});
  };
  if (masters.size() >= config.limits.apps_max) {
    refuse(Code::kExhausted,
           std::to_string(config.limits.apps_max) + " applications run on this agent: use another one");
    return;
  }
  if (masters.contains(open.app) || clients.contains(open.client)) {
    refuse(Code::kExists, "application " + open.app.hex() + " has a driver already");
    return;
  }
  const auto policy = parse_policy(open.hello.scheduler, config.policy);
  if (!policy) {
    refuse(policy.error().code, policy.error().message);
    return;
  }
  clients[open.client] = open.app;
  auto& master = masters[open.app] = std::make_unique<Master>(open.app, open.client, open.hello, config.limits, now);
  master->set_environments(open.environments);
  if (open.journal || !open.replay.empty()) master->journal(open.replay);
  if (open.save) master->save();
  master->set_policy(policy->policy);
  queues.set_share(open.app, ReadyQueues::kWeight, policy->policy == Policy::kLifo);
  master->set_able([this](const Demand& demand) { return able_agents(demand); });
}

void Scheduler::Impl::on(const in::ClientMessage& message) {
  Master* master = master_of(message.client);
  if (master == nullptr) return;
  std::visit([&](const auto& m) { master->on(m); }, message.message);
  if (const auto* function = std::get_if<client::Register>(&message.message)) {
    const EnvironmentId environment = master->environment_of(function->options);
    // With an environment it is the interpreter of each agent that runs it: that is what its packages are chosen for.
    const bool own_python = !environment.is_zero() && function->language == "python";
    worker.learn(
        {master->app(),
         own_python ? std::string() : master->hello().python,
         {function->function, function->name, function->language, function->payload, master->hello().python_path},
         environment,
         environment.is_zero() ? wire::Address() : address});
  }
  drain(*master);
}

void Scheduler::Impl::on(const in::GroupMessage& message) {
  Master* master = master_of(message.client);
  if (master == nullptr) return;
  master->on_group(message.kind, message.group);
  drain(*master);
}

void Scheduler::Impl::on(const in::ClientGone& gone) {
  auto it = clients.find(gone.client);
  if (it == clients.end()) return;
  end_app(it->second, "the application's driver went away");
}

void Scheduler::Impl::on(const in::CancelApp& cancel) {
  auto it = masters.find(cancel.app);
  if (it == masters.end()) return;
  it->second->set_now(now);
  it->second->cancel_all("the application was cancelled");
  drain(*it->second);
}

void Scheduler::Impl::end_app(AppId app, const std::string& why) {
  auto it = masters.find(app);
  Master& master = *it->second;
  master.set_now(now);
  master.cancel_all(why);
  drain(master);
  worker.flush(*out);
  worker.drop_app(app, *out);
  for (const AgentIndex agent : grants.forget_app(app)) send(agent, Kind::kAppGone, AppGone{app});
  std::erase_if(frees, [&](const auto& entry) { return entry.first.second == app; });
  queues.drop_app(app);
  clients.erase(master.client());
  std::string state = master.state();
  if (state == "running") state = "done";
  finished.push_back({app, std::move(it->second), state, now});
  finished.back().master->drop_graph();
  masters.erase(it);
  if (finished.size() > config.limits.finished_apps_max) {
    forgotten.add(finished.front().master->counts());
    finished.pop_front();
  }
}

// ---- drivers ----

void Scheduler::Impl::on(const in::AttemptsDone& done) {
  for (const auto& result : done.results) {
    const WorkIndex index = worker.find(result.attempt);
    if (index == kNone) continue;
    JobResult job = worker.conclude(index, result, *out);
    if (works[index].cancelled) {
      free_work(index);
      continue;
    }
    job.ran_on = address;
    deliver(index, job);
  }
}

void Scheduler::Impl::on(const in::AttemptBlocked& blocked) {
  worker.block(blocked.attempt, blocked.blocked);
}

void Scheduler::Impl::on(const in::Fetched& fetched) {
  std::vector<LocalValues::Waiter> waits;
  for (const WorkIndex index : worker.fetched(fetched, waits, now, *out)) {
    JobResult job;
    job.outcome = client::Outcome::kInputMissing;
    job.message = fetched.message;
    job.ran_on = address;
    for (const auto& input : works[index].assignment->inputs) {
      if (input.object.is_zero() && key_of(works[index].assignment->app, input) == fetched.key)
        job.missing.push_back(input.name);
    }
    deliver(index, job);
  }
  for (const auto& wait : waits) {
    auto it = masters.find(wait.app);
    if (it == masters.end()) continue;
    it->second->set_now(now);
    it->second->fetched(wait.index, fetched.ok, fetched.value);
    drain(*it->second);
  }
}

void Scheduler::Impl::on(const in::Query& query) {
  out->emplace_back(out::Answer{query.id, answer(query)});
}

}  // namespace shoal::scheduler
