// What people ask about: applications, their tasks, why a task is where it is, and timelines. Answers are bounded; they
// are built when asked for, never on the hot path.
#include <algorithm>
#include <set>

#include "scheduler/impl.h"

namespace shoal::scheduler {

namespace {

using wire::Dynamic;

constexpr std::int64_t kListMax = 10'000;

Dynamic app_row(const Master& master, const std::string& state, Instant now, Instant ended, const Agents& agents) {
  const TaskCounts& counts = master.counts();
  Dynamic::Map row;
  row["app"] = master.app().hex();
  row["name"] = master.hello().name;
  row["client"] = master.client().value();
  row["pid"] = master.hello().pid;
  row["state"] = state;
  row["started_us"] = master.started_at().us;
  row["now_us"] = now.us;
  if (ended != Instant::never()) row["ended_us"] = ended.us;
  row["nested"] = master.hello().parent_attempt.has_value();
  row["tasks"] = counts.submitted;
  row["done"] = counts.done;
  row["failed"] = counts.failed;
  row["cancelled"] = counts.cancelled;
  row["unfinished"] = counts.unfinished();
  row["retried"] = counts.retried;
  row["lost_attempts"] = counts.lost;
  row["recomputed"] = counts.recomputed;
  row["replayed"] = counts.replayed;
  Dynamic::Map by_agent;
  for (const auto& [agent, done] : counts.by_agent) by_agent[agents.id(agent).hex()] = done;
  row["by_agent"] = std::move(by_agent);
  if (!master.first_error().empty()) row["error"] = master.first_error();
  return row;
}

}  // namespace

Result<Dynamic> Scheduler::Impl::answer(const in::Query& query) {
  if (query.method == "apps") return list_apps();
  if (query.method == "totals") return totals();
  if (query.method == "tasks") return list_tasks(query.params);
  if (query.method == "explain") return explain(query.params);
  if (query.method == "trace") return trace(query.params);
  if (query.method == "places") return places(query.params);
  if (query.method == "cancel") {
    std::string state;
    if (find_app(query.params, state) == nullptr || state != "") {
      return fail(Code::kNotFound,
                  "no application " + query.params.text_or("app", "") + " runs with its master on this agent");
    }
    on(in::CancelApp{*AppId::from_hex_text(query.params.text_or("app", ""))});
    return Dynamic(Dynamic::Map{{"cancelled", true}});
  }
  return fail(Code::kUnsupported,
              "the scheduler answers apps, totals, tasks, explain, trace, places and cancel, not " + query.method);
}

Result<Dynamic> Scheduler::Impl::list_apps() const {
  Dynamic::Array apps;
  for (const auto& ended : finished) apps.push_back(app_row(*ended.master, ended.state, now, ended.ended, agents));
  for (const auto& [app, master] : masters) {
    apps.push_back(app_row(*master, master->state(), now, Instant::never(), agents));
  }
  return Dynamic(std::move(apps));
}

// Of all applications that this agent has been master of since it started; for metrics.
Dynamic Scheduler::Impl::totals() const {
  TaskCounts counts = forgotten;
  for (const auto& ended : finished) counts.add(ended.master->counts());
  for (const auto& [app, master] : masters) counts.add(master->counts());
  return Dynamic(Dynamic::Map{{"apps", masters.size()},
                              {"submitted", counts.submitted},
                              {"done", counts.done},
                              {"failed", counts.failed},
                              {"cancelled", counts.cancelled},
                              {"unfinished", counts.unfinished()},
                              {"retried", counts.retried},
                              {"lost_attempts", counts.lost},
                              {"recomputed", counts.recomputed},
                              {"queued", queues.size()},
                              {"waiting_here", worker.waiting()}});
}

// `state` is empty for one that runs, else how it ended.
const Master* Scheduler::Impl::find_app(const Dynamic& params, std::string& state) const {
  const auto id = AppId::from_hex_text(params.text_or("app", ""));
  if (!id) return nullptr;
  auto it = masters.find(*id);
  if (it != masters.end()) return it->second.get();
  for (const auto& ended : finished) {
    if (ended.app != *id) continue;
    state = ended.state;
    return ended.master.get();
  }
  return nullptr;
}

Result<Dynamic> Scheduler::Impl::list_tasks(const Dynamic& params) const {
  std::string ended;
  const Master* master = find_app(params, ended);
  if (master == nullptr)
    return fail(Code::kNotFound, "no application " + params.text_or("app", "") + " is known on this agent");
  const std::string wanted = params.text_or("state", "");
  const std::int64_t limit = std::clamp<std::int64_t>(params.int_or("limit", 100), 1, kListMax);
  std::map<TaskId, Dynamic> rows;
  const auto add_row = [&](TaskId id, Dynamic::Map row) {
    if (!wanted.empty() && row["state"] != Dynamic(wanted)) return;
    row["task"] = id.value();
    rows[id] = std::move(row);
  };
  for (std::size_t i = master->trace().size(); i > 0 && static_cast<std::int64_t>(rows.size()) < limit; --i) {
    const TraceEntry& entry = master->trace().at(i - 1);
    Dynamic::Map row;
    row["function"] = master->function(entry.function).spec.name;
    row["state"] = std::string(end_name(entry.end));
    row["agent"] = entry.agent == kNone ? "" : agents.id(entry.agent).hex();
    row["attempts"] = entry.attempts;
    row["run_us"] = entry.end_us - entry.start_us;
    add_row(entry.task, std::move(row));
  }
  std::int64_t unfinished = 0;
  for (std::uint32_t i = 0; i < master->graph().tasks_end() && unfinished < limit; ++i) {
    const Task& task = master->graph().task(i);
    if (!Graph::unfinished(task)) continue;
    ++unfinished;
    Dynamic::Map row;
    const bool placed =
        task.work != kNone && (works[task.work].where == Where::kHere || works[task.work].where == Where::kAway);
    row["function"] = master->function(task.function).spec.name;
    row["state"] = task.state == TaskState::kReady ? (placed ? "running" : "ready") : "waiting";
    row["agent"] =
        !placed ? "" : agents.id(works[task.work].where == Where::kHere ? kSelf : works[task.work].agent).hex();
    row["attempts"] = task.attempts;
    row["why"] = why_waiting(*master, task);
    add_row(task.id, std::move(row));
  }
  Dynamic::Array list;
  for (auto& [id, row] : rows) {
    if (static_cast<std::int64_t>(list.size()) >= limit) break;
    list.push_back(std::move(row));
  }
  return Dynamic(std::move(list));
}

Result<Dynamic> Scheduler::Impl::trace(const Dynamic& params) const {
  std::string ended;
  const Master* master = find_app(params, ended);
  if (master == nullptr)
    return fail(Code::kNotFound, "no application " + params.text_or("app", "") + " is known on this agent");
  Dynamic::Array list;
  list.reserve(master->trace().size());
  for (std::size_t i = 0; i < master->trace().size(); ++i) {
    const TraceEntry& entry = master->trace().at(i);
    Dynamic::Map row;
    row["task"] = entry.task.value();
    row["function"] = master->function(entry.function).spec.name;
    row["agent"] = entry.agent == kNone ? "" : agents.id(entry.agent).hex();
    row["state"] = std::string(end_name(entry.end));
    row["attempts"] = entry.attempts;
    row["ready_us"] = entry.ready_us;
    row["start_us"] = entry.start_us;
    row["end_us"] = entry.end_us;
    Dynamic::Array after;
    for (const TaskId task : entry.after) after.emplace_back(task.value());
    row["after"] = std::move(after);
    list.emplace_back(std::move(row));
  }
  return Dynamic(std::move(list));
}

// The agents that have, or may have, output of the app's tasks, with the way to them.
Result<Dynamic> Scheduler::Impl::places(const Dynamic& params) const {
  std::string ended;
  const Master* master = find_app(params, ended);
  if (master == nullptr)
    return fail(Code::kNotFound, "no application " + params.text_or("app", "") + " is known on this agent");
  std::set<AgentIndex> found;
  for (const auto& [agent, done] : master->counts().by_agent) found.insert(agent);
  for (std::size_t i = 0; i < master->trace().size(); ++i) found.insert(master->trace().at(i).agent);
  for (std::uint32_t i = 0; i < master->graph().tasks_end(); ++i) {
    const Task& task = master->graph().task(i);
    if (!Graph::unfinished(task) || task.work == kNone) continue;
    const Work& work = works[task.work];
    if (work.where == Where::kHere) found.insert(kSelf);
    if (work.where == Where::kAway) found.insert(work.agent);
  }
  Dynamic::Array rows;
  for (const AgentIndex agent : found) {
    if (agent == kNone) continue;
    Dynamic::Array path;
    for (const RegionId region : agents.address(agent).path) path.emplace_back(region.hex());
    rows.emplace_back(Dynamic::Map{{"agent", agents.id(agent).hex()}, {"path", std::move(path)}});
  }
  return Dynamic(
      Dynamic::Map{{"places", std::move(rows)}, {"tasks", master->counts().submitted}, {"running", ended.empty()}});
}

}  // namespace shoal::scheduler
