// tools/sim/trace_hash.h
//
// A rolling 64-bit hash over everything that goes into and comes out of every agent, in order. Two runs of one seed
// must end with the same value, whatever the compiler; where they differ, something read memory, a clock or an
// address that it should not have.
#pragma once

#include <cstdint>
#include <string_view>

#include "agent/node/io.h"
#include "protocol/base/hash.h"

namespace shoal::sim {

class TraceHash {
 public:
  void add(std::uint64_t word) { state_ = combine64(state_, word); }
  void add(std::string_view bytes);
  void add_input(std::uint32_t agent, Instant now, const node::Input& input);
  void add_effect(std::uint32_t agent, const node::Effect& effect);

  std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0;
};

}  // namespace shoal::sim
