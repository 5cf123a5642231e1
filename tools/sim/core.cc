#include "tools/sim/core.h"

#include <utility>

namespace shoal::sim {
namespace {

class NodeCore : public Core {
 public:
  NodeCore(node::NodeConfig config, node::Recovered recovered, Rng rng)
      : node_(std::move(config), std::move(recovered), rng) {}
  void step(Instant now, node::Input input, std::vector<node::Effect>& out) override {
    node_.step(now, std::move(input), out);
  }
  std::optional<AgentId> next_hop(const wire::Address& target) const override { return node_.next_hop(target); }
  const wire::Address& address() const override { return node_.address(); }
  void check_invariants() const override { node_.check_invariants(); }

 private:
  node::Node node_;
};

}  // namespace

CoreFactory node_cores() {
  return [](node::NodeConfig config, node::Recovered recovered, Rng rng) -> std::unique_ptr<Core> {
    return std::make_unique<NodeCore>(std::move(config), std::move(recovered), rng);
  };
}

}  // namespace shoal::sim
