// scheduler/worker.h
//
// Runs attempts on this agent: brings inputs here, keeps within the ledger, hands attempts to the executors' driver in
// batches, names what they leave behind. Where an attempt came from, and what its result means, is not its business.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "scheduler/agents.h"
#include "scheduler/resources.h"
#include "scheduler/values.h"
#include "scheduler/work.h"

namespace shoal::scheduler {

class Worker {
 public:
  explicit Worker(WorkTable& works) : works_(works) {}

  // The time of the calls that follow.
  void set_now(Instant now) { now_ = now; }

  // ---- functions ----
  void learn(const FunctionSpec& spec);
  const FunctionSpec* spec(AppId app, FunctionId function) const;
  // Forgets functions and values of an application.
  void drop_app(AppId app, std::vector<Output>& out);

  // ---- attempts ----
  // Starts the work as soon as its inputs are here and the ledger allows. With `reserve`, what it is charged is taken
  // at once (the caller asked fits()), unless inputs have to be fetched: no unit is idle for that. The assignment is
  // kept in the record while it is needed: always for upstream jobs.
  void start(WorkIndex index, Assignment&& assignment, bool reserve, Instant now, std::vector<Output>& out);
  // The work that a driver's result is for; kNone for an attempt that is not running.
  WorkIndex find(std::uint64_t attempt) const;
  // Takes the attempt off the ledger and turns what the executor said into what upstream needs: outputs that are not
  // inline are kept here under their keys.
  JobResult conclude(WorkIndex index, const client::AttemptResult& result, std::vector<Output>& out);
  // Its result is not wanted any more. True when the record is free now, false when the driver's result will tell.
  bool cancel(WorkIndex index, std::vector<Output>& out);
  void block(std::uint64_t attempt, bool blocked);
  // Launches what waited for units.
  void pump(Instant now);
  // Takes back a start that has not come to a launch; the caller decides what becomes of the work.
  void withdraw(WorkIndex index);
  // Hands out up to `room64` of work that was not started, for somebody idle.
  std::vector<WorkIndex> give_up(std::uint64_t room64);
  // Asks the driver to end attempts that are far beyond their time-out.
  void expire(Instant now, std::vector<Output>& out);
  // The attempts of this step, in one message per kind of executor.
  void flush(std::vector<Output>& out);

  // ---- values ----
  // A value arrived, or could not be had: attempts that waited for it go on. Those that cannot are
  // withdrawn and returned.
  std::vector<WorkIndex> fetched(const in::Fetched& fetched, std::vector<LocalValues::Waiter>& waits, Instant now,
                                 std::vector<Output>& out);
  LocalValues& values() { return values_; }
  void keep(AppId app, const DataName& name, const client::Value& value, bool borrowed, std::vector<Output>& out);
  // Takes effect with the next flush().
  void drop(AppId app, const DataName& name);
  // Asks for a value unless it is on its way. Of what attempts wait for, only so much travels at a time
  // (kFetchBytesMax); the rest follows in the order of asking. True when nobody had asked before.
  bool fetch(AppId app, const ValueKey& key, std::uint64_t bytes, const std::vector<wire::Address>& holders,
             LocalValues::Waiter waiter, std::vector<Output>& out);

  Ledger& ledger() { return ledger_; }
  const Ledger& ledger() const { return ledger_; }
  // Charged to attempts that wait here for units or inputs, above what the ledger has.
  std::uint64_t waiting64() const { return waiting64_; }
  std::size_t waiting() const { return waiting_.size(); }
  std::size_t running() const { return running_; }
  Instant next_deadline() const;
  void check_invariants() const;

 private:
  struct Entry {
    FunctionSpec spec;
    bool launched = false;
  };

  void enqueue(WorkIndex index, Instant now);
  void launch(WorkIndex index, Assignment& assignment, Instant now);
  void place_files(AppId app, std::uint64_t attempt, std::vector<client::Argument>& arguments) const;
  out::Launch& batch(const FunctionSpec& spec);
  void send_fetch(out::Fetch&& fetch, std::vector<Output>& out);
  void end_fetch(const ValueKey& key, std::vector<Output>& out);

  WorkTable& works_;
  Ledger ledger_;
  LocalValues values_;
  std::map<std::pair<AppId, FunctionId>, Entry> functions_;
  std::set<std::tuple<bool, std::uint64_t, WorkIndex>> waiting_;  // (not urgent, age, work)
  std::set<std::pair<Instant, WorkIndex>> deadlines_;
  std::vector<out::Launch> batches_;
  std::vector<ValueKey> dropped_;
  struct Travelling {
    std::uint32_t times = 0;
    std::uint64_t bytes = 0;
  };
  std::map<ValueKey, Travelling> travelling_;
  std::uint64_t travelling_bytes_ = 0;
  // Since when something has been on its way without a break, and what arrived since: several at once share the way.
  Instant busy_since_;
  std::uint64_t busy_bytes_ = 0;
  Instant now_;
  std::deque<out::Fetch> fetches_;  // that wait for others to arrive
  std::uint64_t attempts_ = 0;
  std::uint64_t waiting64_ = 0;
  std::size_t running_ = 0;
};

}  // namespace shoal::scheduler
