// agent/executor/file_area.h
//
// File parameters on their way to a process: names relative to the agent's file area become absolute paths whose
// directories exist; and what a command makes of its parameters.
#pragma once

#include <string>
#include <vector>

#include "protocol/base/result.h"
#include "protocol/wire/client.h"

namespace shoal::executor {

// True for directions that give a new version of their parameter.
bool writes(client::Direction direction);

// Makes every relative FilePath of `attempt` absolute under `files_dir` and creates the directories above it. kInvalid
// for a name that leaves the area (other agents chose these names), kUnavailable when a directory cannot be made.
Result<> place_files(client::Attempt& attempt, const std::string& files_dir);

// The path a process is to use for a file parameter: of one that is read and written, the output (items[0]), else its
// value. Empty when the argument holds no path.
const std::string& path_for(const client::Argument& argument);

// Copies the source of every file that is read and written to its output, so that a failing command leaves the source
// as it was.
Result<> copy_updated_files(const client::Attempt& attempt);

// The argument vector with "{{name}}" replaced by the path or scalar of that parameter. kInvalid for a parameter that
// has no text, or is not there.
Result<std::vector<std::string>> fill_command(const client::Attempt& attempt);

}  // namespace shoal::executor
