// tests/unit/sdk_cpp/mini_agent.h
//
// Just enough of an agent to serve a driver: the real client server and executor pool, and in place of the scheduler a
// queue per application that runs one call after the other.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/executor/harness.h"

namespace shoal::executor {

class MiniAgent {
 public:
  explicit MiniAgent(const std::string& program) : program_(program), reactor_(make_reactor()) {
    server_ = std::make_unique<ClientServer>(*reactor_, [this](ClientEvent&& event) {
      if (!pool_->take(event)) std::visit([this](auto& e) { on(e); }, event);
    });
    std::filesystem::create_directories(dir_.at("arena"));
    EXPECT_TRUE(server_->listen(socket()).has_value());
    ExecutorConfig config;
    config.computing_units = 1;
    config.socket_path = socket();
    config.files_dir = dir_.at("files");
    config.log_dir = dir_.at("logs");
    config.welcome = welcome(ClientId());
    pool_ = std::make_unique<ExecutorPool>(
        *reactor_, *server_, config,
        ExecutorPool::Events{[this](scheduler::in::AttemptsDone&& done) { on_done(std::move(done)); }, {}, {}});
  }
  ~MiniAgent() { pool_->shutdown(agent::Reactor::now() + seconds(5)); }

  std::string socket() const { return dir_.at("socket"); }
  const TempDir& dir() const { return dir_; }
  agent::Reactor& reactor() { return *reactor_; }
  std::size_t apps_served() const { return apps_served_; }
  std::size_t released() const { return released_; }

 private:
  struct App {
    ClientId client;
    std::map<FunctionId, client::Register> functions;
    std::map<DatumId, client::ValueResult> data;
    std::map<std::string, std::string> files;  // where the last version is
    std::deque<client::TaskCall> calls;
    std::uint64_t running = 0;  // attempt
    std::vector<client::Wait> waits;
    std::vector<client::Barrier> barriers;
  };

  client::Welcome welcome(ClientId client) const {
    client::Welcome out;
    out.arena = dir_.at("arena");
    out.inline_max = 1000;
    out.client = client.value();
    return out;
  }

  void on(ClientConnected& connected) {
    ++apps_served_;
    apps_[connected.client.value()].client = connected.client;
    server_->send(connected.client, welcome(connected.client));
  }
  void on(ClientGone& gone) { apps_.erase(gone.client.value()); }
  void on(ClientFrame& frame) {
    App& app = apps_.at(frame.client.value());
    if (auto* r = std::get_if<client::Register>(&frame.message)) app.functions[r->function] = *r;
    if (auto* s = std::get_if<client::Submit>(&frame.message))
      app.calls.insert(app.calls.end(), s->calls.begin(), s->calls.end());
    if (auto* p = std::get_if<client::PutData>(&frame.message)) app.data[p->datum].value = p->value;
    if (auto* w = std::get_if<client::Wait>(&frame.message)) app.waits.push_back(*w);
    if (auto* b = std::get_if<client::Barrier>(&frame.message)) app.barriers.push_back(*b);
    if (auto* r = std::get_if<client::Release>(&frame.message)) released_ += r->data.size();
    advance(app);
  }

  void advance(App& app) {
    if (app.running != 0) return;
    if (!app.calls.empty()) return start(app);
    for (const auto& wait : app.waits) {
      client::Values values{wait.request, {}};
      for (const auto& datum : wait.data) values.values.push_back(app.data[datum]);
      for (const auto& path : wait.files) {
        client::ValueResult& result = values.values.emplace_back();
        result.path = path;
        if (app.files.contains(path)) result.value = client::FilePath{app.files[path]};
      }
      server_->send(app.client, values);
    }
    for (const auto& barrier : app.barriers) server_->send(app.client, client::Reply{barrier.request, 0, {}, {}, {}});
    app.waits.clear();
    app.barriers.clear();
  }

  void start(App& app) {
    const client::TaskCall& call = app.calls.front();
    const client::Register& function = app.functions.at(call.function);
    scheduler::out::Launch launch;
    launch.language = function.language;
    launch.python = program_;
    launch.functions.push_back({function.function, function.name, function.language, function.payload, {}});
    client::Attempt attempt;
    attempt.attempt = app.running = ++last_attempt_;
    attempt.task = call.task;
    attempt.function = call.function;
    for (const auto& access : call.accesses) {
      client::Argument argument;
      argument.direction = access.direction;
      argument.kind = access.kind;
      argument.name = access.name;
      argument.value = access.value;
      if (access.kind == client::AccessKind::kDatum && access.direction != client::Direction::kOut) {
        argument.value = app.data[access.datum].value;
      }
      if (access.kind == client::AccessKind::kFile) {
        const std::string now = app.files.contains(access.path) ? app.files[access.path] : access.path;
        const client::Value fresh = client::FilePath{"app/" + std::to_string(++last_file_)};
        argument.value = access.direction == client::Direction::kOut ? fresh : client::Value(client::FilePath{now});
        if (access.direction == client::Direction::kInOut) argument.items.emplace_back().value = fresh;
      }
      attempt.arguments.push_back(std::move(argument));
    }
    launch.attempts.push_back(std::move(attempt));
    pool_->launch(std::move(launch));
  }

  void on_done(scheduler::in::AttemptsDone&& done) {
    for (auto& result : done.results) {
      for (auto& [id, app] : apps_) {
        if (app.running == result.attempt) finish(app, result);
      }
    }
  }

  void finish(App& app, const client::AttemptResult& result) {
    std::size_t next = 0;
    for (const auto& access : app.calls.front().accesses) {
      if (access.direction == client::Direction::kIn) continue;
      const client::Value value = next < result.outputs.size() ? result.outputs[next] : client::Value();
      ++next;
      if (access.kind == client::AccessKind::kFile) app.files[access.path] = std::get<client::FilePath>(value).path;
      client::ValueResult& datum = app.data[access.datum];
      datum.value = value;
      datum.code = result.outcome == client::Outcome::kDone ? 0 : static_cast<std::uint8_t>(Code::kFailed);
      datum.message = result.message;
    }
    app.calls.pop_front();
    app.running = 0;
    advance(app);
  }

  TempDir dir_;
  std::string program_;
  std::unique_ptr<agent::Reactor> reactor_;
  std::unique_ptr<ClientServer> server_;
  std::unique_ptr<ExecutorPool> pool_;
  std::map<std::uint64_t, App> apps_;
  std::uint64_t last_attempt_ = 0;
  std::uint64_t last_file_ = 0;
  std::size_t apps_served_ = 0;
  std::size_t released_ = 0;
};

}  // namespace shoal::executor
