#include "scheduler/peers.h"

#include <algorithm>

namespace shoal::scheduler {

void Peers::up(const in::PeerUp& up, AgentIndex agent) {
  Peer& peer = peers_[agent];
  peer.agent = agent;
  peer.name = up.name;
  peer.address = up.address;
  peer.above = up.above;
  peer.child = up.speaks_for_child;
  peer.down = false;
  if (peer.child) {
    auto summary = decode_summary(up.state);
    peer.state = State();
    peer.behind.reset();
    if (summary) peer.behind = std::move(*summary);
    return;
  }
  auto state = decode_state(up.state);
  peer.state = state ? std::move(*state) : State();
  peer.behind = std::move(peer.state.above);
  if (agent == above_head_ && above_) peer.behind = *above_;
}

bool Peers::remove(AgentIndex agent) {
  std::erase_if(unstartable_, [&](const auto& entry) { return std::get<AgentIndex>(entry.first) == agent; });
  return peers_.erase(agent) > 0;
}

void Peers::set_above(AgentIndex head, const Bytes& summary) {
  above_head_ = head;
  above_.reset();
  if (head == kNone) return;
  if (auto decoded = decode_summary(summary)) above_ = std::move(*decoded);
  Peer* peer = find(head);
  if (peer != nullptr && above_) peer->behind = *above_;
}

void Peers::set_room(AgentIndex agent, const Room& room, const Grants::Pair* pair, const WorkTable& works,
                     Instant now) {
  Peer* peer = find(agent);
  if (peer == nullptr) return;
  peer->room = room;
  peer->room_at = now;
  peer->given_here64 = 0;
  peer->given_behind64 = 0;
  if (pair == nullptr) return;
  for (auto it = pair->jobs.upper_bound(room.seen); it != pair->jobs.end(); ++it) {
    const Work& work = works[it->second.work];
    (work.behind ? peer->given_behind64 : peer->given_here64) += work.charge64;
  }
}

void Peers::give(AgentIndex agent, bool behind, std::uint64_t charge64) {
  if (Peer* peer = find(agent)) (behind ? peer->given_behind64 : peer->given_here64) += charge64;
}

void Peers::take_back(AgentIndex agent, bool behind, std::uint64_t charge64) {
  Peer* peer = find(agent);
  if (peer == nullptr) return;
  std::uint64_t& given = behind ? peer->given_behind64 : peer->given_here64;
  given -= std::min(given, charge64);
}

std::uint64_t Peers::room_here(const Peer& peer, Instant now) const {
  const bool fresh = peer.room_at.us >= 0 && now - peer.room_at <= fresh_;
  const std::uint64_t room = fresh ? peer.room.here64 : peer.state.free64();
  return room > peer.given_here64 ? room - peer.given_here64 : 0;
}

std::uint64_t Peers::room_behind(const Peer& peer, Instant now) const {
  const bool fresh = peer.room_at.us >= 0 && now - peer.room_at <= fresh_;
  const std::uint64_t room = fresh ? peer.room.behind64 : (peer.behind ? peer.behind->free64 : 0);
  return room > peer.given_behind64 ? room - peer.given_behind64 : 0;
}

bool Peers::region_left(const std::vector<RegionId>& left, RegionId region) {
  return std::find(left.begin(), left.end(), region) != left.end();
}

// A child's head is the door to its own region, any other gateway to the region above its own.
RegionId Peers::region_behind(const Peer& peer) {
  const auto& path = peer.address.path;
  if (peer.child) return path.empty() ? RegionId() : path.back();
  return path.size() < 2 ? RegionId() : path[path.size() - 2];
}

Place Peers::choose(const Wanted& wanted, RegionId home, Instant now) const {
  static const std::vector<RegionId> kNoneLeft;
  const std::vector<RegionId>& left = wanted.left != nullptr ? *wanted.left : kNoneLeft;
  Place best;
  // Smaller is better: (was avoided, gateway, above, missing bytes, -room).
  struct Rank {
    int tier = 0;
    std::uint64_t missing = 0;
    std::uint64_t room = 0;
  };
  Rank best_rank;
  const auto offer = [&](const Peer& peer, bool behind, std::uint64_t room) {
    Rank rank;
    rank.tier = (peer.agent == wanted.avoid ? 8 : 0) + (behind ? 4 : 0) + (peer.above ? 2 : 0);
    rank.room = room;
    rank.missing = wanted.input_bytes;
    if (wanted.held != nullptr) {
      auto it = wanted.held->find(peer.agent);
      if (it != wanted.held->end()) rank.missing -= std::min(rank.missing, it->second);
    }
    const bool better =
        best.agent == kNone || rank.tier < best_rank.tier ||
        (rank.tier == best_rank.tier &&
         (rank.missing < best_rank.missing || (rank.missing == best_rank.missing && rank.room > best_rank.room)));
    if (!better) return;
    best = {peer.agent, behind};
    best_rank = rank;
  };
  if (wanted.demand->local) return best;
  for (const auto& [agent, peer] : peers_) {
    if (peer.down || excluded(peer.address.agent)) continue;
    const RegionId native = peer.address.path.empty() ? home : peer.address.path.back();
    if (!wanted.gateways_only && !peer.child && !unstartable_.contains({agent, wanted.app, wanted.function}) &&
        !region_left(left, native) && can_meet(peer.state.resources, *wanted.demand)) {
      const std::uint64_t room = room_here(peer, now);
      if (room >= wanted.charge64) offer(peer, false, room);
    }
    if (is_way(peer, *wanted.demand, left, now)) {
      const std::uint64_t room = room_behind(peer, now);
      if (room >= wanted.charge64) offer(peer, true, room);
    }
  }
  return best;
}

bool Peers::may_run(const Peer& peer, const Demand& demand, const std::vector<RegionId>& left) const {
  const RegionId native = peer.address.path.empty() ? RegionId() : peer.address.path.back();
  return !peer.down && !excluded(peer.address.agent) && !peer.child && !region_left(left, native) &&
         can_meet(peer.state.resources, demand);
}

bool Peers::is_way(const Peer& peer, const Demand& demand, const std::vector<RegionId>& left, Instant now) {
  if (!peer.behind || region_left(left, region_behind(peer)) || !can_meet(*peer.behind, demand)) return false;
  auto it = peer.impossible.find(demand);
  return it == peer.impossible.end() || it->second <= now;
}

void Peers::set_impossible(AgentIndex agent, const Demand& demand, Instant now) {
  constexpr Duration kBelieved = seconds(30);
  constexpr std::size_t kImpossibleMax = 256;
  Peer* peer = find(agent);
  if (peer == nullptr) return;
  if (peer->impossible.size() >= kImpossibleMax) peer->impossible.clear();
  peer->impossible[demand] = now + kBelieved;
}

void Peers::set_unstartable(AgentIndex agent, AppId app, FunctionId function, Instant now) {
  constexpr Duration kBelieved = seconds(10);
  constexpr std::size_t kUnstartableMax = 4096;
  if (find(agent) == nullptr) return;
  if (unstartable_.size() >= kUnstartableMax) unstartable_.clear();
  unstartable_[{agent, app, function}] = now + kBelieved;
}

void Peers::exclude(AgentId agent, bool excluded) {
  constexpr std::size_t kExcludedMax = 10'000;
  if (!excluded) {
    excluded_.erase(agent);
  } else if (excluded_.size() < kExcludedMax) {
    excluded_.insert(agent);
  }
}

void Peers::forget_unstartable(Instant now) {
  std::erase_if(unstartable_, [&](const auto& entry) { return entry.second <= now; });
}

Instant Peers::next_unstartable() const {
  Instant next = Instant::never();
  for (const auto& [pair, until] : unstartable_) next = std::min(next, until);
  return next;
}

bool Peers::anyone(const Demand& demand, const std::vector<RegionId>& left, Instant now) const {
  if (demand.local) return false;
  return std::any_of(peers_.begin(), peers_.end(), [&](const auto& entry) {
    const Peer& peer = entry.second;
    if (excluded(peer.address.agent)) return false;
    const RegionId native = peer.address.path.empty() ? RegionId() : peer.address.path.back();
    const bool here = !peer.child && !region_left(left, native) && can_meet(peer.state.resources, demand);
    return here || is_way(peer, demand, left, now);
  });
}

std::string Peers::describe(const Agents& agents) const {
  constexpr int kShownMax = 8;
  std::string text;
  int shown = 0;
  for (const auto& [agent, peer] : peers_) {
    if (++shown > kShownMax) {
      text += "; and " + std::to_string(peers_.size() - kShownMax) + " more";
      break;
    }
    text += "; " + (peer.name.empty() ? agents.brief(agent) : peer.name) + ": ";
    text += peer.child ? (peer.behind ? shoal::scheduler::describe(*peer.behind) : "nothing known")
                       : shoal::scheduler::describe(peer.state.resources);
    if (!peer.child && peer.behind) text += ", and above it " + shoal::scheduler::describe(*peer.behind);
  }
  return text;
}

}  // namespace shoal::scheduler
