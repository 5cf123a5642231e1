// protocol/base/rng.h
//
// The only randomness of the core: SplitMix64 streams (Steele, Lea, Flood 2014), split by purpose, so that a
// new draw in one place does not shift the draws of another. Integers only; the same on every compiler.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/base/hash.h"

namespace shoal {

class Rng {
 public:
  explicit Rng(std::uint64_t seed) : state_(seed) {}

  // A stream of its own for `purpose`. Does not advance this one.
  Rng split(std::string_view purpose) const { return Rng(mix64(state_ ^ hash64(purpose))); }

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    return mix64(state_);
  }

  // Uniform in [0, bound); 0 for bound 0. Multiply-shift (Lemire 2019); the bias is below 2^-32 for bounds
  // that fit 32 bits, which is all that is asked for here.
  std::uint64_t below(std::uint64_t bound) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
  }

  // Uniform in [low, high], both ends included.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
  }

  // True in `per_million` of 1,000,000 draws.
  bool chance(std::uint32_t per_million) { return below(1'000'000) < per_million; }

  // Fisher-Yates; std::shuffle differs between standard libraries.
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  std::uint64_t state_;
};

}  // namespace shoal
