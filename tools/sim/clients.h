// tools/sim/clients.h
//
// The drivers of simulated applications: each runs a random program against its agent, as an SDK would, and compares
// what it is given with the oracle. A driver dies with its agent; its application is then exempt from the checks.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tools/sim/program.h"
#include "tools/sim/world.h"

namespace shoal::sim {

class TaskClients : public Observer {
 public:
  TaskClients(World& world, Rng rng);

  // Starts a driver at a running agent.
  void open(std::uint32_t agent, const ProgramShape& shape);
  // One driver with a single task: the load of the large scenarios.
  void open_single(std::uint32_t agent);
  // The driver's process dies; its agent lives on.
  void disconnect_one();

  bool all_finished() const { return running_ == 0; }
  std::uint64_t opened() const { return apps_.size(); }
  std::uint64_t finished() const { return finished_; }
  std::uint64_t exempt() const { return exempt_; }
  std::uint64_t tasks_finished() const { return tasks_finished_; }
  // What the unfinished applications wait for: for the message of a violation.
  std::string stuck() const;

  void on_stopped(std::uint32_t agent) override;
  void on_client(std::uint32_t agent, const scheduler::out::ToClient& message) override;
  void on_read(std::uint32_t agent, const Payload& payload) override;
  void on_made(std::uint32_t agent, const Payload& payload) override;

 private:
  enum class State : std::uint8_t { kRunning, kFinished, kExempt };
  struct App {
    AppId id;
    ClientId client;
    std::uint32_t agent = 0;
    Program program;
    std::size_t next_op = 0;
    std::uint64_t last_request = 0;
    std::uint64_t pending = 0;  // request whose answer the program waits for; 0: none
    State state = State::kRunning;
  };
  struct Made {  // the execution that made a small value
    std::uint64_t execution = 0;
    Instance instance;
  };

  void open_program(std::uint32_t agent, AppId id, Program program);
  void advance(std::size_t app);
  void perform(App& app, const Op& operation, Duration& think);
  void submit(App& app, scheduler::in::ClientMessage message);
  void on_values(App& app, const client::Values& values);
  void on_reply(App& app, const client::Reply& reply);
  void close(App& app, State state);

  World& world_;
  Rng rng_;
  std::vector<std::unique_ptr<App>> apps_;
  std::map<ClientId, std::size_t> by_client_;
  std::map<AppId, std::size_t> by_app_;
  std::map<std::tuple<AppId, TaskId, std::uint32_t>, Made> made_;
  std::uint64_t last_client_ = 0;
  std::uint64_t running_ = 0;
  std::uint64_t finished_ = 0;
  std::uint64_t exempt_ = 0;
  std::uint64_t tasks_finished_ = 0;
};

}  // namespace shoal::sim
