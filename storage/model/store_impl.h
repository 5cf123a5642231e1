// storage/model/store_impl.h
//
// State of the store machine. One class, one file per concern: store.cc (dispatch, membership, timers, the
// walk), announce.cc (who must know what), copies.cc (receipts, copies made here), repair.cc (missing
// copies), search.cc (look-ups), records.cc (writes of names), deletes.cc, query.cc.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "protocol/base/boxed.h"
#include "storage/model/messages.h"
#include "storage/model/store.h"

namespace shoal::storage {

inline constexpr std::size_t kObjectDirectory = 2;  // agents of a region that keep an object's directory entry
inline constexpr std::size_t kRecordDirectory = 3;  // agents of a region that keep a record

inline constexpr std::size_t kBirthsMax = 8;  // remembered of one object; the oldest are forgotten first

const char* level_name(Level level);

// The newest epoch wins, the writer's id breaks ties.
inline bool supersedes(const Record& a, const Record& b) {
  return std::pair(a.epoch, a.writer) > std::pair(b.epoch, b.writer);
}

// Which agents know the present content of an entry, so that a change is announced once to each.
struct Spread {
  struct Told {
    AgentId agent;
    std::uint64_t bond = 0;
    std::uint64_t revision = 0;
  };
  std::uint64_t revision = 1;
  std::vector<Told> told;

  bool knows(AgentId agent, std::uint64_t bond) const;
  void tell(AgentId agent, std::uint64_t bond, std::uint64_t at_revision);
};

// An object that this agent keeps (`here`) or, as a directory agent or head, knows about.
struct Known {
  Manifest manifest;  // holders: self included when here
  bool here = false;
  bool fresh = false;                 // put here in this life, its copies not yet complete
  std::vector<wire::Address> former;  // here only: holders that went away or were not heard of in this life
  Spread spread;
};

struct StoredRecord {
  Record record;
  std::uint64_t ticket = 0;  // persist under way; 0: durable here
  Spread spread;
};

// The copies of one object that are being arranged. Exists only while there is something to arrange.
struct Job {
  std::map<AgentId, Instant> pending;  // home agents asked for a copy, with the deadline
  struct Above {
    Instant deadline = Instant::never();  // never(): not asked now
    std::uint32_t attempts = 0;
  };
  std::map<std::int32_t, Above> above;  // by depth of the region in our path
  std::set<AgentId> avoid;              // could not make a copy
  std::vector<std::uint64_t> puts;      // waiting requests
  Instant review = Instant::never();    // timer for repair
  std::string trouble;                  // what the last failure said
};

struct PendingPut {
  std::uint64_t request = 0;
  ObjectId object;
  Level level = Level::kLocal;
  Instant deadline;
};

// A copy being made here, for those who asked.
struct PullJob {
  Manifest manifest;
  std::vector<std::pair<wire::Address, std::int32_t>> requesters;
  bool started = false;
};

struct Search {
  enum class Purpose : std::uint8_t { kLocate, kGet, kList, kQuery, kDelete, kHeal, kPeer };
  Purpose purpose = Purpose::kLocate;
  msg::What what = msg::What::kObject;
  ObjectId object;
  std::string name;
  std::uint64_t request = 0;  // of the client
  wire::Address asker;        // kPeer
  std::uint64_t asker_id = 0;
  bool home = true;      // our own region is ours to ask (not when a member of it asked us)
  bool widened = false;  // everyone is asked, not only the directory
  bool up_asked = false;
  bool complete = true;
  bool silence = false;                      // someone did not answer in time
  bool up = false;                           // kPeer: asked to look upwards
  std::set<std::pair<AgentId, bool>> asked;  // with whether it was asked to look upwards
  std::set<std::pair<AgentId, bool>> waiting;
  std::set<AgentId> failed;
  std::optional<Manifest> found;
  std::map<std::string, Record> records;
  Instant widen_at = Instant::never();
  Instant deadline = Instant::never();
};

// A write of a record on its way to whoever decides; for a client of ours or for another agent.
struct Deciding {
  std::optional<wire::Address> asker;  // nullopt: our own set request, same number
  std::uint64_t asker_id = 0;
  msg::Decide decide;
  int stage = 0;
  AgentId waiting_for;
  Instant deadline = Instant::never();
};

struct PendingSet {
  std::uint64_t request = 0;
  std::string name;
  Level level = Level::kLocal;
  std::optional<Record> decided;  // empty while undecided
  std::int32_t decided_depth = 0;
  Instant deadline = Instant::never();
};

struct PendingDelete {
  std::uint64_t request = 0;
  std::vector<std::string> names;  // of the tombstones
  std::map<AgentId, wire::Address> waiting;
  int tries = 0;
  Instant deadline = Instant::never();
};

// An answer to an announcement, held back until its records are durable.
struct PendingAck {
  wire::Address to;
  msg::AnnounceAck ack;
  std::set<std::uint64_t> tickets;
};

// What waits for a record to be durable here.
struct Waiter {
  enum class Kind : std::uint8_t { kAck, kSet, kDecided, kDelete, kForgotten };
  Kind kind = Kind::kAck;
  std::uint64_t number = 0;
};

// One PersistRecord under way.
struct Persisting {
  std::string name;
  std::vector<Waiter> waiters;
};

struct Outbox {
  std::set<ObjectId> objects;
  std::set<msg::Gone> gone;
  std::set<std::string> records;
  bool greet = false;
  bool in_flight = false;
  std::uint64_t sequence = 0;
  std::map<ObjectId, std::uint64_t> sent_objects;  // with the revision that was sent
  std::set<msg::Gone> sent_gone;
  std::map<std::string, std::uint64_t> sent_records;
  Instant retry_at = Instant::never();
  Duration retry;
  bool empty() const { return !greet && objects.empty() && gone.empty() && records.empty(); }
};

struct Peer {
  wire::Address address;
  std::string host;
  std::uint64_t meeting = 0;  // a new number each time it comes up
  std::uint64_t session = 0;  // what it says its own is; 0: not heard of
  Boxed<Outbox> box;          // while there is something to say or an answer is awaited
  Outbox& outbox() { return box ? *box : box.emplace(); }
};

enum class TimerKind : std::uint8_t {
  kWalk,
  kOutbox,
  kPut,
  kCopies,
  kReview,
  kWiden,
  kSearch,
  kDecide,
  kSet,
  kDelete,
  kHeal
};

struct Timer {
  Instant at;
  TimerKind kind = TimerKind::kWalk;
  std::uint64_t high = 0;  // id of what it is about
  std::uint64_t low = 0;
  friend auto operator<=>(const Timer&, const Timer&) = default;
};

struct Store::Impl {
  Impl(StoreConfig config, Rng rng);

