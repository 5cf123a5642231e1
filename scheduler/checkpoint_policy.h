// scheduler/checkpoint_policy.h
//
// When finished tasks are written to a checkpoint. Pure: it sees numbers of tasks, and says up to which of them what is
// finished is to be written now. What is not due yet waits; a snapshot and the end of the program write everything.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/base/time.h"

namespace shoal::scheduler {

class CheckpointPolicy {
 public:
  static constexpr std::uint64_t kAll = std::numeric_limits<std::uint64_t>::max();

  // "finished:N" (every N finished tasks; 1 when empty), "time:N" (every N seconds, or ms, s, m, h), "group:N" (when N
  // tasks in the order of the program have finished), "snapshot" (only when the program asks). kInvalid otherwise.
  // `avoid`: functions whose results are not written, by full name, or without module.
  static Result<CheckpointPolicy> parse(const std::string& text, const std::vector<std::string>& avoid = {});

  // `main_module`: what the program's own functions may be called by, instead of "__main__".
  bool avoids(const std::string& function, const std::string& main_module) const;

  // A task is finished. The tasks up to the number that is returned are to be written.
  std::optional<std::uint64_t> finished(TaskId task);

  // Zero when time plays no role.
  Duration period() const { return period_; }

 private:
  enum class Kind : std::uint8_t { kFinished, kTime, kGroup, kSnapshot };
  Kind kind_ = Kind::kFinished;
  std::uint64_t every_ = 1;
  Duration period_;
  std::uint64_t finished_ = 0;
  std::map<std::uint64_t, std::uint64_t> groups_;  // finished tasks of groups that are not complete
  std::set<std::string> avoid_;
};

}  // namespace shoal::scheduler
