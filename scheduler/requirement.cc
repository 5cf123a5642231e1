#include "scheduler/requirement.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "scheduler/wheel_tag.h"

namespace shoal::scheduler {

namespace {

using Match = Requirement::Match;

constexpr std::string_view kLabelPrefix = "label.";

struct Known {
  std::string_view constraint;
  Match match;
};

constexpr std::array<Known, 16> kKnown{{
    {"app_software", Match::kAllOf},
    {"host_queues", Match::kAnyOf},
    {"memory_type", Match::kAlike},
    {"operating_system_distribution", Match::kAlike},
    {"operating_system_type", Match::kAlike},
    {"operating_system_version", Match::kEqual},
    {"processor_architecture", Match::kAnyOf},
    {"processor_internal_memory_size", Match::kAtLeast},
    {"processor_name", Match::kEqual},
    {"processor_speed", Match::kAtLeast},
    {"processor_type", Match::kAlike},
    {"python_version", Match::kEqual},
    {"storage_bandwidth", Match::kAtLeast},
    {"storage_size", Match::kAtLeast},
    {"storage_type", Match::kAlike},
    {"wall_clock_limit", Match::kAtLeast},
}};

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const auto end = text.find_first_of(",;+ ");
    const auto word = text.substr(0, end);
    if (!word.empty()) out.push_back(word);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return out;
}

bool alike(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

std::optional<std::uint64_t> thousandths(std::string_view text) {
  constexpr std::uint64_t kMax = 1ULL << 50;
  const auto dot = text.find('.');
  const auto digits = [](std::string_view part) -> std::optional<std::uint64_t> {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc() || end != part.data() + part.size() || value > kMax) return std::nullopt;
    return value;
  };
  const auto whole = digits(text.substr(0, dot));
  if (!whole) return std::nullopt;
  if (dot == std::string_view::npos) return *whole * 1000;
  std::string decimals(text.substr(dot + 1));
  if (decimals.empty() || decimals.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  decimals.resize(3, '0');  // programs compute sizes: 1/3 has sixteen places
  return *whole * 1000 + *digits(decimals);
}

Result<std::optional<Requirement>> parse_requirement(const std::string& key, const std::string& value) {
  Requirement out{Match::kEqual, key, value};
  if (key.starts_with(kLabelPrefix) && key.size() > kLabelPrefix.size()) {
    out.key = key.substr(kLabelPrefix.size());
    return out;
  }
  const auto known = std::find_if(kKnown.begin(), kKnown.end(), [&](const Known& k) { return k.constraint == key; });
  if (known == kKnown.end()) return std::optional<Requirement>();
  out.match = known->match;
  if (out.match == Match::kAtLeast && !thousandths(value))
    return fail(Code::kInvalid, "the constraint " + key + "=\"" + value + "\" is not a number");
  if ((out.match == Match::kAllOf || out.match == Match::kAnyOf) && words(value).empty())
    return fail(Code::kInvalid, "the constraint " + key + "=\"" + value + "\" names nothing");
  return out;
}

bool meets(std::string_view offered, const Requirement& requirement) {
  switch (requirement.match) {
    case Match::kEqual:
      return offered == requirement.value;
    case Match::kAlike:
      return alike(offered, requirement.value);
    case Match::kAtLeast: {
      const auto has = thousandths(offered);
      return has && *has >= thousandths(requirement.value).value_or(0);
    }
    case Match::kAllOf:
    case Match::kAnyOf: {
      const auto has = words(offered);
      const auto wanted = words(requirement.value);
      const auto there = [&](std::string_view word) { return std::find(has.begin(), has.end(), word) != has.end(); };
      return requirement.match == Match::kAllOf ? std::all_of(wanted.begin(), wanted.end(), there)
                                                : std::any_of(wanted.begin(), wanted.end(), there);
    }
    case Match::kBuild: {
      const auto platform = parse_platform(offered);
      const auto builds = words(requirement.value);
      return platform && std::any_of(builds.begin(), builds.end(),
                                     [&](std::string_view tag) { return suits(*platform, tag) != 0; });
    }
  }
  return false;
}

std::string_view label_of(const Requirement& requirement) {
  return requirement.match == Match::kBuild ? kPlatformFact : std::string_view(requirement.key);
}

bool met_without_label(const Requirement& requirement) {
  if (requirement.key == "processor_type") return alike(requirement.value, "CPU");
  return requirement.key == "wall_clock_limit" && requirement.match == Match::kAtLeast;
}

std::string describe(const Requirement& requirement) {
  if (requirement.match == Match::kBuild) {
    std::string builds;
    for (const auto tag : words(requirement.value)) builds += (builds.empty() ? "" : " or ") + std::string(tag);
    return requirement.key + " built for " + builds;
  }
  const bool known =
      std::any_of(kKnown.begin(), kKnown.end(), [&](const Known& k) { return k.constraint == requirement.key; });
  const std::string_view sign = requirement.match == Match::kAtLeast ? ">=" : "=";
  return (known ? std::string() : std::string(kLabelPrefix)) + requirement.key + std::string(sign) + requirement.value;
}

}  // namespace shoal::scheduler