  // -- store.cc --
  void step(Instant at, const Input& input, std::vector<Output>& outputs);
  void on(const in::Wake&) {}
  void on(const in::Frame& frame);
  void on(const in::Self& self);
  void on(const in::PeerUp& up);
  void on(const in::PeerDown& down);
  void on(const in::Leave& leave);
  void on(const in::Recovered& recovered);
  void on(const in::Persisted& persisted);
  template <class M>
  void receive(const wire::Envelope& envelope);
  void fire_due();
  void fire(const Timer& timer);
  void arm(TimerKind kind, Instant when, std::uint64_t high, std::uint64_t low = 0);
  void disarm(TimerKind kind, Instant when, std::uint64_t high, std::uint64_t low = 0);
  void rebuild_members();
  void start_walk();
  void walk();
  void check_invariants() const;
  template <class M>
  void send(const wire::Address& to, const M& message);
  template <class T>
  void emit(T&& output) {
    out->emplace_back(std::forward<T>(output));
  }

  // -- where things are in the hierarchy --
  bool is_home(const wire::Address& address) const;
  bool is_below(const wire::Address& address) const;                // in a region under this one
  bool is_peer_home(AgentId agent) const;                           // up, native of our region
  std::int32_t ancestor_depth(const wire::Address& address) const;  // of its region in our path; -1: not an ancestor
  std::int32_t home_depth() const { return static_cast<std::int32_t>(self.path.size()) - 1; }
  bool is_head() const { return above && above->agent == config.id; }
  bool has_parent() const { return self.path.size() > 1; }
  const Peer* peer(AgentId agent) const;
  std::vector<AgentId> home_directory(std::uint64_t key, std::size_t count) const;
  std::vector<AgentId> upward(std::uint64_t key,
                              std::size_t count) const;  // who passes it on to the parent region

