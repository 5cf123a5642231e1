// agent/executor/executor_group.h
//
// The executors of one language, interpreter and environment: which attempt runs in which process. Attempts wait in one
// queue and are handed to the least loaded executor that may take them. Attempts of functions that have shown to be
// short are handed over ahead, many to a message; one that may be long never waits behind another while an executor is
// free. Attempts that turn out to wait behind a long one are called back and run elsewhere.
//
// When an executor dies, only an attempt that was alone in it is blamed (kExecutorLost). If several were handed over
// it is unknown which one ran, so each of them is run again alone; the next death names the culprit.
//
// Thread-safety: none; works in turns of the reactor.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "agent/environment/surroundings.h"
#include "agent/executor/client_server.h"
#include "agent/executor/executor_config.h"
#include "agent/executor/launcher.h"
#include "agent/executor/output_log.h"
#include "agent/reactor/reactor.h"
#include "protocol/wire/client.h"

namespace shoal::executor {

class ExecutorGroup {
 public:
  struct Events {
    std::function<void(client::AttemptResult&&)> report;  // once for every attempt
    std::function<void(std::uint64_t attempt, bool blocked)> blocked;
    std::function<void()> changed;  // dispatch() may have something to do
  };
  struct Kind {
    std::string language;  // "python" or "c++"
    std::string program;   // the interpreter, or the application's executable
    environment::Surroundings surroundings;
  };
  struct Counters {
    std::uint64_t started = 0;  // executors
    std::uint64_t start_failures = 0;
    std::uint64_t lost = 0;      // that died while they had work
    std::uint64_t killed = 0;    // by us, to stop an attempt
    std::uint64_t recalled = 0;  // attempts that were taken back from behind a long one
  };

  ExecutorGroup(agent::Reactor& reactor, ClientServer& server, const ExecutorConfig& config, OutputLog& log, Kind kind,
                Events events);
  ~ExecutorGroup();
  ExecutorGroup(const ExecutorGroup&) = delete;
  ExecutorGroup& operator=(const ExecutorGroup&) = delete;

  void add_function(client::Function function);
  void run(client::Attempt attempt);
  // Reported kCancelled or kTimedOut by and by. False: no such attempt here.
  bool kill(std::uint64_t attempt, bool timed_out);
  // Hands queued attempts to executors and starts executors as needed. Called once a turn when something changed.
  void dispatch();

  // An executor said Hello. False when `token` is not one of ours.
  bool on_connected(ClientId client, const std::string& token);
  // Frames and the end of connections that on_connected accepted. False: not one of ours.
  bool on_done(ClientId client, client::Done&& done);
  bool on_blocked(ClientId client, const client::Blocked& blocked);
  bool on_gone(ClientId client, const std::string& reason);

  // Drops the queue and signals every process.
  void stop(int signal);
  std::size_t processes_alive() const { return launcher_.alive(); }
  std::size_t executors() const { return executors_.size(); }
  std::size_t queued() const { return queue_.size(); }
  std::size_t handed_over() const;
  const Counters& counters() const { return counters_; }

 private:
  struct Slot {  // an attempt that was handed over, or waits
    client::Attempt attempt;
    bool alone = false;     // was in an executor that died with several attempts
    bool recalled = false;  // asked back: the executor says kCancelled if it has not started it
    std::optional<client::Outcome> killed;
  };
  enum class State : std::uint8_t { kStarting, kReady, kStopping };
  struct Executor {
    std::string token;
    State state = State::kStarting;
    ClientId client;                           // 0: not connected
    std::deque<Slot> slots;                    // in the order handed over: the first one runs
    std::size_t unsent = 0;                    // slots at the end that are not in a message yet
    std::uint64_t ahead_us = 0;                // expected run time of all slots
    bool blocked = false;                      // its attempt waits for something
    std::unordered_set<FunctionId> functions;  // sent
    Instant since;                      // when the first slot became first; when it became idle; when it was started
    Instant act_at = Instant::never();  // SIGTERM, or SIGKILL
    bool terminated = false;            // SIGTERM sent
  };
  struct Habit {  // what is known about a function
    std::uint64_t runs = 0;
    std::uint64_t mean_us = 0;
    bool prints = false;  // its output is attributed by running it one at a time
  };

  Launcher::Recipe recipe() const;
  bool may_take(const Executor& executor, const Slot& slot, Instant now) const;
  bool is_short(FunctionId function) const;
  std::uint64_t expected_us(FunctionId function) const;
  Executor* least_loaded(const Slot& slot, Instant now);
  void hand_over(Executor& executor, Slot slot, Instant now);
  void send_unsent(Executor& executor);
  void start_executors();
  void recall_stuck(Instant now);
  std::uint64_t executors_max() const;
  void take_result(Executor& executor, client::AttemptResult&& result);
  void on_ended(const ExecutorEnd& end);
  void release_slots(Executor& executor, const std::string& why);
  void fail_queue(const std::string& why);
  void report_killed(const Slot& slot);
  void begin_kill(Executor& executor, Instant now);
  void terminate(Executor& executor, Instant now);
  void on_timer();
  void check(Executor& executor, Instant now);
  Instant next_check(const Executor& executor) const;
  void arm_timer();
  Executor* find(ClientId client);
  OutputOwner owner_of(const std::string& token) const;
  std::uint64_t blocked_count() const;

  agent::Reactor& reactor_;
  ClientServer& server_;
  const ExecutorConfig& config_;
  std::string language_;
  std::string program_;
  environment::Surroundings surroundings_;
  Events events_;
  Counters counters_;
  std::unordered_map<FunctionId, client::Function> functions_;
  std::unordered_map<FunctionId, Habit> habits_;
  std::deque<Slot> queue_;
  std::map<std::string, std::unique_ptr<Executor>> executors_;  // by token
  std::unordered_map<std::uint64_t, std::string> tokens_;       // by client, until it is gone
  std::uint32_t failures_in_a_row_ = 0;                         // of starting
  bool stopped_ = false;
  bool limit_noted_ = false;
  agent::Reactor::TimerId timer_ = 0;
  Launcher launcher_;
};

}  // namespace shoal::executor
