// Inputs, timers, and the graph of links that follows from the tables.
#include <algorithm>
#include <utility>

#include "protocol/overlay/core.h"

namespace shoal::overlay {

using message::Kind;

void Core::step(Instant now, const Input& input, std::vector<Output>& out) {
  if (left_) return;
  now_ = now;
  out_ = &out;
  if (started_ || std::holds_alternative<in::Start>(input)) {
    std::visit([this](const auto& i) { on_input(i); }, input);
    run_timers();
    settle();
  }
  out_ = nullptr;
}

Instant Core::next_deadline() const {
  if (!started_ || left_) return Instant::never();
  Instant next = std::min({tick_at_, watch_at_, election_at_, probe_at_, announce_at_, above_at_, known_at_,
                           home_join_.deadline(), parent_join_.deadline()});
  if (home_) next = std::min(next, home_->flush_at);
  if (parent_) next = std::min(next, parent_->flush_at);
  return next;
}

void Core::on_input(const in::Start&) {
  if (started_) return;
  started_ = true;
  const Duration period = kHeartbeat * scale_;
  // Agents that start together must not beat together for ever.
  tick_at_ = now_ + microseconds(rng_.between(period.us / 4, period.us));
  probe_at_ = now_ + kProbeEvery * scale_ + microseconds(rng_.between(0, period.us));
  recover();
}

void Core::on_input(const in::Frame& frame) {
  const wire::Envelope& envelope = frame.envelope;
  const AgentId source = envelope.source.agent;
  note_contact(frame.neighbour);
  const bool direct = source == frame.neighbour;
  const auto kind = static_cast<Kind>(envelope.kind);
  const auto with = [&](auto message, auto&& handle) {
    if (open(envelope, message)) handle(message);
  };
  if (direct && kind == Kind::kJoin) return with(message::Join(), [&](auto& m) { on_join(source, m); });
  if (direct && kind == Kind::kJoinReply) return with(message::JoinReply(), [&](auto& m) { on_join_reply(source, m); });
  if (kind == Kind::kVoteRequest) return with(message::VoteRequest(), [&](auto& m) { on_vote_request(source, m); });
  if (kind == Kind::kVote) return with(message::Vote(), [&](auto& m) { on_vote(source, m); });
  if (!knows(frame.neighbour) || (!direct && !knows(source))) return drop();
  if (direct) {
    switch (kind) {
      case Kind::kHeartbeat:
        return with(message::Heartbeat(), [&](auto& m) { on_heartbeat(source, m); });
      case Kind::kDelta:
        return with(message::Delta(), [&](auto& m) { on_delta(source, m); });
      case Kind::kDigest:
        return with(message::Digest(), [&](auto& m) { on_digest(source, m); });
      case Kind::kSync:
        return with(message::Sync(), [&](auto& m) { on_sync(source, m); });
      default:
        break;
    }
  }
  switch (kind) {
    case Kind::kAnnounce:
      return with(message::Announcement(), [&](auto& m) { on_announce(source, frame.neighbour, m); });
    case Kind::kHeard:
      return with(message::Heard(), [&](auto& m) { on_heard(m); });
    case Kind::kRollAck:
      return with(message::RollAck(), [&](auto& m) { on_roll_ack(source, m); });
    case Kind::kDialMe:
      return with(message::DialMe(), [&](auto& m) {
        if (m.contact.endpoint.size() <= kEndpointBytesMax) links_.contact(m.contact, now_, *out_);
      });
    default:
      drop();
  }
}

void Core::on_input(const in::LinkUp& up) {
  const AgentId peer = up.neighbour;
  if (!links_.on_up(peer, now_)) {
    emit(out::HangUp{peer});
    return;
  }
  for (Joiner* joiner : {&home_join_, &parent_join_}) {
    if (joiner->phase() == Joiner::Phase::kDialing && joiner->current().agent == peer) ask(*joiner);
  }
  if (!admitted_) return;
  const Link* link = links_.find(peer);
  if (link->watched) send(peer, Kind::kHeartbeat, message::Heartbeat{incarnation_, true});
  meet(peer);
  if (candidacy_.active() && peer == candidacy_.roll().witness.agent) {
    send(peer, Kind::kVoteRequest,
         message::VoteRequest{home_->region.id(), candidacy_.epoch(), candidacy_.roll().epoch,
                              candidacy_.roll().version},
         true);
  }
}

void Core::on_input(const in::LinkDown& down) {
  const Link* link = links_.find(down.neighbour);
  const bool was_up = link != nullptr && link->up();
  const bool watched = link != nullptr && link->watched;
  links_.on_down(down.neighbour, now_);
  for (Joiner* joiner : {&home_join_, &parent_join_}) {
    const bool waits = joiner->phase() == Joiner::Phase::kDialing || joiner->phase() == Joiner::Phase::kAsked;
    if (waits && joiner->current().agent == down.neighbour) {
      joiner->fail((down.refused ? "nothing listens at " : "lost the link to ") + joiner->current().endpoint, rng_,
                   now_);
    }
  }
  const Member* member = find_member(down.neighbour);
  if (member != nullptr && admitted_) {
    if (down.refused && !member->endpoint.empty()) {
      const Incarnation incarnation = member->incarnation;
      for (auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
        if (attachment != nullptr) declare_dead(*attachment, down.neighbour, incarnation, true);
      }
    } else if (was_up && watched) {
      raise_suspicion(down.neighbour);
    }
  }
  links_.drive(now_, *out_);
}

void Core::on_input(const in::LocalState& state) {
  if (state.state == local_state_ || state.state.size() > kStateBytesMax) return;
  local_state_ = state.state;
  ++home_version_;
  if (home_) publish_self(*home_, kLoadGap);
}

void Core::on_input(const in::Summaries& summaries) {
  if (summaries.upward != upward_ && summaries.upward.size() <= kStateBytesMax) {
    upward_ = summaries.upward;
    ++guest_version_;
    if (parent_) publish_self(*parent_, kLoadGap);
  }
  if (summaries.downward != downward_ && summaries.downward.size() <= kSummaryBytesMax) {
    downward_ = summaries.downward;
    if (is_head_) announce_at_ = std::min(announce_at_, now_ + kAnnounceGap);
  }
}

void Core::on_input(const in::Leave&) {
  for (auto* attachment : {attachment_of(Scope::kParent), attachment_of(Scope::kHome)}) {
    if (attachment == nullptr) continue;
    const message::Delta farewell{attachment->region.id(), {}, {{config_.id, incarnation_, Status::kLeft, false, {}}}};
    const Bytes body = wire::encode(farewell);
    for (AgentId peer : gossip_links(*attachment)) send_bytes(peer, Kind::kDelta, body);
  }
  save_known();
  left_ = true;
  emit(out::LeaveDone{});
}

void Core::on_input(const in::Want& want) {
  const Member* member = find_member(want.member);
  if (member == nullptr || want.member == config_.id) return;
  const Contact peer{member->id, member->endpoint, member->curve_key};
  const Link* link = links_.find(want.member);
  const bool asked_before = link != nullptr && link->demanded_until > now_;
  if (!links_.demand(peer, now_) || links_.up(want.member)) return;
  if (links_.dials(peer)) {
    links_.drive(now_, *out_);
  } else if (!config_.endpoint.empty() && !asked_before) {
    send(want.member, Kind::kDialMe, message::DialMe{{config_.id, config_.endpoint, config_.curve_key}});
  }
}

void Core::run_timers() {
  if (now_ >= tick_at_) tick();
  if (now_ >= watch_at_) watch();
  if (now_ >= election_at_) run_for_head();
  if (now_ >= probe_at_) probe_one_dead();
  if (now_ >= announce_at_ || now_ >= above_at_) {
    announce_at_ = Instant::never();
    if (is_head_) {
      above_at_ = now_ + kAboveEvery * scale_;
      publish_word(false);
    } else {
      above_at_ = Instant::never();
    }
  }
  if (now_ >= known_at_) save_known();
  for (Joiner* joiner : {&home_join_, &parent_join_}) {
    if (now_ >= joiner->deadline()) {
      joiner->on_deadline(rng_, now_);
      drive_joiner(*joiner);
    } else if (joiner->phase() == Joiner::Phase::kDialing) {
      drive_joiner(*joiner);
    }
  }
}

void Core::tick() {
  const Duration lateness = now_ - tick_at_;
  detector_.note_tick(lateness);
  if (lateness > kLateTick * scale_) {
    links_.forgive(lateness, now_);
    detector_.forgive(lateness);
  }
  tick_at_ = std::max(tick_at_ + kHeartbeat * scale_, now_ + kHeartbeat * scale_ / 2);
  ++ticks_;
  if (admitted_) {
    send_heartbeats();
    send_digests();
  }
  links_.drive(now_, *out_);
  watch_at_ = now_;
  tend_heads();
  watch_parent();
}

void Core::send_heartbeats() {
  const bool keep_alive = (ticks_ + config_.id.low()) % static_cast<std::uint64_t>(kKeepAlive.us / kHeartbeat.us) == 0;
  const Bytes watching = wire::encode(message::Heartbeat{incarnation_, true});
  const Bytes idle = wire::encode(message::Heartbeat{incarnation_, false});
  for (const auto& [peer, link] : links_.all()) {
    if (!link.up()) continue;
    if (link.watched || link.peer_watches_until > now_ || (keep_alive && link.wanted(now_))) {
      send_bytes(peer, Kind::kHeartbeat, link.watched ? watching : idle);
    }
  }
}

void Core::send_digests() {
  const bool regular = (ticks_ + config_.id.high()) % static_cast<std::uint64_t>(kDigestEvery.us / kHeartbeat.us) == 0;
  const auto& links = links_.all();
  const bool any_fresh = std::any_of(links.begin(), links.end(), [](const auto& link) { return link.second.fresh; });
  if (!regular && !any_fresh) return;
  for (auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment == nullptr) continue;
    const std::vector<AgentId> peers = gossip_links(*attachment);
    for (AgentId peer : peers) {
      const Link* link = links_.find(peer);
      // What was flooded while the link opened is on its way by other paths: compare a little later.
      if (link->fresh && config_.id < peer && now_ - link->changed > kHeartbeat * scale_ * 2)
        send_digest(*attachment, peer);
    }
    if (regular && !peers.empty()) send_digest(*attachment, peers[rng_.below(peers.size())]);
  }
  for (const auto& [peer, link] : links_.all()) {
    if (link.fresh && now_ - link.changed > kHeartbeat * scale_ * 2) links_.find(peer)->fresh = false;
  }
}

