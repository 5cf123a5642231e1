#include "protocol/base/number_set.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>

namespace shoal {
namespace {

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Result<NumberSet::Range> NumberSet::parse_range(std::string_view text) {
  const auto wrong = [&] {
    return fail(Code::kInvalid, "\"" + std::string(text) +
                                    "\" selects nothing: write a number, 1-10, 1-10:2, several of these with commas "
                                    "between them, last or all");
  };
  const auto colon = text.find(':');
  const auto span = text.substr(0, colon);
  const auto dash = span.find('-');
  const auto first = number_of(span.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : number_of(span.substr(dash + 1));
  const auto step =
      colon == std::string_view::npos ? std::optional<std::uint64_t>(1) : number_of(text.substr(colon + 1));
  if (!first || !last || !step || *step == 0 || *last < *first) return wrong();
  return Range{*first, *last, *step};
}

Result<NumberSet> NumberSet::parse(std::string_view text) {
  NumberSet out;
  if (text.empty() || text == "all") {
    out.all_ = true;
    return out;
  }
  while (true) {
    const auto comma = text.find(',');
    const auto part = text.substr(0, comma);
    if (part == "last") {
      out.last_ = true;
    } else {
      auto range = parse_range(part);
      if (!range) return tl::unexpected<Error>(range.error());
      out.ranges_.push_back(*range);
    }
    if (out.ranges_.size() > kRangesMax) return fail(Code::kExhausted, "a selection has at most 1000 parts");
    if (comma == std::string_view::npos) return out;
    text.remove_prefix(comma + 1);
  }
}

bool NumberSet::is_single() const {
  if (all_) return false;
  if (last_) return ranges_.empty();
  return ranges_.size() == 1 && ranges_[0].first == ranges_[0].last;
}

void NumberSet::set_last(std::uint64_t number) {
  if (last_) ranges_.push_back({number, number, 1});
  last_ = false;
}

bool NumberSet::contains(std::uint64_t number) const {
  return all_ || std::any_of(ranges_.begin(), ranges_.end(), [&](const Range& range) {
           return number >= range.first && number <= range.last && (number - range.first) % range.step == 0;
         });
}

}  // namespace shoal
