// tools/sim/core.h
//
// What the simulator drives in each agent: the core of agent/node behind an interface, so that the engine's own tests
// can put a few lines of echo in its place.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "agent/node/node.h"

namespace shoal::sim {

class Core {
 public:
  virtual ~Core() = default;
  // As node::Node has them.
  virtual void step(Instant now, node::Input input, std::vector<node::Effect>& out) = 0;
  virtual std::optional<AgentId> next_hop(const wire::Address& target) const = 0;
  virtual const wire::Address& address() const = 0;
  virtual void check_invariants() const = 0;
};

using CoreFactory = std::function<std::unique_ptr<Core>(node::NodeConfig, node::Recovered, Rng)>;

// Makes real nodes.
CoreFactory node_cores();

}  // namespace shoal::sim
