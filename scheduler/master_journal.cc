// The journal of an application: what is written for another agent to continue it, and how a program that runs again is
// answered from it.
#include <algorithm>
#include <utility>

#include "scheduler/master.h"

namespace shoal::scheduler {

void Master::journal(std::vector<JournalEntry> replay) {
  journals_ = true;
  for (auto& entry : replay) replay_[entry.task] = std::move(entry);
}

// Members of groups finish in an order of their own, which the program cannot repeat: they are run again.
bool Master::is_journalled(const Task& task) const {
  return journals_ && !task.recompute && !is_replica(task.id) &&
         std::all_of(task.refs.begin(), task.refs.end(), [](const Ref& ref) { return ref.access_group == kNone; });
}

void Master::note_finished(const Task& task, const std::vector<OutputValue>& outputs) {
  JournalEntry& entry = effects_.journal.emplace_back();
  entry.task = task.id;
  entry.function = functions_[task.function].spec.function;
  entry.outputs = outputs;
  for (auto& output : entry.outputs) {
    if (output.held) output.value = client::Nothing{};
  }
}

// The task is one that the former master saw finish.
void Master::replay(const client::TaskCall& call, std::uint32_t task) {
  auto node = replay_.extract(call.task);
  JournalEntry& entry = node.mapped();
  drain();
  if (graph_.find(call.task) != task) return;  // it failed already, because of an input
  std::erase(effects_.ready, task);
  JobResult nothing;
  const std::uint32_t function = graph_.task(task).function;
  const auto diverged = [&](const std::string& why) {
    end_failed(
        task,
        {FailMode::kDiscard, true, Code::kInvalid,
         "the program does not do again what it did before its agent was lost: " + describe(call.task, function) + " " +
             why + "; what is not the same in every run (time, random numbers, input) must come from a task"},
        nothing, kNone);
  };
  if (entry.function != call.function) return diverged("was a call of another function then");
  graph_.task(task).large = false;  // nobody holds its inputs because of it
  std::vector<std::uint32_t> held;
  std::size_t next = 0;
  for (const Ref& ref : graph_.task(task).refs) {
    if (!ref.output || next >= entry.outputs.size()) continue;
    if (entry.outputs[next++].held && ref.write != kNone) held.push_back(ref.write);
  }
  const Task& record = graph_.task(task);
  const std::uint32_t group = record.group;
  JournalEntry again = entry;
  trace_end(record, TraceEntry::End::kDone, kSelf, 0);
  if (auto fits = graph_.complete(task, entry.outputs, kNone); !fits) {
    trace_.undo();
    return diverged("had other results then");
  }
  for (const std::uint32_t version : held) graph_.lost(version);
  effects_.journal.push_back(std::move(again));
  ++counts_.done;
  ++counts_.replayed;
  count_end(group);
}

}  // namespace shoal::scheduler
