#include "tests/unit/scheduler/timed.h"

#include <gtest/gtest.h>

#include <set>

namespace shoal::scheduler::testing {

struct Timed::Agent {
  std::string name;
  wire::Address address;
  std::unique_ptr<Scheduler> machine;
  Bytes state;
  std::set<ValueKey> kept;
};

Timed::Timed(const std::vector<std::uint32_t>& units, const std::string& policy, std::uint64_t seed) {
  for (std::size_t i = 0; i < units.size(); ++i) {
    Agent& agent = *agents_.emplace_back(std::make_unique<Agent>());
    agent.name = std::string(1, static_cast<char>('a' + i));
    agent.address = {AgentId(0xa0 + i, i + 1), {RegionId(1, 1)}};
    SchedulerConfig config;
    config.id = agent.address.agent;
    agent.machine = std::make_unique<Scheduler>(config, Rng(seed + i));
    step(agent, in::Self{agent.address, {units[i], 8'192, "x86_64", {{"name", agent.name}}, {}}});
  }
  for (auto& agent : agents_) gossip(*agent);
  open("a", 1, policy);
}

Timed::~Timed() = default;

void Timed::open(const std::string& name, std::uint64_t app, const std::string& policy) {
  submit();
  for (auto& agent : agents_) {
    if (agent->name == name) master_ = agent.get();
  }
  app_ = app;
  client::Hello hello;
  hello.scheduler = policy;
  step(*master_, in::OpenApp{ClientId(app), AppId(app, app), hello, false, {}});
}

std::uint64_t Timed::task(Duration run, const std::vector<std::uint64_t>& reads, std::uint64_t bytes,
                          const std::string& where, bool priority, const std::string& function) {
  const std::uint64_t id = ++tasks_made_;
  tasks_[id] = {run, bytes};
  const std::string name = function + "@" + where + (priority ? "!" : "");
  const FunctionId function_id(std::hash<std::string>()(name), app_);
  if (!std::exchange(functions_[{app_, name}], true)) {
    client::TaskOptions options;
    if (!where.empty()) options.constraints["label.name"] = where;
    options.priority = priority;
    step(*master_, in::ClientMessage{ClientId(app_), client::Register{function_id, name, "python", {}, options}});
  }
  client::TaskCall& call = pending_.calls.emplace_back();
  call.task = TaskId(id);
  call.function = function_id;
  for (const std::uint64_t read : reads) {
    client::Access& access = call.accesses.emplace_back();
    access.kind = client::AccessKind::kDatum;
    access.datum = DatumId(read);
  }
  client::Access& access = call.accesses.emplace_back();
  access.kind = client::AccessKind::kDatum;
  access.direction = client::Direction::kOut;
  access.datum = DatumId(id);
  ++open_;
  return id;
}

void Timed::submit() {
  if (pending_.calls.empty()) return;
  step(*master_, in::ClientMessage{ClientId(app_), std::exchange(pending_, {})});
}

void Timed::at(Duration after, std::function<void()> what) {
  events_[{(now + after).us, ++events_made_}] = std::move(what);
}

// The next thing that happens until then; false when there is nothing.
bool Timed::next(Instant until) {
  Instant due = events_.empty() ? Instant::never() : Instant{events_.begin()->first.first};
  Agent* waking = nullptr;
  for (auto& agent : agents_) {
    if (agent->machine->next_deadline() < due) {
      due = agent->machine->next_deadline();
      waking = agent.get();
    }
  }
  if (due > until) return false;
  now = std::max(now, due);
  if (waking != nullptr) {
    step(*waking, in::Wake{});
    return true;
  }
  const auto what = std::move(events_.begin()->second);
  events_.erase(events_.begin());
  what();
  return true;
}

Duration Timed::finish(Duration at_most) {
  submit();
  const Instant start = now;
  while (open_ > 0 && next(start + at_most)) {
  }
  EXPECT_EQ(open_, 0u) << "tasks are left";
  return now - start;
}

void Timed::advance(Duration span) {
  submit();
  const Instant until = now + span;
  while (next(until)) {
  }
  now = until;
}

wire::Dynamic Timed::query(const std::string& method, wire::Dynamic::Map params) {
  params["app"] = AppId(app_, app_).hex();
  step(*master_, in::Query{1, method, std::move(params)});
  return answer_;
}

void Timed::step(Agent& agent, const Input& input) {
  std::vector<Output> outputs;
  agent.machine->step(now, input, outputs);
  agent.machine->check_invariants();
  for (auto& output : outputs) carry_out(agent, output);
}

void Timed::carry_out(Agent& agent, Output& output) {
  if (auto* send = std::get_if<out::Send>(&output)) {
    at(microseconds(100), [this, envelope = std::move(send->envelope)] {
      for (auto& other : agents_) {
        if (other->address.agent == envelope.target.agent) step(*other, in::Frame{envelope});
      }
    });
  } else if (auto* launches = std::get_if<out::Launch>(&output)) {
    for (const auto& attempt : launches->attempts) launch(agent, attempt);
  } else if (auto* wish = std::get_if<out::Fetch>(&output)) {
    fetch(agent, *wish);
  } else if (auto* keep = std::get_if<out::Keep>(&output)) {
    agent.kept.insert(keep->key);
  } else if (auto* drop = std::get_if<out::Drop>(&output)) {
    for (const auto& key : drop->keys) agent.kept.erase(key);
  } else if (auto* changed = std::get_if<out::StateChanged>(&output)) {
    agent.state = changed->state;
    at(milliseconds(1), [this, &agent] { gossip(agent); });
  } else if (auto* answer = std::get_if<out::Answer>(&output)) {
    EXPECT_TRUE(answer->result) << answer->result.error().message;
    if (answer->result) answer_ = *answer->result;
  }
}

void Timed::launch(Agent& agent, const client::Attempt& attempt) {
  const Task& task = tasks_.at(attempt.task.value());
  const Duration run = slowness ? slowness(agent.name, task.run) : task.run;
  runs.push_back({attempt.task.value(), attempt.app.high(), agent.name, now, now + run});
  client::AttemptResult result;
  result.attempt = attempt.attempt;
  result.run_us = static_cast<std::uint64_t>(run.us);
  if (task.bytes == 0) {
    result.outputs.emplace_back(client::Inline{Bytes("x")});
  } else {
    result.outputs.emplace_back(client::Shared{agent.name + std::to_string(attempt.attempt), task.bytes});
  }
  at(run, [this, &agent, result] {
    --open_;
    step(agent, in::AttemptsDone{{result}});
  });
}

void Timed::fetch(Agent& agent, const out::Fetch& fetch) {
  for (const auto& holder : fetch.holders) {
    for (auto& other : agents_) {
      if (other->address.agent != holder.agent || !other->kept.contains(fetch.key)) continue;
      Instant& link = links_[{other->name, agent.name}];
      link = std::max(link, now) + microseconds(static_cast<std::int64_t>(fetch.bytes * 1'000 / rate));
      moved += fetch.bytes;
      in::Fetched fetched;
      fetched.key = fetch.key;
      fetched.ok = true;
      fetched.value = client::Shared{agent.name + "<" + fetch.key, fetch.bytes};
      at(link - now, [this, &agent, fetched] {
        agent.kept.insert(fetched.key);
        step(agent, fetched);
      });
      return;
    }
  }
  ADD_FAILURE() << "nobody has " << fetch.key;
}

void Timed::gossip(Agent& from) {
  for (auto& other : agents_) {
    if (other.get() != &from) step(*other, in::PeerUp{from.address, from.name, false, false, from.state});
  }
}

}  // namespace shoal::scheduler::testing
