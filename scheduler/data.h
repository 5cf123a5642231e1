// scheduler/data.h
//
// The records of a task graph: data, their versions, tasks, accesses, failures. Plain values; the rules that keep them
// consistent are the graph's (graph.h), nobody else writes to them.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "protocol/wire/client.h"
#include "scheduler/io.h"
#include "scheduler/slab.h"

namespace shoal::scheduler {

// An agent known here, by its place in the table of addresses (agents.h). kSelf is this agent.
using AgentIndex = std::uint32_t;
constexpr AgentIndex kSelf = 0;

// What names a version between agents of one application. Files are numbered apart from data.
struct DataName {
  bool file = false;
  std::uint64_t number = 0;
  std::uint32_t version = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.file, self.number, self.version);
  }
  friend bool operator==(const DataName&, const DataName&) = default;
};
ValueKey key_of(AppId app, const DataName& name);

enum class VersionState : std::uint8_t {
  kAbsent,   // a free record
  kPending,  // its task is not finished
  kReady,    // has its value
  kFailed,   // will never have one: `failure`
  kLost,     // had a value that only dead agents held
  kFreed,    // nobody reads it any more, but a lost value may need it to be made again
};

// Who is to be told when a version is final: a task, or another version that takes over its value. A task may end
// earlier and its record be used again, so a record alone does not say who was meant.
struct Successor {
  std::uint32_t index = kNone;
  std::uint32_t task = 0;  // successor_tag of its TaskId; 0: a version
  bool is_version() const { return task == 0; }
};
// Never 0, and different for any two tasks that can use the same record one after the other.
constexpr std::uint32_t successor_tag(TaskId task) {
  return static_cast<std::uint32_t>(task.value()) | 0x80000000U;
}

struct Version {
  VersionState state = VersionState::kAbsent;
  bool borrowed = false;  // the user's own file: served, never deleted
  bool kept = false;      // the driver serves it under its key
  bool watched = false;   // a wait is to be told when it is final
  bool doomed = false;    // in the list of records to be looked at for freeing
  bool retained = false;  // its value is kept for lineage only
  bool cancels =
      false;  // left by a task that failed with CANCEL_SUCCESSORS: who reads it later is cancelled: `failure`
  bool changed = false;  // depends on a call that is not what it was in the run that is being repeated
  std::uint8_t misses = 0;
  std::uint32_t datum = kNone;     // kNone when no program name leads to it
  std::uint32_t producer = kNone;  // task record, while there is one
  std::uint32_t readers = 0;       // unfinished tasks, waits, followers, access groups
  std::uint32_t lineage_readers = 0;
  std::uint32_t alias_of = kNone;  // its value is that of another version
  std::uint32_t failure = kNone;
  std::uint32_t access_group = kNone;  // of the result of a group that is not finished
  TaskId made_by;
  DataName name;
  std::uint64_t bytes = 0;
  client::Value value;              // inline, or where it is on this host
  std::vector<AgentIndex> holders;  // of what is not inline
  std::vector<Successor> successors;

  bool inlined() const {
    return !std::holds_alternative<client::Shared>(value) && !std::holds_alternative<client::FilePath>(value) &&
           holders.empty();
  }
};

struct Datum {
  DatumId id;
  std::string path;  // of a file or directory; empty for objects
  std::uint32_t current = kNone;
  std::uint32_t versions = 0;  // given out so far
  bool released = false;
};

// CONCURRENT or COMMUTATIVE accesses in a row: all start from `base`, together they make `result`.
struct AccessGroup {
  bool exclusive = false;  // COMMUTATIVE: one at a time
  bool closed = false;     // somebody reads `result`: nobody else joins
  std::uint32_t result = kNone;
  std::uint32_t tip = kNone;  // what the last finished member left; base at first
  std::uint32_t remaining = 0;
  std::uint32_t holder = kNone;  // the member that runs
  std::uint32_t failure = kNone;
  std::vector<std::uint32_t> waiting;  // members that are ready but for this group
};

// What one access of a task resolved to. There is one per node of the access tree, in depth-first order.
struct Ref {
  std::uint32_t read = kNone;
  std::uint32_t write = kNone;
  std::uint32_t access_group = kNone;
  bool output = false;  // the executor reports a value for it
};

struct Failure {
  Code code = Code::kFailed;
  std::string message;
  Bytes error;  // what the executor said
  TaskId task;
  std::uint32_t refs = 0;
  bool reported = false;
};

// Paths in steps of half an octave, so that a little more does not change the order. Below 128: urgent work adds that.
constexpr std::uint8_t path_rank(std::uint64_t path_us) {
  if (path_us == 0) return 0;
  const auto octave = static_cast<int>(std::bit_width(path_us));
  const bool upper = octave > 1 && (path_us >> (octave - 2) & 1U) != 0;
  return static_cast<std::uint8_t>(std::min(2 * octave + (upper ? 1 : 0), 127));
}
constexpr std::uint8_t kUrgentRank = 128;

enum class TaskState : std::uint8_t {
  kAbsent,
  kWaiting,  // for inputs
  kBlocked,  // for its turn in a group of commutative accesses
  kReady,    // handed to the dispatcher
  kKept,     // finished, kept because its outputs could get lost
};

struct Task {
  TaskState state = TaskState::kAbsent;
  bool recompute = false;  // a second life, to make a lost value again
  bool large = false;      // an input is not inline
  std::uint16_t failures = 0;
  std::uint16_t crashes = 0;
  std::uint16_t own_misses = 0;  // attempts that could not get what this agent has
  std::uint16_t held_back = 0;   // times it waited for another agent than the one where it failed
  std::uint32_t attempts = 0;
  std::uint32_t function = 0;
  std::uint32_t pending = 0;
  std::uint32_t group = kNone;
  std::uint32_t work = kNone;  // the dispatcher's record, while ready
  std::uint32_t live_outputs = 0;
  std::uint32_t failure = kNone;  // why it can never start
  AgentIndex avoid = kNone;       // where it failed last
  AgentIndex only = kNone;        // where it is meant to run: a replica
  Instance instance;
  TaskId id;
  std::int64_t ready_us = 0;
  std::int64_t start_us = 0;
  std::uint64_t run_us = 0;   // what it is expected to take
  std::uint64_t path_us = 0;  // the same of the longest path from it to the end of the program, as far as looked at
  std::vector<client::Access> accesses;
  std::vector<Ref> refs;
  std::unique_ptr<client::TaskOptions> options;  // of this call only
};

}  // namespace shoal::scheduler
