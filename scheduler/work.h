// scheduler/work.h
//
// One record per attempt that somebody is responsible for here: a ready task of a local master, or a job that another
// agent assigned. It lives from "ready" until its result is delivered, wherever it goes in between.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "protocol/base/time.h"
#include "scheduler/estimates.h"
#include "scheduler/messages.h"
#include "scheduler/slab.h"

namespace shoal::scheduler {

class Master;
using WorkIndex = std::uint32_t;

enum class Where : std::uint8_t {
  kQueued,   // in the ready queue of its class
  kDelayed,  // back to the queue after a while
  kHere,     // given to this agent's worker
  kAway,     // given to another agent, under a lease
};

struct Work {
  Where where = Where::kQueued;
  bool live = false;
  bool cancelled = false;  // to be forgotten where it stands
  bool priority = false;
  bool spread = false;    // a delegated job: placed like a task of our own, never `pinned`
  bool pinned = false;    // assigned to this very agent
  bool queued = false;    // in its lane of the ready queues
  std::uint8_t rank = 0;  // place in the order, larger first
  std::uint32_t klass = kNone;
  AgentIndex home = kNone;              // who has most of its inputs; kNone when they are small
  std::uint64_t homed_us = 0;           // what it was taken to need while it waits for its home
  std::uint64_t seq = 0;                // age, for order in queues
  std::uint64_t serial = 0;             // never used twice: tells records in the same place apart
  Instant since;                        // ready or received
  Instant handback = Instant::never();  // of a delegated job: when it goes back unless it has found a place

  // Whose it is: a task of a local master, or a job of an upstream agent (then `assignment` is kept until the end).
  Master* master = nullptr;
  std::uint32_t task = kNone;
  AgentIndex upstream = kNone;
  std::unique_ptr<Assignment> assignment;

  // kAway
  AgentIndex agent = kNone;
  std::uint64_t job = 0;
  bool behind = false;  // given to a gateway, not to be run by itself

  // kAway and kHere
  std::uint64_t charge64 = 0;
  std::uint64_t memory_mb = 0;
  std::uint64_t charged_us = 0;  // to its application, when it was given a place
  AgentIndex loads = kNone;      // whose load it is part of
  std::uint64_t load_units = 0;
  Instant load_end;
  bool transfers = false;             // inputs travel to `loads` for it
  std::vector<std::uint32_t> coming;  // versions that do
  AgentIndex source = kNone;          // where the inputs that it lacked were to come from
  std::vector<Candidate> candidates;  // what spoke for the place it was given, the best first; empty: no choice

  // kHere
  bool charged = false;
  bool launched = false;
  std::uint32_t missing = 0;      // inputs on their way
  std::uint64_t fetch_bytes = 0;  // of those that were fetched for it, and what they took of the way here
  std::uint64_t fetch_us = 0;
  std::uint64_t attempt = 0;
  Instant deadline = Instant::never();
  AppId app;
  std::vector<DataName> outputs;
};

using WorkTable = Slab<Work>;

}  // namespace shoal::scheduler
