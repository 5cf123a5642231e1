#include "protocol/overlay/region.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "protocol/base/check.h"
#include "protocol/base/hash.h"

namespace shoal::overlay {

bool well_formed(const Member& record) {
  if (record.id.is_zero() || record.name.size() > kNameBytesMax || record.home_name.size() > kNameBytesMax)
    return false;
  if (record.endpoint.size() > kEndpointBytesMax || record.curve_key.size() > kKeyBytesMax) return false;
  if (record.status > Status::kLeft || record.state.size() > kStateBytesMax) return false;
  if (record.labels.size() > kLabelsMax) return false;
  return std::all_of(record.labels.begin(), record.labels.end(), [](const auto& label) {
    return label.first.size() <= kLabelBytesMax && label.second.size() <= kLabelBytesMax;
  });
}

Region::Region(RegionId id, std::string name, AgentId self) : id_(id), name_(std::move(name)), self_(self) {}

const Member* Region::find(AgentId agent) const {
  return index_.find(agent);
}

const Region::Gone* Region::find_gone(AgentId agent) const {
  auto it = gone_.find(agent);
  return it == gone_.end() ? nullptr : &it->second;
}

const Member* Region::guest_for(RegionId child) const {
  if (child == id_ || guests() == 0) return nullptr;
  for (const auto& [id, member] : living_) {
    if (member.home == child) return &member;
  }
  return nullptr;
}

Change Region::merge(const Member& record, Instant now, std::vector<AgentId>& displaced) {
  if (!well_formed(record)) return Change::kRefused;
  const bool ended = record.status == Status::kDead || record.status == Status::kLeft;
  if (auto gone = gone_.find(record.id); gone != gone_.end()) {
    if (record.incarnation <= gone->second.record.incarnation) return Change::kNone;
    if (ended) {
      gone->second.record = record;
      return Change::kNone;
    }
  }
  auto it = living_.find(record.id);
  if (it == living_.end()) {
    if (ended) {
      if (record.id != self_) add_tombstone({record, false, now});
      return Change::kNone;
    }
    if (living_.size() >= kTableMax) return Change::kRefused;
  } else {
    const Member& known = it->second;
    const auto newness = std::tie(record.incarnation, record.state_version);
    const auto known_newness = std::tie(known.incarnation, known.state_version);
    if (ended) return claim(record.id, record.incarnation, record.status, false, now);
    if (record.incarnation < known.incarnation) return Change::kNone;
    if (record.incarnation == known.incarnation && newness <= known_newness) {
      return claim(record.id, record.incarnation, record.status, false, now);
    }
  }
  if (!is_native(record)) {
    const Member* rival = guest_for(record.home);
    if (rival != nullptr && rival->id != record.id) {
      // Only one guest speaks for a child region; everyone who has seen both keeps the same one.
      if (std::tie(rival->head_epoch, rival->id) > std::tie(record.head_epoch, record.id)) return Change::kNone;
      const AgentId loser = rival->id;
      bury(loser, Status::kLeft, false, now);
      displaced.push_back(loser);
    }
  }
  Change change = Change::kNew;
  Member taken = record;
  if (const Gone* gone = find_gone(record.id);
      gone != nullptr && !gone->proven && life_of(record.incarnation) > life_of(gone->record.incarnation)) {
    change = Change::kRestarted;
  }
  if (it != living_.end()) {
    const Member& known = it->second;
    change = life_of(record.incarnation) > life_of(known.incarnation) ? Change::kRestarted : Change::kUpdated;
    if (record.incarnation == known.incarnation) taken.status = std::max(known.status, record.status);
  }
  gone_.erase(record.id);
  insert(std::move(taken));
  return change;
}

Change Region::claim(AgentId agent, Incarnation incarnation, Status status, bool proven, Instant now) {
  auto it = living_.find(agent);
  if (it == living_.end() || status > Status::kLeft) return Change::kNone;
  Member& known = it->second;
  if (incarnation < known.incarnation || status <= known.status) return Change::kNone;
  if (status == Status::kSuspect) {
    digest_ ^= fingerprint(known);
    known.status = status;
    digest_ ^= fingerprint(known);
    return Change::kUpdated;
  }
  if (agent == self_) return Change::kNone;
  bury(agent, status, proven, now);
  if (auto gone = gone_.find(agent); gone != gone_.end()) gone->second.record.incarnation = incarnation;
  return status == Status::kLeft ? Change::kLeft : Change::kDied;
}

void Region::remember(const Member& record, Instant now) {
  if (record.id == self_ || living_.count(record.id) != 0 || !well_formed(record)) return;
  Gone gone{record, false, now};
  gone.record.status = Status::kDead;
  add_tombstone(std::move(gone));
}

Duration Region::flap_delay(AgentId agent, Instant now) const {
  auto it = flaps_.find(agent);
  if (it == flaps_.end() || it->second.count < 2 || now - it->second.last > kFlapsForgottenAfter) return Duration{};
  const unsigned doublings = std::min(it->second.count - 2, 6U);
  const Duration delay = std::min(kFlapDelayFirst * (std::int64_t{1} << doublings), kFlapDelayLast);
  const Duration waited = now - it->second.last;
  return waited >= delay ? Duration{} : delay - waited;
}

std::vector<AgentId> Region::neighbours_of(AgentId agent) const {
  const Member* member = find(agent);
  if (member == nullptr) return {};
  const bool dialable = !member->endpoint.empty();
  std::set<AgentId> found;
  if (living_.size() < kFullMeshBelow) {
    for (const auto& [id, other] : living_) {
      if (id != agent && (dialable || !other.endpoint.empty())) found.insert(id);
    }
    return {found.begin(), found.end()};
  }
  for (std::size_t r = 0; r < kRings; ++r) {
    const auto& ring = rings_[r];
    const std::size_t n = ring.size();
    const auto here = std::lower_bound(ring.begin(), ring.end(), place_of(r, agent, dialable));
    const auto start = static_cast<std::size_t>(here - ring.begin());
    for (const std::size_t stride : {std::size_t{1}, n - 1}) {
      for (std::size_t i = (start + stride) % n; i != start; i = (i + stride) % n) {
        if (dialable || ring[i].dialable) found.insert(ring[i].agent);
        if (ring[i].dialable) break;
      }
    }
  }
  return {found.begin(), found.end()};
}

void Region::check_invariants() const {
  SHOAL_CHECK(living_.size() <= kTableMax && gone_.size() <= kTombstonesMax, "a table of the region is over its bound");
  std::uint64_t digest = 0;
  std::size_t natives = 0;
  std::set<RegionId> children;
  for (const auto& [id, member] : living_) {
    SHOAL_CHECK(id == member.id && member.status < Status::kDead, "a dead member is listed among the living");
    SHOAL_CHECK(gone_.count(id) == 0, "a member is both living and gone");
    digest ^= fingerprint(member);
    if (is_native(member)) {
      ++natives;
    } else {
      SHOAL_CHECK(children.insert(member.home).second, "two guests speak for one child region");
    }
  }
  SHOAL_CHECK(index_.size() == living_.size(), "a member is missing from the index");
  SHOAL_CHECK(digest == digest_ && natives == natives_, "the running sums of a region are off");
  for (const auto& ring : rings_) {
    SHOAL_CHECK(ring.size() == living_.size(), "a member is missing from a ring");
    SHOAL_CHECK(std::is_sorted(ring.begin(), ring.end()), "a ring is out of order");
  }
}

void Region::insert(Member record) {
  const AgentId id = record.id;
  auto it = living_.find(id);
  if (it == living_.end()) {
    put_on_rings(record);
    digest_ ^= fingerprint(record);
    natives_ += is_native(record) ? 1 : 0;
    const Member* member = &living_.emplace(id, std::move(record)).first->second;
    index_.insert(id, member);
    return;
  }
  Member& known = it->second;
  digest_ ^= fingerprint(known) ^ fingerprint(record);
  natives_ -= is_native(known) ? 1 : 0;
  natives_ += is_native(record) ? 1 : 0;
  if (known.endpoint.empty() != record.endpoint.empty()) {
    take_off_rings(id);
    put_on_rings(record);
  }
  known = std::move(record);
}

void Region::bury(AgentId agent, Status status, bool proven, Instant now) {
  auto it = living_.find(agent);
  Gone gone{std::move(it->second), proven, now};
  digest_ ^= fingerprint(gone.record);
  natives_ -= is_native(gone.record) ? 1 : 0;
  gone.record.status = status;
  living_.erase(it);
  index_.erase(agent);
  take_off_rings(agent);
  if (status == Status::kDead) {
    Flaps& flaps = flaps_[agent];
    if (now - flaps.last > kFlapsForgottenAfter) flaps.count = 0;
    ++flaps.count;
    flaps.last = now;
    if (flaps_.size() > kTombstonesMax) {
      std::erase_if(flaps_, [&](const auto& entry) { return entry.first != agent && entry.second.count < 2; });
      if (flaps_.size() > kTombstonesMax) flaps_.erase(flaps_.begin());
    }
  }
  if (agent != self_) add_tombstone(std::move(gone));
}

void Region::put_on_rings(const Member& member) {
  for (std::size_t r = 0; r < kRings; ++r) {
    const Place place = place_of(r, member.id, !member.endpoint.empty());
    rings_[r].insert(std::upper_bound(rings_[r].begin(), rings_[r].end(), place), place);
  }
  ++graph_version_;
}

void Region::take_off_rings(AgentId agent) {
  for (std::size_t r = 0; r < kRings; ++r) {
    auto it = std::lower_bound(rings_[r].begin(), rings_[r].end(), place_of(r, agent, false));
    SHOAL_CHECK(it != rings_[r].end() && it->agent == agent, "a member is missing from a ring");
    rings_[r].erase(it);
  }
  ++graph_version_;
}

Region::Place Region::place_of(std::size_t ring, AgentId agent, bool dialable) {
  return {combine64(combine64(agent.high(), agent.low()), ring), agent, dialable};
}

std::uint64_t Region::fingerprint(const Member& member) {
  std::uint64_t h = combine64(member.id.high(), member.id.low());
  h = combine64(h, member.incarnation.value());
  return combine64(h, member.state_version * 2 + (member.status == Status::kSuspect ? 1 : 0));
}

void Region::add_tombstone(Gone gone) {
  gone_[gone.record.id] = std::move(gone);
  if (gone_.size() <= kTombstonesMax) return;
  auto oldest = std::min_element(gone_.begin(), gone_.end(), [](const auto& a, const auto& b) {
    return std::tie(a.second.since, a.first) < std::tie(b.second.since, b.first);
  });
  gone_.erase(oldest);
}

}  // namespace shoal::overlay
