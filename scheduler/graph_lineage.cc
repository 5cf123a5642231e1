// The graph when values get lost: finished tasks that made something large elsewhere are kept as recipes, and run
// again when what they made is gone and still needed. Recipes are bounded (lineage_max); a value without one fails.
#include <algorithm>
#include <utility>

#include "protocol/base/check.h"
#include "scheduler/graph.h"

namespace shoal::scheduler {

namespace {

bool is_gone(const Version& v) {
  return v.state == VersionState::kLost || v.state == VersionState::kFreed;
}

}  // namespace

bool Graph::ensure_inputs(std::uint32_t index) {
  Task& task = tasks_[index];
  if (!task.large) return true;
  std::uint32_t failed = kNone;
  for (std::size_t i = 0; i < task.refs.size(); ++i) {
    if (task.refs[i].read == kNone) continue;
    const std::uint32_t version = resolve(task.refs[i].read);
    if (is_gone(versions_[version])) remake(version);
    Version& v = versions_[version];
    if (v.state == VersionState::kPending) {
      await(index, v);
    } else if (v.state == VersionState::kFailed) {
      failed = v.failure;
    }
  }
  if (failed != kNone) {
    endings_.push_back({index, FailMode::kDiscard, failed, true});
  } else if (task.pending == 0) {
    return true;
  }
  task.state = TaskState::kWaiting;
  run_endings();
  collect();
  return false;
}

bool Graph::ensure(std::uint32_t index) {
  const std::uint32_t version = resolve(index);
  if (is_gone(versions_[version])) remake(version);
  run_endings();
  collect();
  return versions_[version].state != VersionState::kPending;
}

void Graph::lost(std::uint32_t index) {
  Version& v = versions_[resolve(index)];
  if (v.state != VersionState::kReady || v.borrowed) return;
  if (std::find(v.holders.begin(), v.holders.end(), kSelf) != v.holders.end()) {
    v.holders.assign(1, kSelf);  // old news: it has come back to this host meanwhile
    return;
  }
  v.holders.clear();
  v.value = client::Nothing{};
  v.misses = 0;
  v.state = VersionState::kLost;
}

void Graph::missed(std::uint32_t index) {
  constexpr std::uint8_t kMissesMax = 2;
  Version& v = versions_[index];
  if (++v.misses >= kMissesMax) lost(index);
}

void Graph::agent_lost(AgentIndex agent) {
  for (std::uint32_t i = 0; i < versions_.end(); ++i) {
    Version& v = versions_[i];
    if (v.state != VersionState::kReady || v.holders.empty()) continue;
    std::erase(v.holders, agent);
    if (v.holders.empty()) lost(i);
  }
}

bool Graph::reads_changed(std::uint32_t task) const {
  return std::any_of(tasks_[task].refs.begin(), tasks_[task].refs.end(), [&](const Ref& ref) {
    return ref.read != kNone && (versions_[ref.read].changed || versions_[resolve(ref.read)].changed);
  });
}

void Graph::mark_changed(std::uint32_t task) {
  for (const Ref& ref : tasks_[task].refs) {
    if (ref.write != kNone) versions_[ref.write].changed = true;
    if (ref.access_group != kNone) versions_[groups_[ref.access_group].result].changed = true;
  }
}

// After this the version is pending, or has failed because nothing can make it again.
void Graph::remake(std::uint32_t version) {
  const std::uint32_t producer = versions_[version].producer;
  if (producer == kNone) {
    fail_lost(version);
    return;
  }
  // Its task may be at work already, because of another output that was lost.
  versions_[version].state = VersionState::kPending;
  std::vector<std::uint32_t> next{producer};
  while (!next.empty()) {
    const std::uint32_t task = next.back();
    next.pop_back();
    if (tasks_[task].state == TaskState::kKept) revive(task, next);
  }
}

void Graph::revive(std::uint32_t index, std::vector<std::uint32_t>& next) {
  Task& task = tasks_[index];
  kept_.erase(task.id);
  by_task_[task.id] = index;
  task.state = TaskState::kWaiting;
  task.recompute = true;
  task.failures = 0;
  task.crashes = 0;
  task.pending = 1;
  for (const Ref& ref : task.refs) {
    if (ref.write != kNone && is_gone(versions_[ref.write])) versions_[ref.write].state = VersionState::kPending;
  }
  std::uint32_t failed = kNone;
  for (const Ref& ref : task.refs) {
    if (ref.read == kNone) continue;
    --versions_[ref.read].lineage_readers;
    hold(ref.read);
    const std::uint32_t input = resolve(ref.read);
    if (is_gone(versions_[input])) {
      const std::uint32_t producer = versions_[input].producer;
      if (producer == kNone || tasks_[producer].state == TaskState::kAbsent) {
        fail_lost(input);
      } else {
        // Pending from now on, so that whoever reads it next waits as well.
        versions_[input].state = VersionState::kPending;
        next.push_back(producer);
      }
    }
    Version& v = versions_[input];
    if (v.state == VersionState::kPending) {
      await(index, v);
    } else if (v.state == VersionState::kFailed) {
      failed = v.failure;
    }
  }
  --task.pending;
  if (failed != kNone) {
    endings_.push_back({index, FailMode::kDiscard, failed, true});
  } else if (task.pending == 0) {
    try_start(index);
  }
}

void Graph::fail_lost(std::uint32_t index) {
  const Version& v = versions_[index];
  std::string made = v.made_by.value() != 0 ? "made by task " + std::to_string(v.made_by.value()) + " " : "";
  const std::uint32_t failure =
      make_failure({Code::kUnavailable,
                    "a value " + made +
                        "was lost with the agent that held it, and what is needed to make it again is gone as well; " +
                        "persist such values or run the application again",
                    {},
                    v.made_by,
                    0,
                    false});
  fail_version(index, failure, FailMode::kDiscard);
  drop_failure(failure);
}

void Graph::check_invariants() const {
  std::size_t kept = 0;
  std::size_t live = 0;
  std::vector<std::uint32_t> told(tasks_.end());  // how many versions will tell a task that they are final
  for (std::uint32_t i = 0; i < versions_.end(); ++i) {
    for (const Successor& successor : versions_[i].successors) {
      SHOAL_CHECK(versions_[i].state == VersionState::kPending, "only who waits for a version is its successor");
      if (!successor.is_version() && still_waits(successor)) ++told[successor.index];
    }
  }
  for (std::uint32_t i = 0; i < tasks_.end(); ++i) {
    const Task& task = tasks_[i];
    if (task.state == TaskState::kAbsent) continue;
    ++live;
    if (task.state == TaskState::kKept) ++kept;
    SHOAL_CHECK(task.state != TaskState::kReady || task.pending == 0, "a ready task waits for nothing");
    SHOAL_CHECK(task.state != TaskState::kWaiting || task.pending > 0, "a waiting task waits for something");
    SHOAL_CHECK(task.state == TaskState::kKept || task.pending == told[i], "a task is told of what it waits for");
    for (const Ref& ref : task.refs) {
      if (ref.read != kNone) {
        const Version& v = versions_[ref.read];
        SHOAL_CHECK(v.state != VersionState::kAbsent, "a task reads a version that exists");
        SHOAL_CHECK(task.state == TaskState::kKept ? v.lineage_readers > 0 : v.readers > 0, "readers are counted");
      }
      if (ref.write != kNone) {
        SHOAL_CHECK(versions_[ref.write].state != VersionState::kAbsent, "a task writes a version that exists");
        SHOAL_CHECK(versions_[ref.write].producer == i, "a version knows its producer");
      }
    }
  }
  SHOAL_CHECK(live == tasks_.live(), "task records are counted");
  SHOAL_CHECK(kept == kept_.size() && kept <= limits_.lineage_max, "kept tasks are indexed and bounded");
  SHOAL_CHECK(endings_.empty() && doomed_.empty() && deleted_.empty(), "no work is left between calls");
}

}  // namespace shoal::scheduler
