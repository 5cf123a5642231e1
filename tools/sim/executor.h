// tools/sim/executor.h
//
// The executor processes of one simulated agent: attempts queue per process (least loaded first), run for a seeded
// time and give outputs that are a function of their inputs. Dies with its agent.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "protocol/base/rng.h"
#include "scheduler/io.h"
#include "tools/sim/bugs.h"
#include "tools/sim/event_queue.h"
#include "tools/sim/values.h"

namespace shoal::sim {

// Counters and ledgers that executors of one world share.
struct ExecutionLedger {
  std::uint64_t last_execution = 0;
  std::map<std::pair<AppId, TaskId>, std::uint32_t> raised;  // failures shown so far, for flaky functions
  std::map<std::pair<AppId, TaskId>, std::map<Instance, Instant>> started;  // when each instance was first launched
  std::uint64_t attempts = 0;
};

class Executor {
 public:
  struct Events {
    std::function<void(client::AttemptResult)> done;
    std::function<void(std::string rule, std::string what)> violation;
    std::function<void(const Payload&)> read;  // an attempt consumed this small value
    std::function<void(const Payload&)> made;  // an attempt ended with this value
  };

  Executor(EventQueue& queue, Rng rng, Arena& arena, ExecutionLedger& ledger, std::uint32_t units, Events events);

  void launch(const scheduler::out::Launch& launch);
  void kill(const scheduler::out::Kill& kill);
  // One executor process dies with all that was queued for it.
  void lose_process(Rng& rng);
  void crash();
  void set_slowness(std::int64_t factor) { slowness_ = factor; }

  void plant(Bug bug) { bug_ = bug; }

  std::size_t outstanding() const { return attempts_.size(); }

 private:
  struct Running {
    client::Attempt attempt;
    std::size_t process = 0;
    Instant starts;
    std::int64_t run_us = 0;
  };

  void start(const client::Attempt& attempt);
  void finish(std::uint64_t attempt);
  client::AttemptResult run(const Running& running);
  void end_early(std::uint64_t attempt, client::Outcome outcome, std::string message);
  void check_ledger();

  EventQueue& queue_;
  Rng rng_;
  Arena& arena_;
  ExecutionLedger& ledger_;
  std::uint32_t units_;
  Events events_;
  std::map<std::uint64_t, Running> attempts_;
  std::vector<Instant> free_at_;  // of each process
  std::uint64_t life_ = 0;
  std::int64_t slowness_ = 1;
  Bug bug_ = Bug::kNone;
};

}  // namespace shoal::sim
