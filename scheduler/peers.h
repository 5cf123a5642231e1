// scheduler/peers.h
//
// The agents that work can be given to, and placement: who runs an attempt. A peer is a member of this agent's home
// region, or, seen from a head, of the parent region. It can take part in two ways: as a worker, or as a gateway to
// what lies behind it (a head to the region above, a child region's head to its region).
//
// The order of preference is self, then a worker of a region we are in, then a gateway; between equals, the one with
// most of the inputs, then the one with most room. Room is what the peer itself said last (in a report, else by
// gossip) less what it was given since.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "scheduler/agents.h"
#include "scheduler/lease_table.h"
#include "scheduler/resources.h"
#include "scheduler/state.h"

namespace shoal::scheduler {

struct Peer {
  AgentIndex agent = kNone;
  std::string name;
  wire::Address address;
  bool above = false;     // a member of the parent region
  bool child = false;     // speaks for a region below the one it was seen in
  bool down = false;      // said to be dead, not proven
  State state;            // of a native
  Boxed<Summary> behind;  // what it is a gateway to
  Room room;
  Instant room_at{-1};
  std::uint64_t given_here64 = 0;  // since `room` (or at all, while only gossip is known)
  std::uint64_t given_behind64 = 0;
  std::map<Demand, Instant> impossible;  // what it said nobody behind it can run, and until when that is believed
};

struct Place {
  AgentIndex agent = kNone;
  bool behind = false;
};

// What placement is to know about one attempt.
struct Wanted {
  const Demand* demand = nullptr;
  std::uint64_t charge64 = 0;
  AppId app;
  FunctionId function;
  AgentIndex avoid = kNone;                                   // where it failed last: only if there is no other place
  const std::vector<RegionId>* left = nullptr;                // regions it was sent away from
  const std::map<AgentIndex, std::uint64_t>* held = nullptr;  // bytes of its inputs by agent
  std::uint64_t input_bytes = 0;
  bool gateways_only = false;  // ways out of the region, not its workers
};

class Peers {
 public:
  explicit Peers(Duration fresh) : fresh_(fresh) {}

  void up(const in::PeerUp& up, AgentIndex agent);
  // Forgets it. False when it was not known.
  bool remove(AgentIndex agent);
  void set_above(AgentIndex head, const Bytes& summary);

  Peer* find(AgentIndex agent) {
    auto it = peers_.find(agent);
    return it == peers_.end() ? nullptr : &it->second;
  }
  const Peer* find(AgentIndex agent) const {
    auto it = peers_.find(agent);
    return it == peers_.end() ? nullptr : &it->second;
  }

  // What the peer says it would take, and what it was given after the jobs that it counted.
  void set_room(AgentIndex agent, const Room& room, const Grants::Pair* pair, const WorkTable& works, Instant now);
  void give(AgentIndex agent, bool behind, std::uint64_t charge64);
  void take_back(AgentIndex agent, bool behind, std::uint64_t charge64);

  // The best place other than self that has room now; agent is kNone when there is none.
  Place choose(const Wanted& wanted, RegionId home, Instant now) const;
  // Whether the peer itself, idle or not, could run it.
  bool may_run(const Peer& peer, const Demand& demand, const std::vector<RegionId>& left) const;
  bool is_unstartable(AgentIndex agent, AppId app, FunctionId function) const {
    return unstartable_.contains({agent, app, function});
  }
  // Whether any known agent but self could ever run it.
  bool anyone(const Demand& demand, const std::vector<RegionId>& left, Instant now) const;
  // The gateway said that nobody behind it could ever run this: summaries promise more than one agent may have.
  void set_impossible(AgentIndex agent, const Demand& demand, Instant now);
  // The peer could not start the function: no executor for it, or one that cannot load its code. It gets none of its
  // calls for a while, so that a host that cannot, and is always idle, does not draw all tasks and fail them.
  void set_unstartable(AgentIndex agent, AppId app, FunctionId function, Instant now);
  // Nothing is placed on an excluded agent, nor behind it, whatever room it says it has. Outlives its absence.
  void exclude(AgentId agent, bool excluded);
  bool excluded(AgentId agent) const { return excluded_.contains(agent); }
  // Forgets what lapsed; tells when the next one does.
  void forget_unstartable(Instant now);
  Instant next_unstartable() const;
  // For people: who is there.
  std::string describe(const Agents& agents) const;

  std::uint64_t room_here(const Peer& peer, Instant now) const;
  std::uint64_t room_behind(const Peer& peer, Instant now) const;
  const std::map<AgentIndex, Peer>& all() const { return peers_; }

 private:
  static bool region_left(const std::vector<RegionId>& left, RegionId region);
  static RegionId region_behind(const Peer& peer);
  static bool is_way(const Peer& peer, const Demand& demand, const std::vector<RegionId>& left, Instant now);

  Duration fresh_;
  AgentIndex above_head_ = kNone;
  std::optional<Summary> above_;
  std::map<AgentIndex, Peer> peers_;
  std::set<AgentId> excluded_;
  // Functions that a peer could not start, and until when it is not asked.
  std::map<std::tuple<AgentIndex, AppId, FunctionId>, Instant> unstartable_;
};

}  // namespace shoal::scheduler
