// Merging and flooding of tables. Whoever learns something passes it on to all its active links but the one
// it came from; what everybody knows dies out. Tables are compared by digest now and then, and exchanged when
// they differ.
#include <algorithm>
#include <tuple>
#include <utility>

#include "protocol/base/check.h"
#include "protocol/overlay/core.h"

namespace shoal::overlay {

using message::Kind;

// Returns true if the record was news.
bool Core::take_record(Attachment& at, const Member& record, AgentId from) {
  if (record.id == config_.id) {
    const bool doubted = record.incarnation == incarnation_ && record.status != Status::kAlive;
    if ((doubted && from != config_.id) || record.incarnation > incarnation_) refute(record.incarnation);
    return false;
  }
  const Member* known = at.region.find(record.id);
  const bool only_load = known != nullptr && known->incarnation == record.incarnation && known->status == record.status;
  std::vector<AgentId> displaced;
  const Change change = at.region.merge(record, now_, displaced);
  on_displaced(at, displaced);
  switch (change) {
    case Change::kNone:
      return false;
    case Change::kRefused:
      drop();
      return false;
    case Change::kDied:
    case Change::kLeft:
      on_gone(at, record.id, change == Change::kLeft, false);
      break;
    case Change::kRestarted:
      emit(out::MemberDown{at.scope, record.id, false, true});
      if (at.scope == Scope::kHome && at.word && at.word->head == record.id) call_election();
      [[fallthrough]];
    case Change::kNew:
    case Change::kUpdated: {
      const Member* member = at.region.find(record.id);
      if (member->status == Status::kAlive && detector_.clear(record.id)) {
        // It refuted: silence counts from now, and this link is given more time.
        if (Link* link = links_.find(record.id)) {
          link->heard = std::max(link->heard, now_);
          link->false_alarms = std::min(link->false_alarms + 1, kFalseAlarmsMax);
        }
      }
      emit(out::MemberUp{at.scope, *member});
      if (change != Change::kUpdated) links_.encourage(record.id, now_);
      if (!only_load) known_at_ = std::min(known_at_, now_ + kKnownGap * scale_);
      break;
    }
  }
  at.records[record.id] = from;
  schedule_flush(at, only_load ? kLoadGap : kFlushGap);
  return true;
}

bool Core::take_claim(Attachment& at, const message::Claim& claim, AgentId from) {
  if (claim.agent == config_.id) {
    if (claim.status != Status::kAlive && claim.incarnation >= incarnation_ && from != config_.id)
      refute(claim.incarnation);
    return false;
  }
  if (claim.status == Status::kSuspect && claim.observer != config_.id) answer_suspicion(at, claim);
  const Change change = at.region.claim(claim.agent, claim.incarnation, claim.status, claim.proven, now_);
  if (change == Change::kNone) return false;
  if (change == Change::kUpdated) {
    emit(out::MemberUp{at.scope, *at.region.find(claim.agent)});
  } else {
    on_gone(at, claim.agent, change == Change::kLeft, claim.proven);
  }
  if (at.claims.size() < kTableMax) at.claims.emplace_back(claim, from);
  schedule_flush(at, kFlushGap);
  return true;
}

void Core::on_gone(Attachment& at, AgentId agent, bool left, bool proven) {
  if (find_member(agent) == nullptr) detector_.clear(agent);
  at.records.erase(agent);
  emit(out::MemberDown{at.scope, agent, left, proven});
  if (at.scope == Scope::kHome && at.word && at.word->head == agent) call_election();
  known_at_ = std::min(known_at_, now_ + kKnownGap * scale_);
}

void Core::on_displaced(Attachment& at, const std::vector<AgentId>& displaced) {
  for (AgentId agent : displaced) {
    if (agent != config_.id) on_gone(at, agent, true, false);
  }
}

void Core::on_heartbeat(AgentId from, const message::Heartbeat& beat) {
  Link* link = links_.find(from);
  if (link != nullptr && beat.watching) link->peer_watches_until = now_ + kHeartbeat * scale_ * 5;
  for (auto* at : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (at == nullptr) continue;
    // It may not know yet that it is doubted or was given up: it has to hear of it to refute.
    const Member* member = at->region.find(from);
    const Region::Gone* gone = at->region.find_gone(from);
    const Member* known = member != nullptr ? member : gone != nullptr ? &gone->record : nullptr;
    if (known == nullptr || known->incarnation < beat.incarnation) continue;
    if (known->status != Status::kSuspect && known->status != Status::kDead) continue;
    const message::Claim claim{from, known->incarnation, known->status, false, config_.id};
    send(from, Kind::kDelta, message::Delta{at->region.id(), {}, {claim}});
  }
}

void Core::on_delta(AgentId from, const message::Delta& delta) {
  Attachment* at = this->at(delta.region);
  if (at == nullptr || delta.records.size() > kTableMax || delta.claims.size() > kTableMax) return drop();
  for (const Member& record : delta.records) take_record(*at, record, from);
  for (const message::Claim& claim : delta.claims) take_claim(*at, claim, from);
}

void Core::on_digest(AgentId from, const message::Digest& digest) {
  Attachment* at = this->at(digest.region);
  if (at == nullptr) return;
  const Epoch epoch = at->word ? at->word->epoch : Epoch();
  const std::uint64_t version = at->word ? at->word->version : 0;
  if (digest.table == at->region.digest() && digest.epoch == epoch && digest.version == version) return;
  send_table(*at, from);
}

void Core::on_sync(AgentId from, const message::Sync& sync) {
  Attachment* at = this->at(sync.region);
  if (at == nullptr) return;
  if (sync.members.size() > kTableMax || sync.gone.size() > kTombstonesMax) return drop();
  // First, so that it is not told its own news.
  if (sync.answer) send_difference(*at, sync, from);
  const Incarnation before = incarnation_;
  merge_sync(*at, sync, from);
  // Each had given up the other: now that this agent has refuted, it has to say so.
  if (incarnation_ != before) meet(from);
}

// What a table says of the dead is second-hand: its owner may have been cut off from them, and they may be
// well on this side. Such a death is only a suspicion here, which the agent in question refutes at once if it
// can.
void Core::merge_sync(Attachment& at, const message::Sync& sync, AgentId from) {
  for (const Member& record : sync.members) take_record(at, record, from);
  for (const message::Claim& claim : sync.gone) {
    if (claim.agent == config_.id || claim.status == Status::kLeft || claim.proven) {
      take_claim(at, claim, from);
      continue;
    }
    const Member* member = at.region.find(claim.agent);
    if (member == nullptr || claim.status != Status::kDead || claim.incarnation < member->incarnation) continue;
    detector_.suspect(claim.agent, member->incarnation, now_);
    watch_at_ = std::min(watch_at_, detector_.next());
    take_claim(at, {claim.agent, member->incarnation, Status::kSuspect, false, config_.id}, config_.id);
  }
  if (sync.word) take_word(at, *sync.word, from);
}

void Core::send_digest(Attachment& at, AgentId to) {
  send(to, Kind::kDigest,
       message::Digest{at.region.id(), at.region.digest(), at.word ? at.word->epoch : Epoch(),
                       at.word ? at.word->version : 0});
}

void Core::send_table(Attachment& at, AgentId to) {
  ++counters_.syncs_sent;
  message::Sync sync{at.region.id(), true, {}, {}, at.word};
  sync.members.reserve(at.region.living().size());
  for (const auto& [id, member] : at.region.living()) sync.members.push_back(member);
  for (const auto& [id, gone] : at.region.gone()) {
    sync.gone.push_back({id, gone.record.incarnation, gone.record.status, gone.proven, {}});
  }
  send(to, Kind::kSync, sync);
}

void Core::send_difference(Attachment& at, const message::Sync& theirs, AgentId to) {
  message::Sync sync{at.region.id(), false, {}, {}, {}};
  std::map<AgentId, const Member*> known;
  for (const Member& member : theirs.members) known[member.id] = &member;
  for (const auto& [id, member] : at.region.living()) {
    auto it = known.find(id);
    if (it == known.end() || std::tie(it->second->incarnation, it->second->state_version) <
                                 std::tie(member.incarnation, member.state_version)) {
      sync.members.push_back(member);
    }
  }
  for (const auto& [id, gone] : at.region.gone()) {
    auto it = known.find(id);
    if (it != known.end() && it->second->incarnation <= gone.record.incarnation) {
      sync.gone.push_back({id, gone.record.incarnation, gone.record.status, gone.proven, {}});
    }
  }
  const bool newer_word = at.word && (!theirs.word || std::tie(theirs.word->epoch, theirs.word->version) <
                                                          std::tie(at.word->epoch, at.word->version));
  if (newer_word) sync.word = at.word;
  if (sync.members.empty() && sync.gone.empty() && !sync.word) return;
  send(to, Kind::kSync, sync);
}

void Core::schedule_flush(Attachment& at, Duration gap) {
  at.flush_at = std::min(at.flush_at, std::max(now_, at.flushed + gap));
}

void Core::flush(Attachment& at) {
  at.flush_at = Instant::never();
  at.flushed = now_;
  auto records = std::exchange(at.records, {});
  auto claims = std::exchange(at.claims, {});
  if (!admitted_ || (records.empty() && claims.empty())) return;
  message::Delta delta{at.region.id(), {}, {}};
  std::set<AgentId> origins;
  for (const auto& [id, from] : records) {
    if (const Member* member = at.region.find(id)) {
      delta.records.push_back(*member);
      origins.insert(from);
    }
  }
  for (auto& [claim, from] : claims) {
    origins.insert(from);
    delta.claims.push_back(std::move(claim));
  }
  const AgentId skip = origins.size() == 1 ? *origins.begin() : AgentId();
  const Bytes body = wire::encode(delta);
  for (AgentId peer : gossip_links(at)) {
    if (peer != skip) send_bytes(peer, Kind::kDelta, body);
  }
}

std::vector<AgentId> Core::gossip_links(const Attachment& at) const {
  std::vector<AgentId> peers;
  for (const auto& [peer, link] : links_.all()) {
    const bool active = link.up() && (link.watched || link.peer_watches_until > now_);
    if (active && at.region.find(peer) != nullptr) peers.push_back(peer);
  }
  return peers;
}

// Somebody takes this agent for gone, or knows it under an incarnation it does not remember.
void Core::refute(Incarnation seen) {
  ++counters_.refutations;
  if (life_of(seen) > life_) {
    start_new_life(life_of(seen));
  } else if (life_of(seen.next()) > life_) {
    SHOAL_BUG("an agent has refuted its death millions of times in one life");
  } else {
    set_incarnation(seen.next());
  }
}

void Core::set_incarnation(Incarnation incarnation) {
  incarnation_ = incarnation;
  if (home_) publish_self(*home_, kFlushGap);
  if (parent_) publish_self(*parent_, kFlushGap);
}

void Core::publish_self(Attachment& at, Duration gap) {
  std::vector<AgentId> displaced;
  const Change change = at.region.merge(own_record(at), now_, displaced);
  on_displaced(at, displaced);
  if (change == Change::kNone || change == Change::kRefused) return;
  at.records[config_.id] = config_.id;
  schedule_flush(at, gap);
}

}  // namespace shoal::overlay
