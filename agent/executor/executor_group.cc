#include "agent/executor/executor_group.h"

#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

#include <algorithm>
#include <ranges>
#include <utility>

namespace shoal::executor {

namespace {

using client::AttemptResult;
using client::Outcome;

constexpr std::uint64_t kShortUs = 5000;        // a function with a smaller mean may be handed over ahead
constexpr std::uint64_t kAheadUsMax = 20'000;   // of work handed over to one executor
constexpr std::int64_t kStuckUs = 50'000;       // an attempt that runs longer than this holds up those behind it
constexpr std::size_t kSlotsMax = 64;           // of one executor
constexpr std::uint32_t kStartFailuresMax = 3;  // in a row, before waiting attempts are failed

// Encodes a Run of attempts that stay where they are.
struct AttemptRef {
  const client::Attempt* attempt = nullptr;
};
void put(wire::Encoder& e, const AttemptRef& ref) {
  wire::put(e, *ref.attempt);
}

struct RunRef {
  std::vector<AttemptRef> attempts;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.attempts);
  }
};

}  // namespace

template <>
constexpr client::Kind kind_of<RunRef>() {
  return client::Kind::kRun;
}

ExecutorGroup::ExecutorGroup(agent::Reactor& reactor, ClientServer& server, const ExecutorConfig& config,
                             OutputLog& log, Kind kind, Events events)
    : reactor_(reactor),
      server_(server),
      config_(config),
      language_(std::move(kind.language)),
      program_(std::move(kind.program)),
      surroundings_(std::move(kind.surroundings)),
      events_(std::move(events)),
      launcher_(reactor, config, log, recipe(),
                {[this](const ExecutorEnd& end) { on_ended(end); },
                 [this](const std::string& token) { return owner_of(token); }}) {
  timer_ = reactor_.add_timer([this] { on_timer(); });
}

ExecutorGroup::~ExecutorGroup() {
  reactor_.remove_timer(timer_);
}

Launcher::Recipe ExecutorGroup::recipe() const {
  Launcher::Recipe recipe;
  recipe.environment["SHOAL_SOCKET"] = config_.socket_path;
  surroundings_.add_to(recipe.environment);
  if (!surroundings_.id.is_zero()) recipe.environment[environment::kVariable] = surroundings_.id.hex();
  if (language_ == "c++") {
    recipe.command = {program_, "--shoal-executor"};
    return recipe;
  }
  std::string path;
  for (const std::string& dir : config_.python_path) path += dir + ":";
  for (const std::string& dir : surroundings_.modules) path += dir + ":";
  if (auto own = surroundings_.variables.find("PYTHONPATH"); own != surroundings_.variables.end())
    path += own->second + ":";
  if (const char* inherited = ::getenv("PYTHONPATH"); inherited != nullptr) path += inherited;
  while (path.ends_with(':')) path.pop_back();
  if (!path.empty()) recipe.environment["PYTHONPATH"] = path;
  recipe.command = {program_, "-m", "shoal.executor"};
  recipe.zygote_command = {program_, "-m", "shoal.executor", "--zygote", "--control-fd", std::to_string(kControlFd)};
  return recipe;
}

void ExecutorGroup::add_function(client::Function function) {
  const FunctionId id = function.function;
  if (functions_.size() >= config_.functions_max && !functions_.contains(id)) {
    spdlog::error("function '{}' is not taken: this agent knows {} functions already", function.name,
                  functions_.size());
    return;
  }
  functions_[id] = std::move(function);
}

void ExecutorGroup::run(client::Attempt attempt) {
  if (!functions_.contains(attempt.function)) {
    events_.report(AttemptResult{
        attempt.attempt,
        Outcome::kException,
        fmt::format("function {} of this task is not known to the agent that should run it", attempt.function.brief()),
        {},
        {},
        0});
    return;
  }
  queue_.push_back(Slot{std::move(attempt), false, false, std::nullopt});
}

// ---- handing over ----

std::uint64_t ExecutorGroup::expected_us(FunctionId function) const {
  const auto found = habits_.find(function);
  return found == habits_.end() || found->second.runs == 0 ? kAheadUsMax
                                                           : std::max<std::uint64_t>(found->second.mean_us, 1);
}

