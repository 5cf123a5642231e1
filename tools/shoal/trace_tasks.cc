#include "tools/shoal/trace_tasks.h"

#include <algorithm>
#include <utility>

namespace shoal::cli {

std::vector<TraceTask> tasks_of(const wire::Dynamic& trace, std::size_t most) {
  std::vector<TraceTask> out;
  const auto* rows = trace["tasks"].as_array();
  if (rows == nullptr) return out;
  for (const auto& row : *rows) {
    if (out.size() == most) break;
    TraceTask task;
    task.id = row.int_or("task", 0);
    task.function = row.text_or("function", "?");
    task.agent = row.text_or("agent_name", "");
    task.start_us = row.int_or("start_us", 0);
    task.end_us = std::max(task.start_us, row.int_or("end_us", 0));
    if (const auto* depends = row["after"].as_array()) {
      for (const auto& dependency : *depends) {
        if (const auto* id = dependency.as_int()) task.depends.push_back(*id);
      }
    }
    out.push_back(std::move(task));
  }
  std::sort(out.begin(), out.end(), [](const TraceTask& a, const TraceTask& b) { return a.id < b.id; });
  return out;
}

TraceLanes lanes_of(std::vector<TraceTask> tasks) {
  TraceLanes out;
  std::erase_if(tasks, [](const TraceTask& task) { return task.end_us == 0; });
  std::sort(tasks.begin(), tasks.end(), [](const TraceTask& a, const TraceTask& b) {
    return std::pair(a.start_us, a.id) < std::pair(b.start_us, b.id);
  });
  std::map<std::string, std::vector<std::int64_t>> ends;  // of each lane's last task
  for (const auto& task : tasks) {
    auto& lanes = ends[task.agent];
    auto free = std::find_if(lanes.begin(), lanes.end(), [&](std::int64_t end) { return end <= task.start_us; });
    if (free == lanes.end()) free = lanes.insert(lanes.end(), 0);
    *free = task.end_us;
    out.lane.push_back(static_cast<std::size_t>(free - lanes.begin()));
    out.last_us = std::max(out.last_us, task.end_us);
  }
  for (const auto& [agent, lanes] : ends) out.agents[agent] = lanes.size();
  if (!tasks.empty()) out.first_us = tasks.front().start_us;
  out.last_us = std::max(out.last_us, out.first_us + 1);
  out.tasks = std::move(tasks);
  return out;
}

}  // namespace shoal::cli
