#include "tests/unit/scheduler/cluster.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace shoal::scheduler::testing {

namespace {

bool writes(client::Direction d) {
  return d != client::Direction::kIn && d != client::Direction::kInDelete;
}
bool is_file(client::AccessKind k) {
  return k == client::AccessKind::kFile || k == client::AccessKind::kDirectory;
}

}  // namespace

Agent& Cluster::add(const std::string& name, std::vector<RegionId> path, std::uint32_t units,
                    std::map<std::string, std::string> labels, std::uint64_t memory_mb) {
  auto agent = std::make_unique<Agent>();
  agent->name = name;
  ++next_id_;
  agent->id = AgentId(0xa0 + next_id_, next_id_);
  agent->address = {agent->id, std::move(path)};
  SchedulerConfig own = config;
  own.id = agent->id;
  agent->machine = std::make_unique<Scheduler>(own, Rng(next_id_));
  Agent& added = *agent;
  agents_[name] = std::move(agent);
  input(added, in::Self{added.address, {units, memory_mb, "x86_64", std::move(labels), {}}});
  return added;
}

void Cluster::introduce(const std::string& who, const std::string& peer, bool above, bool child) {
  Agent& other = (*this)[peer];
  std::erase_if(seen_, [&](const Seen& s) { return s.who == who && s.peer == peer; });
  seen_.push_back({who, peer, above, child});
  input((*this)[who], in::PeerUp{other.address, peer, above, child, child ? other.upward : other.state});
}

void Cluster::gossip() {
  const std::vector<Seen> seen = seen_;
  for (const auto& s : seen) {
    if ((*this)[s.who].alive && (*this)[s.peer].alive) introduce(s.who, s.peer, s.above, s.child);
  }
}

void Cluster::set_head(const std::string& who, const std::string& head) {
  in::Above above;
  above.head = (*this)[head].address;
  above.summary = (*this)[head].downward;
  input((*this)[who], above);
}

Agent* Cluster::by_id(AgentId id) {
  for (auto& [name, agent] : agents_) {
    if (agent->id == id) return agent.get();
  }
  return nullptr;
}

void Cluster::input(Agent& agent, const Input& message) {
  inbox_.emplace_back(agent.name, message);
  if (!settling_) settle();
}

void Cluster::settle() {
  settling_ = true;
  while (!inbox_.empty() || !network_.empty()) {
    if (inbox_.empty()) {
      auto [from, envelope] = std::move(network_.front());
      network_.pop_front();
      Agent* target = by_id(envelope.target.agent);
      if (target == nullptr || !target->alive || cut_.contains({from, target->name})) continue;
      if (drop && drop(envelope)) continue;
      frames.emplace_back(from, target->name);
      inbox_.emplace_back(target->name, in::Frame{std::move(envelope)});
    }
    auto [name, message] = std::move(inbox_.front());
    inbox_.pop_front();
    Agent& agent = *agents_.at(name);
    if (!agent.alive) continue;
    std::vector<Output> outputs;
    agent.machine->step(now, message, outputs);
    if (check) agent.machine->check_invariants();
    carry_out(agent, outputs);
  }
  settling_ = false;
}

