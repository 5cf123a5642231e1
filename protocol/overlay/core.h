// protocol/overlay/core.h
//
// The parts of this folder put together: what Overlay is made of. One file per concern:
//   step.cc      inputs and timers            gossip.cc   merging and flooding of tables
//   watch.cc     suspicion, death, isolation  join.cc     asking for admission and granting it
//   heads.cc     elections, announcements     place.cc    start, recovery, attachments, what is persisted
//   routing.cc   next hops                    report.cc   views for people, invariants
// Private to this folder.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "protocol/overlay/detector.h"
#include "protocol/overlay/election.h"
#include "protocol/overlay/joiner.h"
#include "protocol/overlay/links.h"
#include "protocol/overlay/messages.h"
#include "protocol/overlay/overlay.h"
#include "protocol/overlay/region.h"

namespace shoal::overlay {

// One of the at most two regions this agent takes part in: its home, and as head the parent region as a
// guest.
struct Attachment {
  Attachment(Scope s, Region r, std::vector<RegionId> p) : scope(s), region(std::move(r)), path(std::move(p)) {}

  Scope scope;
  Region region;
  std::vector<RegionId> path;                 // of the region, itself last
  std::optional<message::Announcement> word;  // newest of its head
  bool isolated = false;

  // News not flooded yet, each with the neighbour it came from (zero: from here).
  std::map<AgentId, AgentId> records;
  std::vector<std::pair<message::Claim, AgentId>> claims;
  Instant flush_at = Instant::never();
  Instant flushed{};
};

// What is kept on disk under "self".
struct SavedSelf {
  std::uint64_t life = 0;
  RegionId region;
  std::string region_name;
  std::vector<RegionId> path;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.life, self.region, self.region_name, self.path);
  }
};

// ... and under "known": whom to ask after a restart.
struct SavedKnown {
  std::vector<Member> natives;
  std::vector<Contact> above;
  std::vector<Contact> beyond;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.natives, self.above, self.beyond);
  }
};

struct Counters {
  std::uint64_t frames_dropped = 0;  // malformed, or from somebody who has no business here
  std::uint64_t joins_refused = 0;
  std::uint64_t joins_admitted = 0;
  std::uint64_t refutations = 0;
  std::uint64_t suspicions = 0;
  std::uint64_t syncs_sent = 0;
};

class Core {
 public:
  Core(OverlayConfig config, const std::map<std::string, Bytes>& recovered, Rng rng);

  // As in overlay.h.
  void step(Instant now, const Input& input, std::vector<Output>& out);
  Instant next_deadline() const;
  std::optional<AgentId> next_hop(const wire::Address& target) const;
  const wire::Address& address() const { return address_; }
  bool is_head() const { return is_head_; }
  std::optional<AgentId> head() const;
  Epoch head_epoch() const;
  bool isolated() const { return home_ && home_->isolated; }
  const std::map<AgentId, Member>& members(Scope scope) const;
  wire::Dynamic report(std::string_view method) const;
  void check_invariants() const;

 private:
  using Kind = message::Kind;

  // -- step.cc --
  void on_input(const in::Start&);
  void on_input(const in::Wake&) {}
  void on_input(const in::Frame& frame);
  void on_input(const in::LinkUp& up);
  void on_input(const in::LinkDown& down);
  void on_input(const in::LocalState& state);
  void on_input(const in::Summaries& summaries);
  void on_input(const in::Leave&);
  void on_input(const in::Want& want);
  void run_timers();
  void tick();
  void send_heartbeats();
  void send_digests();
  void probe_one_dead();
  void meet(AgentId peer);
  void settle();
  void rewire();
  template <class T>
  bool open(const wire::Envelope& envelope, T& out);
  template <class T>
  void send(AgentId to, Kind kind, const T& body, bool after_persist = false);
  void send_bytes(AgentId to, Kind kind, Bytes body, bool after_persist = false);
  void drop() { ++counters_.frames_dropped; }

  // -- gossip.cc --
  bool take_record(Attachment& at, const Member& record, AgentId from);
  bool take_claim(Attachment& at, const message::Claim& claim, AgentId from);
  void on_gone(Attachment& at, AgentId agent, bool left, bool proven);
  void on_displaced(Attachment& at, const std::vector<AgentId>& displaced);
  void on_heartbeat(AgentId from, const message::Heartbeat& beat);
  void on_delta(AgentId from, const message::Delta& delta);
  void on_digest(AgentId from, const message::Digest& digest);
  void on_sync(AgentId from, const message::Sync& sync);
  void merge_sync(Attachment& at, const message::Sync& sync, AgentId from);
  void send_digest(Attachment& at, AgentId to);
  void send_table(Attachment& at, AgentId to);
  void send_difference(Attachment& at, const message::Sync& theirs, AgentId to);
  void schedule_flush(Attachment& at, Duration gap);
  void flush(Attachment& at);
  std::vector<AgentId> gossip_links(const Attachment& at) const;
  void refute(Incarnation seen);
  void set_incarnation(Incarnation incarnation);
  void publish_self(Attachment& at, Duration gap);

  // -- watch.cc --
  void watch();
  void raise_suspicion(AgentId agent);
  void judge(const Detector::Due& due);
  bool anyone_answers(const Attachment& at) const;
  void set_isolated(Attachment& at, bool isolated);
  void note_contact(AgentId neighbour);
  void answer_suspicion(Attachment& at, const message::Claim& claim);
  void on_heard(const message::Heard& heard);
  void declare_dead(Attachment& at, AgentId agent, Incarnation incarnation, bool proven);

