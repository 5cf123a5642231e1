// scheduler/scheduler.h
//
// The scheduler machine of one agent. It plays all roles at once: master of the applications opened here (graph,
// failure policies, waits), worker for the agents that assign attempts to it, and delegate that spreads work coming
// from another region over its own. Pure: no clock, no I/O; it sees values only by name and size, and everything it
// decides follows from the inputs, `now` and its Rng.
//
//   ClientMessage ──► Master (graph) ──ready──► Dispatcher ──► Worker ──► Launch
//                        ▲                        │  ▲            │
//                        └──────── results ───────┘  └─ Report ◄──┴── AttemptsDone
//                                                 └──► Assign to peers, the head, child regions
#pragma once

#include <memory>
#include <vector>

#include "protocol/base/rng.h"
#include "scheduler/io.h"
#include "scheduler/limits.h"
#include "scheduler/policy.h"
#include "scheduler/state.h"

namespace shoal::scheduler {

struct SchedulerConfig {
  AgentId id;
  Duration lease = seconds(3);      // a worker that did not hear from its master for this long drops its attempts
  Duration heartbeat = seconds(1);  // a master renews once per heartbeat; it re-runs at lease + heartbeat
  Duration patience = seconds(5);   // how long a constraint nobody meets waits for agents to appear
  Limits limits = {};
  Policy policy = Policy::kCompletion;  // of applications that name none
};

class Scheduler {
 public:
  // `rng` is the only source of randomness (the life number that tells a restarted agent from its former self).
  Scheduler(SchedulerConfig config, Rng rng);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Takes one input at time `now` (never smaller than before) and appends outputs to `out`, to be carried out in
  // order. Never blocks, never throws for bad input. The cost of an input is linear in what it carries; losing an agent
  // costs a scan of the live versions of each application.
  void step(Instant now, const Input& input, std::vector<Output>& out);

  // When in::Wake is wanted at the latest; Instant::never() while idle.
  Instant next_deadline() const;

  // Aborts when the state contradicts itself. For tests and the simulator.
  void check_invariants() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::scheduler