bool ExecutorGroup::is_short(FunctionId function) const {
  const auto found = habits_.find(function);
  return found != habits_.end() && found->second.runs > 0 && found->second.mean_us < kShortUs && !found->second.prints;
}

bool ExecutorGroup::may_take(const Executor& executor, const Slot& slot, Instant now) const {
  if (executor.state != State::kReady || executor.blocked) return false;
  if (executor.slots.empty()) return true;
  if (slot.alone || executor.slots.front().alone || executor.slots.size() >= kSlotsMax) return false;
  if (!is_short(slot.attempt.function) || !is_short(executor.slots.back().attempt.function)) return false;
  // The running one takes longer than it used to: nobody should queue behind it.
  if ((now - executor.since).us > kStuckUs) return false;
  return executor.ahead_us + expected_us(slot.attempt.function) <= kAheadUsMax;
}

ExecutorGroup::Executor* ExecutorGroup::least_loaded(const Slot& slot, Instant now) {
  Executor* best = nullptr;
  for (const auto& [token, executor] : executors_) {
    if (!may_take(*executor, slot, now)) continue;
    if (best == nullptr || executor->slots.size() < best->slots.size()) best = executor.get();
  }
  return best;
}

void ExecutorGroup::hand_over(Executor& executor, Slot slot, Instant now) {
  if (executor.slots.empty()) executor.since = now;
  executor.ahead_us += expected_us(slot.attempt.function);
  executor.slots.push_back(std::move(slot));
  ++executor.unsent;
}

void ExecutorGroup::send_unsent(Executor& executor) {
  if (executor.unsent == 0) return;
  RunRef run;
  run.attempts.reserve(executor.unsent);
  for (std::size_t i = executor.slots.size() - executor.unsent; i < executor.slots.size(); ++i) {
    const client::Attempt& attempt = executor.slots[i].attempt;
    if (executor.functions.insert(attempt.function).second)
      server_.send(executor.client, functions_.at(attempt.function));
    run.attempts.push_back({&attempt});
  }
  executor.unsent = 0;
  server_.send(executor.client, run);
}

void ExecutorGroup::dispatch() {
  if (stopped_) return;
  const Instant now = agent::Reactor::now();
  while (!queue_.empty()) {
    Executor* executor = least_loaded(queue_.front(), now);
    if (executor == nullptr) break;
    hand_over(*executor, std::move(queue_.front()), now);
    queue_.pop_front();
  }
  for (const auto& [token, executor] : executors_) send_unsent(*executor);
  if (queue_.empty()) recall_stuck(now);
  if (!queue_.empty()) start_executors();
  arm_timer();
}

// Attempts wait behind one that was expected to be short, and somebody else could run them.
void ExecutorGroup::recall_stuck(Instant now) {
  const bool idle = std::any_of(executors_.begin(), executors_.end(), [](const auto& entry) {
    return entry.second->state == State::kReady && entry.second->slots.empty();
  });
  if (!idle && executors_.size() >= executors_max()) return;
  for (const auto& [token, executor] : executors_) {
    if (executor->state != State::kReady || executor->slots.size() < 2 || (now - executor->since).us < kStuckUs)
      continue;
    client::Cancel cancel;
    for (auto slot = executor->slots.begin() + 1; slot != executor->slots.end(); ++slot) {
      if (slot->recalled || slot->killed) continue;
      slot->recalled = true;
      cancel.attempts.push_back(slot->attempt.attempt);
    }
    if (cancel.attempts.empty()) continue;
    counters_.recalled += cancel.attempts.size();
    server_.send(executor->client, cancel);
    server_.flush();
    if (language_ == "python") launcher_.signal(token, SIGUSR2);  // look at the socket now
  }
}

std::uint64_t ExecutorGroup::blocked_count() const {
  return static_cast<std::uint64_t>(
      std::count_if(executors_.begin(), executors_.end(), [](const auto& entry) { return entry.second->blocked; }));
}

std::uint64_t ExecutorGroup::executors_max() const {
  return std::max<std::uint64_t>(config_.computing_units, 1) +
         std::min<std::uint64_t>(blocked_count(), config_.extras_max);
}

