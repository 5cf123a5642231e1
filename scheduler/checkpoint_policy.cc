#include "scheduler/checkpoint_policy.h"

#include <charconv>
#include <string_view>

namespace shoal::scheduler {

namespace {

constexpr std::uint64_t kEveryMax = 1'000'000'000;
constexpr std::size_t kGroupsMax = 100'000;  // then the oldest incomplete one is given up: it is written with the next

Error misunderstood(const std::string& text) {
  return {Code::kInvalid, "\"" + text +
                              "\" is no checkpoint policy; it is finished:N (every N finished tasks), time:N (every N "
                              "seconds), group:N (groups of N calls) or snapshot (only compss_snapshot)"};
}

std::optional<std::int64_t> unit_us(std::string_view unit) {
  if (unit == "ms") return 1'000;
  if (unit.empty() || unit == "s") return 1'000'000;
  if (unit == "m") return 60'000'000;
  if (unit == "h") return 3'600'000'000;
  return std::nullopt;
}

}  // namespace

Result<CheckpointPolicy> CheckpointPolicy::parse(const std::string& text, const std::vector<std::string>& avoid) {
  CheckpointPolicy policy;
  policy.avoid_.insert(avoid.begin(), avoid.end());
  const std::size_t colon = text.find(':');
  const std::string_view kind = std::string_view(text).substr(0, colon);
  const bool has_number = colon != std::string::npos;
  std::string_view rest = has_number ? std::string_view(text).substr(colon + 1) : std::string_view();
  std::uint64_t number = 1;
  if (has_number) {
    const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (parsed.ec != std::errc() || number == 0 || number > kEveryMax)
      return tl::unexpected<Error>(misunderstood(text));
    rest.remove_prefix(static_cast<std::size_t>(parsed.ptr - rest.data()));
  }
  policy.every_ = number;
  const bool plain = rest.empty();
  if (text.empty() || (kind == "finished" && plain)) return policy;
  if (kind == "snapshot" && !has_number) {
    policy.kind_ = Kind::kSnapshot;
    return policy;
  }
  if (kind == "group" && has_number && plain) {
    policy.kind_ = Kind::kGroup;
    return policy;
  }
  if (const auto unit = unit_us(rest); kind == "time" && has_number && unit) {
    policy.kind_ = Kind::kTime;
    policy.period_ = Duration{static_cast<std::int64_t>(number) * *unit};
    return policy;
  }
  return tl::unexpected<Error>(misunderstood(text));
}

bool CheckpointPolicy::avoids(const std::string& function, const std::string& main_module) const {
  if (avoid_.empty()) return false;
  const std::size_t dot = function.find('.');
  if (avoid_.contains(function) || avoid_.contains(function.substr(dot + 1))) return true;
  return function.substr(0, dot) == "__main__" && avoid_.contains(main_module + function.substr(dot));
}

std::optional<std::uint64_t> CheckpointPolicy::finished(TaskId task) {
  switch (kind_) {
    case Kind::kFinished:
      if (++finished_ % every_ == 0) return kAll;
      return std::nullopt;
    case Kind::kGroup: {
      const std::uint64_t group = (task.value() - 1) / every_;
      if (++groups_[group] == every_) {
        groups_.erase(group);
        return (group + 1) * every_;
      }
      if (groups_.size() > kGroupsMax) groups_.erase(groups_.begin());
      return std::nullopt;
    }
    case Kind::kTime:
    case Kind::kSnapshot:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace shoal::scheduler
