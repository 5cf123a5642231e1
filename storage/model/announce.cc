// Who must know what: announcements to directory agents, co-holders and upwards, repeated until acknowledged.
#include <algorithm>

#include "protocol/base/check.h"
#include "protocol/base/hash.h"
#include "storage/model/placement.h"
#include "storage/model/store_impl.h"
#include "storage/model/tombstone.h"

namespace shoal::storage {
namespace {

constexpr std::size_t kAcksMax = 4'096;

std::size_t rough_bytes(const Record& record) {
  return record.name.size() + record.value.size() + 64;
}

}  // namespace

bool Spread::knows(AgentId agent, std::uint64_t bond) const {
  return std::any_of(told.begin(), told.end(), [&](const Told& one) {
    return one.agent == agent && one.bond == bond && one.revision == revision;
  });
}

void Spread::tell(AgentId agent, std::uint64_t bond, std::uint64_t at_revision) {
  if (bond == 0) return;
  for (Told& one : told) {
    if (one.agent != agent) continue;
    one.bond = bond;
    one.revision = at_revision;
    return;
  }
  constexpr std::size_t kToldMax = 24;
  if (told.size() >= kToldMax) told.erase(told.begin());
  told.push_back({agent, bond, at_revision});
}

// ---- what goes where ----

// Entries of regions below pass every directory agent on their way up; a head passes its own region's as
// well.
bool Store::Impl::relayed(const Known& known) const {
  if (!has_parent() || known.here) return false;
  if (is_head()) return true;
  return std::any_of(known.manifest.holders.begin(), known.manifest.holders.end(),
                     [this](const wire::Address& holder) { return is_below(holder); });
}

void Store::Impl::spread(ObjectId object, Known& known) {
  const std::uint64_t key = placement_key(object);
  std::vector<AgentId> targets;
  if (known.here || relayed(known)) targets = upward(key, kObjectDirectory);
  if (known.here) {
    for (AgentId agent : home_directory(key, kObjectDirectory)) targets.push_back(agent);
    for (const wire::Address& holder : known.manifest.holders) {
      if (is_peer_home(holder.agent)) targets.push_back(holder.agent);
    }
  }
  for (AgentId target : targets) {
    auto it = peers.find(target);
    if (it == peers.end() || bond(target) == 0 || known.spread.knows(target, bond(target))) continue;
    it->second.outbox().objects.insert(object);
    mark_dirty(target);
  }
}

void Store::Impl::spread(const std::string& name, StoredRecord& stored) {
  const std::uint64_t key = placement_key(name);
  std::vector<AgentId> targets = upward(key, kRecordDirectory);
  for (AgentId agent : home_directory(key, kRecordDirectory)) targets.push_back(agent);
  for (AgentId target : targets) {
    auto it = peers.find(target);
    if (it == peers.end() || bond(target) == 0 || stored.spread.knows(target, bond(target))) continue;
    it->second.outbox().records.insert(name);
    mark_dirty(target);
  }
}

void Store::Impl::changed(ObjectId object, Known& known) {
  ++known.spread.revision;
  spread(object, known);
  if (known.here) emit(out::PersistManifest{known.manifest});
}

void Store::Impl::announce_gone(ObjectId object, AgentId holder) {
  const std::uint64_t key = placement_key(object);
  std::vector<AgentId> targets = upward(key, kObjectDirectory);
  if (holder == config.id) {
    for (AgentId agent : home_directory(key, kObjectDirectory)) targets.push_back(agent);
    if (auto known = objects.find(object); known != objects.end()) {
      for (const wire::Address& other : known->second.manifest.holders) targets.push_back(other.agent);
    }
  }
  for (AgentId target : targets) {
    auto it = peers.find(target);
    if (it == peers.end()) continue;
    it->second.outbox().gone.insert({object, holder});
    mark_dirty(target);
  }
}

// ---- sending ----

void Store::Impl::flush_outboxes() {
  const std::set<AgentId> dirty = std::move(dirty_peers);
  dirty_peers.clear();
  for (AgentId agent : dirty) {
    auto it = peers.find(agent);
    if (it != peers.end()) flush(agent, it->second);
  }
}

void Store::Impl::flush(AgentId agent, Peer& peer) {
  if (!peer.box) return;
  Outbox& box = *peer.box;
  if (!box.in_flight && box.empty()) return peer.box.reset();
  if (box.in_flight || self.path.empty()) return;
  msg::Announce announce;
  announce.session = session_for(agent);
  announce.sequence = ++last_number;
  while (!box.objects.empty() && announce.objects.size() < config.limits.batch_objects_max) {
    const ObjectId object = *box.objects.begin();
    box.objects.erase(box.objects.begin());
    auto known = objects.find(object);
    if (known == objects.end()) continue;
    announce.objects.push_back(known->second.manifest);
    box.sent_objects[object] = known->second.spread.revision;
  }
  while (!box.gone.empty() && announce.gone.size() < config.limits.batch_objects_max) {
    const msg::Gone gone = *box.gone.begin();
    box.gone.erase(box.gone.begin());
    auto known = objects.find(gone.object);
    const bool back = gone.holder == config.id && known != objects.end() && known->second.here;
    if (back) continue;
    announce.gone.push_back(gone);
    box.sent_gone.insert(gone);
  }
  for (std::size_t bytes = 0; !box.records.empty() && bytes < config.limits.batch_bytes_max;) {
    const std::string name = *box.records.begin();
    box.records.erase(box.records.begin());
    auto stored = records.find(name);
    if (stored == records.end()) continue;
    announce.records.push_back(stored->second.record);
    box.sent_records[name] = stored->second.spread.revision;
    bytes += rough_bytes(stored->second.record);
  }
  box.greet = false;
  box.in_flight = true;
  box.sequence = announce.sequence;
  if (box.retry.us == 0) box.retry = config.timeouts.announce_retry;
  box.retry_at = now + box.retry;
  arm(TimerKind::kOutbox, box.retry_at, agent.high(), agent.low());
  send(peer.address, announce);
}

void Store::Impl::retry_outbox(AgentId agent) {
  auto it = peers.find(agent);
  if (it == peers.end() || !it->second.box || !it->second.box->in_flight || it->second.box->retry_at > now) return;
  Outbox& box = *it->second.box;
  for (const auto& [object, revision] : box.sent_objects) box.objects.insert(object);
  for (const auto& [name, revision] : box.sent_records) box.records.insert(name);
  box.gone.insert(box.sent_gone.begin(), box.sent_gone.end());
  box.sent_objects.clear();
  box.sent_records.clear();
  box.sent_gone.clear();
  box.greet = true;
  box.in_flight = false;
  box.retry_at = Instant::never();
  box.retry = std::min(box.retry * 2, config.timeouts.announce_retry_max);
  mark_dirty(agent);
}

void Store::Impl::on_message(const wire::Address& from, const msg::AnnounceAck& ack) {
  auto it = peers.find(from.agent);
  if (it == peers.end() || !it->second.box) return;
  Outbox& box = *it->second.box;
  if (!box.in_flight || box.sequence != ack.sequence) return;
  disarm(TimerKind::kOutbox, box.retry_at, from.agent.high(), from.agent.low());
  box.retry_at = Instant::never();
  box.in_flight = false;
  box.retry = config.timeouts.announce_retry;
  const auto sent_objects = std::move(box.sent_objects);
  const auto sent_records = std::move(box.sent_records);
  box.sent_objects.clear();
  box.sent_records.clear();
  box.sent_gone.clear();
  mark_dirty(from.agent);
  note_session(from.agent, ack.session);

  for (const Record& record : ack.newer) accept(record);
  const std::set<std::string> refused(ack.refused.begin(), ack.refused.end());
  for (const auto& [object, revision] : sent_objects) {
    auto known = objects.find(object);
    if (known == objects.end()) continue;
    known->second.spread.tell(from.agent, bond(from.agent), revision);
    if (known->second.spread.revision != revision) spread(object, known->second);
  }
  for (const auto& [name, revision] : sent_records) {
    auto stored = records.find(name);
    if (stored == records.end() || refused.contains(name)) continue;
    stored->second.spread.tell(from.agent, bond(from.agent), revision);
    if (stored->second.spread.revision != revision) spread(name, stored->second);
    settle_sets_of(name);
  }
}

// ---- receiving ----

std::uint64_t Store::Impl::session_for(AgentId agent) const {
  auto it = peers.find(agent);
  return it == peers.end() ? session : combine64(session, it->second.meeting) | 1;
}

std::uint64_t Store::Impl::bond(AgentId agent) const {
  auto it = peers.find(agent);
  return it == peers.end() || it->second.session == 0 ? 0 : combine64(it->second.session, it->second.meeting) | 1;
}

void Store::Impl::note_session(AgentId agent, std::uint64_t peer_session) {
  auto it = peers.find(agent);
  if (it == peers.end() || peer_session == 0 || it->second.session == peer_session) return;
  if (it->second.session != 0) {  // what it held and knew must be told and confirmed anew
    ++counters.restarts_seen;
    walk_state.recheck_next.insert(agent);
  }
  it->second.session = peer_session;
  start_walk();
}

void Store::Impl::on_message(const wire::Address& from, const msg::Announce& announce) {
  const std::size_t items_max = 4 * config.limits.batch_objects_max;
  if (announce.objects.size() > items_max || announce.gone.size() > items_max || acks.size() >= kAcksMax) {
    ++counters.bad_frames;
    return;
  }
  note_session(from.agent, announce.session);
  if (auto it = peers.find(from.agent); it != peers.end() && it->second.box) {
    it->second.box->greet = false;  // our answer greets
  }

  msg::AnnounceAck ack;
  ack.session = session_for(from.agent);
  ack.sequence = announce.sequence;
  for (const Manifest& manifest : announce.objects) merge_entry(from, manifest, ack.newer);
  for (const msg::Gone& gone : announce.gone) drop_holder(gone.object, gone.holder);
  const std::uint64_t number = ++last_number;
  std::vector<std::string> to_await;
  for (const Record& record : announce.records) {
    switch (accept(record)) {
      case Accepted::kRefused:
        ack.refused.push_back(record.name);
        break;
      case Accepted::kOlder:
        ack.newer.push_back(records.at(record.name).record);
        break;
      case Accepted::kNew:
      case Accepted::kSame: {
        StoredRecord& stored = records.at(record.name);
        // The sender has it, but perhaps not yet on disk: while a receipt is awaited only its answer counts.
        if (!sets_by_name.contains(record.name)) {
          stored.spread.tell(from.agent, bond(from.agent), stored.spread.revision);
        }
        if (stored.ticket != 0) to_await.push_back(record.name);
        break;
      }
    }
  }
  PendingAck& pending = acks[number];
  pending.to = from;
  pending.ack = std::move(ack);
  for (const std::string& name : to_await) {
    const std::uint64_t ticket = records.at(name).ticket;
    if (pending.tickets.insert(ticket).second) persists.at(ticket).waiters.push_back({Waiter::Kind::kAck, number});
  }
  send_ack_if_durable(number);
}

void Store::Impl::send_ack_if_durable(std::uint64_t number) {
  auto it = acks.find(number);
  if (it == acks.end() || !it->second.tickets.empty()) return;
  send(it->second.to, it->second.ack);
  acks.erase(it);
}

void Store::Impl::merge_entry(const wire::Address& from, const Manifest& manifest, std::vector<Record>& newer) {
  if (!acceptable(manifest)) {
    ++counters.bad_frames;
    return;
  }
  if (const std::vector<Record> tombstones = tombstones_for(manifest); !tombstones.empty()) {
    newer.insert(newer.end(), tombstones.begin(), tombstones.end());
    return;
  }
  disown(from.agent, manifest);
  auto it = objects.find(manifest.object);
  if (it == objects.end()) {
    if (objects.size() - here_count >= config.limits.directory_max) {
      ++counters.refused;  // a look-up still finds it by asking everyone
      return;
    }
    it = objects.emplace(manifest.object, Known{}).first;
    it->second.manifest = manifest;
    it->second.manifest.holders.clear();
    strike_buried(it->second.manifest);
    if (!merge_holders(from.agent, it->second, manifest.holders)) {
      objects.erase(it);
      return;
    }
    spread(manifest.object, it->second);
    return;
  }
  Known& known = it->second;
  bool news = merge_holders(from.agent, known, manifest.holders);
  news = merge_births(known.manifest, manifest.births) || news;
  if (manifest.policy.replicas > known.manifest.policy.replicas) {
    known.manifest.policy.replicas = manifest.policy.replicas;
    news = true;
  }
  if (!news) return;
  changed(manifest.object, known);
  if (known.here) settle_puts(manifest.object);
}

// Whoever was cut off when this agent lost its copy still counts it: it is told now.
void Store::Impl::disown(AgentId claimant, const Manifest& manifest) {
  auto known = objects.find(manifest.object);
  if (known != objects.end() && known->second.here) return;
  const bool named = std::any_of(manifest.holders.begin(), manifest.holders.end(),
                                 [&](const wire::Address& one) { return one.agent == config.id; });
  auto peer = peers.find(claimant);
  if (!named || peer == peers.end()) return;
  peer->second.outbox().gone.insert({manifest.object, config.id});
  mark_dirty(claimant);
}

// True when a birth was added that is not buried.
bool Store::Impl::merge_births(Manifest& manifest, const std::vector<std::uint64_t>& births) const {
  bool news = false;
  for (std::uint64_t birth : births) {
    auto& mine = manifest.births;
    if (std::find(mine.begin(), mine.end(), birth) != mine.end()) continue;
    if (records.contains(tombstone_name(manifest.object, birth))) continue;
    if (mine.size() >= kBirthsMax) mine.erase(mine.begin());
    mine.push_back(birth);
    news = true;
  }
  return news;
}

// True when something was added. Claims about ourselves are ignored: we know better. For an object that is
// here, a holder that went away comes back only by its own word.
bool Store::Impl::merge_holders(AgentId from, Known& known, const std::vector<wire::Address>& claimed) {
  bool news = false;
  auto& holders = known.manifest.holders;
  for (const wire::Address& holder : claimed) {
    if (holder.agent == config.id || holder.path.empty() || holder.path.size() > wire::Address::kPathMax) continue;
    auto same = [&](const wire::Address& other) { return other.agent == holder.agent; };
    auto present = std::find_if(holders.begin(), holders.end(), same);
    if (present != holders.end()) {
      if (*present == holder || from != holder.agent) continue;
      *present = holder;
      news = true;
      continue;
    }
    if (known.here) {
      const bool left = std::any_of(known.former.begin(), known.former.end(), same);
      // One of this region that is not up, or not yet, says so again when it is.
      if ((left && from != holder.agent) || (is_home(holder) && !is_peer_home(holder.agent))) continue;
    }
    if (holders.size() >= config.limits.holders_max) {
      // Make room by forgetting one of our region that is down.
      auto down = std::find_if(holders.begin(), holders.end(), [&](const wire::Address& other) {
        return other.agent != config.id && is_home(other) && !is_peer_home(other.agent);
      });
      if (down == holders.end()) continue;
      holders.erase(down);
    }
    known.former.erase(std::remove_if(known.former.begin(), known.former.end(), same), known.former.end());
    holders.push_back(holder);
    news = true;
  }
  return news;
}

void Store::Impl::drop_holder(ObjectId object, AgentId holder) {
  auto it = objects.find(object);
  if (it == objects.end() || holder == config.id) return;
  auto& holders = it->second.manifest.holders;
  auto at = std::find_if(holders.begin(), holders.end(), [&](const wire::Address& one) { return one.agent == holder; });
  if (at == holders.end()) return;
  if (relayed(it->second)) announce_gone(object, holder);
  holders.erase(at);
  if (it->second.here) {
    review(object, false);
  } else if (holders.empty()) {
    objects.erase(it);
  }
}

}  // namespace shoal::storage
