#include "tools/sim/clients.h"

#include <set>
#include <tuple>
#include <utility>

#include "tools/sim/agent.h"

namespace shoal::sim {
namespace {

std::string app_name(AppId app) {
  return "application " + app.brief();
}

std::string value_text(const client::Value& value) {
  if (const auto* shared = std::get_if<client::Shared>(&value)) return "arena file " + shared->name;
  return "kind " + std::to_string(value.index());
}

client::Register registration(const FunctionSpec& function) {
  client::Register message;
  message.function = function.id;
  message.name = "sim." + function.name;
  message.language = "c++";
  if (function.units > 1) message.options.constraints["computing_units"] = std::to_string(function.units);
  return message;
}

std::set<FunctionId> functions_of(const Program& program) {
  std::set<FunctionId> out;
  for (const auto& operation : program.ops) {
    const auto* submit = std::get_if<op::Submit>(&operation);
    if (submit == nullptr) continue;
    for (const auto& call : submit->calls) out.insert(call.function);
  }
  return out;
}

}  // namespace

TaskClients::TaskClients(World& world, Rng rng) : world_(world), rng_(rng) {
  world.observe(*this);
}

void TaskClients::open(std::uint32_t agent, const ProgramShape& shape) {
  const AppId id{rng_.next(), rng_.next()};
  open_program(agent, id, make_program(id, shape, rng_.split("program" + std::to_string(apps_.size()))));
}

void TaskClients::open_single(std::uint32_t agent) {
  const AppId id{rng_.next(), rng_.next()};
  Program program;
  client::TaskCall call;
  call.task = TaskId(1);
  call.function = catalogue()[1].id;
  client::Access result;
  result.direction = client::Direction::kOut;
  result.kind = client::AccessKind::kDatum;
  result.datum = DatumId(1);
  call.accesses.push_back(result);
  program.tasks = 1;
  program.ops.emplace_back(op::Submit{{call}});
  program.ops.emplace_back(op::Wait{{{DatumId(1), output_content(call.function, {}, 0)}}});
  open_program(agent, id, std::move(program));
}

void TaskClients::open_program(std::uint32_t agent, AppId id, Program program) {
  auto app = std::make_unique<App>();
  app->id = id;
  app->client = ClientId(++last_client_);
  app->agent = agent;
  app->program = std::move(program);
  scheduler::in::OpenApp open;
  open.client = app->client;
  open.app = id;
  open.hello.role = "driver";
  open.hello.app = id;
  open.hello.name = "sim";
  const std::size_t index = apps_.size();
  by_client_[app->client] = index;
  by_app_[id] = index;
  const std::set<FunctionId> functions = functions_of(app->program);
  apps_.push_back(std::move(app));
  ++running_;
  world_.agent(agent).take(node::in::Scheduler(std::move(open)));
  for (const FunctionId function : functions) {
    submit(*apps_[index], {apps_[index]->client, registration(*find_function(function))});
  }
  world_.queue().after(milliseconds(1), [this, index] { advance(index); });
}

void TaskClients::submit(App& app, scheduler::in::ClientMessage message) {
  world_.agent(app.agent).take(node::in::Scheduler(std::move(message)));
}

void TaskClients::advance(std::size_t index) {
  App& app = *apps_[index];
  while (app.state == State::kRunning && app.pending == 0 && !world_.stopped()) {
    if (app.next_op == app.program.ops.size()) {
      close(app, State::kFinished);
      return;
    }
    Duration think;
    perform(app, app.program.ops[app.next_op++], think);
    if (think.us > 0) {
      world_.queue().after(think, [this, index] { advance(index); });
      return;
    }
  }
}

void TaskClients::perform(App& app, const Op& operation, Duration& think) {
  struct Visitor {
    TaskClients& self;
    App& app;
    Duration& think;
    void operator()(const op::Put& put) const {
      Payload payload;
      payload.content = put.content;
      payload.app = app.id;
      self.submit(
          app, {app.client, client::PutData{put.datum, self.world_.agent(app.agent).arena().make(payload, put.bytes)}});
    }
    void operator()(const op::Submit& submit) const {
      self.submit(app, {app.client, client::Submit{submit.calls}});
      think = microseconds(500);
    }
    void operator()(const op::Wait& wait) const {
      client::Wait message;
      message.request = app.pending = ++app.last_request;
      for (const auto& [datum, content] : wait.expected) message.data.push_back(datum);
      self.submit(app, {app.client, std::move(message)});
    }
    void operator()(const op::Barrier& barrier) const {
      client::Barrier message;
      message.request = app.pending = ++app.last_request;
      message.no_more_tasks = barrier.last;
      self.submit(app, {app.client, std::move(message)});
    }
    void operator()(const op::Release& release) const {
      self.submit(app, {app.client, client::Release{release.data, {}}});
    }
    void operator()(const op::Think& pause) const { think = pause.length; }
  };
  std::visit(Visitor{*this, app, think}, operation);
}

void TaskClients::on_client(std::uint32_t agent, const scheduler::out::ToClient& message) {
  auto it = by_client_.find(message.client);
  if (it == by_client_.end()) return;
  App& app = *apps_[it->second];
  if (app.agent != agent || app.state != State::kRunning) return;
  const std::uint64_t before = app.pending;
  if (const auto* values = std::get_if<client::Values>(&message.message)) on_values(app, *values);
  if (const auto* reply = std::get_if<client::Reply>(&message.message)) on_reply(app, *reply);
  if (before != 0 && app.pending == 0) {
    // A program takes a moment to go on, and must not re-enter the agent that is telling it.
    world_.queue().after(microseconds(200), [this, index = it->second] { advance(index); });
  }
}

// Q8: every value that a program sees is the one a sequential run computes.
void TaskClients::on_values(App& app, const client::Values& values) {
  if (values.request != app.pending) {
    world_.violate("S1", app_name(app.id) + ": wait " + std::to_string(values.request) + " is answered twice");
    return;
  }
  const auto& expected = std::get<op::Wait>(app.program.ops[app.next_op - 1]).expected;
  std::set<DatumId> seen;
  for (const auto& value : values.values) {
    auto want = expected.find(value.datum);
    if (want == expected.end()) continue;
    seen.insert(value.datum);
    const std::string datum = "datum " + std::to_string(value.datum.value());
    if (value.code != 0) {
      world_.violate("Q8", app_name(app.id) + ": " + datum + " failed: " + value.message);
      return;
    }
    auto payload = world_.agent(app.agent).arena().read(value.value);
    if (!payload) {
      world_.violate("Q8", app_name(app.id) + ": " + datum + " is answered by a value that is not on this agent (" +
                               value_text(value.value) + ")");
    } else if (payload->content != want->second) {
      world_.violate("Q8", app_name(app.id) + ": " + datum + " differs from a sequential run (made by task " +
                               std::to_string(payload->task.value()) + ")");
    } else if (std::holds_alternative<client::Inline>(value.value)) {
      on_read(app.agent, *payload);
    }
  }
  if (seen.size() != expected.size())
    world_.violate("Q8", app_name(app.id) + ": a wait is answered without all its data");
  app.pending = 0;
}

void TaskClients::on_reply(App& app, const client::Reply& reply) {
  if (reply.request == 0 && reply.code != 0) {
    world_.violate("Q8", app_name(app.id) + ": refused: " + reply.message);
    return;
  }
  if (reply.request != app.pending) {
    if (reply.request != 0 && reply.request < app.pending) {
      world_.violate("S1", app_name(app.id) + ": barrier " + std::to_string(reply.request) + " is answered twice");
    }
    return;
  }
  if (reply.code != 0) world_.violate("Q8", app_name(app.id) + ": barrier failed: " + reply.message);
  app.pending = 0;
}

// S1 and S2 for small values, which are committed once and never made again: one execution, and none that was already
// superseded by a newer instance when it finished.
void TaskClients::on_read(std::uint32_t /*agent*/, const Payload& payload) {
  if (payload.execution == 0) return;
  const auto [it, first] =
      made_.try_emplace({payload.app, payload.task, payload.output}, Made{payload.execution, payload.instance});
  if (!first && it->second.execution != payload.execution) {
    world_.violate("S1", app_name(payload.app) + ": task " + std::to_string(payload.task.value()) +
                             " has two committed results, of instances " + std::to_string(it->second.instance.value()) +
                             " and " + std::to_string(payload.instance.value()));
  }
  const auto started = world_.ledger().started.find({payload.app, payload.task});
  if (!first || started == world_.ledger().started.end()) return;
  const auto newer = started->second.upper_bound(payload.instance);
  if (newer != started->second.end() && newer->second < payload.finished) {
    world_.violate("S2", app_name(payload.app) + ": task " + std::to_string(payload.task.value()) +
                             " committed instance " + std::to_string(payload.instance.value()) +
                             ", which finished after instance " + std::to_string(newer->first.value()) +
                             " had started");
  }
}

// Q8, where it goes wrong first: an attempt whose inputs were not those of a sequential run.
void TaskClients::on_made(std::uint32_t agent, const Payload& payload) {
  auto app = by_app_.find(payload.app);
  if (app == by_app_.end()) return;
  const auto& outputs = apps_[app->second]->program.outputs;
  auto expected = outputs.find({payload.task, payload.output});
  if (expected == outputs.end() || expected->second == payload.content) return;
  world_.violate("Q8", app_name(payload.app) + ": task " + std::to_string(payload.task.value()) + " on " +
                           world_.agent(agent).config().name + " computes another value than in a sequential run");
}

void TaskClients::on_stopped(std::uint32_t agent) {
  for (auto& app : apps_) {
    if (app->agent == agent && app->state == State::kRunning) close(*app, State::kExempt);
  }
}

void TaskClients::disconnect_one() {
  std::vector<std::size_t> candidates;
  for (std::size_t i = 0; i < apps_.size(); ++i) {
    if (apps_[i]->state == State::kRunning) candidates.push_back(i);
  }
  if (!candidates.empty()) close(*apps_[candidates[rng_.below(candidates.size())]], State::kExempt);
}

void TaskClients::close(App& app, State state) {
  app.state = state;
  app.pending = 0;
  --running_;
  if (state == State::kFinished) {
    ++finished_;
    tasks_finished_ += app.program.tasks;
  } else {
    ++exempt_;
  }
  if (!world_.agent(app.agent).up()) return;
  // Not now: the agent may be in the middle of the step that led here.
  world_.queue().after(microseconds(100),
                       [this, agent = app.agent, client = app.client, life = world_.life(app.agent)] {
                         if (world_.life(agent) == life)
                           world_.agent(agent).take(node::in::Scheduler(scheduler::in::ClientGone{client}));
                       });
}

std::string TaskClients::stuck() const {
  std::string out;
  for (const auto& app : apps_) {
    if (app->state != State::kRunning) continue;
    out += app_name(app->id) + " on " + world_.agent(app->agent).config().name + " at operation " +
           std::to_string(app->next_op) + " of " + std::to_string(app->program.ops.size()) +
           (app->pending != 0 ? ", waiting for request " + std::to_string(app->pending) : "") + "; ";
  }
  return out;
}

}  // namespace shoal::sim
