#include "tools/sim/bugs.h"

#include <string>

#include "protocol/overlay/messages.h"
#include "protocol/wire/codec.h"

namespace shoal::sim {
namespace {

struct BugName {
  Bug bug;
  std::string_view name;
};
constexpr BugName kBugNames[] = {
    {Bug::kDropAfterTicket, "drop-after-ticket"},    {Bug::kLoseSyncedWrites, "lose-synced-writes"},
    {Bug::kForgetIncarnation, "forget-incarnation"}, {Bug::kTwoHeads, "two-heads"},
    {Bug::kUnfencedResults, "unfenced-results"},     {Bug::kTwoResults, "two-results"},
    {Bug::kWrongResults, "wrong-results"},           {Bug::kOvercommit, "overcommit"},
};

// The first fields of what the overlay keeps of itself (key "self").
struct SavedSelf {
  std::uint64_t life = 0;
  RegionId region;
  std::string region_name;
  std::vector<RegionId> path;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.life, self.region, self.region_name, self.path);
  }
};

// What a voter keeps of a region (key "ballot/…"); the roll passes through as it is.
struct SavedBallot {
  RegionId region;
  Epoch promised;
  AgentId promised_to;
  overlay::message::Roll roll;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.region, self.promised, self.promised_to, self.roll);
  }
};

void forget_votes(node::Recovered& contents) {
  for (auto& [key, value] : contents) {
    if (!key.starts_with("o/ballot/")) continue;
    auto ballot = wire::decode<SavedBallot>(value);
    if (!ballot) continue;
    ballot->promised = Epoch();
    ballot->promised_to = AgentId();
    value = wire::encode(*ballot);
  }
}

}  // namespace

std::optional<Bug> bug_from(std::string_view name) {
  for (const auto& entry : kBugNames) {
    if (entry.name == name) return entry.bug;
  }
  return std::nullopt;
}

std::string_view bug_name(Bug bug) {
  for (const auto& entry : kBugNames) {
    if (entry.bug == bug) return entry.name;
  }
  return "none";
}

const std::vector<Bug>& all_bugs() {
  static const std::vector<Bug> kAll = [] {
    std::vector<Bug> all;
    for (const auto& entry : kBugNames) all.push_back(entry.bug);
    return all;
  }();
  return kAll;
}

node::Recovered recovered_under(Bug bug, node::Recovered contents) {
  if (bug == Bug::kTwoHeads) forget_votes(contents);
  auto self = contents.find("o/self");
  if (bug == Bug::kForgetIncarnation && self != contents.end()) {
    if (auto saved = wire::decode<SavedSelf>(self->second); saved && saved->life > 0) {
      --saved->life;
      self->second = wire::encode(*saved);
    }
  }
  return contents;
}

}  // namespace shoal::sim
