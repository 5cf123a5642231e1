// protocol/overlay/links.h
//
// Which neighbours this agent has a link to, wants one to, and when to dial, to give up, to hang up. One link
// per pair: an agent that cannot be dialled dials; otherwise the lower id does. It stays while either end has
// a use for it: the end that wants it speaks at least every kKeepAlive, the other hangs up after
// kUnwantedAfter of silence. It knows nothing of membership.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "protocol/overlay/agent_index.h"
#include "protocol/overlay/limits.h"
#include "protocol/overlay/overlay.h"

namespace shoal::overlay {

struct Link {
  enum class State : std::uint8_t { kDown, kDialing, kUp };
  State state = State::kDown;
  Contact peer;              // endpoint empty: unknown, or it cannot be dialled
  bool watched = false;      // a neighbour in the graph of a region: heartbeats both ways, silence is suspicious
  bool star = false;         // to or from a head: the way everyone reaches everyone
  Instant demanded_until{};  // much is being sent there
  Instant contact_until{};   // to join, to probe, to vote
  Instant heard{};           // last frame; or until when a link that is to come is given credit
  Instant peer_watches_until{};
  Instant changed{};  // when `state` last changed
  Instant next_dial{};
  unsigned failures = 0;      // dials since the link was last up
  unsigned false_alarms = 0;  // suspicions of this neighbour that were refuted
  bool fresh = false;         // up, and tables not compared yet
  bool broken = false;        // was up and went down by itself: worth a dial at once, from both ends

  bool up() const { return state == State::kUp; }
  bool wanted(Instant now) const { return watched || star || demanded_until > now || contact_until > now; }
};

class LinkTable {
 public:
  LinkTable(AgentId self, bool dialable, std::int64_t scale);

  const std::map<AgentId, Link>& all() const { return links_; }
  Link* find(AgentId neighbour);
  const Link* find(AgentId neighbour) const;
  bool up(AgentId neighbour) const;

  // Sets who is watched and who is reached by the star; others lose those reasons. `peers` has the contact of
  // each.
  void want(const std::set<AgentId>& watched, const std::set<AgentId>& star, const std::map<AgentId, Contact>& peers,
            Instant now);
  // Opens a link to a contact, whoever's turn it is, and keeps it wanted for kContactFor.
  void contact(const Contact& peer, Instant now, std::vector<Output>& out);
  // Keeps a direct link to a busy peer wanted; false if too many are.
  bool demand(const Contact& peer, Instant now);

  // What the driver reports. `on_up` is false when the table is full: the caller hangs up.
  bool on_up(AgentId neighbour, Instant now);
  void on_down(AgentId neighbour, Instant now);

  // There is news that this peer lives: do not wait out the back-off of earlier failures.
  void encourage(AgentId peer, Instant now);

  // Dials, gives up dials, hangs up and forgets. Cheap enough for every tick. O(links).
  void drive(Instant now, std::vector<Output>& out);
  void hang_up_all(std::vector<Output>& out);

  // True if it is this agent's turn to dial `peer`.
  bool dials(const Contact& peer) const;
  // A timer of ours was late: silence in that time says nothing about the others.
  void forgive(Duration lateness, Instant now);

  void check_invariants() const;

 private:
  Link* find_or_add(const Contact& peer, Instant now);
  std::map<AgentId, Link>::iterator erase(std::map<AgentId, Link>::iterator it);
  void dial(Link& link, Instant now, std::vector<Output>& out);
  bool may_dial(const Link& link, Instant now) const;

  AgentId self_;
  bool dialable_;
  std::int64_t scale_;
  std::map<AgentId, Link> links_;
  AgentIndex<Link> index_;  // of links_
};

}  // namespace shoal::overlay
