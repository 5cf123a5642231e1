// tools/shoal/follow.h
//
// Staying with an application until it ends: its output, a progress line on a terminal, Ctrl-C, --timeout.
#pragma once

#include <optional>
#include <string>

#include "tools/shoal/client.h"
#include "tools/shoal/output.h"

namespace shoal::cli {

struct FollowOptions {
  bool cancels = false;      // Ctrl-C and the time-out cancel the application; otherwise they only end the following
  bool output = true;        // show what the program prints
  bool task_output = false;  // and what its tasks print
  bool progress = true;      // when stderr is a terminal
  std::optional<Duration> timeout;
};

// How it ended.
struct FollowEnd {
  enum class How : std::uint8_t {
    kExited,    // `code` is the program's
    kSignal,    // a signal to this process; `code` is 128 plus its number
    kTimedOut,  // the time was over
    kLost,      // `error`
  };
  How how = How::kLost;
  int code = 0;
  Error error;
};

// Takes over SIGINT and SIGTERM of the process. Blocks.
FollowEnd follow(Client& client, const std::string& app, const FollowOptions& options);

}  // namespace shoal::cli
