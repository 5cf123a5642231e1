// scheduler/agents.h
//
// Addresses of agents as small numbers, so that a million versions can name their holders cheaply. Number 0 (kSelf) is
// this agent. Grows only with agents that were really worked with, up to a maximum.
#pragma once

#include <map>
#include <vector>

#include "protocol/wire/address.h"
#include "scheduler/data.h"

namespace shoal::scheduler {

class Agents {
 public:
  Agents(AgentId self, std::uint32_t agents_max) : agents_max_(agents_max) { add({self, {}}); }

  // The number of the agent at `address`, whose path replaces an older one. kNone at the maximum.
  AgentIndex add(const wire::Address& address) {
    auto it = by_id_.find(address.agent);
    if (it != by_id_.end()) {
      addresses_[it->second] = address;
      return it->second;
    }
    if (addresses_.size() >= agents_max_) return kNone;
    const auto index = static_cast<AgentIndex>(addresses_.size());
    by_id_[address.agent] = index;
    addresses_.push_back(address);
    return index;
  }
  AgentIndex find(AgentId id) const {
    auto it = by_id_.find(id);
    return it == by_id_.end() ? kNone : it->second;
  }
  const wire::Address& address(AgentIndex index) const { return addresses_[index]; }
  AgentId id(AgentIndex index) const { return addresses_[index].agent; }
  std::string brief(AgentIndex index) const { return index == kNone ? "nowhere" : id(index).brief(); }

 private:
  std::uint32_t agents_max_;
  std::map<AgentId, AgentIndex> by_id_;
  std::vector<wire::Address> addresses_;
};

}  // namespace shoal::scheduler
