#include "scheduler/worker.h"
#include "scheduler/access.h"

#include <algorithm>

#include "protocol/base/check.h"

namespace shoal::scheduler {

namespace {

using client::Argument;

// Attempt numbers carry the index of their record, so that finding it needs no table.
constexpr std::uint64_t kIndexBits = 28;
constexpr std::uint64_t kIndexMask = (1ULL << kIndexBits) - 1;
constexpr std::uint64_t kFetchBytesMax = 256U << 20;  // of inputs on their way to this agent
constexpr Duration kTimeOutGrace = seconds(5);  // the executor enforces time-outs itself; this is for one that cannot

// The argument at a depth-first position. What a file argument carries as its item is no argument of its own.
Argument* argument_at(std::vector<Argument>& arguments, std::uint32_t& position) {
  for (auto& argument : arguments) {
    if (position-- == 0) return &argument;
    if (is_file(argument.kind)) continue;
    if (Argument* found = argument_at(argument.items, position)) return found;
  }
  return nullptr;
}

bool elsewhere(const client::Value& value) {
  return std::holds_alternative<client::Shared>(value) || std::holds_alternative<client::FilePath>(value);
}

}  // namespace

void Worker::learn(const FunctionSpec& spec) {
  auto [it, fresh] = functions_.try_emplace({spec.app, spec.function.function});
  if (fresh) it->second.spec = spec;
}

const FunctionSpec* Worker::spec(AppId app, FunctionId function) const {
  auto it = functions_.find({app, function});
  return it == functions_.end() ? nullptr : &it->second.spec;
}

void Worker::drop_app(AppId app, std::vector<Output>& out) {
  functions_.erase(functions_.lower_bound({app, FunctionId()}),
                   functions_.upper_bound({app, FunctionId(~0ULL, ~0ULL)}));
  std::vector<ValueKey> keys = values_.drop_app(app);
  if (!keys.empty()) out.emplace_back(out::Drop{std::move(keys)});
}

void Worker::start(WorkIndex index, Assignment&& assignment, bool reserve, Instant now, std::vector<Output>& out) {
  Work& work = works_[index];
  work.where = Where::kHere;
  work.app = assignment.app;
  work.outputs = assignment.outputs;
  work.missing = 0;
  work.fetch_bytes = work.fetch_us = 0;
  for (const auto& input : assignment.inputs) {
    const ValueKey key = key_of(assignment.app, input);
    if (values_.find(key) != nullptr) continue;
    ++work.missing;
    const bool fresh =
        fetch(assignment.app, key, input.bytes, input.holders, {true, assignment.app, index, work.serial}, out);
    if (fresh) work.fetch_bytes += input.bytes;
  }
  if (reserve && work.missing == 0) {
    ledger_.take(work.charge64, work.memory_mb);
    work.charged = true;
  } else {
    waiting64_ += work.charge64;
  }
  const bool upstream = work.master == nullptr;
  if (work.missing == 0 && work.charged && !upstream) {
    launch(index, assignment, now);
    return;
  }
  work.assignment = std::make_unique<Assignment>(std::move(assignment));
  if (work.missing == 0) enqueue(index, now);
}

// Inputs are here; what is left is a place on the ledger.
void Worker::enqueue(WorkIndex index, Instant now) {
  Work& work = works_[index];
  if (!work.charged) {
    if (!waiting_.empty() || !ledger_.fits(work.charge64, work.memory_mb)) {
      waiting_.emplace(!work.priority, work.seq, index);
      return;
    }
    ledger_.take(work.charge64, work.memory_mb);
    waiting64_ -= work.charge64;
    work.charged = true;
  }
  launch(index, *work.assignment, now);
}

void Worker::pump(Instant now) {
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    Work& work = works_[std::get<2>(*it)];
    if (!ledger_.fits(work.charge64, work.memory_mb)) {
      if (ledger_.free64() == 0) return;
      ++it;
      continue;
    }
    const WorkIndex index = std::get<2>(*it);
    it = waiting_.erase(it);
    ledger_.take(work.charge64, work.memory_mb);
    waiting64_ -= work.charge64;
    work.charged = true;
    launch(index, *work.assignment, now);
  }
}