  // -- announce.cc --
  void on_message(const wire::Address& from, const msg::Announce& announce);
  void on_message(const wire::Address& from, const msg::AnnounceAck& ack);
  // Of this agent towards a peer: another number after a restart of this agent, and after it has taken the peer for
  // gone, because what is said meanwhile is lost on a peer that may not even have noticed.
  std::uint64_t session_for(AgentId agent) const;
  // What was told to a peer counts while neither side has a new session; 0: not heard of.
  std::uint64_t bond(AgentId agent) const;
  void note_session(AgentId agent, std::uint64_t session);
  void spread(ObjectId object, Known& known);
  void spread(const std::string& name, StoredRecord& stored);
  void changed(ObjectId object, Known& known);  // new revision, announced, persisted when here
  void announce_gone(ObjectId object, AgentId holder);
  bool relayed(const Known& known) const;
  void merge_entry(const wire::Address& from, const Manifest& manifest, std::vector<Record>& newer);
  void disown(AgentId claimant, const Manifest& manifest);
  bool merge_births(Manifest& manifest, const std::vector<std::uint64_t>& births) const;
  bool merge_holders(AgentId from, Known& known, const std::vector<wire::Address>& holders);
  void drop_holder(ObjectId object, AgentId holder);
  void flush_outboxes();
  void flush(AgentId agent, Peer& peer);
  void retry_outbox(AgentId agent);
  void send_ack_if_durable(std::uint64_t number);
  void mark_dirty(AgentId agent) { dirty_peers.insert(agent); }

  // -- copies.cc --
  void on(const in::Put& put);
  void on(const in::Pulled& pulled);
  void on(const in::Corrupt& corrupt);
  void heal_later(ObjectId object);
  void heal(ObjectId object);
  void on_message(const wire::Address& from, const msg::Replicate& replicate);
  void on_message(const wire::Address& from, const msg::Place& place);
  void on_message(const wire::Address& from, const msg::Copied& copied);
  void on_message(const wire::Address& from, const msg::Lost& lost);
  void set_here(ObjectId object, Known& known, bool here);
  void forget_copy(ObjectId object, const Error& why);
  void added_holder(ObjectId object, Known& known, const wire::Address& holder);
  void prune_holders(ObjectId object, Known& known);
  void review(ObjectId object, bool due);
  std::size_t arrange_home(ObjectId object, Known& known, Job& job, std::size_t missing);
  void arrange_above(ObjectId object, Known& known, Job& job, const std::set<std::int32_t>& depths);
  std::vector<AgentId> copy_targets(ObjectId object, const Known& known, const Job& job) const;
  std::set<std::int32_t> depths_wanted(const Known& known) const;
  bool responsible(ObjectId object, const Known& known) const;
  std::size_t home_copies(const Known& known) const;
  bool urgent(const Job& job) const { return !job.puts.empty(); }
  void end_pending(ObjectId object, Job& job, AgentId agent);
  void end_above(Job::Above& above_copy);
  void place_above(const msg::Place& place);
  void expire_copies(ObjectId object);
  void schedule_review(ObjectId object, Duration delay);
  void settle_puts(ObjectId object);
  void expire_put(std::uint64_t request);
  void finish_put(std::uint64_t id, Result<Receipt> receipt);
  void drop_job_if_idle(ObjectId object);
  bool satisfied(const Known& known, Level level) const;
  Level reached(const Known& known) const;
  Result<> possible(Level level, std::string_view what) const;
  Duration with_transfer(Duration base, std::uint64_t bytes) const;
  void queue_pull(Manifest manifest, std::optional<std::pair<wire::Address, std::int32_t>> requester);
  void pump_pulls();
  void pump_starved();
  Result<> acceptable(const Manifest& manifest) const;

  // -- search.cc --
  void on(const in::Locate& locate);
  void on(const in::GetRecord& get);
  void on(const in::ListRecords& list);
  void on_message(const wire::Address& from, const msg::Ask& ask);
  void on_message(const wire::Address& from, const msg::Tell& tell);
  std::uint64_t start_search(Search search, Duration patience);
  void ask(std::uint64_t id, Search& search, AgentId agent, bool up);
  void ask_first(std::uint64_t id, Search& search);
  void widen(std::uint64_t id, Search& search);
  void advance(std::uint64_t id);
  void finish_search(std::uint64_t id);
  void take_local(Search& search);
  void merge_found(Search& search, const Manifest& manifest);
  void merge_record(Search& search, const Record& record);
  bool usable(const Search& search, bool thin_is_enough) const;
  Result<Manifest> located(const Search& search) const;
  Result<Record> got(const Search& search) const;