void Core::probe_one_dead() {
  const Duration every = kProbeEvery * scale_;
  probe_at_ = now_ + every + microseconds(rng_.between(-every.us / 5, every.us / 5));
  if (!admitted_ || !home_) return;
  // Without a head and unable to elect one: others of this region may be out there, unknown to this agent.
  if (headless() && !home_join_.active() && !config_.contacts.empty()) ask_configured();
  std::vector<const Member*> dead;
  for (auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment == nullptr) continue;
    for (const auto& [id, gone] : attachment->region.gone()) {
      if (gone.record.status == Status::kDead && !gone.record.endpoint.empty() && find_member(id) == nullptr) {
        dead.push_back(&gone.record);
      }
    }
  }
  if (dead.empty()) return;
  const Member& chosen = *dead[rng_.below(dead.size())];
  const Contact peer{chosen.id, chosen.endpoint, chosen.curve_key};
  links_.contact(peer, now_, *out_);
  if (links_.up(peer.agent)) meet(peer.agent);
}

// Two halves of a healed partition meet: the peer is dead to this agent and yet there is a link to it. It may
// never have heard of this agent.
void Core::meet(AgentId peer) {
  for (auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment == nullptr || attachment->region.find_gone(peer) == nullptr) continue;
    const auto role = attachment->scope == Scope::kHome ? message::Role::kNative : message::Role::kGuest;
    send(peer, Kind::kJoin, message::Join{role, attachment->region.id(), "", own_record(*attachment)});
    send_table(*attachment, peer);
  }
}

