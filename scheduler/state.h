// scheduler/state.h
//
// What agents tell each other about their load without being asked: the state an agent gossips in its region and the
// summary of what lies behind a head. The overlay carries both as opaque bytes. Nothing in here grows with the
// hierarchy: a summary of a thousand agents is as long as that of ten.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/base/boxed.h"
#include "scheduler/io.h"

namespace shoal::scheduler {

// Computing units are counted in 64ths, so that many short attempts can share one (resources.h).
constexpr std::uint64_t kUnit64 = 64;

// Everything behind a gateway, added up. `units_max` and `memory_mb_max` are those of the largest agent: what one
// task can ask for. Labels and architectures are unions: they say that something is there, not that it is free.
struct Summary {
  std::uint64_t agents = 0;
  std::uint64_t total64 = 0;
  std::uint64_t free64 = 0;
  std::uint32_t units_max = 0;
  std::uint64_t memory_mb_max = 0;
  std::set<std::string> architectures;
  std::set<std::pair<std::string, std::string>> labels;  // at most kSummaryLabelsMax
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.agents, self.total64, self.free64, self.units_max, self.memory_mb_max, self.architectures, self.labels);
  }
  friend bool operator==(const Summary&, const Summary&) = default;
};
constexpr std::size_t kSummaryLabelsMax = 256;

// One agent: what it has, what of it is taken, what waits. (What lies below a head that is a guest in its parent region
// is not its state but its region's Summary.)
struct State {
  Resources resources;
  std::uint64_t used64 = 0;
  std::uint64_t queued = 0;  // attempts that wait for a place on this agent or anywhere
  Boxed<Summary> above;      // of a head: what can be reached through it upward
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.resources, self.used64, self.queued, self.above);
  }
  std::uint64_t free64() const {
    const std::uint64_t total = resources.computing_units * kUnit64;
    return total > used64 ? total - used64 : 0;
  }
};

Bytes encode_state(const State& state);
Bytes encode_summary(const Summary& summary);
// An agent that only states resources can be decoded from bytes of a foreign version: kInvalid otherwise.
Result<State> decode_state(std::string_view bytes);
Result<Summary> decode_summary(std::string_view bytes);

// Adds one agent, or all that another summary stands for.
void add(Summary& to, const State& agent);
void add(Summary& to, const Summary& other);

}  // namespace shoal::scheduler
