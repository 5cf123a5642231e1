// Dispatch, membership, timers, and the walk over everything known after a change of membership.
#include "storage/model/store.h"

#include <algorithm>

#include "protocol/base/check.h"
#include "storage/model/placement.h"
#include "storage/model/store_impl.h"

namespace shoal::storage {
namespace {

constexpr std::size_t kWalkStep = 128;    // entries looked at in one step
constexpr std::size_t kTimersStep = 256;  // timers fired in one step

}  // namespace

Store::Store(StoreConfig config, Rng rng) : impl_(std::make_unique<Impl>(std::move(config), rng)) {}
Store::~Store() = default;
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;

void Store::step(Instant now, const Input& input, std::vector<Output>& out) {
  impl_->step(now, input, out);
}
Instant Store::next_deadline() const {
  return impl_->timers.empty() ? Instant::never() : impl_->timers.begin()->at;
}
void Store::check_invariants() const {
  impl_->check_invariants();
}

StoreTimeouts StoreTimeouts::scaled(std::int64_t factor) const {
  StoreTimeouts out = *this;
  for (Duration* wait : {&out.ask, &out.locate, &out.record_get, &out.list, &out.decide, &out.record_set, &out.put,
                         &out.copy, &out.forget, &out.announce_retry, &out.announce_retry_max}) {
    *wait = *wait * factor;
  }
  return out;
}

Store::Impl::Impl(StoreConfig store_config, Rng rng) : config(std::move(store_config)) {
  session = rng.split("session").next() | 1;  // 0 means "not heard of"
  self.agent = config.id;
  if (config.host.empty()) config.host = config.id.hex();
  home.push_back(config.id);
}

void Store::Impl::step(Instant at, const Input& input, std::vector<Output>& outputs) {
  now = std::max(now, at);
  out = &outputs;
  std::visit([this](const auto& one) { on(one); }, input);
  fire_due();
  flush_outboxes();
  out = nullptr;
}

// ---- frames ----

template <class M>
void Store::Impl::send(const wire::Address& to, const M& message) {
  wire::Envelope envelope;
  envelope.kind = static_cast<std::uint16_t>(M::kKind);
  envelope.source = self;
  envelope.target = to;
  envelope.body = wire::encode(message);
  emit(out::Send{std::move(envelope)});
}
template void Store::Impl::send(const wire::Address&, const msg::Announce&);
template void Store::Impl::send(const wire::Address&, const msg::AnnounceAck&);
template void Store::Impl::send(const wire::Address&, const msg::Replicate&);
template void Store::Impl::send(const wire::Address&, const msg::Place&);
template void Store::Impl::send(const wire::Address&, const msg::Copied&);
template void Store::Impl::send(const wire::Address&, const msg::Ask&);
template void Store::Impl::send(const wire::Address&, const msg::Tell&);
template void Store::Impl::send(const wire::Address&, const msg::Decide&);
template void Store::Impl::send(const wire::Address&, const msg::Decided&);
template void Store::Impl::send(const wire::Address&, const msg::Forget&);
template void Store::Impl::send(const wire::Address&, const msg::Forgotten&);
template void Store::Impl::send(const wire::Address&, const msg::Lost&);

template <class M>
void Store::Impl::receive(const wire::Envelope& envelope) {
  auto message = wire::decode<M>(envelope.body);
  if (!message) {
    ++counters.bad_frames;
    return;
  }
  on_message(envelope.source, *message);
}

void Store::Impl::on(const in::Frame& frame) {
  const wire::Envelope& envelope = frame.envelope;
  if (envelope.source.agent == config.id || envelope.source.path.empty() ||
      envelope.source.path.size() > wire::Address::kPathMax) {
    ++counters.bad_frames;
    return;
  }
  switch (static_cast<msg::Kind>(envelope.kind)) {
    case msg::Kind::kAnnounce:
      return receive<msg::Announce>(envelope);
    case msg::Kind::kAnnounceAck:
      return receive<msg::AnnounceAck>(envelope);
    case msg::Kind::kReplicate:
      return receive<msg::Replicate>(envelope);
    case msg::Kind::kPlace:
      return receive<msg::Place>(envelope);
    case msg::Kind::kCopied:
      return receive<msg::Copied>(envelope);
    case msg::Kind::kAsk:
      return receive<msg::Ask>(envelope);
    case msg::Kind::kTell:
      return receive<msg::Tell>(envelope);
    case msg::Kind::kDecide:
      return receive<msg::Decide>(envelope);
    case msg::Kind::kDecided:
      return receive<msg::Decided>(envelope);
    case msg::Kind::kForget:
      return receive<msg::Forget>(envelope);
    case msg::Kind::kForgotten:
      return receive<msg::Forgotten>(envelope);
    case msg::Kind::kLost:
      return receive<msg::Lost>(envelope);
  }
  ++counters.bad_frames;
}

// ---- the hierarchy as this agent sees it ----

// Regions are told apart by their ids alone: when one is attached elsewhere, the paths that others wrote down for its
// agents are old news, and its agents are the same.

bool Store::Impl::is_home(const wire::Address& address) const {
  return !self.path.empty() && !address.path.empty() && address.path.back() == self.path.back();
}

bool Store::Impl::is_below(const wire::Address& address) const {
  if (self.path.empty() || address.path.empty()) return false;
  return std::find(address.path.begin(), address.path.end() - 1, self.path.back()) != address.path.end() - 1;
}

bool Store::Impl::is_peer_home(AgentId agent) const {
  return agent != config.id && std::binary_search(home.begin(), home.end(), agent);
}

std::int32_t Store::Impl::ancestor_depth(const wire::Address& address) const {
  if (address.path.empty() || self.path.empty()) return -1;
  const auto it = std::find(self.path.begin(), self.path.end() - 1, address.path.back());
  return it == self.path.end() - 1 ? -1 : static_cast<std::int32_t>(it - self.path.begin());
}

const Peer* Store::Impl::peer(AgentId agent) const {
  auto it = peers.find(agent);
  return it == peers.end() ? nullptr : &it->second;
}

std::vector<AgentId> Store::Impl::home_directory(std::uint64_t key, std::size_t count) const {
  return directory_of(key, home, count);
}

std::vector<AgentId> Store::Impl::upward(std::uint64_t key, std::size_t count) const {
  if (!has_parent()) return {};
  if (is_head()) return directory_of(key, parents, count);
  if (above && is_peer_home(above->agent)) return {above->agent};
  return {};
}

void Store::Impl::rebuild_members() {
  home.clear();
  parents.clear();
  home.push_back(config.id);
  for (const auto& [id, peer] : peers) {
    if (is_home(peer.address)) home.push_back(id);
    if (is_head() && has_parent() && ancestor_depth(peer.address) == home_depth() - 1) parents.push_back(id);
  }
  std::sort(home.begin(), home.end());
}

// ---- membership ----

void Store::Impl::on(const in::Self& input) {
  const bool same_above = above.has_value() == input.above.has_value() && (!above || *above == *input.above);
  if (self == input.address && same_above) return;
  if (self.path.empty() && !input.address.path.empty() && here_count > 0) settled_at = now + config.timeouts.repair;
  self = input.address;
  self.agent = config.id;
  above = input.above;
  rebuild_members();
  start_walk();
}

void Store::Impl::on(const in::PeerUp& up) {
  if (up.address.agent == config.id) return;
  auto it = peers.find(up.address.agent);
  if (it == peers.end()) {
    if (peers.size() >= config.limits.peers_max) {
      ++counters.refused;
      return;
    }
    it = peers.emplace(up.address.agent, Peer{}).first;
    it->second.meeting = ++last_number;
    it->second.outbox().greet = true;
  } else if (it->second.address == up.address && it->second.host == up.host) {
    return;
  }
  it->second.address = up.address;
  it->second.host = up.host.empty() ? up.address.agent.hex() : up.host;
  rebuild_members();
  mark_dirty(up.address.agent);  // the greeting; what it should know follows once its session is known
  start_walk();
}

void Store::Impl::on(const in::Leave& /*leave*/) {
  leaving = true;
}

void Store::Impl::on(const in::PeerDown& down) {
  auto it = peers.find(down.agent);
  if (it == peers.end()) return;
  const bool was_parent = std::binary_search(parents.begin(), parents.end(), down.agent);
  if (it->second.box) disarm(TimerKind::kOutbox, it->second.box->retry_at, down.agent.high(), down.agent.low());
  peers.erase(it);
  dirty_peers.erase(down.agent);
  rebuild_members();

  std::vector<ObjectId> interrupted;
  for (auto at = pending_at.lower_bound({down.agent, ObjectId()}); at != pending_at.end() && at->first == down.agent;
       ++at) {
    interrupted.push_back(at->second);
  }
  for (ObjectId object : interrupted) {
    Job& job = jobs.at(object);
    end_pending(object, job, down.agent);
    job.trouble = "agent " + down.agent.brief() + " went away while it copied";
    review(object, true);
  }
  std::vector<std::uint64_t> asked;
  for (auto& [id, search] : searches) {
    if (search.waiting.erase({down.agent, false}) + search.waiting.erase({down.agent, true}) > 0) {
      search.silence = true;
      asked.push_back(id);
    }
  }
  for (std::uint64_t id : asked) advance(id);
  if (was_parent) {  // this region's copies there are no longer safe; only the head can know
    walk_state.recheck_next.insert(down.agent);
    for (AgentId member : home) {
      if (const Peer* other = peer(member)) send(other->address, msg::Lost{down.agent});
    }
  }
  start_walk();
}

void Store::Impl::on(const in::Recovered& recovered) {
  for (const Record& record : recovered.records) {
    if (records.size() >= config.limits.records_max || record.name.empty()) continue;
    StoredRecord& stored = records[record.name];
    if (stored.record.epoch <= record.epoch) stored.record = record;
  }
  for (const Manifest& manifest : recovered.manifests) {
    if (here_count >= config.limits.objects_max) break;
    if (!tombstones_for(manifest).empty()) {  // the last life buried it and stopped before it had erased it
      emit(out::Erase{manifest.object});
      continue;
    }
    Known& known = objects[manifest.object];
    if (known.here) continue;
    known.manifest = manifest;
    strike_buried(known.manifest);
    known.manifest.holders = {self};
    for (const wire::Address& holder : manifest.holders) {
      if (holder.agent != config.id && known.former.size() < config.limits.holders_max) known.former.push_back(holder);
    }
    set_here(manifest.object, known, true);
  }
  start_walk();
}

void Store::Impl::on(const in::Persisted& persisted) {
  auto it = persists.find(persisted.ticket);
  if (it == persists.end()) return;
  Persisting done = std::move(it->second);
  persists.erase(it);
  auto stored = records.find(done.name);
  if (stored != records.end() && stored->second.ticket == persisted.ticket) stored->second.ticket = 0;
  for (const Waiter& waiter : done.waiters) ready(waiter, persisted.ticket);
}

// ---- timers ----

void Store::Impl::arm(TimerKind kind, Instant when, std::uint64_t high, std::uint64_t low) {
  timers.insert(Timer{when, kind, high, low});
}

void Store::Impl::disarm(TimerKind kind, Instant when, std::uint64_t high, std::uint64_t low) {
  if (when != Instant::never()) timers.erase(Timer{when, kind, high, low});
}

void Store::Impl::fire_due() {
  std::vector<Timer> due;
  for (auto it = timers.begin(); it != timers.end() && it->at <= now && due.size() < kTimersStep;) {
    due.push_back(*it);
    it = timers.erase(it);
  }
  for (const Timer& timer : due) fire(timer);
}

// Owners that are gone or have a later deadline make a timer void: each handler looks for itself.
void Store::Impl::fire(const Timer& timer) {
  switch (timer.kind) {
    case TimerKind::kWalk:
      return walk();
    case TimerKind::kOutbox:
      return retry_outbox(AgentId(timer.high, timer.low));
    case TimerKind::kPut:
      return expire_put(timer.high);
    case TimerKind::kCopies:
      return expire_copies(ObjectId(timer.high, timer.low));
    case TimerKind::kReview: {
      auto job = jobs.find(ObjectId(timer.high, timer.low));
      if (job == jobs.end() || job->second.review > now) return;
      job->second.review = Instant::never();
      return review(job->first, true);
    }
    case TimerKind::kWiden: {
      auto it = searches.find(timer.high);
      if (it == searches.end()) return;
      it->second.widen_at = Instant::never();
      if (usable(it->second, true)) return finish_search(timer.high);
      it->second.silence = it->second.silence || !it->second.waiting.empty();
      widen(timer.high, it->second);
      return advance(timer.high);
    }
    case TimerKind::kSearch: {
      auto it = searches.find(timer.high);
      if (it == searches.end()) return;
      it->second.silence = it->second.silence || !it->second.waiting.empty();
      return finish_search(timer.high);
    }
    case TimerKind::kDecide: {
      auto it = decisions.find(timer.high);
      if (it == decisions.end() || it->second.deadline > now) return;
      it->second.deadline = Instant::never();
      return pass_decision_on(timer.high);
    }
    case TimerKind::kSet:
      return expire_set(timer.high);
    case TimerKind::kDelete:
      return expire_delete(timer.high);
    case TimerKind::kHeal:
      return heal(ObjectId(timer.high, timer.low));
  }
}

// ---- the walk ----

// After a change of membership every entry is looked at once, some in each step: lost holders are struck out,
// entries whose directory changed are announced, repairs are planned. A change during a walk makes another
// one follow.
void Store::Impl::start_walk() {
  if (walk_state.active) {
    walk_state.again = true;
    return;
  }
  if (objects.empty() && records.empty()) {
    walk_state.recheck_next.clear();
    return;
  }
  walk_state.active = true;
  walk_state.again = false;
  walk_state.in_records = false;
  walk_state.object.reset();
  walk_state.name.reset();
  walk_state.recheck = std::move(walk_state.recheck_next);
  walk_state.recheck_next.clear();
  arm(TimerKind::kWalk, now, 0);
}

void Store::Impl::walk() {
  std::size_t left = kWalkStep;
  if (!walk_state.in_records) {
    auto it = walk_state.object ? objects.upper_bound(*walk_state.object) : objects.begin();
    for (; it != objects.end() && left > 0; ++it, --left) {
      walk_state.object = it->first;
      if (it->second.here) prune_holders(it->first, it->second);
      spread(it->first, it->second);
      if (it->second.here) review(it->first, false);
    }
    walk_state.in_records = it == objects.end();
  }
  if (walk_state.in_records) {
    auto it = walk_state.name ? records.upper_bound(*walk_state.name) : records.begin();
    for (; it != records.end() && left > 0; ++it, --left) {
      walk_state.name = it->first;
      spread(it->first, it->second);
    }
    if (it == records.end()) {
      walk_state.active = false;
      walk_state.recheck.clear();
      if (walk_state.again) start_walk();
      return;
    }
  }
  arm(TimerKind::kWalk, now, 0);
}

// ---- invariants ----

void Store::Impl::check_invariants() const {
  std::size_t counted = 0;
  std::uint64_t bytes = 0;
  for (const auto& [id, known] : objects) {
    SHOAL_CHECK(known.manifest.object == id, "an entry is filed under another object");
    SHOAL_CHECK(known.manifest.holders.size() <= config.limits.holders_max + 1, "too many holders");
    const auto& holders = known.manifest.holders;
    const bool lists_self =
        std::any_of(holders.begin(), holders.end(), [&](const auto& holder) { return holder.agent == config.id; });
    SHOAL_CHECK(lists_self == known.here, "an object is here exactly when this agent is among its holders");
    SHOAL_CHECK(tombstones_for(known.manifest).empty(), "a deleted object is still known");
    SHOAL_CHECK(known.manifest.births.size() <= kBirthsMax, "too many births");
    if (!known.here) continue;
    ++counted;
    bytes += known.manifest.bytes;
  }
  SHOAL_CHECK(counted == here_count && bytes == here_bytes, "usage counters differ from the objects here");
  std::size_t in_flight = 0;
  for (const auto& [id, job] : jobs) {
    auto known = objects.find(id);
    SHOAL_CHECK(known != objects.end() && known->second.here, "a job for an object that is not here");
    in_flight += job.pending.size();
    for (const auto& [agent, deadline] : job.pending) {
      SHOAL_CHECK(is_peer_home(agent) && pending_at.contains({agent, id}),
                  "a copy is awaited from an agent that is gone");
    }
    for (const auto& [depth, above_copy] : job.above) in_flight += above_copy.deadline != Instant::never() ? 1 : 0;
    for (std::uint64_t put : job.puts) SHOAL_CHECK(puts.contains(put), "a job names a put that is not pending");
  }
  SHOAL_CHECK(in_flight == copies_in_flight, "copies in flight are miscounted");
  SHOAL_CHECK(copies_in_flight <= config.limits.copies_in_flight_max, "more copies in flight than allowed");
  for (const auto& [id, put] : puts) SHOAL_CHECK(jobs.contains(put.object), "a pending put without a job");
  std::size_t started = 0;
  for (const auto& [id, pull] : pulls) started += pull.started ? 1 : 0;
  SHOAL_CHECK(started == pulls_in_flight && started <= config.limits.pulls_in_flight_max, "pulls are miscounted");
  for (const auto& [id, set] : sets) {
    SHOAL_CHECK(set.decided || decisions.contains(id), "a set request that nobody decides");
  }
  for (const auto& [id, peer] : peers) {
    SHOAL_CHECK(!peer.box || peer.box->in_flight == (peer.box->retry_at != Instant::never()),
                "an announcement without a timer");
  }
  SHOAL_CHECK(records.size() <= config.limits.records_max, "too many records");
}

}  // namespace shoal::storage