void Core::settle() {
  // A newer head of the home region has taken this agent's seat above.
  if (parent_ && parent_->region.find(config_.id) == nullptr) step_down();
  break_circle();
  if (home_ && home_->region.graph_version() != home_graph_seen_) rewire_ = true;
  if (parent_ && parent_->region.graph_version() != parent_graph_seen_) rewire_ = true;
  if (rewire_) rewire();
  for (auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment != nullptr && attachment->flush_at <= now_) flush(*attachment);
  }
}

// Links follow from the tables: neighbours in the graph of each region, and the star around each head.
void Core::rewire() {
  rewire_ = false;
  std::set<AgentId> watched;
  std::set<AgentId> star;
  std::map<AgentId, Contact> peers;
  for (auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment == nullptr || !admitted_) continue;
    const Region& region = attachment->region;
    const auto add = [&](std::set<AgentId>& reason, AgentId peer) {
      const Member* member = region.find(peer);
      if (member == nullptr || peer == config_.id) return;
      if (member->endpoint.empty() && config_.endpoint.empty()) return;
      reason.insert(peer);
      peers.insert_or_assign(peer, Contact{peer, member->endpoint, member->curve_key});
    };
    for (AgentId peer : region.neighbours_of(config_.id)) add(watched, peer);
    if (!attachment->word) continue;
    if (attachment->word->head != config_.id) {
      add(star, attachment->word->head);
    } else if (is_head_) {
      for (const auto& [peer, member] : region.living()) add(star, peer);
    }
  }
  home_graph_seen_ = home_ ? home_->region.graph_version() : 0;
  parent_graph_seen_ = parent_ ? parent_->region.graph_version() : 0;
  links_.want(watched, star, peers, now_);
  links_.drive(now_, *out_);
  watch_at_ = std::min(watch_at_, now_);
}

void Core::send_bytes(AgentId to, Kind kind, Bytes body, bool after_persist) {
  wire::Envelope envelope;
  envelope.kind = static_cast<std::uint16_t>(kind);
  envelope.source.agent = config_.id;
  envelope.target.agent = to;
  envelope.body = std::move(body);
  emit(out::Send{std::move(envelope), after_persist});
}

}  // namespace shoal::overlay
