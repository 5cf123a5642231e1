// agent/executor/command_runner.h
//
// Attempts that are commands: one process each, as many at a time as the agent has computing units, the rest in order.
// Standard streams go to the files that parameters name, else to the output log. The exit value is the result `$0` (a
// msgpack integer blob); other outputs are the files that were written. Whatever the command started in its process
// group ends with it.
//
// Thread-safety: none; works in turns of the reactor.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/environment/surroundings.h"
#include "agent/executor/executor_config.h"
#include "agent/executor/output_log.h"
#include "agent/executor/process.h"
#include "agent/reactor/reactor.h"
#include "protocol/wire/client.h"

namespace shoal::executor {

class CommandRunner {
 public:
  using Report = std::function<void(client::AttemptResult&&)>;

  // `config` and `log` must outlive this object. `report` is called once for every attempt; never from run().
  CommandRunner(agent::Reactor& reactor, const ExecutorConfig& config, OutputLog& log, Report report);
  ~CommandRunner();  // kills what runs, reports nothing
  CommandRunner(const CommandRunner&) = delete;
  CommandRunner& operator=(const CommandRunner&) = delete;

  // File parameters are absolute already (place_files).
  void run(client::Attempt attempt, const environment::Surroundings& surroundings = {});
  // Starts what there is room for.
  void start_queued();
  // SIGTERM to the process group, SIGKILL after the grace; reported kCancelled or kTimedOut. False: no such attempt.
  bool kill(std::uint64_t attempt, bool timed_out);
  // Forgets what has not started and signals what runs.
  void stop(int signal);
  std::size_t running() const { return running_.size(); }
  std::size_t queued() const { return queue_.size(); }
  std::vector<EnvironmentId> environments_in_use() const;

 private:
  struct Running;
  struct Queued {
    client::Attempt attempt;
    environment::Surroundings surroundings;
  };

  void start(Queued queued);
  Result<> prepare(Running& running, SpawnSpec& spec);
  Result<Fd> open_stream(Running& running, client::AccessKind kind, std::uint8_t stream);
  void on_end(std::uint64_t attempt, const Ending& ending);
  void on_timer();
  void arm_timer();

  agent::Reactor& reactor_;
  const ExecutorConfig& config_;
  OutputLog& log_;
  Report report_;
  std::deque<Queued> queue_;
  std::map<std::uint64_t, std::unique_ptr<Running>> running_;
  agent::Reactor::TimerId timer_ = 0;
};

}  // namespace shoal::executor
