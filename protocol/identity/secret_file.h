// protocol/identity/secret_file.h
//
// Files that only their owner may read. Internal to this folder.
#pragma once

#include <string>
#include <string_view>

#include "protocol/base/result.h"
#include "protocol/wire/bytes.h"

namespace shoal::identity {

// Larger files are refused: no secret of ours comes near.
constexpr std::size_t kSecretFileBytesMax = 64 << 10;

// kNotFound, kDenied (others may read it, or we may not), kCorrupt (too large), kUnavailable (I/O error).
Result<Bytes> read_secret_file(const std::string& path);

// Replaces `path` atomically with mode 0600, synced together with its directory. kDenied, kExhausted (disk
// full) or kUnavailable, with the path and the cause.
Result<> write_secret_file(const std::string& path, std::string_view content);

// Makes `path` and its parents, the last with mode 0700.
Result<> make_private_directory(const std::string& path);

}  // namespace shoal::identity
