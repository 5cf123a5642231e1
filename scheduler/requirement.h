// scheduler/requirement.h
//
// One thing a task asks of an agent beyond units, memory and architecture, and whether a label of the agent meets it.
// Labels are what agents say of themselves (--labels, and what they find out: Resources::facts). The keys are those of
// COMPSs' @constraint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/base/result.h"

namespace shoal::scheduler {

struct Requirement {
  enum class Match : std::uint8_t {
    kEqual,    // the same text
    kAlike,    // the same text, but for upper and lower case
    kAtLeast,  // a number as large: decimal, up to three places
    kAllOf,    // every word of the list is among the agent's
    kAnyOf,    // one of them is
    kBuild,    // the agent's Python and machine can use one of these builds (wheel_tag.h)
  };
  Match match = Match::kEqual;
  std::string key;    // of the label; kBuild: what there are builds of
  std::string value;  // lists: words separated by commas; kBuild: the tags of the builds
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.match, self.key, self.value);
  }
  friend auto operator<=>(const Requirement&, const Requirement&) = default;
};

// The requirement that a constraint stands for; nullopt when the key is none of these. kInvalid when the value is no
// number where one is needed, or an empty list.
Result<std::optional<Requirement>> parse_requirement(const std::string& key, const std::string& value);

// Whether an agent whose label says `offered` meets it. Words of a list in a label are separated by any of , ; + space.
bool meets(std::string_view offered, const Requirement& requirement);

// The label that says whether an agent meets it.
std::string_view label_of(const Requirement& requirement);

// What holds of an agent without such a label: a limit that nobody set is none.
bool met_without_label(const Requirement& requirement);

// "label.gpu=yes", "storage_size>=100".
std::string describe(const Requirement& requirement);

// A non-negative decimal number in thousandths; nullopt for anything else. No floating point: decisions must not depend
// on rounding modes.
std::optional<std::uint64_t> thousandths(std::string_view text);

}  // namespace shoal::scheduler
