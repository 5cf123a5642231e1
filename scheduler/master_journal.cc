// The journal of an application: what is written for another agent to continue it, and how a program that runs again is
// answered from it.
#include <algorithm>
#include <utility>

#include "scheduler/fingerprint.h"
#include "scheduler/master.h"

namespace shoal::scheduler {

void Master::journal(std::vector<JournalEntry> replay) {
  journals_ = true;
  for (auto& entry : replay) replay_[entry.task] = std::move(entry);
}

// Members of groups finish in an order of their own, which the program cannot repeat: they are run again.
bool Master::is_repeatable(const Task& task) const {
  return !is_replica(task.id) &&
         std::all_of(task.refs.begin(), task.refs.end(), [](const Ref& ref) { return ref.access_group == kNone; });
}

bool Master::is_journalled(const Task& task) const {
  return journals_ && !task.recompute && is_repeatable(task);
}

// Streams are not there any more in the next run: who writes to one or reads from one runs again. What is computed
// again is saved again: the journal of a lost master told of it without its large values.
bool Master::is_saved(const Task& task) const {
  return saves_ && is_repeatable(task) &&
         std::none_of(task.accesses.begin(), task.accesses.end(),
                      [](const client::Access& access) { return access.kind == client::AccessKind::kStream; });
}

JournalEntry Master::entry_of(const Task& task, const std::vector<OutputValue>& outputs) const {
  JournalEntry entry{task.id, functions_[task.function].spec.name, 0, outputs};
  if (saves_) entry.call = fingerprint(task.accesses, put_prints_);
  return entry;
}

void Master::note_finished(const Task& task, const std::vector<OutputValue>& outputs) {
  JournalEntry& entry = effects_.journal.emplace_back(entry_of(task, outputs));
  for (auto& output : entry.outputs) {
    if (output.held) output.value = client::Nothing{};
  }
}

// ---- values on their way to where they are saved ----

// Before the graph learns that the task is done. The outputs that other agents hold come back: they are to be brought
// here, and are held until then.
std::vector<std::uint32_t> Master::begin_save(const Task& task, const std::vector<OutputValue>& outputs,
                                              AgentIndex ran_on) {
  std::vector<std::uint32_t> wanted;
  JournalEntry entry = entry_of(task, outputs);
  std::size_t next = 0;
  for (const Ref& ref : task.refs) {
    if (!ref.output || next >= entry.outputs.size()) continue;
    const std::size_t index = next++;
    OutputValue& output = entry.outputs[index];
    if (!output.held || ran_on == kSelf) continue;
    output.value = client::Nothing{};
    if (ref.write == kNone) continue;
    graph_.hold(ref.write);
    wanted_[ref.write] = {task.id, index};
    wanted.push_back(ref.write);
  }
  if (wanted.empty()) {
    effects_.saves.push_back(std::move(entry));
  } else {
    saving_[task.id] = {std::move(entry), wanted.size()};
  }
  return wanted;
}

// The outputs do not fit the call, so the task is not done.
void Master::drop_save(const std::vector<std::uint32_t>& wanted) {
  if (wanted.empty()) effects_.saves.pop_back();
  for (const std::uint32_t version : wanted) {
    auto known = wanted_.extract(version);
    saving_.erase(known.mapped().task);
    graph_.unhold(version);
  }
}

void Master::want_for_save(const std::vector<std::uint32_t>& wanted) {
  for (const std::uint32_t version : wanted) effects_.needs.push_back({version});
}

void Master::take_for_save(std::uint32_t version) {
  auto known = wanted_.extract(version);
  if (known.empty()) return;
  const Wanted& wanted = known.mapped();
  auto saving = saving_.find(wanted.task);
  const Version& v = graph_.version(version);
  const bool here = std::find(v.holders.begin(), v.holders.end(), kSelf) != v.holders.end();
  if (here) saving->second.entry.outputs[wanted.output].value = v.value;
  if (--saving->second.open == 0) {
    effects_.saves.push_back(std::move(saving->second.entry));
    saving_.erase(saving);
  }
  graph_.unhold(version);
  graph_.sweep();
}

// ---- a program that runs again ----

// Whether a call that a former run made is to be answered from there. With other arguments it is another call, and so
// is every one that reads what that one writes.
bool Master::may_replay(const client::TaskCall& call, std::uint32_t task) {
  auto known = replay_.find(call.task);
  if (!saves_) return known != replay_.end();
  const bool same_function =
      known != replay_.end() && known->second.function == functions_[graph_.task(task).function].spec.name;
  const bool other_call =
      same_function && known->second.call != 0 && known->second.call != fingerprint(call.accesses, put_prints_);
  if (!other_call && !graph_.reads_changed(task)) return known != replay_.end();
  graph_.mark_changed(task);
  if (known == replay_.end()) return false;
  if (!same_function) return true;  // replay() says so
  replay_.erase(known);
  if (other_call && !std::exchange(told_change_, true)) {
    wire::Dynamic::Map body;
    body["message"] =
        describe(call.task, graph_.task(task).function) +
        " is called with other arguments than in the run that wrote the checkpoint: it runs again, and so "
        "does what uses its results (this is said of the first such call only)";
    effects_.replies.push_back({client_, client::Event{"app.notice", wire::Dynamic(std::move(body))}});
  }
  return false;
}

// The task is one that a former master, or a former run, saw finish.
void Master::replay(const client::TaskCall& call, std::uint32_t task) {
  auto node = replay_.extract(call.task);
  JournalEntry& entry = node.mapped();
  drain();
  if (graph_.find(call.task) != task) return;  // it failed already, because of an input
  std::erase(effects_.ready, task);
  JobResult nothing;
  const std::uint32_t function = graph_.task(task).function;
  const auto diverged = [&](const std::string& why) {
    const std::string what = saves_ ? "the program does not do again what it did when its checkpoint was written: "
                                    : "the program does not do again what it did before its agent was lost: ";
    const std::string next = saves_
                                 ? "; give a changed program a checkpoint folder of its own, and let what is not the "
                                   "same in every run (time, random numbers, input) come from a task or from once()"
                                 : "; what is not the same in every run (time, random numbers, input) must come from a "
                                   "task or from once()";
    end_failed(task,
               {FailMode::kDiscard, true, Code::kInvalid, what + describe(call.task, function) + " " + why + next},
               nothing, kNone);
  };
  if (entry.function != functions_[function].spec.name) return diverged("was a call of " + entry.function + " then");
  graph_.task(task).large = false;  // nobody holds its inputs because of it
  std::vector<std::uint32_t> lost;
  std::size_t next = 0;
  for (const Ref& ref : graph_.task(task).refs) {
    if (!ref.output || next >= entry.outputs.size()) continue;
    const OutputValue& output = entry.outputs[next++];
    if (!output.held || ref.write == kNone) continue;
    if (std::holds_alternative<client::Nothing>(output.value)) {
      lost.push_back(ref.write);
    } else {
      effects_.keep.push_back({graph_.version(ref.write).name, output.value, false});
    }
  }
  const Task& record = graph_.task(task);
  const std::uint32_t group = record.group;
  JournalEntry again = entry;
  for (auto& output : again.outputs) {
    if (output.held) output.value = client::Nothing{};
  }
  trace_end(record, TraceEntry::End::kDone, kSelf, 0);
  if (auto fits = graph_.complete(task, entry.outputs, kNone); !fits) {
    trace_.undo();
    return diverged("had other results then");
  }
  for (const std::uint32_t version : lost) graph_.lost(version);
  effects_.journal.push_back(std::move(again));
  ++counts_.done;
  ++counts_.replayed;
  count_end(group);
}

}  // namespace shoal::scheduler