void Cluster::carry_out(Agent& agent, std::vector<Output>& outputs) {
  for (auto& output : outputs) {
    if (auto* send = std::get_if<out::Send>(&output)) {
      ++agent.sent;
      network_.emplace_back(agent.name, std::move(send->envelope));
    } else if (auto* launch = std::get_if<out::Launch>(&output)) {
      for (const auto& function : launch->functions) agent.functions[function.function] = function;
      for (const auto& attempt : launch->attempts) {
        ++agent.launched;
        EXPECT_TRUE(agent.functions.contains(attempt.function)) << "a function goes ahead of its first attempt";
        agent.running[attempt.attempt] = attempt;
        if (agent.executes) {
          inbox_.emplace_back(agent.name, in::AttemptsDone{{run(agent, attempt)}});
        } else {
          agent.held.push_back(attempt);
        }
      }
      if (check) agent.launches.push_back(std::move(*launch));
    } else if (auto* kill = std::get_if<out::Kill>(&output)) {
      for (const std::uint64_t attempt : kill->attempts) {
        agent.killed.push_back(attempt);
        std::erase_if(agent.held, [&](const auto& a) { return a.attempt == attempt; });
        client::AttemptResult result;
        result.attempt = attempt;
        result.outcome = kill->timed_out ? client::Outcome::kTimedOut : client::Outcome::kCancelled;
        inbox_.emplace_back(agent.name, in::AttemptsDone{{result}});
      }
    } else if (auto* keep = std::get_if<out::Keep>(&output)) {
      agent.kept[keep->key] = keep->value;
      if (keep->borrowed) agent.borrowed.insert(keep->key);
    } else if (auto* drop_keys = std::get_if<out::Drop>(&output)) {
      for (const auto& key : drop_keys->keys) {
        EXPECT_FALSE(agent.borrowed.contains(key)) << "a user's file is never dropped";
        agent.dropped.push_back(key);
        agent.kept.erase(key);
      }
    } else if (auto* fetch = std::get_if<out::Fetch>(&output)) {
      in::Fetched fetched;
      fetched.key = fetch->key;
      fetched.message = "no holder answers";
      for (const auto& holder : fetch->holders) {
        Agent* other = by_id(holder.agent);
        if (other == nullptr || !other->alive || !other->kept.contains(fetch->key)) continue;
        const std::string text = content(*other, other->kept[fetch->key]);
        const std::string name = agent.name + ".f" + std::to_string(++agent.files);
        agent.arena[name] = text;
        fetched.ok = true;
        const bool is_path = std::holds_alternative<client::FilePath>(other->kept[fetch->key]);
        fetched.value =
            is_path ? client::Value(client::FilePath{name}) : client::Value(client::Shared{name, fetch->bytes});
        agent.kept[fetch->key] = fetched.value;
        break;
      }
      agent.fetched.push_back(fetch->key);
      inbox_.emplace_back(agent.name, fetched);
    } else if (auto* reply = std::get_if<out::ToClient>(&output)) {
      agent.replies.push_back(std::move(*reply));
    } else if (auto* journal = std::get_if<out::Journal>(&output)) {
      agent.journal.push_back(std::move(journal->entry));
    } else if (auto* save = std::get_if<out::Save>(&output)) {
      for (const auto& saved : save->entry.outputs) {  // what is saved must be readable now
        if (saved.held && !std::holds_alternative<client::Nothing>(saved.value)) content(agent, saved.value);
      }
      agent.saved.push_back(std::move(save->entry));
    } else if (auto* answer = std::get_if<out::Answer>(&output)) {
      agent.answers.insert_or_assign(answer->id, std::move(answer->result));
    } else if (auto* changed = std::get_if<out::StateChanged>(&output)) {
      agent.state = std::move(changed->state);
    } else if (auto* summaries = std::get_if<out::SummariesChanged>(&output)) {
      agent.upward = std::move(summaries->upward);
      agent.downward = std::move(summaries->downward);
    }
  }
}

void Cluster::advance(Duration span) {
  const Instant end = now + span;
  while (now < end) {
    Instant next = end;
    for (const auto& [name, agent] : agents_) {
      if (agent->alive) next = std::min(next, std::max(agent->machine->next_deadline(), now));
    }
    if (next == now) {
      // A deadline that is due is served; it must not stay due, or the machine would spin.
      for (const auto& [name, agent] : agents_) {
        if (agent->alive && agent->machine->next_deadline() <= now) input(*agent, in::Wake{});
      }
      for (const auto& [name, agent] : agents_) {
        ASSERT_TRUE(!agent->alive || agent->machine->next_deadline() > now) << name << " spins";
      }
      continue;
    }
    now = next;
  }
}

std::string Cluster::content(Agent& agent, const client::Value& value) {
  if (const auto* inlined = std::get_if<client::Inline>(&value)) return inlined->bytes;
  if (const auto* shared = std::get_if<client::Shared>(&value)) {
    EXPECT_TRUE(agent.arena.contains(shared->name)) << agent.name << " has no " << shared->name;
    return agent.arena[shared->name];
  }
  if (const auto* path = std::get_if<client::FilePath>(&value)) return agent.arena[path->path];
  return "";
}

