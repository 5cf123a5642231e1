// scheduler/policy.h
//
// The schedulers that an application can choose by name: in which order its ready tasks go, and where.
//
//   name           order                        place
//   completion     longest path, then age       where it is expected to be complete first
//   critical-path  longest path, then age       here if there is room, else where most units are free
//   fifo           age                          the same
//   lifo           youngest first               the same
//   locality       age                          of those with room, who has most of the inputs
//   random         age                          an agent drawn when the task becomes ready: for comparison
//
// What a program marks as priority goes first under each of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/base/result.h"

namespace shoal::scheduler {

enum class Policy : std::uint8_t { kCompletion, kCriticalPath, kFifo, kLifo, kLocality, kRandom };

struct PolicyChoice {
  Policy policy = Policy::kCompletion;
  bool translated = false;  // the name is a class of COMPSs, of which this is the nearest
};

// Reads a name of the table above, or that of a scheduler class of COMPSs (es.bsc.compss.scheduler…). Empty stands for
// `fallback`. kInvalid names what is accepted.
Result<PolicyChoice> parse_policy(std::string_view name, Policy fallback = Policy::kCompletion);

std::string_view name_of(Policy policy);

// "completion, critical-path, fifo, lifo, locality or random"
std::string_view policy_names();

// Whether longer paths to the end of the program go first.
constexpr bool by_path(Policy policy) {
  return policy == Policy::kCompletion || policy == Policy::kCriticalPath;
}
// Whether a task belongs to the agent that has most of its inputs.
constexpr bool by_data(Policy policy) {
  return policy == Policy::kCompletion || policy == Policy::kLocality;
}

}  // namespace shoal::scheduler