void ExecutorGroup::start_executors() {
  const std::uint64_t blocked = blocked_count();
  const std::uint64_t most = executors_max();
  std::uint64_t starting = 0;
  for (const auto& [token, executor] : executors_) starting += executor->state == State::kStarting ? 1 : 0;
  while (executors_.size() < most && starting < queue_.size()) {
    auto executor = std::make_unique<Executor>();
    executor->token = random_token();
    executor->since = agent::Reactor::now();
    const std::string token = executor->token;
    executors_.emplace(token, std::move(executor));
    ++counters_.started;
    ++starting;
    launcher_.start(token);
  }
  if (blocked > config_.extras_max && blocked == executors_.size() && !limit_noted_) {
    limit_noted_ = true;
    spdlog::warn(
        "{} tasks wait inside executors and no more executors may be started: nested tasks go on elsewhere, or wait",
        blocked);
  }
}

bool ExecutorGroup::on_connected(ClientId client, const std::string& token) {
  const auto found = executors_.find(token);
  if (found == executors_.end() || found->second->client.value() != 0) return false;
  Executor& executor = *found->second;
  launcher_.connected(token);
  tokens_.emplace(client.value(), token);
  executor.client = client;
  executor.since = agent::Reactor::now();
  if (executor.state == State::kStarting) executor.state = State::kReady;
  failures_in_a_row_ = 0;
  client::Welcome welcome = config_.welcome;
  welcome.client = client.value();
  server_.send(client, welcome);
  return true;
}

ExecutorGroup::Executor* ExecutorGroup::find(ClientId client) {
  const auto token = tokens_.find(client.value());
  if (token == tokens_.end()) return nullptr;
  const auto found = executors_.find(token->second);
  return found == executors_.end() ? nullptr : found->second.get();
}

// ---- results ----

bool ExecutorGroup::on_done(ClientId client, client::Done&& done) {
  if (!tokens_.contains(client.value())) return false;
  Executor* executor = find(client);
  if (executor == nullptr) return true;
  // Output written so far belongs to the attempt that ran, not to the one that is first after this.
  if (!executor->slots.empty() && launcher_.drain_output(executor->token)) {
    habits_[executor->slots.front().attempt.function].prints = true;
  }
  for (AttemptResult& result : done.results) take_result(*executor, std::move(result));
  executor->since = agent::Reactor::now();
  if (!executor->slots.empty() && executor->slots.front().killed) begin_kill(*executor, executor->since);
  return true;
}

void ExecutorGroup::take_result(Executor& executor, AttemptResult&& result) {
  const auto slot = std::find_if(executor.slots.begin(), executor.slots.end(),
                                 [&](const Slot& s) { return s.attempt.attempt == result.attempt; });
  if (slot == executor.slots.end()) return;  // reported already, or never ours
  const bool was_first = slot == executor.slots.begin();
  const FunctionId function = slot->attempt.function;
  executor.ahead_us -= std::min(executor.ahead_us, expected_us(function));
  if (result.outcome == Outcome::kDone) {
    Habit& habit = habits_[function];
    habit.mean_us = habit.runs == 0 ? result.run_us : (habit.mean_us * 7 + result.run_us) / 8;
    ++habit.runs;
  }
  const bool known = result.outcome <= Outcome::kReturned || result.outcome == Outcome::kNotStarted;
  if (!known || result.outcome == Outcome::kExecutorLost || result.outcome == Outcome::kInputMissing) {
    result.outcome = Outcome::kException;  // not for an executor to say
  }
  if (slot->killed && result.outcome != Outcome::kDone) result.outcome = *slot->killed;
  std::optional<Slot> back;
  if (slot->recalled && !slot->killed && result.outcome == Outcome::kCancelled) back = std::move(*slot);
  executor.slots.erase(slot);
  if (executor.slots.empty()) executor.ahead_us = 0;
  if (was_first && executor.state == State::kReady) executor.act_at = Instant::never();
  if (was_first) executor.blocked = false;
  if (back) {
    back->recalled = false;
    queue_.push_back(std::move(*back));
    return;
  }
  events_.report(std::move(result));
}

bool ExecutorGroup::on_blocked(ClientId client, const client::Blocked& blocked) {
  if (!tokens_.contains(client.value())) return false;
  Executor* executor = find(client);
  if (executor == nullptr || executor->slots.empty() || executor->slots.front().attempt.attempt != blocked.attempt)
    return true;
  if (executor->blocked == blocked.blocked) return true;
  executor->blocked = blocked.blocked;
  events_.blocked(blocked.attempt, blocked.blocked);
  return true;
}