client::AttemptResult Cluster::run(Agent& agent, const client::Attempt& attempt) {
  agent.running.erase(attempt.attempt);
  ran_on[attempt.task.value()].push_back(agent.name);
  auto plan = planned.find(attempt.task.value());
  if (plan != planned.end() && !plan->second.empty()) {
    client::AttemptResult result = std::move(plan->second.front());
    plan->second.pop_front();
    result.attempt = attempt.attempt;
    return result;
  }
  client::AttemptResult result;
  result.attempt = attempt.attempt;
  result.run_us = 10'000;
  const std::string& function = agent.functions[attempt.function].name;
  if (function.starts_with("noop")) result.run_us = 1;
  std::string text;
  std::vector<const client::Argument*> written;
  const std::function<void(const client::Argument&)> visit = [&](const client::Argument& argument) {
    if (argument.direction != client::Direction::kOut) text += content(agent, argument.value);
    if (writes(argument.direction) && argument.kind != client::AccessKind::kCollection) written.push_back(&argument);
    if (is_file(argument.kind)) return;
    for (const auto& item : argument.items) visit(item);
  };
  for (const auto& argument : attempt.arguments) visit(argument);
  text = step_of(text, attempt.task.value());
  for (const auto* argument : written) {
    if (is_file(argument->kind)) {
      const auto& target = argument->items.empty() ? argument->value : argument->items[0].value;
      const std::string path = "/" + agent.name + "/" + std::get<client::FilePath>(target).path;
      agent.arena[path] = text;
      result.outputs.emplace_back(client::FilePath{path});
    } else if (function.starts_with("big")) {
      const std::string name = agent.name + ".o" + std::to_string(++agent.files);
      agent.arena[name] = text;
      result.outputs.emplace_back(client::Shared{name, 4'000'000});
    } else {
      result.outputs.emplace_back(client::Inline{Bytes(text)});
    }
  }
  return result;
}

void Cluster::finish(Agent& agent, const client::AttemptResult& result) {
  agent.running.erase(result.attempt);
  std::erase_if(agent.held, [&](const auto& a) { return a.attempt == result.attempt; });
  input(agent, in::AttemptsDone{{result}});
}

void Cluster::release(Agent& agent) {
  agent.executes = true;
  while (!agent.held.empty()) {
    const client::Attempt attempt = agent.held.front();
    agent.held.pop_front();
    finish(agent, run(agent, attempt));
  }
}

std::string step_of(const std::string& inputs, std::uint64_t task) {
  constexpr std::size_t kTextMax = 60'000;  // histories of long programs are folded
  std::string text = inputs + std::to_string(task);
  return text.size() <= kTextMax ? text : std::to_string(hash64(text));
}

App::App(Cluster& cluster, const std::string& agent, std::uint64_t id)
    : cluster_(cluster), agent_(cluster[agent]), id_(0x100 + id, id), client_(id) {
  client::Hello hello;
  hello.role = "driver";
  hello.name = "test program";
  cluster_.input(agent_, in::OpenApp{client_, id_, hello, false, {}, false});
}

App::App(Cluster& cluster, const std::string& agent, std::vector<EnvironmentId> environments,
         std::map<EnvironmentId, std::vector<Requirement>> asked)
    : cluster_(cluster), agent_(cluster[agent]), id_(0x101, 1), client_(1) {
  client::Hello hello;
  hello.role = "driver";
  hello.name = "test program";
  hello.python = "/usr/bin/python3";
  hello.environments = std::move(environments);
  cluster_.input(agent_, in::OpenApp{client_, id_, hello, false, {}, false, std::move(asked)});
}

App::App(Cluster& cluster, const std::string& agent, std::vector<JournalEntry> replay, bool save)
    : cluster_(cluster), agent_(cluster[agent]), id_(0x101, 1), client_(1) {
  client::Hello hello;
  hello.role = "driver";
  hello.name = "test program";
  cluster_.input(agent_, in::OpenApp{client_, id_, hello, true, std::move(replay), save});
}

FunctionId App::function(const std::string& name, client::TaskOptions options) {
  const Bytes key = wire::encode(options);
  const FunctionId function(hash64(name), hash64(key));
  cluster_.input(agent_,
                 in::ClientMessage{client_, client::Register{function, name, "python", Bytes("code"), options}});
  return function;
}

std::uint64_t App::call(const std::string& name, std::vector<client::Access> accesses, client::TaskOptions options) {
  const FunctionId id = function(name, std::move(options));
  client::TaskCall task;
  task.task = TaskId(++next_task_);
  task.function = id;
  task.accesses = std::move(accesses);
  submit(client::Submit{{task}});
  return next_task_;
}

void App::submit(const client::Submit& message) {
  cluster_.input(agent_, in::ClientMessage{client_, message});
}

void App::put(std::uint64_t datum, const std::string& text) {
  cluster_.input(agent_, in::ClientMessage{client_, client::PutData{DatumId(datum), client::Inline{Bytes(text)}}});
}

void App::put_shared(std::uint64_t datum, const std::string& text) {
  const std::string name = agent_.name + ".p" + std::to_string(++agent_.files);
  agent_.arena[name] = text;
  cluster_.input(agent_, in::ClientMessage{client_, client::PutData{DatumId(datum), client::Shared{name, 50'000'000}}});
}

