// protocol/overlay/detector.h
//
// Suspicions and their terms, after SWIM (Das et al., DSN 2002) and Lifeguard (Dadgar et al., DSN 2018). It
// keeps the clock of each suspicion and of this agent's trust in itself; who is watched, what is flooded and
// who is buried is the business of its caller.
#pragma once

#include <deque>
#include <map>
#include <vector>

#include "protocol/overlay/limits.h"

namespace shoal::overlay {

class Detector {
 public:
  explicit Detector(std::int64_t scale);

  // Patience with a watched link, and with a suspect, as this agent's health is now.
  Duration suspect_after(unsigned false_alarms) const;
  Duration dead_after() const;

  // Opens a suspicion that ends in death at now + dead_after(). False if there is one already.
  bool suspect(AgentId agent, Incarnation incarnation, Instant now);
  // The suspect spoke, was refuted or is gone: true if there was a suspicion.
  bool clear(AgentId agent);
  // Somebody heard of it at `contact`: its term is counted from there if that is later. It takes the suspect
  // itself to clear it.
  void testify(AgentId agent, Incarnation incarnation, Instant contact);
  bool suspects(AgentId agent) const { return suspicions_.count(agent) != 0; }
  std::size_t size() const { return suspicions_.size(); }

  struct Due {
    AgentId agent;
    Incarnation incarnation;
  };
  // Suspicions whose term has passed, removed.
  std::vector<Due> take_due(Instant now);
  // Puts one back whose verdict could not be passed, for another term.
  void postpone(const Due& due, Instant now);
  Instant next() const;

  // Deaths this agent declared by time-out within the window.
  void note_death(Instant now);
  std::size_t recent_deaths(Instant now);

  // One own timer fired `lateness` after it was due.
  void note_tick(Duration lateness);
  unsigned health() const { return health_; }  // 1 is well; time-outs are multiplied by it
  void forgive(Duration lateness);

 private:
  struct Suspicion {
    Incarnation incarnation;
    Instant dead_at;
  };
  std::int64_t scale_;
  std::map<AgentId, Suspicion> suspicions_;
  std::deque<Instant> deaths_;
  unsigned health_ = 1;
  unsigned good_ticks_ = 0;
};

}  // namespace shoal::overlay
