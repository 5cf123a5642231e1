#include "scheduler/master.h"

#include <algorithm>

#include "protocol/base/check.h"
#include "scheduler/fingerprint.h"

namespace shoal::scheduler {

namespace {

constexpr std::size_t kFatalMax = 1'000;

}  // namespace

Master::Master(AppId app, ClientId client, client::Hello hello, const Limits& limits, Instant now)
    : app_(app),
      client_(client),
      hello_(std::move(hello)),
      limits_(limits),
      started_at_(now),
      now_(now),
      graph_(app, limits),
      groups_(limits.groups_max),
      trace_(limits.trace_max) {}

void Master::on(const client::Register& message) {
  if (by_function_.contains(message.function) || functions_.size() >= limits_.functions_max) return;
  Function& function = functions_.emplace_back();
  function.spec = {message.function, message.name, message.language, message.payload, hello_.python_path};
  function.options = message.options;
  if (auto demand = demand_of(function, message.options)) {
    function.demand = *demand;
  } else {
    function.refusal = demand.error().message;
  }
  by_function_[message.function] = static_cast<std::uint32_t>(functions_.size() - 1);
}

EnvironmentId Master::environment_of(const client::TaskOptions& options) const {
  if (!options.environment.is_zero()) return options.environment;
  return hello_.environments.empty() ? EnvironmentId() : hello_.environments.front();
}

Result<Demand> Master::demand_of(const Function& function, const client::TaskOptions& options) const {
  auto demand = parse_demand(options.constraints);
  if (!demand) return demand;
  demand->language = function.spec.language;
  const EnvironmentId environment = environment_of(function.options);
  if (environment.is_zero()) return demand;
  const auto known = environments_.find(environment);
  if (known == environments_.end()) {
    return fail(Code::kInvalid, "the application has no environment " + environment.hex() +
                                    "; name it to `shoal run` with --environment NAME=FILE");
  }
  demand->requirements.insert(demand->requirements.end(), known->second.begin(), known->second.end());
  return demand;
}

void Master::on(const client::Submit& message) {
  std::vector<std::uint32_t> added;
  added.reserve(message.calls.size());
  for (const auto& call : message.calls) {
    const std::uint32_t task = submit(call);
    if (task == kNone || !by_path(policy_)) continue;
    Task& record = graph_.task(task);
    const std::uint64_t mean_us = functions_[record.function].mean_us;
    record.run_us = record.path_us = mean_us != 0 ? mean_us : kNeutralRunUs;
    added.push_back(task);
  }
  graph_.extend_paths(added);
  drain();
}

std::uint32_t Master::submit(const client::TaskCall& call) {
  if (graph_.find(call.task) != kNone) return kNone;  // sent twice
  auto known = by_function_.find(call.function);
  if (known == by_function_.end()) {
    refuse_call(call, kNone, Code::kInvalid,
                "its function " + call.function.brief() + " was not registered (at most " +
                    std::to_string(limits_.functions_max) + " can be)");
    return kNone;
  }
  const Function& function = functions_[known->second];
  std::string refusal = function.refusal;
  if (call.options && refusal.empty()) {
    if (auto demand = demand_of(function, *call.options); !demand) refusal = demand.error().message;
  }
  if (!refusal.empty()) {
    refuse_call(call, known->second, Code::kInvalid, refusal);
    return kNone;
  }
  if (counts_.unfinished() >= limits_.tasks_max) {
    refuse_call(
        call, known->second, Code::kExhausted,
        std::to_string(limits_.tasks_max) + " tasks of the application are unfinished: wait for some before more");
    return kNone;
  }
  ++counts_.submitted;
  groups_.enter(groups_.current());
  const std::uint32_t task = graph_.submit(call, known->second, groups_.current());
  if (graph_.find(call.task) != task) return kNone;
  if (!replay_.empty() && may_replay(call, task)) {
    replay(call, task);
    return kNone;
  }
  if (options(graph_.task(task)).is_replicated) {
    submit_replicas(call, known->second, task);
    return kNone;
  }
  return task;
}

// A call that cannot become a task: whoever waits for its outputs is told why.
void Master::refuse_call(const client::TaskCall& call, std::uint32_t function, Code code, std::string why) {
  ++counts_.submitted;
  groups_.enter(groups_.current());
  if (function == kNone) {
    if (functions_.empty()) functions_.emplace_back().spec.name = "unknown";
    function = 0;
  }
  const std::uint32_t task = graph_.submit(call, function, groups_.current());
  drain();
  if (graph_.find(call.task) != task) return;  // it failed already, because of an input
  std::erase(effects_.ready, task);
  JobResult nothing;
  end_failed(task, {FailMode::kDiscard, true, code, describe(call.task, function) + " was refused: " + why}, nothing,
             kNone);
}

void Master::on(const client::PutData& message) {
  if (saves_) put_prints_[message.datum] = fingerprint(message.value);
  // When it is refused, the first use of the datum says why.
  if (graph_.put(message.datum, message.value)) drain();
}

void Master::on(const client::Release& message) {
  for (const DatumId datum : message.data) {
    graph_.release(datum);
    if (saves_) put_prints_.erase(datum);
  }
  for (const auto& path : message.files) graph_.release_file(path);
  drain();
}

void Master::on_group(client::Kind kind, const std::string& name) {
  if (kind == client::Kind::kOpenGroup) {
    const std::uint32_t former = groups_.find(name);
    if (!groups_.open(name)) return;
    if (former != kNone && !groups_[former].open) {
      groups_[former].reported = true;
      for (const std::uint32_t failure : groups_.forget(former)) graph_.drop_failure(failure);
    }
    return;
  }
  if (kind == client::Kind::kCloseGroup) {
    const std::uint32_t closed = groups_.find(name);
    groups_.close(name);
    if (closed == kNone) return;
    for (const std::uint32_t failure : groups_.forget(closed)) graph_.drop_failure(failure);
    return;
  }
  const std::uint32_t group = groups_.find(name);
  if (group == kNone) return;
  const std::uint32_t failure =
      graph_.make_failure({Code::kCancelled, "cancelled with its group \"" + name + "\"", {}, {}, 0, false});
  graph_.cancel_if([&](const Task& task) { return !task.recompute && groups_.contains(group, task.group); }, failure);
  graph_.drop_failure(failure);
  drain();
}

void Master::cancel_all(const std::string& why) {
  cancelled_ = cancelled_ || counts_.unfinished() > 0;
  const std::uint32_t failure = graph_.make_failure({Code::kCancelled, why, {}, {}, 0, false});
  graph_.cancel_if([](const Task&) { return true; }, failure);
  graph_.drop_failure(failure);
  drain();
}

std::string Master::describe(TaskId task, std::uint32_t function) const {
  return "task " + std::to_string(task.value()) + " (" + functions_[function].spec.name + ")";
}

// ---- the end of attempts ----

void Master::started(std::uint32_t index) {
  Task& task = graph_.task(index);
  ++task.attempts;
  task.start_us = now_.us;
}

void Master::adopt_inputs(std::uint32_t index, const LocalValues& values) {
  const Task& task = graph_.task(index);
  if (!task.large) return;
  for (const Ref& ref : task.refs) {
    if (ref.read == kNone) continue;
    const std::uint32_t version = graph_.resolve(ref.read);
    const Version& v = graph_.version(version);
    if (v.state != VersionState::kReady || v.holders.empty()) continue;
    if (std::find(v.holders.begin(), v.holders.end(), kSelf) != v.holders.end()) continue;
    if (const client::Value* value = values.find(key_of(app_, v.name))) graph_.set_local(version, *value);
  }
}

Verdict Master::finished(std::uint32_t index, JobResult& result, AgentIndex ran_on, const Agents& agents) {
  switch (result.outcome) {
    case client::Outcome::kDone: {
      Task& task = graph_.task(index);
      // The record is gone after complete(), so what people want to know is written down first. A second life is not
      // told.
      const std::uint32_t group = task.group;
      const bool recompute = task.recompute;
      if (!recompute) trace_end(task, TraceEntry::End::kDone, ran_on, result.run_us);
      const bool journalled = is_journalled(task);
      if (journalled) note_finished(task, result.outputs);
      std::vector<std::uint32_t> wanted;
      const bool saved = is_saved(task);
      if (saved) wanted = begin_save(task, result.outputs, ran_on);
      if (auto fits = graph_.complete(index, result.outputs, ran_on); !fits) {
        if (!recompute) trace_.undo();
        if (journalled) effects_.journal.pop_back();
        if (saved) drop_save(wanted);
        result.message = fits.error().message;
        return judge_failure(index, result, ran_on, agents);
      }
      if (recompute) {
        ++counts_.recomputed;
      } else {
        ++counts_.done;
        ++counts_.by_agent[ran_on];
        count_end(group);
      }
      want_for_save(wanted);
      drain();
      return Verdict::kEnded;
    }
    case client::Outcome::kReturned:
      return Verdict::kAgain;
    case client::Outcome::kCancelled:
      return Verdict::kLater;  // not by us: its executor is being stopped
    case client::Outcome::kInputMissing:
      return input_missing(index, result, agents);
    case client::Outcome::kGroupException:
      group_exception(index, result, ran_on, agents);
      return Verdict::kEnded;
    case client::Outcome::kExecutorLost:
    case client::Outcome::kNotStarted:
    case client::Outcome::kException:
    case client::Outcome::kTimedOut:
      break;
  }
  return judge_failure(index, result, ran_on, agents);
}

Verdict Master::judge_failure(std::uint32_t index, JobResult& result, AgentIndex ran_on, const Agents& agents) {
  constexpr std::uint16_t kCrashesMax = 3;
  Task& task = graph_.task(index);
  const client::TaskOptions& how = options(task);
  task.avoid = ran_on;
  if (result.outcome == client::Outcome::kExecutorLost) {
    ++counts_.lost;
    if (++task.crashes < kCrashesMax) return Verdict::kAgain;
  } else if (result.outcome == client::Outcome::kNotStarted) {
    // Not the task's fault: another agent may have what this one lacks.
    if (++task.crashes < kCrashesMax) return Verdict::kAgain;
  } else {
    ++task.failures;
    if (how.on_failure == client::OnFailure::kRetry && task.failures <= how.retries) {
      ++counts_.retried;
      discard_outputs(task, result, ran_on);
      return Verdict::kAgain;
    }
  }
  std::string message = describe(task.id, task.function);
  if (result.outcome == client::Outcome::kExecutorLost) {
    message += " ended its executor " + std::to_string(task.crashes) + " times, last on agent " + agents.brief(ran_on) +
               " (a crash, or a call of exit)";
  } else if (result.outcome == client::Outcome::kNotStarted) {
    message += " could not be started, last tried on agent " + agents.brief(ran_on);
  } else if (result.outcome == client::Outcome::kTimedOut) {
    message +=
        " ran longer than its time-out of " + std::to_string(how.timeout_ms) + " ms on agent " + agents.brief(ran_on);
  } else {
    message += " failed on agent " + agents.brief(ran_on);
    if (task.failures > 1) message += " after " + std::to_string(task.failures) + " executions";
  }
  if (!result.message.empty()) message += ": " + result.message;
  FailMode mode = FailMode::kDiscard;
  if (how.on_failure == client::OnFailure::kIgnore) mode = FailMode::kIgnore;
  if (how.on_failure == client::OnFailure::kCancelSuccessors) mode = FailMode::kCancelSuccessors;
  const bool fatal = mode == FailMode::kDiscard;
  if (fatal) discard_outputs(task, result, ran_on);
  const Code code = result.outcome == client::Outcome::kTimedOut ? Code::kTimeout : Code::kFailed;
  end_failed(index, {mode, fatal, code, std::move(message)}, result, ran_on);
  return Verdict::kEnded;
}

// Nobody will read what a failed execution left behind.
void Master::discard_outputs(const Task& task, const JobResult& result, AgentIndex ran_on) {
  std::size_t next = 0;
  for (const Ref& ref : task.refs) {
    if (!ref.output || next >= result.outputs.size()) continue;
    if (result.outputs[next++].held && ref.write != kNone) {
      effects_.freed.push_back({graph_.version(ref.write).name, false, {ran_on}});
    }
  }
}

void Master::end_failed(std::uint32_t index, FinalFailure final, JobResult& result, AgentIndex ran_on) {
  Task& task = graph_.task(index);
  const std::uint32_t group = task.group;
  const bool recompute = task.recompute;
  if (!recompute) trace_end(task, TraceEntry::End::kFailed, ran_on, result.run_us);
  announce_failure(task, final.message);
  const std::uint32_t failure =
      graph_.make_failure({final.code, std::move(final.message), std::move(result.error), task.id, 0, false});
  task.work = kNone;
  graph_.fail(index, final.mode, failure, result.outputs, ran_on);
  if (final.fatal) note_fatal(failure, group);
  graph_.drop_failure(failure);
  if (!recompute) {
    ++counts_.failed;
    count_end(group);
  }
  drain();
}

void Master::group_exception(std::uint32_t index, JobResult& result, AgentIndex ran_on, const Agents& agents) {
  Task& task = graph_.task(index);
  const std::uint32_t group = task.group;
  const std::uint32_t function = task.function;
  const TaskId id = task.id;
  std::string message = describe(id, function) + " raised in its group on agent " + agents.brief(ran_on);
  if (!result.message.empty()) message += ": " + result.message;
  const std::uint32_t failure = graph_.make_failure({Code::kFailed, message, result.error, id, 0, false});
  const std::uint32_t cancelled =
      graph_.make_failure({Code::kCancelled, "cancelled because " + message, result.error, id, 0, false});
  std::uint32_t outermost = kNone;
  for (std::uint32_t g = group; g != kNone; g = groups_[g].parent) {
    outermost = g;
    if (groups_[g].failure == kNone) groups_[g].failure = failure, ++graph_.failure(failure).refs;
  }
  end_failed(index, {FailMode::kKeep, false, Code::kFailed, message}, result, ran_on);
  if (outermost != kNone) {
    graph_.cancel_if([&](const Task& t) { return !t.recompute && groups_.contains(outermost, t.group); }, cancelled);
  }
  drain();
  graph_.drop_failure(cancelled);
  graph_.drop_failure(failure);
}

// What others hold is given up and made again; what this agent has itself is not lost, but if nobody can read it (a
// file that is gone or forbidden), trying for ever would help nobody.
Verdict Master::input_missing(std::uint32_t index, const JobResult& result, const Agents& agents) {
  constexpr std::uint16_t kOwnMissesMax = 8;
  ++counts_.lost;
  Task& task = graph_.task(index);
  bool own = result.missing.empty();  // an object of the store
  for (const Ref& ref : task.refs) {
    if (ref.read == kNone) continue;
    const std::uint32_t version = graph_.resolve(ref.read);
    const Version& v = graph_.version(version);
    if (std::find(result.missing.begin(), result.missing.end(), v.name) == result.missing.end()) continue;
    own = own || std::find(v.holders.begin(), v.holders.end(), kSelf) != v.holders.end();
    graph_.missed(version);
  }
  if (!own || ++task.own_misses < kOwnMissesMax) return Verdict::kLater;
  JobResult nothing;
  const std::string where = result.ran_on.agent.is_zero() ? std::string() : " on agent " + result.ran_on.agent.brief();
  end_failed(index,
             {FailMode::kDiscard, true, Code::kUnavailable,
              describe(task.id, task.function) + " cannot get an input" + where + ": " + result.message},
             nothing, agents.find(result.ran_on.agent));
  return Verdict::kEnded;
}

void Master::refuse(std::uint32_t index, Code code, const std::string& why) {
  const Task& task = graph_.task(index);
  JobResult nothing;
  end_failed(index, {FailMode::kDiscard, true, code, describe(task.id, task.function) + " cannot run: " + why}, nothing,
             kNone);
}

void Master::agent_lost(AgentIndex agent) {
  graph_.agent_lost(agent);
}

void Master::announce_failure(const Task& task, const std::string& message) {
  wire::Dynamic::Map body;
  body["app"] = app_.hex();
  body["task"] = task.id.value();
  body["function"] = functions_[task.function].spec.name;
  body["message"] = message;
  body["attempts"] = task.attempts;
  effects_.replies.push_back({client_, client::Event{"task.failed", wire::Dynamic(std::move(body))}});
}

void Master::note_fatal(std::uint32_t failure, std::uint32_t group) {
  for (; group != kNone; group = groups_[group].parent) {
    if (groups_[group].failure == kNone) groups_[group].failure = failure, ++graph_.failure(failure).refs;
  }
  if (fatal_.size() >= kFatalMax) return;
  fatal_.push_back(failure);
  ++graph_.failure(failure).refs;
}

void Master::count_end(std::uint32_t group) {
  groups_.leave(group, emptied_);
}

void Master::trace_end(const Task& task, TraceEntry::End end, AgentIndex ran_on, std::uint64_t run_us) {
  TraceEntry& entry = trace_.next();
  entry.task = task.id;
  entry.function = task.function;
  entry.agent = ran_on;
  entry.end = end;
  entry.attempts = task.attempts;
  entry.ready_us = task.ready_us;
  entry.end_us = now_.us;
  entry.start_us = std::max(task.start_us, now_.us - static_cast<std::int64_t>(run_us));
  for (const Ref& ref : task.refs) {
    if (ref.read == kNone) continue;
    const TaskId made_by = graph_.version(graph_.resolve(ref.read)).made_by;
    if (made_by.value() != 0) entry.after.push_back(made_by);
  }
}

void Master::note_candidates(TaskId task, std::vector<Candidate> candidates) {
  if (trace_.size() == 0) return;
  TraceEntry& last = trace_.last();
  if (last.task == task) last.candidates = std::move(candidates);
}

// Turns what happened in the graph into effects.
void Master::drain() {
  GraphEvents& events = graph_.events();
  for (auto& source : events.sources) effects_.keep.push_back({source.name, std::move(source.value), false});
  events.sources.clear();
  for (const std::uint32_t task : events.ready) {
    Task& record = graph_.task(task);
    if (record.state != TaskState::kReady || record.work != kNone) continue;
    record.ready_us = now_.us;
    effects_.ready.push_back(task);
  }
  events.ready.clear();
  effects_.raised.insert(effects_.raised.end(), events.raised.begin(), events.raised.end());
  events.raised.clear();
  for (const auto& ended : events.cancelled) {
    if (ended.work != kNone) effects_.revoke.push_back(ended.work);
    graph_.drop_failure(ended.failure);
    if (ended.recompute) continue;
    ++counts_.cancelled;
    TraceEntry& entry = trace_.next();
    entry = {ended.id, ended.function, kNone, TraceEntry::End::kCancelled, 0, 0, 0, now_.us, {}, {}};
    count_end(ended.group);
  }
  events.cancelled.clear();
  effects_.freed.insert(effects_.freed.end(), std::make_move_iterator(events.freed.begin()),
                        std::make_move_iterator(events.freed.end()));
  events.freed.clear();
  while (!events.settled.empty()) {
    const std::uint32_t version = events.settled.back();
    events.settled.pop_back();
    settle(version);
  }
  if (!barriers_.empty()) answer_barriers();
  for (const std::uint32_t group : std::exchange(emptied_, {})) {
    for (const std::uint32_t failure : groups_.forget(group)) graph_.drop_failure(failure);
  }
}

void Master::drop_graph() {
  error_ = first_error();
  fatal_.clear();
  waits_.clear();
  waiting_.clear();
  barriers_.clear();
  saving_.clear();
  wanted_.clear();
  effects_ = MasterEffects();
  coming_.clear();
  groups_ = TaskGroups(limits_.groups_max);
  graph_ = Graph(app_, limits_);
  for (auto& function : functions_) function.spec.payload.clear();
}

std::string Master::state() const {
  if (!fatal_.empty()) return "failed";
  if (cancelled_) return "cancelled";
  return "running";
}

std::string Master::first_error() const {
  return fatal_.empty() ? error_ : graph_.failure(fatal_.front()).message;
}

void Master::check_invariants() const {
  graph_.check_invariants();
  SHOAL_CHECK(counts_.submitted >= counts_.done + counts_.failed + counts_.cancelled, "every task ends once");
  for (const auto& [id, wait] : waits_) {
    const auto open = std::count_if(wait.items.begin(), wait.items.end(), [](const WaitItem& i) { return i.open; });
    SHOAL_CHECK(static_cast<std::size_t>(open) == wait.open && open > 0, "an unanswered wait waits for something");
  }
}

}  // namespace shoal::scheduler