  // -- join.cc --
  void drive_joiner(Joiner& joiner);
  void ask(Joiner& joiner);
  void on_join(AgentId from, const message::Join& join);
  void admit(const message::Join& join, message::JoinReply& reply);
  void answer_founder(const message::Join& join, message::JoinReply& reply);
  void redirect_down(const Member& head, const message::Join& join, message::JoinReply& reply);
  void refuse(message::JoinReply& reply, std::string reason);
  void on_join_reply(AgentId from, const message::JoinReply& reply);
  void take_admission(Joiner& joiner, const message::JoinReply& reply);
  void join_parent();
  std::vector<Contact> parent_contacts() const;
  void watch_parent();
  bool attached() const;
  bool orphaned() const;
  void leave_orphaned_parent();

  // -- heads.cc --
  void tend_heads();
  void call_election();
  void run_for_head();
  void ask_for_votes();
  void stand();
  void conclude_candidacy();
  void become_head(Epoch epoch, bool forced);
  void step_down();
  void keep_roll();
  message::Announcement compose_word() const;
  void publish_word(bool roll_changed);
  void take_word(Attachment& at, const message::Announcement& word, AgentId from);
  void adopt_home_word(const message::Announcement& word);
  void flood_word(const Attachment& at, AgentId except, bool after_persist);
  void on_announce(AgentId source, AgentId neighbour, const message::Announcement& word);
  void on_roll_ack(AgentId source, const message::RollAck& ack);
  void on_vote_request(AgentId source, const message::VoteRequest& request);
  void on_vote(AgentId source, const message::Vote& vote);
  void save_ballot(const Ballot& ballot);
  void acknowledge_roll(const Ballot& ballot, AgentId head);
  Ballot& home_ballot();
  std::set<AgentId> absent_voters() const;
  std::vector<AgentId> electable() const;
  bool headless() const;
  std::vector<Contact> contacts_above() const;

  // -- place.cc --
  void found(std::string name, std::vector<RegionId> parent_path);
  void recover();
  void ask_configured();
  void go_on_alone();
  void enter_home(RegionId id, const std::string& name, std::vector<RegionId> path);
  void enter_parent(const message::JoinReply& reply);
  void leave_parent(bool announce);
  void break_circle();
  void set_path(std::vector<RegionId> path);
  Member own_record(const Attachment& at) const;
  void save_self();
  void save_known();
  void start_new_life(std::uint64_t at_least);
  Attachment* at(RegionId region);
  Attachment* attachment_of(Scope scope);
  const Attachment* attachment_of(Scope scope) const;
  bool knows(AgentId agent) const;
  const Member* find_member(AgentId agent) const;

  // -- routing.cc --
  std::optional<AgentId> hop_within(const Attachment& at, AgentId member) const;
  std::optional<AgentId> hop_by_path(const wire::Address& target) const;

  template <class T>
  void emit(T output) {
    out_->emplace_back(std::move(output));
  }

  OverlayConfig config_;
  Rng rng_;
  std::int64_t scale_;
  SavedSelf saved_;
  SavedKnown known_;  // its natives only until the agent has started: the region's table has them
  bool natives_saved_ = false;

  // Of the current step.
  Instant now_{};
  std::vector<Output>* out_ = nullptr;

  bool started_ = false;
  bool left_ = false;
  bool admitted_ = false;  // others may hear of this life: its incarnation is durable
  bool recovered_ = false;
  bool asked_fellows_ = false;  // after a restart: then those that the configuration names
  std::uint64_t life_ = 0;
  Incarnation incarnation_;
  Bytes local_state_;
  Bytes upward_;
  Bytes downward_;
  std::uint64_t home_version_ = 0;
  std::uint64_t guest_version_ = 0;

  wire::Address address_;
  std::optional<Attachment> home_;
  std::optional<Attachment> parent_;
  LinkTable links_;
  Detector detector_;
  Joiner home_join_;
  Joiner parent_join_;
  std::map<std::string, std::pair<AgentId, Instant>> foundings_;

  bool is_head_ = false;
  Epoch head_epoch_;
  std::map<RegionId, Ballot> ballots_;  // of the home region, and of child regions this agent is witness for
  Candidacy candidacy_;
  RollKeeper roll_keeper_;
  Instant parent_seen_{};
  Instant orphan_at_ = Instant::never();  // when this head without a parent calls its region orphaned
  bool reassert_ = false;                 // a voter has promised a later epoch: this head has to be elected again

  std::uint64_t home_graph_seen_ = 0;
  std::uint64_t parent_graph_seen_ = 0;
  bool rewire_ = false;
  std::uint64_t ticks_ = 0;

  // Timers; never() when idle.
  Instant tick_at_ = Instant::never();
  Instant watch_at_ = Instant::never();
  Instant election_at_ = Instant::never();
  Instant probe_at_ = Instant::never();
  Instant announce_at_ = Instant::never();
  Instant above_at_ = Instant::never();
  Instant known_at_ = Instant::never();

  Counters counters_;
};

template <class T>
bool Core::open(const wire::Envelope& envelope, T& out) {
  static constexpr wire::Limits kLimits{kMessageBytesMax, 12, 4096, kMessageBytesMax};
  auto decoded = wire::decode<T>(envelope.body, kLimits);
  if (!decoded) {
    drop();
    return false;
  }
  out = std::move(*decoded);
  return true;
}

template <class T>
void Core::send(AgentId to, Kind kind, const T& body, bool after_persist) {
  send_bytes(to, kind, wire::encode(body), after_persist);
}

}  // namespace shoal::overlay
