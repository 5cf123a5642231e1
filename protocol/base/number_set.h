// protocol/base/number_set.h
//
// Numbers as people select them: "all", "last", "7", "1-10", "1-10:2" (every second), "1,5,20-30". Pure.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "protocol/base/result.h"

namespace shoal {

class NumberSet {
 public:
  static constexpr std::size_t kRangesMax = 1000;

  // kInvalid with what is understood. "" is "all".
  static Result<NumberSet> parse(std::string_view text);

  bool is_all() const { return all_; }
  // True when it is one number, or "last".
  bool is_single() const;
  // True when somebody has to say which number is the last one before contains() can be asked.
  bool wants_last() const { return last_; }
  void set_last(std::uint64_t number);
  // O(ranges).
  bool contains(std::uint64_t number) const;

 private:
  struct Range {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::uint64_t step = 1;
  };
  static Result<Range> parse_range(std::string_view text);

  bool all_ = false;
  bool last_ = false;
  std::vector<Range> ranges_;
};

}  // namespace shoal
