// agent/executor/executor_pool.h
//
// The executor driver of an agent: takes the scheduler's Launch and Kill, runs attempts in processes of their language,
// and gives back their results. No process is started before there is work for it, and none outlives this object.
//
//   Launch ──► place files ──► ExecutorGroup (python, interpreter) ──► executor processes ──► Done ─┐
//                         ├──► ExecutorGroup (c++, program)                                         ├─► AttemptsDone
//                         └──► CommandRunner ───────────────────────► one process each ─────────────┘
//
// It decides nothing about tasks: retries, placement and fencing are the scheduler's. Thread-safety: none; works in
// turns of the reactor, which, like the server, must outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/executor/client_server.h"
#include "agent/executor/command_runner.h"
#include "agent/executor/executor_config.h"
#include "agent/executor/executor_group.h"
#include "agent/executor/output_log.h"
#include "agent/reactor/reactor.h"
#include "scheduler/io.h"

namespace shoal::executor {

class ExecutorPool {
 public:
  // Called in turns of the reactor, never from inside launch() or kill(). Any may be empty.
  struct Events {
    std::function<void(scheduler::in::AttemptsDone&&)> done;  // all results of a turn at once
    std::function<void(const scheduler::in::AttemptBlocked&)> blocked;
    std::function<void(const Output&)> output;  // what tasks print, as it comes
  };
  struct Counters {
    std::uint64_t launched = 0;  // attempts
    std::uint64_t finished = 0;
    std::uint64_t executors_started = 0;
    std::uint64_t executors_failed = 0;  // to start
    std::uint64_t executors_lost = 0;    // died with work
    std::uint64_t executors_killed = 0;  // to stop an attempt
    std::uint64_t recalled = 0;          // attempts taken back from behind a long one
    std::size_t executors = 0;           // now
    std::size_t commands = 0;            // running now
    std::size_t queued = 0;              // attempts not handed to a process yet
  };

  ExecutorPool(agent::Reactor& reactor, ClientServer& server, ExecutorConfig config, Events events);
  ~ExecutorPool();  // kills what shutdown() left
  ExecutorPool(const ExecutorPool&) = delete;
  ExecutorPool& operator=(const ExecutorPool&) = delete;

  // Every attempt is answered by one result, also those that cannot be started. `surroundings` are those of the
  // launch's environment.
  void launch(scheduler::out::Launch launch, const environment::Surroundings& surroundings = {});
  // Attempts that are not here (any more) are ignored: their results are on their way.
  void kill(const scheduler::out::Kill& kill);

  // Offers an event of the client server; true when it was about an executor and is dealt with.
  bool take(ClientEvent& event);

  // Stops everything: SIGTERM to all process groups, SIGKILL at `deadline`, and waits until none is left. Runs turns of
  // the reactor meanwhile; reports nothing more. Not from a callback of the reactor.
  void shutdown(Instant deadline);

  Counters counters() const;
  // Environments that attempts run in, or wait for, now.
  std::vector<EnvironmentId> environments_in_use() const;
  // Processes of ours that are alive, zygotes included: 0 after shutdown().
  std::size_t processes_alive() const;
  // The security level that processes really get here, and in words what that means.
  std::uint8_t confinement_level() const;
  std::string confinement() const;
  const OutputLog& log() const { return log_; }

 private:
  // Language, program, environment: processes of different environments share no modules.
  using GroupKey = std::tuple<std::string, std::string, EnvironmentId>;

  ExecutorGroup& group_for(const std::string& language, const std::string& program,
                           const environment::Surroundings& surroundings);
  bool place(client::Attempt& attempt);
  void report(client::AttemptResult&& result);
  void mark_changed();
  void end_turn();
  void deliver();

  agent::Reactor& reactor_;
  ClientServer& server_;
  const ExecutorConfig config_;
  Events events_;
  OutputLog log_;
  std::map<GroupKey, std::unique_ptr<ExecutorGroup>> groups_;
  std::unique_ptr<CommandRunner> commands_;
  std::vector<client::AttemptResult> results_;  // of this turn
  bool changed_ = false;
  bool stopped_ = false;
  std::uint64_t launched_ = 0;
  std::uint64_t finished_ = 0;
  agent::Reactor::TimerId deliver_timer_ = 0;
  agent::Reactor::HookId hook_ = 0;
};

}  // namespace shoal::executor
