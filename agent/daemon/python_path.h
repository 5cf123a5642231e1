// agent/daemon/python_path.h
//
// Where the Python side of Shoal lies, and which interpreter to use when nobody names one.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace shoal::daemon {

// Directories of the SDK and its compatibility packages: of the install tree, else of the source tree.
std::vector<std::string> sdk_directories();

// A PYTHONPATH that finds the SDK first and then what `existing` names.
std::string python_path(const std::string& existing);

// The interpreter that `wanted` names (a path, or a program of the PATH; python3 when empty), preferring one that has
// what the SDK needs; empty: none that can be run.
std::string find_python(const std::string& wanted);

// The version of an interpreter: "3.<minor><flags>", where flags are those of its ABI ("t": without the global lock).
struct PythonVersion {
  int minor = 0;
  std::string flags;
};
// Judged by the names of its files, since starting it takes longer than the whole start of an agent; only one that
// does not tell is started and asked. nullopt: no Python 3 that runs.
std::optional<PythonVersion> python_version_of(const std::string& interpreter);

// What to tell people when there is none.
std::string no_python(const std::string& wanted);

}  // namespace shoal::daemon
