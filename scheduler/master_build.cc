// The master: from a ready task to the attempt that somebody is to run.
#include <algorithm>

#include "scheduler/access.h"
#include "scheduler/master.h"

namespace shoal::scheduler {

namespace {

using client::AccessKind;
using client::Direction;

std::string base_name(const std::string& path) {
  const auto end = path.find_last_not_of('/');
  if (end == std::string::npos) return "file";
  const auto slash = path.find_last_of('/', end);
  const auto begin = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(begin, end + 1 - begin);
}

}  // namespace

// One pass over the accesses of a task, beside its refs.
struct Master::Cursor {
  const Task& task;
  const Agents& agents;
  bool here;
  Assignment& out;
  std::size_t ref = 0;
  std::uint32_t argument = 0;
};

bool Master::prepare(std::uint32_t index, const Agents& agents, bool here, Assignment& out) {
  if (!graph_.ensure_inputs(index)) {
    drain();
    return false;
  }
  Task& task = graph_.task(index);
  const client::TaskOptions& how = options(task);
  out.app = app_;
  out.task = task.id;
  out.instance = task.instance = task.instance.next();
  out.function = functions_[task.function].spec.function;
  out.timeout_ms = how.timeout_ms;
  out.command = how.command;
  out.working_dir = how.working_dir;
  out.fail_by_exit_value = how.fail_by_exit_value;
  out.priority = how.priority;
  Cursor cursor{task, agents, here, out};
  out.arguments.reserve(task.accesses.size());
  for (const auto& access : task.accesses) build(cursor, access, out.arguments.emplace_back());
  return true;
}

bool Master::build(Cursor& cursor, const client::Access& access, client::Argument& argument) {
  const Ref& ref = cursor.task.refs[cursor.ref++];
  const std::uint32_t position = cursor.argument++;
  argument.direction = access.direction;
  argument.kind = access.kind;
  argument.name = access.name;
  if (ref.read != kNone) {
    const std::uint32_t index = graph_.resolve(ref.read);
    const Version& v = graph_.version(index);
    const bool local = std::find(v.holders.begin(), v.holders.end(), kSelf) != v.holders.end();
    if (v.inlined() || (cursor.here && local)) {
      argument.value = v.value;
    } else {
      if (local && !v.kept) {
        effects_.keep.push_back({v.name, v.value, v.borrowed});
        graph_.mark_kept(index);
      }
      RemoteInput& input = cursor.out.inputs.emplace_back();
      input.argument = position;
      input.name = v.name;
      input.bytes = v.bytes;
      for (const AgentIndex holder : v.holders) input.holders.push_back(cursor.agents.address(holder));
    }
  } else if (access.kind == AccessKind::kStream && std::holds_alternative<client::Nothing>(access.value)) {
    argument.value = client::FilePath{access.path};
  } else if (!is_file(access.kind) && access.direction != Direction::kOut) {
    argument.value = access.value;
  }
  if (const auto* reference = std::get_if<client::ObjectRef>(&argument.value)) {
    RemoteInput& input = cursor.out.inputs.emplace_back();
    input.argument = position;
    input.object = reference->object;
  }
  if (ref.output) {
    cursor.out.outputs.push_back(ref.write != kNone ? graph_.version(ref.write).name : DataName{});
    // The worker completes the name with a folder of its own.
    if (is_file(access.kind) && access.direction == Direction::kOut) {
      argument.value = client::FilePath{base_name(access.path)};
    } else if (is_file(access.kind)) {
      client::Argument& copy = argument.items.emplace_back();
      copy.direction = Direction::kOut;
      copy.kind = access.kind;
      copy.value = client::FilePath{base_name(access.path)};
    }
  }
  for (const auto& item : access.items) build(cursor, item, argument.items.emplace_back());
  return true;
}

void Master::input_bytes(std::uint32_t index, std::map<AgentIndex, std::uint64_t>& held,
                         std::map<AgentIndex, std::uint64_t>& coming, std::uint64_t& total) const {
  constexpr std::uint64_t kFileGuess = 1U << 20;  // sizes of files are not known
  for (const Ref& ref : graph_.task(index).refs) {
    if (ref.read == kNone) continue;
    const std::uint32_t version = graph_.resolve(ref.read);
    const Version& v = graph_.version(version);
    if (v.holders.empty()) continue;
    const std::uint64_t bytes = v.bytes != 0 ? v.bytes : kFileGuess;
    total += bytes;
    for (const AgentIndex holder : v.holders) held[holder] += bytes;
    auto on_the_way = coming_.find(version);
    if (on_the_way == coming_.end()) continue;
    for (const auto& [agent, attempts] : on_the_way->second) {
      if (std::find(v.holders.begin(), v.holders.end(), agent) == v.holders.end()) coming[agent] += bytes;
    }
  }
}

void Master::expect_inputs(std::uint32_t index, AgentIndex agent, std::vector<std::uint32_t>& versions) {
  for (const Ref& ref : graph_.task(index).refs) {
    if (ref.read == kNone) continue;
    const std::uint32_t version = graph_.resolve(ref.read);
    const auto& holders = graph_.version(version).holders;
    if (holders.empty() || std::find(holders.begin(), holders.end(), agent) != holders.end()) continue;
    ++coming_[version][agent];
    versions.push_back(version);
  }
}

void Master::unexpect_inputs(AgentIndex agent, const std::vector<std::uint32_t>& versions) {
  for (const std::uint32_t version : versions) {
    auto it = coming_.find(version);
    if (it == coming_.end()) continue;
    auto attempts = it->second.find(agent);
    if (attempts != it->second.end() && --attempts->second == 0) it->second.erase(attempts);
    if (it->second.empty()) coming_.erase(it);
  }
}

}  // namespace shoal::scheduler
