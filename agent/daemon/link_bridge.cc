// Other agents: links, frames, newcomers, certificates.
#include "agent/daemon/impl.h"

namespace shoal::daemon {

void Daemon::Impl::on_link_events() {
  std::vector<link::Event> events;
  transport->poll(events, agent::Reactor::now());
  struct Visitor {
    Impl& self;
    void operator()(link::event::LinkUp& up) const {
      spdlog::debug("link to {} ({}) is up", up.certificate.name, up.neighbour.brief());
      self.inputs.emplace_back(node::in::LinkUp{up.neighbour});
      std::vector<streams::Output> outputs;
      self.broker->on_reachable(agent::Reactor::now(), up.neighbour, outputs);
      self.carry_out(outputs);
    }
    void operator()(link::event::LinkDown& down) const {
      spdlog::debug("link to {} is down: {}", down.neighbour.brief(), down.reason);
      self.inputs.emplace_back(node::in::LinkDown{down.neighbour, down.refused});
    }
    void operator()(link::event::Frame& frame) const { self.on_frame(frame.neighbour, frame.bytes); }
    void operator()(link::event::Writable&) const {}
    void operator()(link::event::CertificateChanged&) const {}
    void operator()(link::event::JoinRequest& request) const { self.on_join_request(request); }
    void operator()(link::event::RenewalRequest& request) const {
      const auto issuer = self.identity.issuer();
      self.transport->answer_renewal(
          request.neighbour,
          issuer ? identity::grant_renewal(*issuer, self.identity.realm, request.ask, wall_now())
                 : Result<identity::CertificateChain>(fail(Code::kDenied, "this agent does not issue certificates")));
    }
    void operator()(link::event::RenewalAnswer& answer) const {
      if (!answer.answer) {
        spdlog::debug("no new certificate from {}: {}", answer.neighbour.brief(), answer.answer.error().message);
        return;
      }
      if (auto taken = self.transport->update_identity(*answer.answer); !taken) {
        spdlog::warn("the new certificate is not usable: {}", taken.error().message);
        return;
      }
      self.identity.chain = *answer.answer;
      if (auto saved = identity::save_identity(self.home.dir(), self.identity); !saved)
        spdlog::warn("{}", saved.error().message);
      spdlog::info("certificate renewed by {}", answer.neighbour.brief());
    }
  };
  for (auto& event : events) std::visit(Visitor{*this}, event);
  drain();
}

void Daemon::Impl::on_frame(AgentId neighbour, const Bytes& frame) {
  auto envelope = wire::decode<wire::Envelope>(frame);
  if (!envelope || envelope->version != wire::Envelope().version) {
    ++frames_refused;
    return;
  }
  // The first hop is proven by the link; whoever relays answers for what it passes on.
  if (envelope->hops == 0 && envelope->source.agent != neighbour) {
    ++frames_refused;
    return;
  }
  const bool for_core = envelope->plane() == wire::Plane::kOverlay || envelope->plane() == wire::Plane::kScheduler ||
                        envelope->plane() == wire::Plane::kStorage;
  if (for_core || envelope->target.agent != identity.id()) {
    inputs.emplace_back(node::in::Frame{neighbour, std::move(*envelope)});
    return;
  }
  switch (envelope->plane()) {
    case wire::Plane::kData:
      transfer->on_frame(agent::Reactor::now(), *envelope);
      return;
    case wire::Plane::kStreams: {
      std::vector<streams::Output> outputs;
      broker->on_frame(agent::Reactor::now(), *envelope, outputs);
      carry_out(outputs);
      return;
    }
    case wire::Plane::kClient:
      on_client_plane(*envelope);
      return;
    case wire::Plane::kOverlay:
    case wire::Plane::kScheduler:
    case wire::Plane::kStorage:
      break;
  }
  ++frames_refused;
}

bool Daemon::Impl::route(wire::Envelope envelope) {
  envelope.source = node->address();
  if (envelope.target.agent == identity.id()) return false;
  const auto hop = node->next_hop(envelope.target);
  if (!hop) return false;
  auto sent = transport->send(*hop, wire::encode(envelope));
  if (!sent) ++frames_refused;
  return sent.has_value();
}

void Daemon::Impl::on_join_request(const link::event::JoinRequest& request) {
  const auto issuer = identity.issuer();
  if (!issuer) {
    transport->answer_join(request.handle,
                           fail(Code::kDenied, "this agent does not issue certificates; use a token of one that does"));
    return;
  }
  std::vector<identity::Contact> contacts;
  contacts.push_back({identity.id(),
                      {node->overlay().members(overlay::Scope::kHome).at(identity.id()).endpoint},
                      identity.keys.curve.public_key});
  for (const auto& [id, member] : node->overlay().members(overlay::Scope::kHome)) {
    if (id == identity.id() || member.endpoint.empty() || contacts.size() >= identity::JoinGrant::kContactsMax)
      continue;
    contacts.push_back({id, {member.endpoint}, member.curve_key});
  }
  auto grant = identity::grant_join(*issuer, tokens, request.ask, std::move(contacts), wall_now());
  if (!grant) {
    spdlog::warn("{} was refused: {}", request.ask.name, grant.error().message);
    transport->answer_join(request.handle, grant);
    return;
  }
  // Whoever founds a region admits others to it. Only where the realm's root key still lies can that leave be given.
  if (!grant->child_region.empty()) {
    if (auto root = identity::load_root_key(home.dir())) {
      grant->leave = identity::delegate_issuer(*root, request.ask.public_key, {identity::kRoleAgent}, wall_now());
    }
  }
  // The token is spent on disk before the newcomer hears of it: a crash in between must not let it be used
  // twice.
  const std::uint64_t completion = ++last_completion;
  engine_calls[completion] = [this, handle = request.handle, grant = std::move(*grant),
                              who = request.ask.name](Result<> written) {
    if (written) spdlog::info("{} joined the realm", who);
    transport->answer_join(handle,
                           written ? Result<identity::JoinGrant>(grant) : tl::unexpected<Error>(written.error()));
  };
  engine->persist({{"d/tokens", tokens.serialize()}}, completion);
}

void Daemon::Impl::renew_certificate() {
  reactor->set_timer(renewal_timer, agent::Reactor::now() + seconds(600));
  auto certificate = identity::read_certificate(identity.chain);
  if (!certificate || !identity::renewal_due(*certificate, wall_now())) return;
  if (identity.issuer()) {
    auto chain = identity::renew_own_certificate(identity, wall_now());
    if (!chain) {
      spdlog::warn("{}", chain.error().message);
      return;
    }
    identity.chain = *chain;
    (void)transport->update_identity(*chain);
    if (auto saved = identity::save_identity(home.dir(), identity); !saved) spdlog::warn("{}", saved.error().message);
    return;
  }
  const auto ask = identity::make_renewal_ask(identity.keys.key, identity.chain, wall_now());
  for (const auto& [id, member] : node->overlay().members(overlay::Scope::kHome)) {
    if (transport->is_up(id)) (void)transport->ask_renewal(id, ask);
  }
  for (const auto& [id, member] : node->overlay().members(overlay::Scope::kParent)) {
    if (transport->is_up(id)) (void)transport->ask_renewal(id, ask);
  }
}

}  // namespace shoal::daemon
