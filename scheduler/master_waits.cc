// The master: what its driver waits for.
#include <algorithm>
#include <utility>

#include "protocol/base/check.h"
#include "scheduler/master.h"

namespace shoal::scheduler {

void Master::on(const client::Wait& message) {
  if (waits_.size() >= limits_.waits_max) {
    client::Values values;
    values.request = message.request;
    client::ValueResult refused;
    refused.code = static_cast<std::uint8_t>(Code::kExhausted);
    refused.message = "more than " + std::to_string(limits_.waits_max) + " waits are unanswered";
    for (const DatumId datum : message.data) refused.datum = datum, values.values.push_back(refused);
    refused.datum = DatumId();
    for (const auto& path : message.files) refused.path = path, values.values.push_back(refused);
    effects_.replies.push_back({client_, std::move(values)});
    return;
  }
  const std::uint64_t id = ++next_wait_;
  PendingWait& wait = waits_[id];
  wait.request = message.request;
  wait.items.reserve(message.data.size() + message.files.size());
  for (const DatumId datum : message.data) add_item(wait, graph_.current(datum), datum, {});
  for (const auto& path : message.files) add_item(wait, graph_.current_file(path), {}, path);
  for (std::uint32_t i = 0; i < wait.items.size(); ++i) {
    WaitItem& item = wait.items[i];
    if (item.version == kNone) continue;
    item.open = !settle_item({id, i}, item);
    if (item.open) ++wait.open;
  }
  if (wait.open == 0) answer_wait(id);
  drain();
}

void Master::add_item(PendingWait& wait, std::uint32_t version, DatumId datum, std::string path) {
  if (version != kNone) graph_.hold(version);
  wait.items.push_back({version, false, datum, std::move(path)});
}

// True when the item is final. Otherwise the wait is told when its version changes, or a value is on its way.
bool Master::settle_item(Waiting who, WaitItem& item) {
  const bool had_value = graph_.ensure(item.version);
  const std::uint32_t version = graph_.resolve(item.version);
  const Version& v = graph_.version(version);
  if (v.state == VersionState::kFailed) return true;
  const std::uint32_t watched = had_value ? version : item.version;
  if (!had_value) {
    // Pending itself, or (when a lost value is being made again) through the version it takes its value from.
    const std::uint32_t root = graph_.version(item.version).state == VersionState::kPending ? item.version : version;
    graph_.watch(root);
    waiting_[root].push_back(who);
    return false;
  }
  const bool local = std::find(v.holders.begin(), v.holders.end(), kSelf) != v.holders.end();
  if (v.holders.empty() || local) return true;
  waiting_[watched].push_back(who);
  effects_.needs.push_back({watched});
  return false;
}

// A version became final, or its value arrived: looks again at the items of waits that named it.
void Master::settle(std::uint32_t version) {
  auto it = waiting_.find(version);
  if (it == waiting_.end()) return;
  std::vector<Waiting> waiting = std::move(it->second);
  waiting_.erase(it);
  std::sort(waiting.begin(), waiting.end());
  waiting.erase(std::unique(waiting.begin(), waiting.end()), waiting.end());
  for (const Waiting who : waiting) {
    auto wait = waits_.find(who.wait);
    if (wait == waits_.end()) continue;
    WaitItem& item = wait->second.items[who.item];
    if (!item.open) continue;
    if (!settle_item(who, item)) continue;
    item.open = false;
    if (--wait->second.open == 0) answer_wait(who.wait);
  }
}

void Master::fetched(std::uint32_t version, bool ok, const client::Value& value) {
  if (graph_.version(version).state == VersionState::kReady) {
    if (ok) {
      graph_.set_local(version, value);
    } else {
      graph_.lost(version);
    }
  }
  settle(version);
  take_for_save(version);
  drain();
}

void Master::answer_wait(std::uint64_t id) {
  auto it = waits_.find(id);
  client::Values values;
  values.request = it->second.request;
  values.values.reserve(it->second.items.size());
  for (const auto& item : it->second.items) {
    values.values.push_back(result_of(item));
    if (item.version != kNone) graph_.unhold(item.version);
  }
  waits_.erase(it);
  graph_.sweep();
  effects_.replies.push_back({client_, std::move(values)});
}

client::ValueResult Master::result_of(const WaitItem& item) {
  client::ValueResult result;
  result.datum = item.datum;
  result.path = item.path;
  if (item.version == kNone) {
    if (!item.path.empty()) return result;  // never touched by a task: it is where it was
    result.code = static_cast<std::uint8_t>(Code::kNotFound);
    result.message =
        "the application has no datum " + std::to_string(item.datum.value()) + " (never given, or released)";
    return result;
  }
  const Version& v = graph_.version(graph_.resolve(item.version));
  if (v.state != VersionState::kFailed) {
    result.value = v.value;
    return result;
  }
  Failure& failure = graph_.failure(v.failure);
  failure.reported = true;
  result.code = static_cast<std::uint8_t>(failure.code);
  result.message = failure.message;
  result.error = failure.error;
  return result;
}

void Master::on(const client::Barrier& message) {
  std::uint32_t group = kNone;
  if (!message.group.empty()) {
    group = groups_.find(message.group);
    if (group == kNone) {
      reply(message.request, Code::kNotFound, "there is no task group \"" + message.group + "\"");
      return;
    }
  }
  if (barriers_.size() >= limits_.waits_max) {
    reply(message.request, Code::kExhausted,
          "more than " + std::to_string(limits_.waits_max) + " barriers are unanswered");
    return;
  }
  barriers_.push_back({message.request, group});
  drain();
}

// A failure that ends the application answers its barriers at once: waiting for the rest would be in vain.
void Master::answer_barriers() {
  for (std::size_t i = 0; i < barriers_.size();) {
    const PendingBarrier barrier = barriers_[i];
    const auto unreported =
        std::find_if(fatal_.begin(), fatal_.end(), [&](std::uint32_t f) { return !graph_.failure(f).reported; });
    const bool app_wide = barrier.group == kNone;
    const bool failed = app_wide && unreported != fatal_.end();
    const bool empty = app_wide ? counts_.unfinished() == 0 : groups_[barrier.group].unfinished == 0;
    if (!failed && !empty) {
      ++i;
      continue;
    }
    barriers_.erase(barriers_.begin() + static_cast<std::ptrdiff_t>(i));
    if (failed) {
      reply_failure(barrier.request, *unreported);
      for (const std::uint32_t f : fatal_) graph_.failure(f).reported = true;
    } else if (!app_wide && groups_[barrier.group].failure != kNone && !groups_[barrier.group].reported) {
      graph_.failure(groups_[barrier.group].failure).reported = true;
      reply_failure(barrier.request, groups_[barrier.group].failure);
    } else {
      effects_.replies.push_back({client_, client::Reply{barrier.request, 0, {}, {}, {}}});
    }
    if (app_wide) continue;
    groups_[barrier.group].reported = true;
    const bool awaited = std::any_of(barriers_.begin(), barriers_.end(),
                                     [&](const PendingBarrier& other) { return other.group == barrier.group; });
    if (awaited) continue;
    for (const std::uint32_t failure : groups_.forget(barrier.group)) graph_.drop_failure(failure);
  }
}

void Master::reply_failure(std::uint64_t request, std::uint32_t index) {
  const Failure& failure = graph_.failure(index);
  effects_.replies.push_back(
      {client_, client::Reply{request, static_cast<std::uint8_t>(failure.code), failure.message, {}, failure.error}});
}

void Master::reply(std::uint64_t request, Code code, std::string message) {
  effects_.replies.push_back(
      {client_, client::Reply{request, static_cast<std::uint8_t>(code), std::move(message), {}, {}}});
}

}  // namespace shoal::scheduler
