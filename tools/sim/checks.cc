#include "tools/sim/checks.h"

#include <utility>

#include "protocol/overlay/limits.h"
#include "protocol/overlay/messages.h"
#include "protocol/wire/codec.h"
#include "tools/sim/agent.h"

namespace shoal::sim {
namespace {

namespace message = overlay::message;

constexpr std::uint64_t kViewQuery = 0xa9e;

}  // namespace

void MembershipChecks::on_send(std::uint32_t agent, const wire::Envelope& envelope) {
  if (envelope.plane() != wire::Plane::kOverlay || envelope.source.agent != world_.id(agent)) return;
  switch (static_cast<message::Kind>(envelope.kind)) {
    case message::Kind::kHeartbeat:
      if (auto heartbeat = wire::decode<message::Heartbeat>(envelope.body))
        on_incarnation(agent, heartbeat->incarnation);
      break;
    case message::Kind::kAnnounce:
      if (auto word = wire::decode<message::Announcement>(envelope.body))
        on_head(word->region, word->epoch, word->head, agent);
      break;
    default:
      break;
  }
}

// S5: a life of an agent is newer than its earlier ones, and within a life it never counts down.
void MembershipChecks::on_incarnation(std::uint32_t agent, Incarnation incarnation) {
  Spoken& spoken = spoken_[agent];
  const std::uint64_t life = world_.life(agent);
  const bool restarted = life != spoken.life && spoken.life != 0;
  const bool wrong = restarted ? overlay::life_of(incarnation) <= overlay::life_of(spoken.incarnation)
                               : incarnation < spoken.incarnation;
  if (wrong) {
    world_.violate("S5", world_.agent(agent).config().name + " speaks under incarnation " +
                             std::to_string(incarnation.value()) + " after " +
                             std::to_string(spoken.incarnation.value()) + (restarted ? " of an earlier life" : ""));
  }
  spoken = {life, incarnation};
}

// S4: at most one head per region and epoch.
void MembershipChecks::on_head(RegionId region, Epoch epoch, AgentId head, std::uint32_t said_by) {
  const auto [it, first] = heads_[region].try_emplace(epoch, head);
  if (!first && it->second != head) {
    world_.violate("S4", "region " + region.brief() + " has two heads in epoch " + std::to_string(epoch.value()) +
                             ": " + it->second.brief() + " and " + head.brief() + " (says " +
                             world_.agent(said_by).config().name + ")");
  }
}

std::map<RegionId, AgentId> MembershipChecks::heads() const {
  std::map<RegionId, AgentId> out;
  for (const auto& [region, epochs] : heads_) out[region] = epochs.rbegin()->second;
  return out;
}

void MembershipChecks::ask_views() {
  views_.clear();
  for (std::uint32_t i = 0; i < world_.agents(); ++i) {
    if (world_.agent(i).up()) world_.agent(i).take(node::in::OverlayQuery{kViewQuery, "agents"});
  }
}

void MembershipChecks::on_answer(std::uint32_t agent, const node::out::Answer& answer) {
  if (answer.id != kViewQuery || !answer.result) return;
  std::set<AgentId>& view = views_[agent];
  view.clear();
  const wire::Dynamic* list = &*answer.result;
  if (list->as_map() != nullptr) list = &(*list)["agents"];
  if (list->as_array() == nullptr) return;
  for (const auto& entry : *list->as_array()) {
    const std::string status = entry.text_or("status", "");
    if (status == "dead" || status == "left") continue;
    if (auto id = AgentId::from_hex_text(entry.text_or("id", ""))) view.insert(*id);
  }
}

std::string MembershipChecks::disagreement() const {
  std::map<RegionId, std::set<AgentId>> truth;
  for (std::uint32_t i = 0; i < world_.agents(); ++i) {
    const SimAgent& agent = world_.agent(i);
    if (!agent.up()) continue;
    if (agent.core().address().path.empty()) return agent.config().name + " is in no region";
    truth[agent.core().address().path.back()].insert(agent.config().id);
  }
  for (std::uint32_t i = 0; i < world_.agents(); ++i) {
    const SimAgent& agent = world_.agent(i);
    if (!agent.up()) continue;
    auto view = views_.find(i);
    if (view == views_.end()) return agent.config().name + " does not answer";
    for (const AgentId id : truth[agent.core().address().path.back()]) {
      if (view->second.count(id) == 0)
        return agent.config().name + " does not see " + world_.agent(*world_.index(id)).config().name;
    }
    for (const AgentId id : view->second) {
      auto index = world_.index(id);
      if (!index) return agent.config().name + " sees an agent that never was";
      if (!world_.agent(*index).up())
        return agent.config().name + " sees " + world_.agent(*index).config().name + ", which is gone";
    }
  }
  return {};
}

}  // namespace shoal::sim