void Worker::launch(WorkIndex index, Assignment& assignment, Instant now) {
  Work& work = works_[index];
  auto function = functions_.find({assignment.app, assignment.function});
  SHOAL_CHECK(function != functions_.end(), "an attempt is started only once its function is known");
  out::Launch& launches = batch(function->second.spec);
  if (!std::exchange(function->second.launched, true)) launches.functions.push_back(function->second.spec.function);
  client::Attempt& attempt = launches.attempts.emplace_back();
  work.launched = true;
  work.attempt = attempt.attempt = ++attempts_ << kIndexBits | index;
  ++running_;
  attempt.app = assignment.app;
  attempt.task = assignment.task;
  attempt.instance = assignment.instance;
  attempt.function = assignment.function;
  attempt.timeout_ms = assignment.timeout_ms;
  attempt.command = assignment.command;
  attempt.working_dir = assignment.working_dir;
  attempt.fail_by_exit_value = assignment.fail_by_exit_value;
  // A job of somebody else's may have to be started again; a task of a local master is built anew from its graph.
  const bool again = work.master == nullptr;
  attempt.arguments = again ? assignment.arguments : std::move(assignment.arguments);
  for (const auto& input : assignment.inputs) {
    std::uint32_t position = input.argument;
    Argument* argument = argument_at(attempt.arguments, position);
    const client::Value* value = values_.find(key_of(assignment.app, input));
    if (argument != nullptr && value != nullptr) argument->value = *value;
  }
  place_files(assignment.app, attempt.attempt, attempt.arguments);
  if (!again) work.assignment.reset();
  if (attempt.timeout_ms != 0) {
    work.deadline = now +
                    milliseconds(static_cast<std::int64_t>(std::min<std::uint64_t>(attempt.timeout_ms, 1ULL << 40))) +
                    kTimeOutGrace;
    deadlines_.emplace(work.deadline, index);
  }
}

// Files that the attempt is to write get a folder that no other attempt has.
void Worker::place_files(AppId app, std::uint64_t attempt, std::vector<Argument>& arguments) const {
  for (auto& argument : arguments) {
    const bool writes =
        argument.direction != client::Direction::kIn && argument.direction != client::Direction::kInDelete;
    if (is_file(argument.kind) && writes) {
      Argument& target = argument.items.empty() ? argument : argument.items.front();
      if (auto* path = std::get_if<client::FilePath>(&target.value)) {
        path->path = app.hex() + "/" + std::to_string(attempt) + "/" + path->path;
      }
    } else if (!argument.items.empty()) {
      place_files(app, attempt, argument.items);
    }
  }
}

out::Launch& Worker::batch(const FunctionSpec& spec) {
  for (auto& launch : batches_) {
    if (launch.language == spec.function.language && launch.python == spec.python &&
        launch.environment == spec.environment)
      return launch;
  }
  out::Launch& launch = batches_.emplace_back();
  launch.language = spec.function.language;
  launch.python = spec.python;
  launch.environment = spec.environment;
  launch.environment_at = spec.environment_at;
  return launch;
}

void Worker::flush(std::vector<Output>& out) {
  for (auto& launch : batches_) out.emplace_back(std::move(launch));
  batches_.clear();
  if (!dropped_.empty()) out.emplace_back(out::Drop{std::exchange(dropped_, {})});
}

WorkIndex Worker::find(std::uint64_t attempt) const {
  const auto index = static_cast<WorkIndex>(attempt & kIndexMask);
  if (index >= works_.end()) return kNone;
  const Work& work = works_[index];
  return work.live && work.launched && work.attempt == attempt ? index : kNone;
}

