#include "scheduler/policy.h"

#include <algorithm>
#include <array>
#include <utility>

namespace shoal::scheduler {

namespace {

using Row = std::pair<std::string_view, Policy>;

constexpr std::array<Row, 7> kNames{{{"completion", Policy::kCompletion},
                                     {"critical-path", Policy::kCriticalPath},
                                     {"fifo", Policy::kFifo},
                                     {"lifo", Policy::kLifo},
                                     {"locality", Policy::kLocality},
                                     {"random", Policy::kRandom},
                                     {"priority", Policy::kCriticalPath}}};

// The packages below which COMPSs has its scheduler classes say what they do; the classes' own names change between
// its releases. The first that fits counts: successors.locality is for data, orderstrict.fifo for age.
constexpr std::string_view kPackage = "es.bsc.compss.scheduler.";
constexpr std::array<Row, 9> kPackages{{{"locality", Policy::kLocality},
                                        {"lifo", Policy::kLifo},
                                        {"fifo", Policy::kFifo},
                                        {"constraintsfifo", Policy::kFifo},
                                        {"fifodata", Policy::kLocality},
                                        {"fifodatalocation", Policy::kLocality},
                                        {"successors", Policy::kCriticalPath},
                                        {"loadbalancing", Policy::kCompletion},
                                        {"multiobjective", Policy::kCompletion}}};

bool has_package(std::string_view name, std::string_view package) {
  const std::size_t at = name.find("." + std::string(package) + ".");
  return at != std::string_view::npos;
}

}  // namespace

Result<PolicyChoice> parse_policy(std::string_view name, Policy fallback) {
  if (name.empty() || name == "default") return PolicyChoice{fallback, false};
  auto named = std::find_if(kNames.begin(), kNames.end(), [&](const Row& row) { return row.first == name; });
  if (named != kNames.end()) return PolicyChoice{named->second, false};
  auto nearest = std::find_if(kPackages.begin(), kPackages.end(), [&](const Row& row) {
    return name.starts_with(kPackage) && has_package(name, row.first);
  });
  if (nearest != kPackages.end()) return PolicyChoice{nearest->second, true};
  return fail(Code::kInvalid, "there is no scheduler \"" + std::string(name.substr(0, 200)) + "\": choose " +
                                  std::string(policy_names()) + ", or a class below " + std::string(kPackage) +
                                  "lookahead, .orderstrict, .fullgraph or .loadbalancing");
}

std::string_view name_of(Policy policy) {
  auto it = std::find_if(kNames.begin(), kNames.end(), [&](const Row& row) { return row.second == policy; });
  return it == kNames.end() ? "unknown" : it->first;
}

std::string_view policy_names() {
  return "completion, critical-path, fifo, lifo, locality or random";
}

}  // namespace shoal::scheduler
