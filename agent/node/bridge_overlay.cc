// Membership to the machines that rely on it: the scheduler (who can work) and the store (who can keep
// copies).
#include "agent/node/impl.h"

namespace shoal::node {

// A native of a region has that region's path; a guest lives one region further down.
wire::Address Node::Impl::address_of(overlay::Scope scope, const overlay::Member& member) const {
  wire::Address address{member.id, overlay.address().path};
  if (scope == overlay::Scope::kParent && !address.path.empty()) address.path.pop_back();
  const bool guest = address.path.empty() || member.home != address.path.back();
  if (guest) address.path.push_back(member.home);
  return address;
}

void Node::Impl::on_member_up(Instant now, const overlay::out::MemberUp& up, std::vector<Effect>& out) {
  if (up.member.id == config.id) return;
  const bool above = up.scope == overlay::Scope::kParent;
  const wire::Address address = address_of(up.scope, up.member);
  const std::size_t region_depth = overlay.address().path.size() - (above ? 1 : 0);
  const bool guest = address.path.size() > region_depth;
  run_scheduler(now, scheduler::in::PeerUp{address, up.member.name, above, guest, up.member.state}, out);
  if (guest) return;  // copies are kept by natives: a guest's own region has its own directory
  auto host = up.member.labels.find("host");
  run_store(now,
            storage::in::PeerUp{address, host != up.member.labels.end() ? host->second : up.member.id.hex(), above},
            out);
}

void Node::Impl::on_member_down(Instant now, const overlay::out::MemberDown& down, std::vector<Effect>& out) {
  out.emplace_back(out::Trace{(down.left ? "member left " : "member dead ") + down.agent.brief()});
  // A head is known twice, in its home region and above: it is gone only when neither scope has it.
  const auto other = down.scope == overlay::Scope::kHome ? overlay::Scope::kParent : overlay::Scope::kHome;
  const auto& members = overlay.members(other);
  auto it = members.find(down.agent);
  if (!down.proven && it != members.end() && it->second.status == overlay::Status::kAlive) return;
  out.emplace_back(out::MemberGone{down.agent, down.proven || down.left});
  run_scheduler(now, scheduler::in::PeerDown{down.agent, down.proven || down.left}, out);
  run_store(now, storage::in::PeerDown{down.agent, down.left}, out);
}

void Node::Impl::on_position_changed(Instant now, std::vector<Effect>& out) {
  const wire::Address self = overlay.address();
  run_scheduler(now, scheduler::in::Self{self, config.resources}, out);
  scheduler::in::Above above;
  std::optional<wire::Address> way_up;
  if (self.path.size() > 1 && !overlay.is_head()) {
    if (auto head = overlay.head()) way_up = wire::Address{*head, self.path};
    above.head = way_up;
  }
  above.summary = downward;
  run_scheduler(now, above, out);
  if (self.path.size() > 1 && overlay.is_head()) way_up = self;
  run_store(now, storage::in::Self{self, way_up}, out);
}

void Node::Impl::bridge(Instant now, const overlay::Output& output, std::vector<Effect>& out) {
  struct Visitor {
    Impl& self;
    Instant now;
    std::vector<Effect>& out;
    void operator()(const overlay::out::Send& send) const {
      self.send(send.envelope, send.after_persist ? self.overlay_persisted : Ticket(), out);
    }
    void operator()(const overlay::out::Dial& dial) const {
      out.emplace_back(out::Dial{dial.neighbour, dial.endpoint, dial.curve_key});
    }
    void operator()(const overlay::out::HangUp& hang_up) const { out.emplace_back(out::HangUp{hang_up.neighbour}); }
    void operator()(const overlay::out::Persist& persist) const {
      self.overlay_persisted = self.persist("o/" + persist.key, persist.value, true, out);
      if (persist.new_life) self.life_persisted = self.overlay_persisted;
    }
    void operator()(const overlay::out::MemberUp& up) const { self.on_member_up(now, up, out); }
    void operator()(const overlay::out::MemberDown& down) const { self.on_member_down(now, down, out); }
    void operator()(const overlay::out::HeadChanged& changed) const {
      out.emplace_back(out::Trace{"head of " + std::string(changed.scope == overlay::Scope::kHome ? "home" : "parent") +
                                  " region is " + changed.head.brief() + " in epoch " +
                                  std::to_string(changed.epoch.value()) + (changed.self ? " (this agent)" : "")});
      self.on_position_changed(now, out);
    }
    void operator()(const overlay::out::AddressChanged& changed) const {
      out.emplace_back(out::AddressChanged{changed.self});
      self.on_position_changed(now, out);
      // Addresses of everyone known are relative to this agent's path.
      for (const auto scope : {overlay::Scope::kHome, overlay::Scope::kParent}) {
        const auto members = self.overlay.members(scope);
        for (const auto& [id, member] : members) {
          if (member.status == overlay::Status::kAlive) self.on_member_up(now, {scope, member}, out);
        }
      }
    }
    void operator()(const overlay::out::DownwardChanged& changed) const {
      if (changed.scope == overlay::Scope::kParent) return;  // what lies above the parent is its own head's concern
      self.downward = changed.downward;
      self.on_position_changed(now, out);
    }
    void operator()(const overlay::out::Isolated& isolated) const {
      out.emplace_back(out::Trace{isolated.isolated ? "isolated" : "no longer isolated"});
    }
    void operator()(const overlay::out::LeaveDone&) const { out.emplace_back(out::Stopped{}); }
  };
  std::visit(Visitor{*this, now, out}, output);
}

}  // namespace shoal::node