JobResult Worker::conclude(WorkIndex index, const client::AttemptResult& result, std::vector<Output>& out) {
  Work& work = works_[index];
  work.launched = false;
  --running_;
  if (work.charged) ledger_.give_back(work.charge64, work.memory_mb);
  work.charged = false;
  if (work.deadline != Instant::never()) deadlines_.erase({work.deadline, index});
  work.deadline = Instant::never();
  JobResult job;
  job.outcome = result.outcome;
  job.message = result.message;
  job.error = result.error;
  job.run_us = result.run_us;
  job.fetch_bytes = work.fetch_bytes;
  job.fetch_us = work.fetch_us;
  const bool fits = result.outputs.size() == work.outputs.size();
  job.outputs.resize(result.outputs.size());
  for (std::size_t i = 0; i < result.outputs.size(); ++i) {
    const client::Value& value = result.outputs[i];
    OutputValue& output = job.outputs[i];
    if (!elsewhere(value)) {
      output.value = value;
      continue;
    }
    if (!fits || work.cancelled || (work.outputs[i].number == 0 && !work.outputs[i].file)) {
      // It has no name that anybody would ask for. The driver owns it from the moment that it is kept.
      const ValueKey key = "discarded/" + std::to_string(work.attempt) + "/" + std::to_string(i);
      out.emplace_back(out::Keep{key, value, false});
      dropped_.push_back(key);
      continue;
    }
    keep(work.app, work.outputs[i], value, false, out);
    output.held = true;
    if (const auto* shared = std::get_if<client::Shared>(&value)) output.bytes = shared->bytes;
    if (work.master != nullptr) output.value = value;
  }
  return job;
}

bool Worker::cancel(WorkIndex index, std::vector<Output>& out) {
  Work& work = works_[index];
  work.cancelled = true;
  if (!work.launched) {
    withdraw(index);
    return true;
  }
  // Launches of this very step have not left yet; a kill must come after them.
  flush(out);
  out.emplace_back(out::Kill{{work.attempt}, false});
  return false;
}

void Worker::withdraw(WorkIndex index) {
  Work& work = works_[index];
  waiting_.erase({!work.priority, work.seq, index});
  work.missing = 0;
  if (work.charged) {
    ledger_.give_back(work.charge64, work.memory_mb);
  } else {
    waiting64_ -= work.charge64;
  }
  work.charged = false;
}

void Worker::block(std::uint64_t attempt, bool blocked) {
  const WorkIndex index = find(attempt);
  if (index == kNone || works_[index].charged != blocked) return;
  Work& work = works_[index];
  if (blocked) {
    ledger_.give_back(work.charge64, work.memory_mb);
  } else {
    ledger_.take(work.charge64, work.memory_mb);
  }
  work.charged = !blocked;
}

std::vector<WorkIndex> Worker::give_up(std::uint64_t room64) {
  std::vector<WorkIndex> given;
  // The youngest first: they would have waited longest here.
  while (!waiting_.empty()) {
    auto last = std::prev(waiting_.end());
    const WorkIndex index = std::get<2>(*last);
    Work& work = works_[index];
    if (work.charge64 > room64) break;
    room64 -= work.charge64;
    withdraw(index);
    given.push_back(index);
  }
  return given;
}

void Worker::expire(Instant now, std::vector<Output>& out) {
  out::Kill kill;
  kill.timed_out = true;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    Work& work = works_[deadlines_.begin()->second];
    deadlines_.erase(deadlines_.begin());
    work.deadline = Instant::never();
    kill.attempts.push_back(work.attempt);
  }
  if (!kill.attempts.empty()) out.emplace_back(std::move(kill));
}

std::vector<WorkIndex> Worker::fetched(const in::Fetched& fetched, std::vector<LocalValues::Waiter>& waits, Instant now,
                                       std::vector<Output>& out) {
  std::vector<WorkIndex> failed;
  bool known = false;
  end_fetch(fetched.key, out);
  const auto waiters = values_.arrived(fetched.key, fetched.ok, fetched.value, known);
  if (!known) {
    if (fetched.ok) out.emplace_back(out::Drop{{fetched.key}});
    return failed;
  }
  for (const auto& waiter : waiters) {
    if (!waiter.attempt) {
      waits.push_back(waiter);
      continue;
    }
    Work& work = works_[waiter.index];
    if (!work.live || work.serial != waiter.guard || work.where != Where::kHere || work.missing == 0) continue;
    if (!fetched.ok) {
      withdraw(waiter.index);
      failed.push_back(waiter.index);
    } else if (--work.missing == 0) {
      const auto busy_us = static_cast<std::uint64_t>((now - busy_since_).us);
      work.fetch_us = busy_bytes_ == 0 ? 0 : work.fetch_bytes * busy_us / busy_bytes_;
      enqueue(waiter.index, now);
    }
  }
  return failed;
}

