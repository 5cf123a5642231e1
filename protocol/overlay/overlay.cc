#include "protocol/overlay/overlay.h"

#include <utility>

#include "protocol/overlay/core.h"

namespace shoal::overlay {

struct Overlay::Impl : Core {
  using Core::Core;
};

Overlay::Overlay(OverlayConfig config, std::map<std::string, Bytes> recovered, Rng rng)
    : impl_(std::make_unique<Impl>(std::move(config), recovered, rng)) {}
Overlay::~Overlay() = default;

void Overlay::step(Instant now, const Input& input, std::vector<Output>& out) {
  impl_->step(now, input, out);
}
Instant Overlay::next_deadline() const {
  return impl_->next_deadline();
}
std::optional<AgentId> Overlay::next_hop(const wire::Address& target) const {
  return impl_->next_hop(target);
}
const wire::Address& Overlay::address() const {
  return impl_->address();
}
bool Overlay::is_head() const {
  return impl_->is_head();
}
std::optional<AgentId> Overlay::head() const {
  return impl_->head();
}
Epoch Overlay::head_epoch() const {
  return impl_->head_epoch();
}
bool Overlay::isolated() const {
  return impl_->isolated();
}
const std::map<AgentId, Member>& Overlay::members(Scope scope) const {
  return impl_->members(scope);
}
wire::Dynamic Overlay::report(std::string_view method) const {
  return impl_->report(method);
}
void Overlay::check_invariants() const {
  impl_->check_invariants();
}

}  // namespace shoal::overlay