std::uint64_t App::wait(std::vector<std::uint64_t> data, std::vector<std::string> files) {
  client::Wait wait;
  wait.request = ++next_request_;
  for (const std::uint64_t datum : data) wait.data.emplace_back(datum);
  wait.files = std::move(files);
  cluster_.input(agent_, in::ClientMessage{client_, wait});
  return next_request_;
}

std::uint64_t App::barrier(const std::string& group) {
  cluster_.input(agent_, in::ClientMessage{client_, client::Barrier{++next_request_, group, false}});
  return next_request_;
}

void App::release(std::vector<std::uint64_t> data, std::vector<std::string> files) {
  client::Release release;
  for (const std::uint64_t datum : data) release.data.emplace_back(datum);
  release.files = std::move(files);
  cluster_.input(agent_, in::ClientMessage{client_, release});
}

void App::group(client::Kind kind, const std::string& name) {
  cluster_.input(agent_, in::GroupMessage{client_, kind, name});
}

void App::close() {
  cluster_.input(agent_, in::ClientGone{client_});
}

std::optional<client::Values> App::values(std::uint64_t request) {
  for (const auto& reply : agent_.replies) {
    const auto* values = std::get_if<client::Values>(&reply.message);
    if (reply.client == client_ && values != nullptr && values->request == request) return *values;
  }
  return std::nullopt;
}

std::optional<client::Reply> App::reply(std::uint64_t request) {
  for (const auto& reply : agent_.replies) {
    const auto* found = std::get_if<client::Reply>(&reply.message);
    if (reply.client == client_ && found != nullptr && found->request == request) return *found;
  }
  return std::nullopt;
}

std::vector<client::Event> App::events() {
  std::vector<client::Event> events;
  for (const auto& reply : agent_.replies) {
    if (const auto* event = std::get_if<client::Event>(&reply.message)) events.push_back(*event);
  }
  return events;
}

std::string App::get(std::uint64_t datum) {
  const auto answer = values(wait({datum}));
  if (!answer) return "?";
  const auto& value = answer->values.at(0);
  if (value.code != 0) return "!" + std::string(code_name(static_cast<Code>(value.code))) + ": " + value.message;
  return cluster_.content(agent_, value.value);
}

wire::Dynamic App::query(const std::string& method, wire::Dynamic::Map params) {
  const std::uint64_t id = 1'000 + ++next_request_;
  params["app"] = id_.hex();
  cluster_.input(agent_, in::Query{id, method, wire::Dynamic(params)});
  auto it = agent_.answers.find(id);
  if (it == agent_.answers.end()) return {};
  return it->second ? *it->second : wire::Dynamic("!" + it->second.error().message);
}

std::int64_t App::count(const std::string& field) {
  const wire::Dynamic apps = query("apps");
  for (const auto& app : *apps.as_array()) {
    if (app.text_or("app", "") == id_.hex()) return app.int_or(field, -1);
  }
  return -1;
}

client::Access access(client::Direction direction, std::uint64_t datum) {
  client::Access access;
  access.direction = direction;
  access.kind = client::AccessKind::kDatum;
  access.datum = DatumId(datum);
  return access;
}
client::Access in(std::uint64_t datum) {
  return access(client::Direction::kIn, datum);
}
client::Access out(std::uint64_t datum) {
  return access(client::Direction::kOut, datum);
}
client::Access inout(std::uint64_t datum) {
  return access(client::Direction::kInOut, datum);
}
client::Access file(client::Direction direction, const std::string& path) {
  client::Access access;
  access.direction = direction;
  access.kind = client::AccessKind::kFile;
  access.path = path;
  return access;
}
client::Access collection(std::vector<client::Access> items, client::Direction direction) {
  client::Access access;
  access.direction = direction;
  access.kind = client::AccessKind::kCollection;
  access.items = std::move(items);
  return access;
}
client::AttemptResult outcome(client::Outcome outcome, const std::string& message, std::vector<std::string> kept) {
  client::AttemptResult result;
  result.outcome = outcome;
  result.message = message;
  result.error = Bytes("pickled " + message);
  for (auto& text : kept) result.outputs.emplace_back(client::Inline{Bytes(text)});
  return result;
}
client::TaskOptions policy(client::OnFailure on_failure, std::uint32_t retries) {
  client::TaskOptions options;
  options.on_failure = on_failure;
  options.retries = retries;
  return options;
}
client::TaskOptions constrained(std::map<std::string, std::string> constraints) {
  client::TaskOptions options;
  options.constraints = std::move(constraints);
  return options;
}

}  // namespace shoal::scheduler::testing
