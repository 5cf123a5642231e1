// protocol/overlay/election.h
//
// The rules by which a region gives itself a head, without any of the sending. Three parts: what this agent,
// as a voter, has promised (Ballot, kept on disk); how it stands for election (Candidacy); how a head moves
// the electoral roll to the members that live (RollKeeper).
//
// Safety: per epoch at most one head per region. A voter promises each epoch once and only to a candidate
// whose roll is not older than its own; a candidate needs a majority of the roll, of both lists while it
// changes; a change is complete before the next begins (Raft, Ongaro 2014, chapters 3 and 4). A region of two
// has a witness in the parent region as its third voter. Liveness beyond that: an election is *forced* when
// every voter that is missing is proven dead or has left, or when no majority came together for kForceAfter
// and the witness agrees (a root region of two has no witness and goes without). Forced epochs carry a piece
// of the head's id and so are unique as well; that two heads then exist at a time is possible until the
// partition heals, and the larger epoch wins.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "protocol/overlay/limits.h"
#include "protocol/overlay/messages.h"

namespace shoal::overlay {

bool newer(const message::Roll& a, const message::Roll& b);
// Everyone whose vote counts, ascending.
std::set<AgentId> everyone(const message::Roll& roll);
// True if `granted` holds a majority of each list of the roll.
bool majority(const message::Roll& roll, const std::set<AgentId>& granted);
// The smallest forced epoch of `agent` above `after`.
Epoch forced_epoch(Epoch after, AgentId agent);

// A voter's memory of one region: the only part of an election that must survive a crash.
struct Ballot {
  RegionId region;
  Epoch promised;
  AgentId promised_to;
  message::Roll roll;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.region, self.promised, self.promised_to, self.roll);
  }
  // Answers a request; when granted, the ballot has changed and must be durable before the answer leaves.
  message::Vote answer(AgentId candidate, const message::VoteRequest& request, bool head_lives);
  // A head's word: true if the ballot changed and must be written (and the roll acknowledged; with a later
  // epoch promised, the head does not count that).
  bool learn(const message::Announcement& word);
};

class Candidacy {
 public:
  bool active() const { return active_; }
  Epoch epoch() const { return epoch_; }
  Instant since() const { return since_; }
  const message::Roll& roll() const { return roll_; }

  // Stands in `epoch`, which the candidate has promised itself. Keeps the time of the first try.
  void stand(AgentId self, Epoch epoch, const message::Roll& roll, Instant now);
  void stop();
  void take(AgentId voter, const message::Vote& vote);
  void note_refusal(Epoch promised) { refused_up_to_ = std::max(refused_up_to_, promised); }
  // Largest epoch that a refusal named.
  Epoch refused_up_to() const { return refused_up_to_; }
  bool refused() const { return refused_; }

  enum class Outcome : std::uint8_t { kOpen, kWon, kForced };
  // `absent`: voters proven dead or gone by their own will. `attached`: the region has, or had, a parent.
  Outcome outcome(const std::set<AgentId>& absent, bool attached, Duration patience, Instant now) const;

 private:
  bool active_ = false;
  bool refused_ = false;
  Epoch epoch_;
  Epoch refused_up_to_;
  message::Roll roll_;
  std::set<AgentId> granted_;
  Instant since_;
};

class RollKeeper {
 public:
  void begin(const message::Roll& roll, Instant now);
  const message::Roll& roll() const { return roll_; }
  // Voters that have not confirmed the roll as it is, while it lacks a majority.
  std::vector<AgentId> waiting_for() const;
  // A voter has this version on disk.
  void ack(AgentId voter, Epoch epoch, std::uint64_t version);
  // Takes the next step towards `voters` and `witness` if the last one is complete (or is superseded while
  // both lists still count). True if the roll changed: announce it as (epoch, version).
  bool advance(std::vector<AgentId> voters, const Contact& witness, AgentId self, Epoch epoch, std::uint64_t version,
               Duration gap, Instant now);

 private:
  bool settled() const;

  message::Roll roll_;
  std::map<AgentId, std::pair<Epoch, std::uint64_t>> acks_;
  Instant changed_;
};

}  // namespace shoal::overlay
