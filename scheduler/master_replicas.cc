// Tasks that run on every agent (`is_replicated`): the task itself on the first, and a replica on each of the others,
// which reads what the task reads and whose results nobody sees. Barriers wait for all of them.
#include <algorithm>

#include "scheduler/master.h"

namespace shoal::scheduler {

namespace {

using client::AccessKind;
using client::Direction;

// Programs number tasks from 1; numbers with this bit are not theirs.
constexpr std::uint64_t kReplicaBit = 1ULL << 63;
constexpr std::uint32_t kReplicaBits = 16;

bool is_plain(AccessKind kind) {
  return kind == AccessKind::kLiteral || kind == AccessKind::kDatum || kind == AccessKind::kObject;
}

// What a replica reads and leaves of one parameter; false when there is no such thing.
bool replicate(client::Access& access) {
  switch (access.direction) {
    case Direction::kIn:
      return true;
    case Direction::kInOut:
      access.direction = Direction::kIn;  // its own copy
      return is_plain(access.kind);
    case Direction::kOut:
      if (!is_plain(access.kind)) return false;
      access = client::Access{Direction::kOut, AccessKind::kLiteral, {}, {}, {}, {}, access.name};
      return true;
    case Direction::kConcurrent:
    case Direction::kCommutative:
    case Direction::kInDelete:
      return false;
  }
  return false;
}

}  // namespace

bool Master::is_replica(TaskId task) {
  return (task.value() & kReplicaBit) != 0;
}

void Master::submit_replicas(const client::TaskCall& call, std::uint32_t function, std::uint32_t task) {
  const std::vector<AgentIndex> agents = able_ ? able_(functions_[function].demand) : std::vector<AgentIndex>();
  if (agents.size() < 2) return;
  client::TaskCall replica = call;
  if (!std::all_of(replica.accesses.begin(), replica.accesses.end(), replicate)) {
    drain();
    if (graph_.find(call.task) != task) return;  // it failed already, because of an input
    std::erase(effects_.ready, task);
    refuse(task, Code::kUnsupported,
           "a replicated task may read anything and return values, but not write files or collections");
    return;
  }
  graph_.task(task).only = agents.front();
  const std::size_t count = std::min<std::size_t>(agents.size(), 1U << kReplicaBits);
  for (std::size_t i = 1; i < count; ++i) {
    replica.task = TaskId(kReplicaBit | call.task.value() << kReplicaBits | i);
    ++counts_.submitted;
    groups_.enter(groups_.current());
    const std::uint32_t index = graph_.submit(replica, function, groups_.current());
    if (graph_.find(replica.task) == index) graph_.task(index).only = agents[i];
  }
}

}  // namespace shoal::scheduler
