// The graph as the order of ready tasks needs it: how long the longest path from a task to the end of the program is.
#include <algorithm>
#include <ranges>

#include "scheduler/graph.h"

namespace shoal::scheduler {

void Graph::extend_paths(const std::vector<std::uint32_t>& added) {
  constexpr std::size_t kLookedAtPerTask = 8;
  constexpr std::size_t kLookedAtAtLeast = 256;
  if (added.empty()) return;
  const TaskId first = tasks_[added.front()].id;
  std::vector<std::uint32_t> older;
  // Whoever reads a result was added after the task that makes it: one pass from the last to the first is exact.
  for (const std::uint32_t task : std::ranges::reverse_view(added)) {
    if (unfinished(tasks_[task])) raise_producers(task, first, older);
  }
  std::size_t left = added.size() * kLookedAtPerTask + kLookedAtAtLeast;
  for (std::size_t i = 0; i < older.size() && left > 0; ++i) {
    const std::size_t cost = 1 + raise_producers(older[i], first, older);
    left -= std::min(left, cost);
  }
}

std::size_t Graph::raise_producers(std::uint32_t index, TaskId first, std::vector<std::uint32_t>& older) {
  const Task& task = tasks_[index];
  for (const Ref& ref : task.refs) {
    if (ref.read == kNone) continue;
    const Version& v = versions_[resolve(ref.read)];
    if (v.state != VersionState::kPending || v.producer == kNone || v.producer == index) continue;
    Task& producer = tasks_[v.producer];
    const std::uint64_t path_us = producer.run_us + task.path_us;
    if (!unfinished(producer) || producer.path_us >= path_us) continue;
    const bool outranks = path_rank(producer.path_us) < path_rank(path_us);
    producer.path_us = path_us;
    if (outranks && producer.state == TaskState::kReady) events_.raised.push_back(v.producer);
    if (producer.id < first) older.push_back(v.producer);
  }
  return task.refs.size();
}

}  // namespace shoal::scheduler
