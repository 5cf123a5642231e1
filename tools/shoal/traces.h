// tools/shoal/traces.h
//
// The timeline of an application in the formats of tools that people have: Chrome trace events for the Perfetto viewer,
// and a Paraver trace. Both are drawn from its trace (trace_tasks.h).
#pragma once

#include <string>

#include "protocol/base/time.h"
#include "protocol/wire/dynamic.h"

namespace shoal::cli {

std::string timeline_perfetto(const wire::Dynamic& trace);

// The three files of a Paraver trace. A node is an agent, a thread one of its executors as far as tasks overlapped; a
// task is a state (running) and an event of type 8000000 with the function as value, and of type 8000001 with its
// number. Source of the format: the trace-file description in the Paraver documentation. Times are nanoseconds from the
// first task.
struct ParaverTrace {
  std::string prv;  // records
  std::string pcf;  // names and colours of states and events
  std::string row;  // names of nodes and threads
};
ParaverTrace timeline_paraver(const wire::Dynamic& trace, WallTime now);

}  // namespace shoal::cli
