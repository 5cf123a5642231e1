// sdk/cpp/program.h
//
// What belongs to the process: the tasks it knows, and the runtime its calls go to.
#pragma once

#include "shoal/runtime.hpp"

namespace shoal::sdk {

// The task of that name; null when this program has none.
const Registration* find_task(const std::string& name);

// While set, calls of this process go there: the session of the attempt that runs. `open` makes it at its first use.
void set_attempt_runtime(std::function<Runtime&()> open);

}  // namespace shoal::sdk
