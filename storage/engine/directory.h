// storage/engine/directory.h
//
// Whose directory it is: one process at a time, one format, nothing foreign.
#pragma once

#include <string>

#include "protocol/base/result.h"
#include "storage/engine/posix.h"

namespace shoal::storage {

inline constexpr int kStoreFormat = 1;

// Makes `dir` if needed, locks it, and checks or writes its marker. The lock lasts as long as the descriptor.
Result<Fd> claim_directory(const std::string& dir);

}  // namespace shoal::storage
