// Local processes: drivers, executors, the command line.
#include <unistd.h>

#include "agent/daemon/impl.h"
#include "agent/daemon/python_path.h"
#include "protocol/base/overloaded.h"
#include "protocol/identity/crypto.h"
#include "scheduler/policy.h"

namespace shoal::daemon {

void Daemon::Impl::on_client_event(executor::ClientEvent&& event) {
  struct Visitor {
    Impl& self;
    void operator()(executor::ClientConnected& connected) const { self.on_hello(connected); }
    void operator()(executor::ClientFrame& frame) const { self.on_client_message(frame.client, frame.message); }
    void operator()(executor::ClientGone& gone) const { self.on_client_gone(gone.client); }
  };
  if (!executors->take(event)) std::visit(Visitor{*this}, event);
  drain();
}

std::unique_ptr<executor::ExecutorPool> Daemon::Impl::open_executors(std::uint32_t computing_units) {
  executor::ExecutorConfig config;
  config.computing_units = computing_units;
  config.socket_path = home.socket();
  config.welcome.agent = identity.id();
  config.welcome.arena = values->arena_dir();
  if (!python.empty()) config.python = python;
  config.python_path = sdk_directories();
  config.files_dir = values->files_dir();
  config.log_dir = home.at("logs");
  executor::ExecutorPool::Events events;
  events.done = [this](scheduler::in::AttemptsDone&& done) { on_attempts_done(std::move(done)); };
  events.blocked = [this](const scheduler::in::AttemptBlocked& blocked) { feed(node::in::Scheduler(blocked)); };
  return std::make_unique<executor::ExecutorPool>(*reactor, *clients, std::move(config), std::move(events));
}

void Daemon::Impl::on_hello(const executor::ClientConnected& connected) {
  const client::Hello& hello = connected.hello;
  if (hello.version != client::kProtocolVersion) {
    clients->reject(connected.client,
                    {Code::kUnsupported, "this agent speaks version " + std::to_string(client::kProtocolVersion) +
                                             " of the client protocol; install the SDK of the same release"});
    return;
  }
  client::Welcome welcome;
  welcome.agent = identity.id();
  welcome.arena = values->arena_dir();
  welcome.client = connected.client.value();
  if (hello.role == "executor") {
    clients->reject(connected.client, {Code::kDenied, "this agent started no such executor"});
    return;
  }
  if (hello.role == "driver") {
    if (stopping) {
      clients->reject(connected.client, {Code::kUnavailable, "this agent is stopping; connect to another one"});
      return;
    }
    const auto choice = scheduler::parse_policy(hello.scheduler);
    if (!choice) {
      clients->reject(connected.client, choice.error());
      return;
    }
    if (choice->translated) {
      welcome.note =
          "scheduler " + hello.scheduler + ": the nearest here is " + std::string(scheduler::name_of(choice->policy));
    }
    welcome.app = hello.app.value_or(identity::random_id<AppId>());
    for (const auto& [client, app] : app_of_driver) {
      if (app != welcome.app) continue;
      clients->reject(connected.client, {Code::kExists, "application " + app.brief() +
                                                            " already has a driver here; give this one its own id"});
      return;
    }
    for (const EnvironmentId id : hello.environments) {
      if (id.is_zero()) continue;
      if (environments->manifest(id) == nullptr) {
        clients->reject(connected.client, {Code::kNotFound, "this agent does not have environment " + id.brief() +
                                                                "; start the program with `shoal run --environment`"});
        return;
      }
      app_environments[welcome.app].insert(id);
    }
    app_of_driver[connected.client] = welcome.app;
    clients->send(connected.client, welcome);
    if (!hello.checkpoint.empty()) return open_checkpoint(connected.client, welcome.app, hello);
    auto replay = replays.extract(welcome.app);
    open_app(connected.client, welcome.app, hello,
             replay.empty() ? std::vector<scheduler::JournalEntry>() : std::move(replay.mapped()));
    return;
  }
  if (hello.role != "cli") {
    clients->reject(connected.client,
                    {Code::kInvalid, "role must be driver, executor or cli, not \"" + hello.role + "\""});
    return;
  }
  clients->send(connected.client, welcome);
}

void Daemon::Impl::on_client_message(ClientId client, executor::ClientMessage& message) {
  if (auto driver = app_of_driver.find(client); driver != app_of_driver.end()) {
    auto checkpoint = checkpoints.find(driver->second);
    if (checkpoint != checkpoints.end() && checkpoint->second.client == client && !checkpoint->second.is_open) {
      checkpoint->second.early.push_back(std::move(message));
      return;
    }
  }
  const auto only_executors = [&](auto&) {
    clients->reject(client, {Code::kDenied, "only executors report attempts"});
  };
  std::visit(
      Overloaded{
          [&](client::Request& request) {
            on_request({client, request.request, std::nullopt}, request.method, request.params);
          },
          [&](executor::GroupCall& call) {
            inputs.emplace_back(
                node::in::Scheduler(scheduler::in::GroupMessage{client, call.kind, std::move(call.group)}));
          },
          [&](client::Done& done) { only_executors(done); },
          [&](client::Blocked& blocked) { only_executors(blocked); },
          [&](auto& for_master) {
            if (app_of_driver.count(client) == 0) {
              clients->reject(client, {Code::kDenied, "only a driver may submit tasks"});
              return;
            }
            inputs.emplace_back(node::in::Scheduler(scheduler::in::ClientMessage{client, std::move(for_master)}));
          },
      },
      message);
}

void Daemon::Impl::on_client_gone(ClientId client) {
  if (auto driver = app_of_driver.extract(client); !driver.empty()) {
    elastic->app_ended(driver.mapped());
    end_checkpoint(driver.mapped());
    once_values.erase(driver.mapped());
    const AppState* state = apps->find(driver.mapped());
    if (state == nullptr || !state->running) app_environments.erase(driver.mapped());
    inputs.emplace_back(node::in::Scheduler(scheduler::in::ClientGone{client}));
  }
  if (auto upload = uploads.extract(client); !upload.empty()) ::unlink(upload.mapped().c_str());
  std::vector<streams::Output> outputs;
  broker->on_client_gone(agent::Reactor::now(), client, outputs);
  carry_out(outputs);
  for (auto& [app, list] : watchers) {
    std::erase_if(list, [&](const Watcher& watcher) { return !watcher.to.remote && watcher.to.client == client; });
  }
}

}  // namespace shoal::daemon
