// Why a task is where it is, or not yet anywhere: in words, and as the figures that decide.
#include <algorithm>

#include "scheduler/impl.h"

namespace shoal::scheduler {

namespace {

using wire::Dynamic;

std::string in_time(std::uint64_t us) {
  if (us < 10'000) return std::to_string(us) + " us";
  if (us < 10'000'000) return std::to_string(us / 1'000) + " ms";
  return std::to_string(us / 1'000'000) + " s";
}

std::string in_bytes(std::uint64_t bytes) {
  if (bytes < 10'000) return std::to_string(bytes) + " B";
  if (bytes < 10'000'000) return std::to_string(bytes / 1'000) + " kB";
  return std::to_string(bytes / 1'000'000) + " MB";
}

std::string name(AgentIndex agent, const Agents& agents) {
  return agent == kSelf ? "this agent" : "agent " + agents.brief(agent);
}

// "agent 1f3c in 250 ms (waits 100 ms, 12 MB travel 200 ms at 60 MB/s, runs 50 ms)"
std::string in_words(const Candidate& c, const Agents& agents) {
  std::string text = name(c.agent, agents) + " in " + in_time(c.total_us()) + " (waits " + in_time(c.wait_us);
  if (c.missing_bytes + c.coming_bytes > 0) {
    text += ", " + in_bytes(c.missing_bytes + c.coming_bytes) + " travel " + in_time(c.transfer_us) + " at " +
            in_bytes(c.rate * 1'000) + "/s";
  }
  return text + ", runs " + in_time(c.run_us) + ")";
}

void add_candidates(Dynamic::Map& result, const std::vector<Candidate>& candidates, const Agents& agents) {
  constexpr std::size_t kShownMax = 16;
  Dynamic::Array rows;
  for (const Candidate& c : candidates) {
    if (rows.size() >= kShownMax) break;
    rows.emplace_back(Dynamic::Map{{"agent", agents.id(c.agent).hex()},
                                   {"beyond_region", c.behind},
                                   {"room", c.room},
                                   {"wait_us", c.wait_us},
                                   {"missing_bytes", c.missing_bytes},
                                   {"coming_bytes", c.coming_bytes},
                                   {"bytes_per_second", c.rate * 1'000},
                                   {"transfer_us", c.transfer_us},
                                   {"run_us", c.run_us},
                                   {"total_us", c.total_us()}});
  }
  if (!rows.empty()) result["candidates"] = std::move(rows);
}

}  // namespace

// Of a ready task without a place: what it waits for.
std::string Scheduler::Impl::why_queued(const Work& work) const {
  const ReadyQueues::Class& klass = queues[work.klass];
  const std::string like = " (" + std::to_string(klass.size) + " like it wait)";
  const auto share = queues.shares().find(klass.app);
  std::size_t before = 0;
  for (const auto& [app, other] : queues.shares()) {
    if (app != klass.app && !other.active.empty() && share != queues.shares().end() &&
        other.given < share->second.given)
      ++before;
  }
  std::string after;
  if (before > 0) {
    after = "; " + std::to_string(before) + " other applications were given less so far and go first";
  }
  const Ledger& ledger = worker.ledger();
  if (able_here(work) && klass.demand.memory_mb > 0 && !ledger.fits(0, klass.demand.memory_mb)) {
    return "ready; waits for memory: it asks for " + std::to_string(klass.demand.memory_mb) + " MB, and of the " +
           std::to_string(resources.memory_mb) + " MB here running tasks have " +
           std::to_string(ledger.used_memory_mb()) + like + after;
  }
  const Inputs inputs = inputs_of(work);
  const auto candidates = candidates_for(work, View::kHead, inputs);
  const auto with_room = std::find_if(candidates.begin(), candidates.end(), [](const Candidate& c) { return c.room; });
  if (!candidates.empty() && with_room != candidates.end() && with_room != candidates.begin()) {
    return "ready; waits for " + name(candidates.front().agent, agents) +
           ", because it is expected to be complete there first: " + in_words(candidates.front(), agents) +
           ", against " + in_words(*with_room, agents) + like + after;
  }
  return "ready; all agents that have " + scheduler::describe(klass.demand) + " are busy" + like + after;
}

std::string Scheduler::Impl::why_waiting(const Master& master, const Task& task) const {
  if (task.state == TaskState::kBlocked) return "waits for its turn with COMMUTATIVE data";
  if (task.state == TaskState::kWaiting) {
    std::string why = "waits for " + std::to_string(task.pending) + " inputs";
    int named = 0;
    for (const Ref& ref : task.refs) {
      if (ref.read == kNone || named >= 3) continue;
      const Version& v = master.graph().version(master.graph().resolve(ref.read));
      if (v.state != VersionState::kPending || v.made_by.value() == 0) continue;
      why += (named++ == 0 ? ": from task " : ", ") + std::to_string(v.made_by.value());
    }
    return why;
  }
  if (task.work == kNone) return "is being placed";
  const Work& work = works[task.work];
  const ReadyQueues::Class& klass = queues[work.klass];
  switch (work.where) {
    case Where::kQueued:
      if (homeless.contains(work.klass)) {
        return "no agent known here has what it asks for: " + scheduler::describe(klass.demand) +
               ". There are: this agent: " + scheduler::describe(resources) + peers.describe(agents);
      }
      return why_queued(work);
    case Where::kDelayed:
      return "an attempt could not get its inputs; it is tried again in a moment";
    case Where::kHere:
      if (work.launched) return "runs on this agent";
      if (work.missing > 0) {
        return "waits here for " + std::to_string(work.missing) + " inputs on their way" +
               (work.charged ? "" : ", and then for a free unit");
      }
      return "waits here for free computing units";
    case Where::kAway:
      return std::string(work.behind ? "was given to agent " : "runs on agent ") + agents.id(work.agent).hex() +
             (work.behind ? ", which places it beyond this region" : "");
  }
  return "";
}

Result<Dynamic> Scheduler::Impl::explain(const Dynamic& params) const {
  std::string ended;
  const Master* master = find_app(params, ended);
  if (master == nullptr)
    return fail(Code::kNotFound, "no application " + params.text_or("app", "") + " is known on this agent");
  const TaskId id(static_cast<std::uint64_t>(params.int_or("task", 0)));
  const std::uint32_t index = master->graph().find(id);
  Dynamic::Map result;
  result["task"] = id.value();
  if (index != kNone) {
    const Task& task = master->graph().task(index);
    result["function"] = master->function(task.function).spec.name;
    result["state"] = task.state == TaskState::kReady ? "ready" : "waiting";
    result["attempts"] = task.attempts;
    result["failures"] = task.failures;
    result["why"] = why_waiting(*master, task);
    result["placeable"] =
        task.work == kNone || works[task.work].where != Where::kQueued || !homeless.contains(works[task.work].klass);
    result["scheduler"] = std::string(name_of(master->policy()));
    if (by_path(master->policy())) result["path_us"] = task.path_us;
    if (task.work != kNone) {
      const Work& work = works[task.work];
      const bool queued = work.where == Where::kQueued;
      add_candidates(result, queued ? candidates_for(work, View::kHead, inputs_of(work)) : work.candidates, agents);
    }
    return Dynamic(std::move(result));
  }
  for (std::size_t i = master->trace().size(); i > 0; --i) {
    const TraceEntry& entry = master->trace().at(i - 1);
    if (entry.task != id) continue;
    result["function"] = master->function(entry.function).spec.name;
    result["state"] = std::string(end_name(entry.end));
    result["attempts"] = entry.attempts;
    result["agent"] = entry.agent == kNone ? "" : agents.id(entry.agent).hex();
    std::string why = "ended: " + std::string(end_name(entry.end)) +
                      (entry.agent == kNone
                           ? ""
                           : (entry.agent == kSelf ? " on this agent" : " on agent " + agents.id(entry.agent).hex())) +
                      ", waited " + std::to_string(entry.start_us - entry.ready_us) + " us, ran " +
                      std::to_string(entry.end_us - entry.start_us) + " us";
    if (!entry.candidates.empty()) {
      why += ". It was expected to be complete there first: " + in_words(entry.candidates.front(), agents) +
             "; next best: " + in_words(entry.candidates[1], agents);
    }
    result["why"] = why;
    result["scheduler"] = std::string(name_of(master->policy()));
    add_candidates(result, entry.candidates, agents);
    return Dynamic(std::move(result));
  }
  return fail(Code::kNotFound, "task " + std::to_string(id.value()) +
                                   " is not known, or finished too long ago (the last " +
                                   std::to_string(config.limits.trace_max) + " are kept)");
}

}  // namespace shoal::scheduler