// ---- the end of executors ----

bool ExecutorGroup::on_gone(ClientId client, const std::string& reason) {
  const auto token = tokens_.find(client.value());
  if (token == tokens_.end()) return false;
  const auto found = executors_.find(token->second);
  tokens_.erase(token);
  if (found == executors_.end()) return true;
  Executor& executor = *found->second;
  executor.client = ClientId();
  if (executor.state == State::kReady) {
    spdlog::debug("an executor is gone: {}", reason);
    // Normally it is exiting; one that only closed its connection has no more use.
    executor.state = State::kStopping;
    executor.terminated = true;
    executor.act_at = agent::Reactor::now() + config_.kill_grace;
    arm_timer();
  }
  return true;
}

void ExecutorGroup::on_ended(const ExecutorEnd& end) {
  const auto found = executors_.find(end.token);
  if (found == executors_.end()) return;
  // Results that it sent before it ended may still lie in the socket.
  if (const ClientId client = found->second->client; client.value() != 0) server_.finish(client);
  const std::unique_ptr<Executor> executor = std::move(found->second);
  executors_.erase(found);
  const bool never_worked = executor->state == State::kStarting;
  std::string why = describe(end.ending);
  if (!end.said.empty() && end.ending.not_started.empty()) why += ": " + end.said;
  release_slots(*executor, why);
  if (never_worked && !stopped_) {
    ++counters_.start_failures;
    ++failures_in_a_row_;
    spdlog::warn("a {} executor ({}) {}", language_, program_, why);
    if (!end.ending.not_started.empty() || failures_in_a_row_ >= kStartFailuresMax) fail_queue(why);
  }
  if (executors_.empty() && queue_.empty()) launcher_.rest();
  events_.changed();
}

void ExecutorGroup::release_slots(Executor& executor, const std::string& why) {
  std::deque<Slot> slots;
  bool asked_for = false;
  for (Slot& slot : executor.slots) {
    if (slot.killed) {
      asked_for = true;
      report_killed(slot);
    } else {
      slots.push_back(std::move(slot));
    }
  }
  executor.slots.clear();
  if (slots.empty() || stopped_) return;
  if (!asked_for) ++counters_.lost;
  if (slots.size() == 1 && !asked_for) {
    const client::Attempt& attempt = slots.front().attempt;
    events_.report(AttemptResult{attempt.attempt,
                                 Outcome::kExecutorLost,
                                 fmt::format("the {} executor that ran task {} ({}) {}", language_,
                                             attempt.task.value(), functions_.at(attempt.function).name, why),
                                 {},
                                 {},
                                 0});
    return;
  }
  for (Slot& slot : slots | std::views::reverse) {
    slot.alone = slot.alone || !asked_for;
    slot.recalled = false;
    queue_.push_front(std::move(slot));
  }
}

void ExecutorGroup::fail_queue(const std::string& why) {
  failures_in_a_row_ = 0;
  std::deque<Slot> queue;
  queue.swap(queue_);
  const std::string advice =
      language_ == "c++" ? "check that the program is installed on this agent's host"
                         : "check that this interpreter and the shoal package are installed on this agent's host";
  for (const Slot& slot : queue) {
    events_.report(AttemptResult{
        slot.attempt.attempt,
        Outcome::kNotStarted,
        fmt::format("no {} executor can be started with '{}': it {}; {}", language_, program_, why, advice),
        {},
        {},
        0});
  }
}

// ---- stopping attempts ----

void ExecutorGroup::report_killed(const Slot& slot) {
  const bool timed_out = *slot.killed == Outcome::kTimedOut;
  events_.report(
      AttemptResult{slot.attempt.attempt,
                    *slot.killed,
                    timed_out && slot.attempt.timeout_ms > 0
                        ? fmt::format("the task exceeded its time limit of {} ms", slot.attempt.timeout_ms)
                        : std::string(timed_out ? "the task exceeded its time limit" : "the task was cancelled"),
                    {},
                    {},
                    0});
}