void Worker::keep(AppId app, const DataName& name, const client::Value& value, bool borrowed,
                  std::vector<Output>& out) {
  const ValueKey key = key_of(app, name);
  values_.keep(app, key, value, borrowed);
  out.emplace_back(out::Keep{key, value, borrowed});
}

void Worker::drop(AppId app, const DataName& name) {
  ValueKey key = key_of(app, name);
  if (values_.drop(key)) dropped_.push_back(std::move(key));
}

bool Worker::fetch(AppId app, const ValueKey& key, std::uint64_t bytes, const std::vector<wire::Address>& holders,
                   LocalValues::Waiter waiter, std::vector<Output>& out) {
  const bool fresh = values_.want(app, key, waiter);
  if (!fresh && waiter.attempt) return false;
  if (!fresh) {
    auto asked = std::find_if(fetches_.begin(), fetches_.end(), [&](const out::Fetch& f) { return f.key == key; });
    if (asked == fetches_.end()) return false;
    send_fetch(std::move(*asked), out);
    fetches_.erase(asked);
    return false;
  }
  out::Fetch fetch{key, bytes, holders};
  // The program itself never waits behind its tasks.
  const bool later = waiter.attempt && travelling_bytes_ > 0 && travelling_bytes_ + bytes > kFetchBytesMax;
  if (later) {
    fetches_.push_back(std::move(fetch));
  } else {
    send_fetch(std::move(fetch), out);
  }
  return true;
}

void Worker::send_fetch(out::Fetch&& fetch, std::vector<Output>& out) {
  constexpr Duration kLongAgo = seconds(2);
  if (travelling_.empty() || now_ - busy_since_ > kLongAgo) {
    busy_since_ = now_;
    busy_bytes_ = 0;
  }
  Travelling& travelling = travelling_[fetch.key];
  ++travelling.times;
  travelling.bytes += fetch.bytes;
  travelling_bytes_ += fetch.bytes;
  out.emplace_back(std::move(fetch));
}

void Worker::end_fetch(const ValueKey& key, std::vector<Output>& out) {
  auto it = travelling_.find(key);
  if (it != travelling_.end() && --it->second.times == 0) {
    travelling_bytes_ -= it->second.bytes;
    busy_bytes_ += it->second.bytes;
    travelling_.erase(it);
  }
  while (!fetches_.empty() &&
         (travelling_bytes_ == 0 || travelling_bytes_ + fetches_.front().bytes <= kFetchBytesMax)) {
    out::Fetch next = std::move(fetches_.front());
    fetches_.pop_front();
    // Nobody wants it any more, or it was asked for again and is on its way.
    if (values_.is_wanted(next.key) && !travelling_.contains(next.key)) send_fetch(std::move(next), out);
  }
}

Instant Worker::next_deadline() const {
  return deadlines_.empty() ? Instant::never() : deadlines_.begin()->first;
}

void Worker::check_invariants() const {
  std::uint64_t charged = 0;
  std::uint64_t waiting = 0;
  std::size_t running = 0;
  for (WorkIndex i = 0; i < works_.end(); ++i) {
    const Work& work = works_[i];
    if (!work.live || work.where != Where::kHere) continue;
    if (work.charged) charged += work.charge64;
    if (!work.charged && !work.launched) waiting += work.charge64;
    if (work.launched) ++running;
  }
  SHOAL_CHECK(charged == ledger_.used64(), "the ledger is the sum of what runs");
  SHOAL_CHECK(waiting == waiting64_, "what waits for units is summed up");
  SHOAL_CHECK(running == running_, "running attempts are counted");
}

}  // namespace shoal::scheduler