  // -- records.cc --
  void on(const in::SetRecord& set);
  void on_message(const wire::Address& from, const msg::Decide& decide);
  void on_message(const wire::Address& from, const msg::Decided& decided);
  void pass_decision_on(std::uint64_t id);
  Result<Record> decide_here(const msg::Decide& decide);
  void decision_made(std::uint64_t id, const Result<Record>& record, std::int32_t depth);
  void finish_decision(std::uint64_t id, const Result<Record>& record, std::int32_t depth);
  void settle_set(std::uint64_t id);
  void settle_sets_of(const std::string& name);
  void expire_set(std::uint64_t id);
  void finish_set(std::uint64_t id, Result<Record> record);
  enum class Accepted : std::uint8_t { kNew, kSame, kOlder, kRefused };
  Accepted accept(const Record& record);
  void ready(const Waiter& waiter, std::uint64_t ticket);
  Result<> check_record(const std::string& name, std::size_t value_bytes) const;

  // -- deletes.cc --
  void on(const in::Delete& request);
  void on_message(const wire::Address& from, const msg::Forget& forget);
  void on_message(const wire::Address& from, const msg::Forgotten& forgotten);
  void bury(const Search& search);
  void apply_tombstone(const Record& record);
  std::vector<Record> tombstones_for(const Manifest& manifest) const;  // empty unless all its births are buried
  void strike_buried(Manifest& manifest) const;
  bool durable(const std::vector<std::string>& names) const;
  void wait_durable(const std::vector<std::string>& names, Waiter waiter);
  void send_forgets(std::uint64_t id);
  void settle_delete(std::uint64_t id);
  void expire_delete(std::uint64_t id);

  // -- query.cc --
  void on(const in::Query& query);
  wire::Dynamic describe(const Manifest& manifest, bool here) const;

  StoreConfig config;
  bool leaving = false;
  std::uint64_t session = 0;
  wire::Address self;
  std::optional<wire::Address> above;
  Instant now;
  std::vector<Output>* out = nullptr;

  std::map<AgentId, Peer> peers;
  std::vector<AgentId> home;     // natives of the home region that are up, self included; sorted
  std::vector<AgentId> parents;  // natives of the parent region, known to a head only; sorted
  std::set<AgentId> dirty_peers;

  std::map<ObjectId, Known> objects;
  std::size_t here_count = 0;
  std::uint64_t here_bytes = 0;
  std::map<std::string, StoredRecord> records;

  std::map<ObjectId, Job> jobs;
  std::set<std::pair<AgentId, ObjectId>> pending_at;  // Job::pending by agent
  std::size_t copies_in_flight = 0;
  std::set<std::pair<std::size_t, ObjectId>>
      starved;  // objects that wait for a free place in flight, fewest copies first
  std::map<std::uint64_t, PendingPut> puts;
  std::map<ObjectId, PullJob> pulls;
  std::map<ObjectId, int> heals;  // damaged here and not yet replaced: how often that was tried
  std::deque<ObjectId> pull_queue;
  std::size_t pulls_in_flight = 0;

  std::map<std::uint64_t, Search> searches;
  std::map<std::uint64_t, Deciding> decisions;
  std::map<std::uint64_t, PendingSet> sets;
  std::map<std::string, std::set<std::uint64_t>> sets_by_name;
  std::map<std::uint64_t, PendingDelete> deletes;
  std::map<std::uint64_t, std::pair<wire::Address, std::uint64_t>>
      forgets;  // answers due when the tombstone is durable
  std::map<std::uint64_t, PendingAck> acks;
  std::map<std::uint64_t, Persisting> persists;                               // by ticket
  std::map<std::uint64_t, std::pair<Result<Record>, std::int32_t>> outcomes;  // decided here, not yet durable
  std::map<std::pair<AgentId, std::uint64_t>, Record> recent_decisions;
  std::deque<std::pair<AgentId, std::uint64_t>> recent_order;

  std::set<Timer> timers;
  struct Walk {
    bool active = false;
    bool again = false;
    bool in_records = false;
    std::optional<ObjectId> object;
    std::optional<std::string> name;
    std::set<AgentId> recheck;  // peers whose copies must be confirmed anew
    std::set<AgentId> recheck_next;
  } walk_state;
  std::uint64_t last_number = 0;  // of searches, decisions, acks, tickets…
  Instant settled_at;             // no repair before: co-holders first have time to say what they have

  struct Counters {
    std::uint64_t bad_frames = 0;
    std::uint64_t refused = 0;
    std::uint64_t repairs = 0;
    std::uint64_t lost = 0;  // last copy known here went bad
    std::uint64_t restarts_seen = 0;
  } counters;
};

}  // namespace shoal::storage
