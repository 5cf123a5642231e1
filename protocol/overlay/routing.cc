// Next hops. Inside a region the member table is the routing table; beyond it the path in the address is.
#include <algorithm>
#include <set>

#include "protocol/overlay/core.h"

namespace shoal::overlay {

std::optional<AgentId> Core::next_hop(const wire::Address& target) const {
  if (target.agent == config_.id) return std::nullopt;
  if (links_.up(target.agent)) return target.agent;
  for (const auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment != nullptr && attachment->region.find(target.agent) != nullptr) {
      return hop_within(*attachment, target.agent);
    }
  }
  return hop_by_path(target);
}

// Towards a member of a region: its head has a link to everyone; failing that, the shortest way over the
// graph that follows from the table.
std::optional<AgentId> Core::hop_within(const Attachment& at, AgentId member) const {
  if (links_.up(member)) return member;
  if (at.word && at.word->head != config_.id && at.word->head != member && links_.up(at.word->head))
    return at.word->head;
  std::set<AgentId> seen{member};
  std::vector<AgentId> frontier{member};
  while (!frontier.empty()) {
    std::vector<AgentId> next;
    std::optional<AgentId> best;
    for (AgentId agent : frontier) {
      for (AgentId neighbour : at.region.neighbours_of(agent)) {
        if (neighbour == config_.id || !seen.insert(neighbour).second) continue;
        if (links_.up(neighbour) && (!best || neighbour < *best)) best = neighbour;
        next.push_back(neighbour);
      }
    }
    if (best) return best;
    frontier = std::move(next);
  }
  return std::nullopt;
}

std::optional<AgentId> Core::hop_by_path(const wire::Address& target) const {
  if (!home_ || target.path.empty() || target.path.size() > wire::Address::kPathMax) return std::nullopt;
  const auto towards = [&](const Attachment& at, const Member* member) -> std::optional<AgentId> {
    if (member == nullptr || member->id == config_.id) return std::nullopt;
    return hop_within(at, member->id);
  };
  // Down: a region of ours is on its path, and a guest there speaks for the next region of it.
  for (const auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment == nullptr) continue;
    const auto here = std::find(target.path.begin(), target.path.end(), attachment->region.id());
    if (here == target.path.end()) continue;
    if (here + 1 == target.path.end()) return std::nullopt;  // it should be a native here, and is not living
    return towards(*attachment, attachment->region.guest_for(*(here + 1)));
  }
  // Up.
  const Attachment* via = is_head_ ? attachment_of(Scope::kParent) : attachment_of(Scope::kHome);
  if (via == nullptr || !via->word) return std::nullopt;
  return towards(*via, via->region.find(via->word->head));
}

}  // namespace shoal::overlay
