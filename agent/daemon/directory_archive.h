// agent/daemon/directory_archive.h
//
// A directory as one file, for its way to another agent: a tar archive with files, directories and symbolic links,
// without owners and times. The door to libarchive.
#pragma once

#include <string>

#include "protocol/base/result.h"

namespace shoal::daemon {

// Writes what is in `directory` to the new file `archive`. kUnavailable, kExhausted for a full disk; the file is
// removed then. Blocks; any thread.
Result<> pack_directory(const std::string& directory, const std::string& archive);

// Makes `directory` and fills it. kCorrupt for anything that would be written outside of it, or is no archive. Blocks;
// any thread.
Result<> unpack_directory(const std::string& archive, const std::string& directory);

}  // namespace shoal::daemon
