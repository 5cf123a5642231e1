// The process that runs tasks: this program, started by an agent with --shoal-executor (docs/client-protocol.md §5).
// The main thread runs attempts in order; a second one reads the socket, so that cancellations reach attempts that
// wait.
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "sdk/cpp/agent_runtime.h"
#include "sdk/cpp/connection.h"
#include "sdk/cpp/program.h"
#include "shoal/shoal.hpp"

namespace shoal::sdk {

namespace {

using client::AttemptResult;
using client::Outcome;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kResultsPerMessage = 64;
constexpr std::uint64_t kShortUs = 200;  // results are not held back by a task that may take longer
constexpr auto kHoldBack = std::chrono::milliseconds(1);

// What the protocol wants to know about an exception: type, text, trace, pickled.
struct ErrorDetail {
  std::string type;
  std::string message;
  std::string trace;
  Bytes pickled;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.type, self.message, self.trace, self.pickled);
  }
};

class Executor {
 public:
  Executor() : connection_(socket_path()) {
    client::Hello hello;
    hello.role = "executor";
    const char* token = ::getenv("SHOAL_EXECUTOR_TOKEN");
    hello.name = token == nullptr ? "" : token;
    hello.pid = static_cast<std::uint64_t>(::getpid());
    const client::Welcome welcome = greet(connection_, hello);
    arena_ = Arena(welcome.arena, welcome.client, welcome.inline_max);
  }

  [[noreturn]] void run() {
    std::thread([this] { read(); }).detach();
    for (;;) run_one(next());
  }

 private:
  // ---- the reading thread ----
  void read() {
    try {
      for (;;) take(connection_.receive());
    } catch (const Failure&) {
      ::_exit(0);  // the agent is gone, and with it the reason to run anything
    }
  }

  void take(const Frame& frame) {
    switch (frame.kind) {
      case client::Kind::kFunction: {
        const auto function = frame.as<client::Function>();
        const std::lock_guard lock(mutex_);
        names_[function.function] = function.name;
        return;
      }
      case client::Kind::kRun:
        return take_attempts(frame.as<client::Run>());
      case client::Kind::kCancel:
        return cancel(frame.as<client::Cancel>());
      default:
        return;
    }
  }

  void take_attempts(client::Run run) {
    std::unique_lock lock(mutex_);
    if (blocked_) {
      lock.unlock();
      return give_back(run.attempts, Outcome::kReturned);
    }
    for (auto& attempt : run.attempts) queue_.push_back(std::move(attempt));
    changed_.notify_one();
  }

  void cancel(const client::Cancel& cancel) {
    const std::unordered_set<std::uint64_t> wanted(cancel.attempts.begin(), cancel.attempts.end());
    std::vector<client::Attempt> cancelled;
    {
      const std::lock_guard lock(mutex_);
      std::deque<client::Attempt> kept;
      for (auto& attempt : queue_) {
        if (wanted.contains(attempt.attempt)) {
          cancelled.push_back(std::move(attempt));
        } else {
          kept.push_back(std::move(attempt));
        }
      }
      queue_ = std::move(kept);
    }
    give_back(cancelled, Outcome::kCancelled);
  }

  void give_back(const std::vector<client::Attempt>& attempts, Outcome outcome) {
    if (attempts.empty()) return;
    client::Done done;
    for (const auto& attempt : attempts) done.results.push_back(AttemptResult{attempt.attempt, outcome, {}, {}, {}, 0});
    connection_.send(client::Kind::kDone, done);
  }

  // ---- the main thread ----
  client::Attempt next() {
    std::unique_lock lock(mutex_);
    if (queue_.empty()) {
      lock.unlock();
      flush();
      lock.lock();
      changed_.wait(lock, [this] { return !queue_.empty(); });
    }
    client::Attempt attempt = std::move(queue_.front());
    queue_.pop_front();
    return attempt;
  }

  void flush() {
    if (results_.empty()) return;
    client::Done done;
    done.results.swap(results_);
    connection_.send(client::Kind::kDone, done);
  }

