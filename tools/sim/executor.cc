#include "tools/sim/executor.h"

#include <algorithm>
#include <utility>

#include "protocol/base/hash.h"

namespace shoal::sim {
namespace {

// A function slower than this is never given more attempts than units (agent/node's promise to the executor driver).
constexpr std::int64_t kShortUs = 10'000;
constexpr std::size_t kQueuedPerUnitMax = 64;

bool reads(client::Direction direction) {
  return direction != client::Direction::kOut;
}
bool writes(client::Direction direction) {
  return direction != client::Direction::kIn && direction != client::Direction::kInDelete;
}

// One writing parameter: what it held before, when it is read as well.
struct Slot {
  bool commutative = false;
  std::uint64_t before = 0;
};

struct Gathered {
  std::vector<Payload> small;  // inline values: committed once, never made again
  std::vector<std::uint64_t> inputs;
  std::vector<Slot> outputs;
  std::string missing;
};

void gather(const Arena& arena, const std::vector<client::Argument>& arguments, Gathered& into) {
  for (const auto& argument : arguments) {
    if (argument.kind == client::AccessKind::kCollection) {
      gather(arena, argument.items, into);
      continue;
    }
    Slot slot;
    slot.commutative = argument.direction == client::Direction::kCommutative;
    if (reads(argument.direction)) {
      auto payload = arena.read(argument.value);
      if (!payload) {
        into.missing = argument.name.empty() ? "a parameter" : argument.name;
        return;
      }
      if (std::holds_alternative<client::Inline>(argument.value)) into.small.push_back(*payload);
      slot.before = payload->content;
      if (!slot.commutative) into.inputs.push_back(payload->content);
    }
    if (writes(argument.direction)) into.outputs.push_back(slot);
  }
}

}  // namespace

Executor::Executor(EventQueue& queue, Rng rng, Arena& arena, ExecutionLedger& ledger, std::uint32_t units,
                   Events events)
    : queue_(queue),
      rng_(rng),
      arena_(arena),
      ledger_(ledger),
      units_(units),
      events_(std::move(events)),
      free_at_(units) {}

void Executor::launch(const scheduler::out::Launch& launch) {
  for (const auto& attempt : launch.attempts) start(attempt);
  check_ledger();
}

void Executor::start(const client::Attempt& attempt) {
  if (attempts_.count(attempt.attempt) != 0) {
    events_.violation("S1", "attempt " + std::to_string(attempt.attempt) + " is launched while it runs");
    return;
  }
  ++ledger_.attempts;
  auto& started = ledger_.started[{attempt.app, attempt.task}];
  started.try_emplace(attempt.instance, queue_.now());
  const FunctionSpec* function = find_function(attempt.function);
  if (function == nullptr || free_at_.empty()) {
    events_.violation("S8", "an attempt of an unknown function, or on an agent without computing units");
    return;
  }
  Running running{attempt, 0, {}, 0};
  running.process = static_cast<std::size_t>(std::min_element(free_at_.begin(), free_at_.end()) - free_at_.begin());
  running.run_us = function->run_us * rng_.between(50, 150) / 100 * slowness_;
  Instant& free_at = free_at_[running.process];
  running.starts = std::max(queue_.now(), free_at) + microseconds(200);
  free_at = running.starts + microseconds(running.run_us);
  queue_.at(free_at, [this, id = attempt.attempt, life = life_] {
    if (life == life_) finish(id);
  });
  attempts_.emplace(attempt.attempt, std::move(running));
}

// S8: what runs here fits the agent's computing units.
void Executor::check_ledger() {
  std::uint64_t units = 0;
  for (const auto& [id, running] : attempts_) {
    const FunctionSpec* function = find_function(running.attempt.function);
    if (function->run_us / 2 >= kShortUs) units += function->units;
  }
  if (units > units_) {
    events_.violation("S8", std::to_string(units) + " computing units are leased of " + std::to_string(units_));
  }
  if (attempts_.size() > kQueuedPerUnitMax * units_) {
    events_.violation(
        "S8", std::to_string(attempts_.size()) + " attempts are queued on " + std::to_string(units_) + " units");
  }
}

void Executor::finish(std::uint64_t attempt) {
  auto it = attempts_.find(attempt);
  if (it == attempts_.end()) return;
  client::AttemptResult result = run(it->second);
  attempts_.erase(it);
  events_.done(std::move(result));
}

client::AttemptResult Executor::run(const Running& running) {
  const client::Attempt& attempt = running.attempt;
  const FunctionSpec& function = *find_function(attempt.function);
  client::AttemptResult result;
  result.attempt = attempt.attempt;
  result.run_us = static_cast<std::uint64_t>(running.run_us);
  Gathered gathered;
  gather(arena_, attempt.arguments, gathered);
  if (!gathered.missing.empty()) {
    result.outcome = client::Outcome::kInputMissing;
    result.message = "the value of " + gathered.missing + " is not on this agent";
    return result;
  }
  for (auto& payload : gathered.small) {
    if (bug_ == Bug::kTwoResults && payload.execution != 0 && rng_.chance(50'000))
      payload.execution = ++ledger_.last_execution;
    events_.read(payload);
  }
  if (function.failures_max > 0) {
    const std::uint64_t planned = combine64(attempt.app.low(), attempt.task.value()) % (function.failures_max + 1);
    std::uint32_t& raised = ledger_.raised[{attempt.app, attempt.task}];
    if (raised < planned) {
      ++raised;
      result.outcome = client::Outcome::kException;
      result.message = "it raises on its first runs";
      result.error = Bytes("raised");
      return result;
    }
  }
  Payload payload{0, ++ledger_.last_execution, attempt.app, attempt.task, 0, attempt.instance, queue_.now()};
  const auto& instances = ledger_.started[{attempt.app, attempt.task}];
  if (bug_ == Bug::kUnfencedResults && instances.begin()->first < attempt.instance)
    payload.instance = instances.begin()->first;
  const bool wrong = bug_ == Bug::kWrongResults && rng_.chance(10'000);
  for (const auto& slot : gathered.outputs) {
    payload.content = slot.commutative ? commutative_content(attempt.function, gathered.inputs, slot.before)
                                       : output_content(attempt.function, gathered.inputs, payload.output);
    if (wrong) ++payload.content;
    events_.made(payload);
    result.outputs.push_back(arena_.make(payload, function.output_bytes));
    ++payload.output;
  }
  return result;
}

void Executor::kill(const scheduler::out::Kill& kill) {
  const auto outcome = kill.timed_out ? client::Outcome::kTimedOut : client::Outcome::kCancelled;
  for (const std::uint64_t attempt : kill.attempts) {
    queue_.after(milliseconds(2), [this, attempt, outcome, life = life_] {
      if (life == life_) end_early(attempt, outcome, "stopped by its agent");
    });
  }
}

void Executor::end_early(std::uint64_t attempt, client::Outcome outcome, std::string message) {
  if (attempts_.erase(attempt) == 0) return;
  client::AttemptResult result;
  result.attempt = attempt;
  result.outcome = outcome;
  result.message = std::move(message);
  events_.done(std::move(result));
}

void Executor::lose_process(Rng& rng) {
  if (free_at_.empty()) return;
  const std::size_t process = rng.below(free_at_.size());
  std::vector<std::uint64_t> lost;
  for (const auto& [id, running] : attempts_) {
    if (running.process == process) lost.push_back(id);
  }
  free_at_[process] = queue_.now() + milliseconds(80);  // a new process takes its place
  for (const std::uint64_t attempt : lost)
    end_early(attempt, client::Outcome::kExecutorLost, "the executor process died");
}

void Executor::crash() {
  ++life_;
  attempts_.clear();
  std::fill(free_at_.begin(), free_at_.end(), queue_.now());
}

}  // namespace shoal::sim
