#include "streams/model/group.h"

#include <algorithm>

#include "protocol/base/check.h"

namespace shoal::streams {

Group::Group(GroupMode mode, std::uint32_t partitions) : mode_(mode), partitions_(partitions) {}

bool Group::poll_begins(const std::string& consumer, Instant now) {
  auto it = consumers_.find(consumer);
  if (it == consumers_.end()) {
    if (consumers_.size() >= kConsumersMax) return false;
    it = consumers_.try_emplace(consumer).first;
  }
  it->second.polled = now;
  it->second.polling = true;
  assign();
  return true;
}

void Group::poll_ends(const std::string& consumer) {
  if (auto it = consumers_.find(consumer); it != consumers_.end()) it->second.polling = false;
}

std::int64_t Group::leave(const std::string& consumer) {
  const std::int64_t records = give_back(consumer);
  for (Partition& partition : partitions_) {
    if (partition.assigned == consumer) partition.assigned.clear();
  }
  consumers_.erase(consumer);
  assign();
  return records;
}

std::int64_t Group::give_back(const std::string& consumer) {
  std::int64_t records = 0;
  for (Partition& partition : partitions_) records += release(consumer, partition);
  return records;
}

std::int64_t Group::release(const std::string& consumer, Partition& partition) {
  std::int64_t records = 0;
  for (auto it = partition.held.begin(); it != partition.held.end();) {
    if (it->second.consumer != consumer) {
      ++it;
      continue;
    }
    partition.waiting[it->first] = it->second.last;
    records += it->second.last - it->first + 1;
    it = partition.held.erase(it);
  }
  return records;
}

void Group::acknowledge(const std::string& consumer) {
  for (Partition& partition : partitions_) {
    std::erase_if(partition.held, [&](const auto& entry) { return entry.second.consumer == consumer; });
  }
  assign();
}

bool Group::acknowledge(const std::string& consumer, std::uint32_t partition, Offset next) {
  if (partition >= partitions_.size()) return false;
  bool held_some = false;
  auto& held = partitions_[partition].held;
  for (auto it = held.begin(); it != held.end();) {
    const Offset first = it->first;
    const Held range = it->second;
    if (range.consumer != consumer) {
      ++it;
      continue;
    }
    held_some = true;
    if (first >= next) break;
    it = held.erase(it);
    if (range.last >= next) {
      held[next] = range;
      break;
    }
  }
  assign();
  return held_some;
}

bool Group::has_position(std::uint32_t partition) const {
  return partition < partitions_.size() && partitions_[partition].positioned;
}

void Group::seek(std::uint32_t partition, Offset next) {
  if (partition >= partitions_.size()) return;
  Partition& state = partitions_[partition];
  state.held.clear();
  state.waiting.clear();
  state.next = std::max<Offset>(next, 0);
  state.positioned = true;
}

// Every partition goes to one consumer, evenly, and stays there as long as possible; it moves only when its holder has
// nothing of it in hands, so that no record is with two consumers because of a move.
void Group::assign() {
  if (mode_ != GroupMode::kPartitioned || consumers_.empty()) return;
  std::map<std::string, std::size_t> load;
  for (const auto& [name, consumer] : consumers_) load[name] = 0;
  for (const Partition& partition : partitions_) {
    if (!partition.assigned.empty()) ++load[partition.assigned];
  }
  const auto by_load = [](const auto& a, const auto& b) { return a.second < b.second; };
  for (Partition& partition : partitions_) {
    auto least = std::min_element(load.begin(), load.end(), by_load);
    if (partition.assigned.empty()) {
      partition.assigned = least->first;
      ++least->second;
    } else if (load[partition.assigned] > least->second + 1 && partition.held.empty()) {
      --load[partition.assigned];
      partition.assigned = least->first;
      ++least->second;
    }
  }
}

bool Group::may_take(const std::string& consumer, const Partition& partition) const {
  return mode_ == GroupMode::kShared || partition.assigned == consumer;
}

bool Group::has_more(const Partition& partition, const Extent& extent) {
  if (!partition.positioned) return extent.start < extent.end;
  if (std::max(partition.next, extent.start) < extent.end) return true;
  return std::any_of(partition.waiting.begin(), partition.waiting.end(),
                     [&](const auto& range) { return range.second >= extent.start; });
}

void Group::skip_removed(Partition& partition, Offset start) {
  while (!partition.waiting.empty() && partition.waiting.begin()->first < start) {
    const auto [first, last] = *partition.waiting.begin();
    partition.waiting.erase(partition.waiting.begin());
    lost_ += static_cast<std::uint64_t>(std::min(last + 1, start) - first);
    if (last >= start) partition.waiting[start] = last;
  }
  if (partition.next < start) {
    lost_ += static_cast<std::uint64_t>(start - partition.next);
    partition.next = start;
  }
}

std::vector<Group::Want> Group::wants(const std::string& consumer, const std::vector<Extent>& extents) {
  std::vector<Want> again;
  std::vector<Want> fresh;
  for (std::uint32_t i = 0; i < partitions_.size() && i < extents.size(); ++i) {
    Partition& partition = partitions_[i];
    if (!partition.positioned || !may_take(consumer, partition)) continue;
    skip_removed(partition, extents[i].start);
    for (const auto& [first, last] : partition.waiting) again.push_back({i, first, last + 1, true});
    if (partition.next < extents[i].end) fresh.push_back({i, partition.next, extents[i].end, false});
  }
  // The partition that is furthest behind first, so that none starves.
  std::sort(fresh.begin(), fresh.end(), [](const Want& a, const Want& b) {
    return std::pair(a.from - a.below, a.partition) < std::pair(b.from - b.below, b.partition);
  });
  again.insert(again.end(), fresh.begin(), fresh.end());
  return again;
}

void Group::deal(const std::string& consumer, const Want& want, Offset last) {
  Partition& partition = partitions_.at(want.partition);
  SHOAL_CHECK(last >= want.from && last < want.below, "a group was told of records that it did not want");
  if (want.again) {
    auto it = partition.waiting.find(want.from);
    SHOAL_CHECK(it != partition.waiting.end() && it->second == want.below - 1, "a range was dealt twice");
    partition.waiting.erase(it);
    if (last + 1 < want.below) partition.waiting[last + 1] = want.below - 1;
  } else {
    SHOAL_CHECK(partition.next == want.from, "new records were dealt out of order");
    partition.next = last + 1;
  }
  // One range per delivery; neighbours of one consumer grow together.
  auto it = partition.held.lower_bound(want.from);
  if (it != partition.held.begin()) {
    auto before = std::prev(it);
    if (before->second.consumer == consumer && before->second.last + 1 == want.from) {
      before->second.last = last;
      return;
    }
  }
  partition.held[want.from] = {last, consumer};
}

std::size_t Group::fair_share(const std::vector<Extent>& extents, std::size_t max) const {
  if (mode_ != GroupMode::kShared || consumers_.size() < 2) return max;
  std::int64_t available = 0;
  for (std::size_t i = 0; i < partitions_.size() && i < extents.size(); ++i) {
    available += std::max<std::int64_t>(extents[i].end - std::max(partitions_[i].next, extents[i].start), 0);
    for (const auto& [first, last] : partitions_[i].waiting) available += last - first + 1;
  }
  const auto consumers = static_cast<std::int64_t>(consumers_.size());
  const std::int64_t share = (available + consumers - 1) / consumers;
  return std::min<std::size_t>(max, static_cast<std::size_t>(std::max<std::int64_t>(share, 1)));
}

bool Group::at_end(const std::string& consumer, const std::vector<Extent>& extents, Instant patience_start) const {
  const auto waited_for = [&](const std::string& other) {
    if (other == consumer) return false;
    const auto it = consumers_.find(other);
    return it != consumers_.end() && !it->second.polling && it->second.polled >= patience_start;
  };
  for (std::size_t i = 0; i < partitions_.size() && i < extents.size(); ++i) {
    const Partition& partition = partitions_[i];
    if (has_more(partition, extents[i])) {
      if (may_take(consumer, partition) || partition.assigned.empty()) return false;
      const auto holder = consumers_.find(partition.assigned);
      if (holder != consumers_.end() && (holder->second.polling || holder->second.polled >= patience_start))
        return false;
    }
    for (const auto& [first, held] : partition.held) {
      if (waited_for(held.consumer)) return false;
    }
  }
  return true;
}

Offset Group::committed(std::uint32_t partition) const {
  const Partition& state = partitions_.at(partition);
  Offset low = state.next;
  if (!state.waiting.empty()) low = std::min(low, state.waiting.begin()->first);
  if (!state.held.empty()) low = std::min(low, state.held.begin()->first);
  return low;
}

std::int64_t Group::lag(const std::vector<Extent>& extents) const {
  std::int64_t sum = 0;
  for (std::uint32_t i = 0; i < partitions_.size() && i < extents.size(); ++i) {
    const Partition& state = partitions_[i];
    const Offset next = state.positioned ? state.next : extents[i].start;
    sum += std::max<std::int64_t>(extents[i].end - std::max(next, extents[i].start), 0);
    for (const auto& [first, last] : state.waiting) sum += last - first + 1;
    for (const auto& [first, held] : state.held) sum += held.last - first + 1;
  }
  return sum;
}

std::vector<std::string> Group::consumers() const {
  std::vector<std::string> names;
  for (const auto& [name, consumer] : consumers_) names.push_back(name);
  return names;
}

std::int64_t Group::held(const std::string& consumer) const {
  std::int64_t sum = 0;
  for (const Partition& partition : partitions_) {
    for (const auto& [first, range] : partition.held) {
      if (range.consumer == consumer) sum += range.last - first + 1;
    }
  }
  return sum;
}

Group::State Group::state() const {
  State state;
  state.mode = mode_;
  for (const Partition& partition : partitions_) {
    PartitionState& saved = state.partitions.emplace_back();
    saved.positioned = partition.positioned;
    saved.next = partition.next;
    for (const auto& [first, last] : partition.waiting) saved.open.emplace_back(first, last);
    for (const auto& [first, held] : partition.held) saved.open.emplace_back(first, held.last);
    std::sort(saved.open.begin(), saved.open.end());
  }
  return state;
}

Group Group::restore(const State& state, std::uint32_t partitions) {
  Group group(state.mode, partitions);
  for (std::size_t i = 0; i < partitions && i < state.partitions.size(); ++i) {
    const PartitionState& saved = state.partitions[i];
    group.partitions_[i].positioned = saved.positioned;
    group.partitions_[i].next = saved.next;
    for (const auto& [first, last] : saved.open) {
      if (first <= last && last < saved.next) group.partitions_[i].waiting[first] = last;
    }
  }
  return group;
}

void Group::check_invariants() const {
  for (const Partition& partition : partitions_) {
    std::map<Offset, Offset> all = partition.waiting;
    for (const auto& [first, held] : partition.held) {
      SHOAL_CHECK(all.emplace(first, held.last).second, "a range is both held and waiting");
      SHOAL_CHECK(consumers_.contains(held.consumer), "records are held by a consumer that left");
    }
    Offset before = -1;
    for (const auto& [first, last] : all) {
      SHOAL_CHECK(first <= last && first > before, "dealt ranges overlap");
      SHOAL_CHECK(last < partition.next, "a record was dealt that is not below next");
      before = last;
    }
    SHOAL_CHECK(partition.assigned.empty() || consumers_.contains(partition.assigned), "assigned to nobody known");
  }
}

}  // namespace shoal::streams
