// scheduler/access.h
//
// What can be said of an access by its kind alone.
#pragma once

#include "protocol/wire/client.h"

namespace shoal::scheduler {

// True for accesses whose value is a file or directory on some host, tracked by path.
inline bool is_file(client::AccessKind kind) {
  using client::AccessKind;
  return kind == AccessKind::kFile || kind == AccessKind::kDirectory || kind == AccessKind::kStdout ||
         kind == AccessKind::kStderr || kind == AccessKind::kStdin;
}

}  // namespace shoal::scheduler
