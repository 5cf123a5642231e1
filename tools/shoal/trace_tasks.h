// tools/shoal/trace_tasks.h
//
// The tasks of an application's trace (request app.trace): {"tasks": [{task, function, agent_name, start_us, end_us,
// after: [task, …]}, …]}, and the lanes they take when they are drawn: no two tasks of a lane overlap.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "protocol/wire/dynamic.h"

namespace shoal::cli {

struct TraceTask {
  std::int64_t id = 0;
  std::string function;
  std::string agent;
  std::int64_t start_us = 0;
  std::int64_t end_us = 0;            // 0: not finished
  std::vector<std::int64_t> depends;  // tasks that it waited for
};

// At most `most` of them, ascending by id.
std::vector<TraceTask> tasks_of(const wire::Dynamic& trace, std::size_t most);

struct TraceLanes {
  std::vector<TraceTask> tasks;               // finished ones, by start
  std::vector<std::size_t> lane;              // of each, from 0, on its agent
  std::map<std::string, std::size_t> agents;  // how many lanes each needs
  std::int64_t first_us = 0;
  std::int64_t last_us = 0;  // after first_us
};

TraceLanes lanes_of(std::vector<TraceTask> tasks);

}  // namespace shoal::cli