bool ExecutorGroup::kill(std::uint64_t attempt, bool timed_out) {
  const Outcome outcome = timed_out ? Outcome::kTimedOut : Outcome::kCancelled;
  const auto is_it = [attempt](const Slot& slot) { return slot.attempt.attempt == attempt; };
  if (const auto queued = std::find_if(queue_.begin(), queue_.end(), is_it); queued != queue_.end()) {
    queued->killed = outcome;
    report_killed(*queued);
    queue_.erase(queued);
    return true;
  }
  for (const auto& [token, executor] : executors_) {
    const auto slot = std::find_if(executor->slots.begin(), executor->slots.end(), is_it);
    if (slot == executor->slots.end()) continue;
    if (slot->killed) return true;
    slot->killed = outcome;
    server_.send(executor->client, client::Cancel{{attempt}});
    if (slot == executor->slots.begin()) begin_kill(*executor, agent::Reactor::now());
    return true;
  }
  return false;
}

// The first attempt is to stop. Python code can be interrupted and its process kept; other code cannot.
void ExecutorGroup::begin_kill(Executor& executor, Instant now) {
  if (executor.state != State::kReady || executor.act_at != Instant::never()) return;
  if (language_ != "python") return terminate(executor, now);
  server_.flush();  // the Cancel has to be there before the signal
  launcher_.signal(executor.token, SIGUSR2);
  executor.act_at = now + config_.interrupt_grace;
  arm_timer();
}

void ExecutorGroup::terminate(Executor& executor, Instant now) {
  if (!executor.slots.empty()) ++counters_.killed;
  executor.state = State::kStopping;
  executor.terminated = true;
  executor.act_at = now + config_.kill_grace;
  launcher_.signal_group(executor.token, SIGTERM);
  arm_timer();
}

// ---- time ----

Instant ExecutorGroup::next_check(const Executor& executor) const {
  if (executor.act_at != Instant::never()) return executor.act_at;
  if (executor.state == State::kStarting) return executor.since + config_.start_grace;
  if (executor.state != State::kReady) return Instant::never();
  if (executor.slots.empty()) return executor.since + config_.idle_max;
  const std::uint64_t limit_ms = executor.slots.front().attempt.timeout_ms;
  if (limit_ms == 0) return Instant::never();
  return executor.since + milliseconds(static_cast<std::int64_t>(limit_ms)) + config_.timeout_grace;
}

void ExecutorGroup::check(Executor& executor, Instant now) {
  if (next_check(executor) > now) return;
  if (executor.state == State::kStarting) {
    spdlog::warn("a {} executor ({}) did not connect in time and is stopped", language_, program_);
    executor.act_at = now + config_.start_grace;
    launcher_.signal_group(executor.token, SIGKILL);
    return;
  }
  if (executor.terminated) {
    executor.act_at = Instant::never();
    launcher_.signal_group(executor.token, SIGKILL);
    return;
  }
  if (executor.act_at != Instant::never() || executor.slots.empty())
    return terminate(executor, now);  // interrupted in vain, or idle
  Slot& first = executor.slots.front();
  first.killed = Outcome::kTimedOut;
  terminate(executor, now);
}

void ExecutorGroup::on_timer() {
  const Instant now = agent::Reactor::now();
  for (const auto& [token, executor] : executors_) check(*executor, now);
  arm_timer();
  events_.changed();  // something may be stuck
}

void ExecutorGroup::arm_timer() {
  const Instant now = agent::Reactor::now();
  Instant next = Instant::never();
  for (const auto& [token, executor] : executors_) {
    next = std::min(next, next_check(*executor));
    const Instant stuck = executor->since + microseconds(kStuckUs);
    if (executor->slots.size() > 1 && stuck > now) next = std::min(next, stuck);
  }
  reactor_.set_timer(timer_, next);
}

void ExecutorGroup::stop(int signal) {
  stopped_ = true;
  queue_.clear();
  launcher_.stop(signal);
}

std::size_t ExecutorGroup::handed_over() const {
  std::size_t count = 0;
  for (const auto& [token, executor] : executors_) count += executor->slots.size();
  return count;
}

OutputOwner ExecutorGroup::owner_of(const std::string& token) const {
  const auto found = executors_.find(token);
  if (found == executors_.end() || found->second->slots.empty()) return {};
  const client::Attempt& first = found->second->slots.front().attempt;
  return {first.app, first.task};
}

}  // namespace shoal::executor
