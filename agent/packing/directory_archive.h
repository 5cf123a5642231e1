// agent/packing/directory_archive.h
//
// A directory as one file, for its way to another agent: a tar archive with files, directories and symbolic links,
// without owners and times, in the order of names, so that equal directories make equal archives. The door to
// libarchive. All functions block and may be called from any thread.
#pragma once

#include <cstdint>
#include <string>

#include "protocol/base/result.h"

namespace shoal::packing {

// Writes what is in `directory` to the new file `archive`. kUnavailable, kExhausted for a full disk; the file is
// removed then.
Result<> pack_directory(const std::string& directory, const std::string& archive);

enum class Format : std::uint8_t { kTar, kZip };
enum class Links : std::uint8_t { kKeep, kRefuse };

struct UnpackOptions {
  Format format = Format::kTar;
  Links links = Links::kKeep;
  std::uint64_t bytes_max = UINT64_MAX;  // of all files together
  std::uint64_t entries_max = UINT64_MAX;
};

// Makes `directory`, if need be, and fills it. kCorrupt for anything that would be written outside of it, for what the
// options refuse, or when it is no archive; kExhausted beyond the bounds and for a full disk. What was unpacked before
// an error stays.
Result<> unpack_directory(const std::string& archive, const std::string& directory, const UnpackOptions& options = {});

// The content of one file of a tar archive. kNotFound when there is no such entry; kExhausted when it is larger than
// `bytes_max`; kCorrupt when it is no archive.
Result<std::string> read_entry(const std::string& archive, const std::string& name, std::size_t bytes_max);

}  // namespace shoal::packing
