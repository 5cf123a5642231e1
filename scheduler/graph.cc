// The graph while the program runs on: access analysis and readiness.
#include "scheduler/graph.h"
#include "scheduler/access.h"

#include <algorithm>
#include <utility>

#include "protocol/base/check.h"

namespace shoal::scheduler {

namespace {

using client::Access;
using client::AccessKind;
using client::Direction;

constexpr std::uint64_t kAnonymous = 1ULL << 63;  // numbers of data that only one task knows

bool writes(Direction direction) {
  return direction != Direction::kIn && direction != Direction::kInDelete;
}
bool reads(Direction direction) {
  return direction != Direction::kOut;
}
bool is_elsewhere(const client::Value& value) {
  return std::holds_alternative<client::Shared>(value) || std::holds_alternative<client::FilePath>(value);
}

}  // namespace

ValueKey key_of(AppId app, const DataName& name) {
  if (name.file) return "file/" + app.hex() + "/" + std::to_string(name.number);
  return app.hex() + "/" + std::to_string(name.number) + "/" + std::to_string(name.version);
}

Graph::Graph(AppId app, const Limits& limits) : app_(app), limits_(limits) {}

std::uint32_t Graph::submit(const client::TaskCall& call, std::uint32_t function, std::uint32_t group) {
  const std::uint32_t index = tasks_.add();
  Task& task = tasks_[index];
  task.state = TaskState::kWaiting;
  task.id = call.task;
  task.function = function;
  task.group = group;
  task.accesses = call.accesses;
  if (call.options) task.options = std::make_unique<client::TaskOptions>(*call.options);
  by_task_[task.id] = index;
  task.refs.reserve(task.accesses.size());
  ++task.pending;  // keeps it from starting while it is being analysed
  for (const auto& access : task.accesses) visit(index, access);
  for (const std::uint32_t datum : std::exchange(deleted_, {})) release_datum(datum);
  --task.pending;
  if (task.failure != kNone) {
    endings_.push_back({index, FailMode::kDiscard, task.failure, true});
    run_endings();
  } else if (task.pending == 0) {
    try_start(index);
  }
  collect();
  return index;
}

void Graph::visit(std::uint32_t task, const Access& access) {
  switch (access.kind) {
    case AccessKind::kCollection:
      if (access.datum.value() != 0) {
        track(task, access, false);
      } else {
        tasks_[task].refs.emplace_back();
      }
      for (const auto& item : access.items) visit(task, item);
      return;
    case AccessKind::kStream:  // consumers and producers run side by side
      tasks_[task].refs.push_back({kNone, kNone, kNone, writes(access.direction)});
      return;
    case AccessKind::kObject:
      if (access.datum.value() == 0) {
        tasks_[task].refs.push_back({kNone, kNone, kNone, writes(access.direction)});
        return;
      }
      track(task, access, true);
      return;
    case AccessKind::kDatum:
      track(task, access, true);
      return;
    case AccessKind::kFile:
    case AccessKind::kDirectory:
    case AccessKind::kStdout:
    case AccessKind::kStderr:
    case AccessKind::kStdin:
      track(task, access, true);
      return;
    case AccessKind::kLiteral:
      track_literal(task, access);
      return;
  }
  tasks_[task].refs.emplace_back();
  doom(
      task,
      {Code::kInvalid, "parameter " + access.name + " is of a kind that this version does not know", {}, {}, 0, false});
}

void Graph::track_literal(std::uint32_t task, const Access& access) {
  Ref ref;
  ref.output = writes(access.direction);
  if (is_elsewhere(access.value)) {
    const bool file = std::holds_alternative<client::FilePath>(access.value);
    ref.read = source(kNone, access.value, file, file);
    hold(ref.read);
    tasks_[task].large = true;
  }
  tasks_[task].refs.push_back(ref);
}

std::uint32_t Graph::datum_of(const Access& access, bool create) {
  if (is_file(access.kind)) {
    auto it = by_path_.find(access.path);
    if (it != by_path_.end()) return it->second;
  } else {
    auto it = by_id_.find(access.datum);
    if (it != by_id_.end()) return it->second;
  }
  if (!create || data_.live() >= limits_.data_max) return kNone;
  const std::uint32_t index = data_.add();
  if (is_file(access.kind)) {
    data_[index].path = access.path;
    by_path_[access.path] = index;
  } else {
    data_[index].id = access.datum;
    by_id_[access.datum] = index;
  }
  return index;
}

void Graph::track(std::uint32_t index, const Access& access, bool leaf) {
  const bool file = is_file(access.kind);
  Ref ref;
  const bool known = datum_of(access, false) != kNone;
  if (file && access.path.empty()) {
    doom(index, {Code::kInvalid, "parameter " + access.name + " is a file without a path", {}, {}, 0, false});
    tasks_[index].refs.push_back(ref);
    return;
  }
  if (!known && reads(access.direction) && !file && leaf && std::holds_alternative<client::Nothing>(access.value)) {
    doom(index, {Code::kInvalid,
                 "parameter " + access.name + " names datum " + std::to_string(access.datum.value()) +
                     ", which the program has not given or has released",
                 {},
                 {},
                 0,
                 false});
  }
  const std::uint32_t datum = datum_of(access, true);
  if (datum == kNone) {
    doom(index, {Code::kExhausted,
                 "the application has more than " + std::to_string(limits_.data_max) + " live data: release some",
                 {},
                 {},
                 0,
                 false});
    tasks_[index].refs.push_back(ref);
    return;
  }
  if (data_[datum].current == kNone && reads(access.direction)) {
    make_current(datum, source(datum, file ? client::Value(client::FilePath{access.path}) : access.value, file, file));
  }
  const std::uint32_t current = data_[datum].current;
  const bool own = own_read(tasks_[index], current, ref.read);
  if (reads(access.direction) && !own) ref.read = current;
  if (own && (access.direction == Direction::kConcurrent || access.direction == Direction::kCommutative)) {
    doom(index, {Code::kInvalid,
                 "parameter " + access.name + " is passed twice: that cannot be CONCURRENT or COMMUTATIVE",
                 {},
                 {},
                 0,
                 false});
    tasks_[index].refs.push_back(Ref());
    return;
  }
  switch (access.direction) {
    case Direction::kIn:
      break;
    case Direction::kInDelete:
      deleted_.push_back(datum);
      break;
    case Direction::kOut:
    case Direction::kInOut:
      ref.write = new_version(datum, index);
      make_current(datum, ref.write);
      ref.output = leaf;
      break;
    case Direction::kConcurrent:
    case Direction::kCommutative:
      join_group(index, datum, access.direction == Direction::kCommutative, ref);
      ref.output = leaf;
      break;
  }
  if (ref.read != kNone) depend(index, ref.read);
  tasks_[index].refs.push_back(ref);
}

// A version that this very task writes cannot be waited for: the access means what the task's earlier access read.
bool Graph::own_read(const Task& task, std::uint32_t version, std::uint32_t& read) const {
  for (const Ref& ref : task.refs) {
    const bool own_group = ref.access_group != kNone && groups_[ref.access_group].result == version;
    if (own_group || (ref.write == version && version != kNone)) {
      read = ref.read;
      return true;
    }
  }
  return false;
}

void Graph::join_group(std::uint32_t task, std::uint32_t datum, bool exclusive, Ref& ref) {
  const std::uint32_t current = data_[datum].current;
  std::uint32_t group = versions_[current].access_group;
  if (group == kNone || groups_[group].exclusive != exclusive || groups_[group].closed) {
    group = groups_.add();
    groups_[group].exclusive = exclusive;
    groups_[group].tip = current;
    hold(current);
    groups_[group].result = new_version(datum, kNone);
    versions_[groups_[group].result].access_group = group;
    make_current(datum, groups_[group].result);
    ref.read = current;
  } else if (ref.read == current) {
    // Joins those that run already: what they started from, or what the last of them left.
    ref.read = groups_[group].tip;
  }
  ++groups_[group].remaining;
  ref.access_group = group;
  ref.write = new_version(datum, task);
}

std::uint32_t Graph::source(std::uint32_t datum, const client::Value& value, bool file, bool borrowed) {
  const std::uint32_t index = versions_.add();
  Version& v = versions_[index];
  v.state = VersionState::kReady;
  v.datum = datum;
  v.borrowed = borrowed;
  v.value = value;
  if (const auto* shared = std::get_if<client::Shared>(&value)) v.bytes = shared->bytes;
  if (is_elsewhere(value)) v.holders.push_back(kSelf);
  if (file) {
    v.name = {true, ++files_, 0};
  } else if (datum == kNone) {
    v.name = {false, kAnonymous | ++anonymous_, 0};
  } else {
    v.name = {false, data_[datum].id.value(), ++data_[datum].versions};
  }
  if (std::holds_alternative<client::Shared>(value)) {
    v.kept = true;
    events_.sources.push_back({v.name, value});
  }
  return index;
}

std::uint32_t Graph::new_version(std::uint32_t datum, std::uint32_t producer) {
  const std::uint32_t index = versions_.add();
  Version& v = versions_[index];
  v.state = VersionState::kPending;
  v.datum = datum;
  v.producer = producer;
  if (producer != kNone) {
    v.made_by = tasks_[producer].id;
    ++tasks_[producer].live_outputs;
  }
  const bool file = !data_[datum].path.empty();
  const std::uint32_t number = ++data_[datum].versions;
  v.name = file ? DataName{true, ++files_, 0} : DataName{false, data_[datum].id.value(), number};
  return index;
}

void Graph::make_current(std::uint32_t datum, std::uint32_t version) {
  const std::uint32_t before = std::exchange(data_[datum].current, version);
  if (before != kNone && before != version) consider(before);
}

void Graph::depend(std::uint32_t task, std::uint32_t version) {
  hold(version);
  const Version& v = versions_[resolve(version)];
  Task& t = tasks_[task];
  if (v.state == VersionState::kFailed || v.cancels) {
    if (t.failure == kNone) t.failure = v.failure, ++failures_[v.failure].refs;
  } else if (v.state == VersionState::kPending) {
    await(task, versions_[resolve(version)]);
  } else if (v.state != VersionState::kReady || !v.inlined()) {
    t.large = true;
  }
}

void Graph::await(std::uint32_t index, Version& version) {
  Task& task = tasks_[index];
  version.successors.push_back({index, successor_tag(task.id)});
  ++task.pending;
}

bool Graph::still_waits(const Successor& successor) const {
  const Task& task = tasks_[successor.index];
  return unfinished(task) && successor_tag(task.id) == successor.task;
}

void Graph::doom(std::uint32_t task, Failure failure) {
  if (tasks_[task].failure != kNone) return;
  failure.task = tasks_[task].id;
  tasks_[task].failure = make_failure(std::move(failure));
}

// All inputs are there. What is left is the turn in every group of commutative accesses; a task takes all its turns
// at once or none, so that two tasks can never wait for each other.
void Graph::try_start(std::uint32_t index) {
  Task& task = tasks_[index];
  for (const Ref& ref : task.refs) {
    if (ref.access_group == kNone || !groups_[ref.access_group].exclusive) continue;
    AccessGroup& group = groups_[ref.access_group];
    if (group.holder == kNone || group.holder == index) continue;
    task.state = TaskState::kBlocked;
    group.waiting.push_back(index);
    return;
  }
  for (Ref& ref : task.refs) {
    if (ref.access_group == kNone || !groups_[ref.access_group].exclusive) continue;
    AccessGroup& group = groups_[ref.access_group];
    group.holder = index;
    if (ref.read == group.tip) continue;
    hold(group.tip);
    unhold(ref.read);
    ref.read = group.tip;
  }
  for (const Ref& ref : task.refs) {
    if (ref.read == kNone) continue;
    const Version& v = versions_[resolve(ref.read)];
    if (v.state != VersionState::kReady || !v.inlined()) task.large = true;
  }
  task.state = TaskState::kReady;
  events_.ready.push_back(index);
}

Result<> Graph::put(DatumId id, const client::Value& value) {
  Access access;
  access.kind = AccessKind::kDatum;
  access.datum = id;
  const std::uint32_t datum = datum_of(access, true);
  if (datum == kNone) {
    return shoal::fail(Code::kExhausted,
                       "the application has more than " + std::to_string(limits_.data_max) + " live data");
  }
  const bool file = std::holds_alternative<client::FilePath>(value);
  make_current(datum, source(datum, value, file, file));
  collect();
  return {};
}

void Graph::release(DatumId id) {
  auto it = by_id_.find(id);
  if (it != by_id_.end()) release_datum(it->second);
  collect();
}

void Graph::release_file(const std::string& path) {
  auto it = by_path_.find(path);
  if (it != by_path_.end()) release_datum(it->second);
  collect();
}

// The program's name leads nowhere from now on; the versions live until their last reader is done.
void Graph::release_datum(std::uint32_t index) {
  Datum& datum = data_[index];
  if (datum.released) return;
  datum.released = true;
  if (datum.path.empty()) {
    by_id_.erase(datum.id);
  } else {
    by_path_.erase(datum.path);
  }
  if (datum.current == kNone) {
    data_.free(index);
  } else {
    consider(datum.current);
  }
}

std::uint32_t Graph::current(DatumId id) const {
  auto it = by_id_.find(id);
  return it == by_id_.end() ? kNone : data_[it->second].current;
}

std::uint32_t Graph::current_file(const std::string& path) const {
  auto it = by_path_.find(path);
  return it == by_path_.end() ? kNone : data_[it->second].current;
}

std::uint32_t Graph::find(TaskId id) const {
  auto it = by_task_.find(id);
  return it == by_task_.end() ? kNone : it->second;
}

std::uint32_t Graph::resolve(std::uint32_t version) const {
  while (versions_[version].alias_of != kNone) version = versions_[version].alias_of;
  return version;
}

void Graph::hold(std::uint32_t version) {
  ++versions_[version].readers;
  // Whoever reads the result of a group means those that are in it now: what the program adds later begins another one.
  const std::uint32_t group = versions_[version].access_group;
  if (group != kNone) groups_[group].closed = true;
}

void Graph::unhold(std::uint32_t version) {
  SHOAL_CHECK(versions_[version].readers > 0, "a version was let go more often than it was held");
  if (--versions_[version].readers == 0) consider(version);
}

void Graph::add_holder(std::uint32_t version, AgentIndex agent) {
  auto& holders = versions_[version].holders;
  if (std::find(holders.begin(), holders.end(), agent) == holders.end()) holders.push_back(agent);
}

void Graph::set_local(std::uint32_t version, client::Value value) {
  versions_[version].value = std::move(value);
  add_holder(version, kSelf);
}

std::uint32_t Graph::make_failure(Failure failure) {
  const std::uint32_t index = failures_.add();
  failures_[index] = std::move(failure);
  failures_[index].refs = 1;
  return index;
}

void Graph::drop_failure(std::uint32_t failure) {
  if (failure != kNone && --failures_[failure].refs == 0) failures_.free(failure);
}

}  // namespace shoal::scheduler