  void run_one(const client::Attempt& attempt) {
    const auto habit = last_us_.find(attempt.function);
    if (habit == last_us_.end() || habit->second > kShortUs) flush();
    AttemptResult result;
    result.attempt = attempt.attempt;
    const auto begin = Clock::now();
    try {
      result.outputs = invoke(attempt);
    } catch (const GroupFailure& error) {
      describe(result, Outcome::kGroupException, "GroupFailure", error.what());
    } catch (const Failure& error) {
      describe(result, Outcome::kException, "Failure", error.what());
    } catch (const std::exception& error) {
      describe(result, Outcome::kException, "std::exception", error.what());
    } catch (...) {
      describe(result, Outcome::kException, "unknown", "the task threw something that is not a std::exception");
    }
    end_attempt();
    result.run_us =
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin).count());
    last_us_[attempt.function] = result.run_us;
    std::fflush(stdout);
    std::fflush(stderr);
    if (results_.empty()) first_result_ = begin;
    results_.push_back(std::move(result));
    if (results_.size() >= kResultsPerMessage || Clock::now() - first_result_ > kHoldBack) flush();
  }

  std::vector<client::Value> invoke(const client::Attempt& attempt) {
    std::string name;
    {
      const std::lock_guard lock(mutex_);
      name = names_[attempt.function];
    }
    const Registration* task = find_task(name);
    if (task == nullptr) {
      throw Failure(Code::kNotFound, "'" + own_program() + "' on this host has no task '" + name +
                                         "': it is another version of the program");
    }
    set_attempt_runtime([this, number = attempt.attempt]() -> Runtime& { return attempt_runtime(number); });
    auto outputs = task->invoke(attempt.arguments, arena_);
    if (nested_) nested_->barrier({});  // its tasks are part of it
    return outputs;
  }

  void end_attempt() {
    set_attempt_runtime({});
    nested_.reset();
  }

  static void describe(AttemptResult& result, Outcome outcome, const std::string& type, const std::string& message) {
    result.outcome = outcome;
    result.message = message;
    result.error = wire::encode(ErrorDetail{type, message, {}, {}});
  }

  // ---- tasks that call tasks ----
  Runtime& attempt_runtime(std::uint64_t attempt) {
    if (!nested_) {
      nested_ = std::make_unique<AgentRuntime>(
          socket_path(), attempt,
          AgentRuntime::WaitHooks{[this, attempt] { block(attempt); }, [this, attempt] { unblock(attempt); }});
    }
    return *nested_;
  }

  void block(std::uint64_t attempt) {
    flush();
    std::vector<client::Attempt> waiting;
    {
      const std::lock_guard lock(mutex_);
      blocked_ = true;
      waiting.assign(std::make_move_iterator(queue_.begin()), std::make_move_iterator(queue_.end()));
      queue_.clear();
    }
    connection_.send(client::Kind::kBlocked, client::Blocked{attempt, true});
    give_back(waiting, Outcome::kReturned);
  }

  void unblock(std::uint64_t attempt) {
    {
      const std::lock_guard lock(mutex_);
      blocked_ = false;
    }
    connection_.send(client::Kind::kBlocked, client::Blocked{attempt, false});
  }

  Connection connection_;
  Arena arena_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<client::Attempt> queue_;                  // guarded by mutex_
  std::unordered_map<FunctionId, std::string> names_;  // guarded by mutex_
  bool blocked_ = false;                               // guarded by mutex_
  std::unique_ptr<AgentRuntime> nested_;
  std::vector<AttemptResult> results_;
  std::unordered_map<FunctionId, std::uint64_t> last_us_;
  Clock::time_point first_result_;
};

}  // namespace

void run_executor() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::signal(SIGINT, SIG_IGN);  // a terminal's Ctrl-C is for the main program
  try {
    auto* executor = new Executor;  // lives as long as the process
    executor->run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "shoal executor: %s\n", error.what());
  }
  ::_exit(1);
}

}  // namespace shoal::sdk
