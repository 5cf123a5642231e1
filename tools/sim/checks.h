// tools/sim/checks.h
//
// Invariants about membership: what agents say on the wire is held against everything they said before (S4, S5), and
// after the faults their views must agree with each other and with the truth (Q2).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tools/sim/world.h"

namespace shoal::sim {

class MembershipChecks : public Observer {
 public:
  explicit MembershipChecks(World& world) : world_(world) { world.observe(*this); }

  // Asks every running agent for its view; the answers arrive with the next events.
  void ask_views();
  // Q2: what is wrong with the views, or empty. Call some time after ask_views().
  std::string disagreement() const;
  // The newest head announced for each region.
  std::map<RegionId, AgentId> heads() const;

  void on_answer(std::uint32_t agent, const node::out::Answer& answer) override;
  void on_send(std::uint32_t agent, const wire::Envelope& envelope) override;
  void on_stopped(std::uint32_t agent) override { views_.erase(agent); }

 private:
  struct Spoken {
    std::uint64_t life = 0;  // of the simulated process
    Incarnation incarnation;
  };
  void on_incarnation(std::uint32_t agent, Incarnation incarnation);
  void on_head(RegionId region, Epoch epoch, AgentId head, std::uint32_t said_by);

  World& world_;
  std::map<std::uint32_t, Spoken> spoken_;
  std::map<RegionId, std::map<Epoch, AgentId>> heads_;
  std::map<std::uint32_t, std::set<AgentId>> views_;  // living natives of its home region, as each agent sees them
};

}  // namespace shoal::sim
