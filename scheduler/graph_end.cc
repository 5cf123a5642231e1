// The graph when tasks end: values arrive or fail, successors start or are cancelled, and what nobody needs any more is
// let go. Cascades run over work lists, never over the call stack: a chain may be a million tasks long.
#include <algorithm>
#include <utility>

#include "protocol/base/check.h"
#include "scheduler/graph.h"

namespace shoal::scheduler {

namespace {

bool fits(const Task& task, const std::vector<OutputValue>& outputs) {
  return static_cast<std::ptrdiff_t>(outputs.size()) ==
         std::count_if(task.refs.begin(), task.refs.end(), [](const Ref& r) { return r.output; });
}

}  // namespace

Result<> Graph::complete(std::uint32_t index, const std::vector<OutputValue>& outputs, AgentIndex ran_on) {
  Task& task = tasks_[index];
  if (!fits(task, outputs)) {
    return shoal::fail(Code::kInvalid,
                       std::to_string(outputs.size()) + " outputs were reported, which do not fit the call");
  }
  std::size_t next = 0;
  bool keep = false;
  static const OutputValue kContainer;
  for (const Ref& ref : task.refs) {
    const OutputValue& output = ref.output ? outputs[next++] : kContainer;
    if (ref.write == kNone) continue;
    const VersionState state = versions_[ref.write].state;
    if (state == VersionState::kFailed) continue;
    if (state == VersionState::kReady) {  // made again along with a sibling that was lost
      if (output.held && ran_on == kSelf) {
        set_local(ref.write, output.value);
      } else if (output.held && !versions_[ref.write].inlined()) {
        add_holder(ref.write, ran_on);
      }
      continue;
    }
    set_value(ref.write, output, ran_on);
    set_ready(ref.write);
    keep = keep || is_lossy(versions_[ref.write]);
  }
  for (const Ref& ref : task.refs) {
    // The attempt made its inputs local: they can be fetched from there as well. (Of this host, see set_local.)
    if (!task.large || ref.read == kNone || ran_on == kSelf) continue;
    const std::uint32_t version = resolve(ref.read);
    if (!versions_[version].holders.empty()) add_holder(version, ran_on);
  }
  leave_groups(index);
  retire(index, keep);
  run_endings();
  collect();
  return {};
}

void Graph::fail(std::uint32_t index, FailMode mode, std::uint32_t failure, const std::vector<OutputValue>& kept,
                 AgentIndex ran_on) {
  static const std::vector<OutputValue> kNothing;
  end_task({index, mode, failure, false}, fits(tasks_[index], kept) ? kept : kNothing, ran_on);
  run_endings();
  collect();
}

void Graph::cancel(const std::vector<std::uint32_t>& tasks, std::uint32_t failure) {
  for (const std::uint32_t task : tasks) endings_.push_back({task, FailMode::kKeep, failure, false});
  run_endings();
  collect();
}

void Graph::run_endings() {
  while (!endings_.empty()) {
    const Ending ending = endings_.back();
    endings_.pop_back();
    const Task& task = tasks_[ending.task];
    if (!unfinished(task)) continue;
    ++failures_[ending.failure].refs;
    events_.cancelled.push_back({task.id, task.function, task.group, task.work, ending.failure, task.recompute});
    end_task(ending, {}, kNone);
  }
}

void Graph::end_task(const Ending& ending, const std::vector<OutputValue>& kept, AgentIndex ran_on) {
  std::uint32_t successors_failure = ending.failure;
  if (ending.mode == FailMode::kCancelSuccessors) {
    const Failure& cause = failures_[ending.failure];
    successors_failure =
        make_failure({Code::kCancelled, "cancelled because " + cause.message, cause.error, cause.task, 0, false});
  }
  std::size_t next = 0;
  for (std::size_t i = 0; i < tasks_[ending.task].refs.size(); ++i) {
    const Ref ref = tasks_[ending.task].refs[i];
    const OutputValue* value = ref.output && next < kept.size() ? &kept[next++] : nullptr;
    if (value != nullptr && !value->held && std::holds_alternative<client::Nothing>(value->value)) value = nullptr;
    if (ref.write == kNone || versions_[ref.write].state != VersionState::kPending) continue;
    if (ending.mode == FailMode::kCancelSuccessors || (ending.mode == FailMode::kKeep && ending.transitive)) {
      end_successors(ref.write, FailMode::kKeep, successors_failure);
      if (ref.access_group != kNone)
        end_successors(groups_[ref.access_group].result, FailMode::kKeep, successors_failure);
    }
    end_output(ending, ref, value, ran_on, successors_failure);
  }
  leave_groups(ending.task);
  retire(ending.task, false);
  if (successors_failure != ending.failure) {
    run_endings();
    drop_failure(successors_failure);
  }
}

void Graph::end_output(const Ending& ending, const Ref& ref, const OutputValue* kept, AgentIndex ran_on,
                       std::uint32_t successors_failure) {
  if (ending.mode == FailMode::kDiscard) {
    fail_version(ref.write, ending.failure, FailMode::kDiscard);
    if (ref.access_group == kNone) return;
    const std::uint32_t result = groups_[ref.access_group].result;
    if (versions_[result].state == VersionState::kPending) fail_version(result, ending.failure, FailMode::kDiscard);
    return;
  }
  if (kept != nullptr) {
    set_value(ref.write, *kept, ran_on);
    if (ending.mode == FailMode::kCancelSuccessors && ref.read == kNone) {
      // A result that the task did not come to make: whether a successor was called before or after makes no
      // difference.
      versions_[ref.write].cancels = true;
      versions_[ref.write].failure = successors_failure;
      ++failures_[successors_failure].refs;
    }
    set_ready(ref.write);
  } else if (ref.read != kNone) {
    follow(ref.write, ref.read);
  } else if (ending.mode == FailMode::kIgnore) {
    set_ready(ref.write);
  } else {
    fail_version(ref.write, ending.failure, FailMode::kKeep);
  }
}

void Graph::set_value(std::uint32_t index, const OutputValue& output, AgentIndex ran_on) {
  Version& v = versions_[index];
  v.value = output.value;
  v.bytes = output.bytes;
  v.holders.clear();
  if (!output.held) return;
  v.kept = true;
  const bool restored = ran_on == kNone && !std::holds_alternative<client::Nothing>(output.value);
  v.holders.push_back(restored ? kSelf : ran_on);
}

void Graph::set_ready(std::uint32_t first) {
  std::vector<std::uint32_t> followers;
  for (std::uint32_t index = first;;) {
    Version& v = versions_[index];
    v.state = VersionState::kReady;
    if (v.watched) events_.settled.push_back(index);
    const std::vector<Successor> successors = std::exchange(v.successors, {});
    for (const Successor& successor : successors) {
      if (successor.is_version()) {
        followers.push_back(successor.index);
        continue;
      }
      if (!still_waits(successor)) continue;
      Task& task = tasks_[successor.index];
      if (--task.pending == 0 && task.state == TaskState::kWaiting) try_start(successor.index);
    }
    if (v.readers == 0) consider(index);
    if (followers.empty()) return;
    index = followers.back();
    followers.pop_back();
  }
}

void Graph::follow(std::uint32_t index, std::uint32_t source) {
  const std::uint32_t root = resolve(source);
  versions_[index].alias_of = root;
  hold(root);
  if (versions_[root].state == VersionState::kPending) {
    versions_[root].successors.push_back({index, 0});
  } else if (versions_[root].state == VersionState::kFailed) {
    fail_version(index, versions_[root].failure, FailMode::kKeep);
  } else {
    set_ready(index);
  }
}

void Graph::fail_version(std::uint32_t index, std::uint32_t failure, FailMode successors) {
  Version& v = versions_[index];
  v.state = VersionState::kFailed;
  v.failure = failure;
  ++failures_[failure].refs;
  if (v.watched) events_.settled.push_back(index);
  end_successors(index, successors, failure);
  consider(index);
}

void Graph::end_successors(std::uint32_t index, FailMode mode, std::uint32_t failure) {
  std::vector<Successor> keep;
  const std::vector<Successor> successors = std::exchange(versions_[index].successors, {});
  for (const Successor& successor : successors) {
    if (!successor.is_version()) {
      if (still_waits(successor)) endings_.push_back({successor.index, mode, failure, true});
    } else if (versions_[index].state == VersionState::kFailed) {
      fail_version(successor.index, failure, mode);  // followers follow roots only: one level deep
    } else {
      keep.push_back(successor);
    }
  }
  versions_[index].successors = std::move(keep);
}

void Graph::leave_groups(std::uint32_t index) {
  for (std::size_t i = 0; i < tasks_[index].refs.size(); ++i) {
    Ref& ref = tasks_[index].refs[i];
    if (ref.access_group == kNone) continue;
    const std::uint32_t group = std::exchange(ref.access_group, kNone);
    AccessGroup& g = groups_[group];
    if (g.holder == index) g.holder = kNone;
    const bool has_content = ref.write != kNone && versions_[ref.write].state != VersionState::kFailed;
    if (has_content && ref.write != g.tip) {
      hold(ref.write);
      unhold(g.tip);
      g.tip = ref.write;
    }
    if (--g.remaining == 0) {
      finish_group(group);
    } else if (g.holder == kNone) {
      for (const std::uint32_t member : std::exchange(g.waiting, {})) {
        if (tasks_[member].state == TaskState::kBlocked) try_start(member);
      }
    }
  }
}

void Graph::finish_group(std::uint32_t group) {
  const std::uint32_t result = groups_[group].result;
  const std::uint32_t tip = groups_[group].tip;
  versions_[result].access_group = kNone;
  if (versions_[result].state == VersionState::kPending) follow(result, tip);
  unhold(tip);
  groups_.free(group);
}

// The end of a task record, or the beginning of its time as a recipe for its outputs.
void Graph::retire(std::uint32_t index, bool keep) {
  Task& task = tasks_[index];
  if (task.state != TaskState::kAbsent) by_task_.erase(task.id);
  keep = keep && limits_.lineage_max > 0;
  for (const Ref& ref : task.refs) {
    if (ref.read != kNone) {
      if (keep) ++versions_[ref.read].lineage_readers;
      unhold(ref.read);
    }
    if (!keep && ref.write != kNone && versions_[ref.write].producer == index) versions_[ref.write].producer = kNone;
  }
  if (!keep) {
    drop_failure(task.failure);
    tasks_.free(index);
    return;
  }
  task.state = TaskState::kKept;
  task.recompute = false;
  task.work = kNone;
  kept_[task.id] = index;
  if (kept_.size() > limits_.lineage_max) forget_task(kept_.begin()->second);
}

void Graph::forget_task(std::uint32_t index) {
  Task& task = tasks_[index];
  kept_.erase(task.id);
  for (const Ref& ref : task.refs) {
    if (ref.read != kNone && --versions_[ref.read].lineage_readers == 0) consider(ref.read);
    if (ref.write != kNone && versions_[ref.write].producer == index) versions_[ref.write].producer = kNone;
  }
  tasks_.free(index);
}

bool Graph::is_lossy(const Version& v) const {
  return !v.holders.empty() && std::find(v.holders.begin(), v.holders.end(), kSelf) == v.holders.end();
}

bool Graph::is_current(std::uint32_t index) const {
  const std::uint32_t datum = versions_[index].datum;
  return datum != kNone && data_[datum].current == index && !data_[datum].released;
}

void Graph::consider(std::uint32_t index) {
  Version& v = versions_[index];
  if (v.doomed) return;
  v.doomed = true;
  doomed_.push_back(index);
}

void Graph::drop_value(Version& v) {
  if (!v.holders.empty()) events_.freed.push_back({v.name, v.borrowed, std::move(v.holders)});
  v.holders.clear();
  v.value = client::Nothing{};
}

void Graph::collect() {
  while (!doomed_.empty()) {
    const std::uint32_t index = doomed_.back();
    doomed_.pop_back();
    Version& v = versions_[index];
    v.doomed = false;
    if (v.readers > 0 || v.state == VersionState::kPending || is_current(index)) continue;
    if (v.lineage_readers == 0) {
      erase(index);
      continue;
    }
    if (v.retained || v.state != VersionState::kReady || v.alias_of != kNone) continue;
    // Only finished tasks read it: what costs little is kept for making lost values again, the rest is let go.
    const auto* inlined = std::get_if<client::Inline>(&v.value);
    const std::uint64_t bytes = inlined != nullptr ? inlined->bytes.size() : v.bytes;
    if (!is_lossy(v) && retained_bytes_ + bytes <= limits_.lineage_bytes_max) {
      v.retained = true;
      v.bytes = bytes;
      retained_bytes_ += bytes;
    } else {
      drop_value(v);
      v.state = VersionState::kFreed;
    }
  }
}

void Graph::erase(std::uint32_t index) {
  Version& v = versions_[index];
  if (v.retained) retained_bytes_ -= v.bytes;
  drop_value(v);
  drop_failure(v.failure);
  if (v.alias_of != kNone) unhold(v.alias_of);
  if (v.datum != kNone && data_[v.datum].current == index) data_.free(v.datum);
  const std::uint32_t producer = v.producer;
  versions_.free(index);
  if (producer == kNone) return;
  Task& task = tasks_[producer];
  for (Ref& ref : task.refs) {
    if (ref.write == index) ref.write = kNone;
  }
  if (--task.live_outputs == 0 && task.state == TaskState::kKept) forget_task(producer);
}

std::vector<GraphEvents::Freed> Graph::all_values() const {
  std::vector<GraphEvents::Freed> values;
  for (std::uint32_t i = 0; i < versions_.end(); ++i) {
    const Version& v = versions_[i];
    if (v.state != VersionState::kAbsent && !v.holders.empty() && !v.borrowed) {
      values.push_back({v.name, v.borrowed, v.holders});
    }
  }
  return values;
}

}  // namespace shoal::scheduler
