// tools/shoal/environments.h
//
// What `run`, `submit` and `environments build` do with an environment that the user names: pack it, hand the bundle to
// the agent unless it has it, and wait until it is built. Says on stderr what takes long.
#pragma once

#include <string>
#include <vector>

#include "tools/shoal/command.h"

namespace shoal::cli {

struct PreparedEnvironment {
  std::string name;  // by which tasks name it; empty: the program's own
  std::string id;
};

// Packs what `said` names and brings it to the agent of `context`, where it is built if `build`.
Result<PreparedEnvironment> prepare_environment(const Context& context, const std::string& said, bool build);

// All that --environment names: FILE, or NAME=FILE for tasks that ask for it by that name.
Result<std::vector<PreparedEnvironment>> prepare_environments(const Context& context);

}  // namespace shoal::cli
