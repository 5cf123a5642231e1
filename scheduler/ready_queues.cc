#include "scheduler/ready_queues.h"

#include <algorithm>
#include <ranges>

#include "protocol/base/check.h"

namespace shoal::scheduler {

std::uint32_t ReadyQueues::intern(AppId app, FunctionId function, const Demand& demand) {
  auto it = by_key_.find({app, function, demand});
  if (it != by_key_.end()) return it->second;
  if (free_.empty() && classes_.size() >= swept_at_) sweep();
  std::uint32_t index = static_cast<std::uint32_t>(classes_.size());
  if (free_.empty()) {
    classes_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  by_key_[{app, function, demand}] = index;
  Class& c = classes_[index];
  c.app = app;
  c.function = function;
  c.demand = demand;
  c.made = ++made_;
  return index;
}

void ReadyQueues::sweep() {
  for (auto it = by_key_.begin(); it != by_key_.end();) {
    Class& c = classes_[it->second];
    if (c.users != 0 || c.size != 0 || c.homeless_since != Instant::never()) {
      ++it;
      continue;
    }
    c = Class();
    free_.push_back(it->second);
    it = by_key_.erase(it);
  }
  swept_at_ = std::max(kIdleMax, by_key_.size() * 2);
}

void ReadyQueues::insert(WorkIndex index, WorkTable& works, bool front) {
  Work& work = works[index];
  Class& c = classes_[work.klass];
  Lane& lane = c.lanes[work.home];
  auto& rank = lane.ranks[work.rank];
  Share& share = shares_[c.app];
  if (front && !share.youngest_first) {
    rank.push_front({index, work.serial});
  } else {
    rank.push_back({index, work.serial});
  }
  ++lane.entries;
  work.queued = true;
  work.homed_us = 0;
  if (work.home != kNone) {
    work.homed_us = std::max<std::uint64_t>(c.demand.units, 1) * c.run_us(work.home, kNeutralRunUs);
    homed_us_[work.home] += work.homed_us;
    if (work.home != kSelf) ++homed_elsewhere_;
  }
  if (lane.size++ == 0) {
    ++awakenings_;
    // Who had nothing to do starts where the others are now.
    if (share.active.empty()) share.given = std::max(share.given, clock_);
    share.active.insert({work.klass, work.home});
  }
  ++c.size;
  ++size_;
}

void ReadyQueues::take(WorkIndex index, WorkTable& works) {
  Work& work = works[index];
  SHOAL_CHECK(work.queued, "only work that waits can be taken from its queue");
  Class& c = classes_[work.klass];
  const LaneId id{work.klass, work.home};
  auto found = c.lanes.find(work.home);
  Lane& lane = found->second;
  work.queued = false;
  if (work.home != kNone) {
    auto homed = homed_us_.find(work.home);
    homed->second -= work.homed_us;
    if (homed->second == 0) homed_us_.erase(homed);
    if (work.home != kSelf) --homed_elsewhere_;
  }
  --c.size;
  --size_;
  if (--lane.size == 0) {
    auto share = shares_.find(c.app);
    share->second.active.erase(id);
    if (id.home != kNone) {
      c.lanes.erase(found);
      return;
    }
    for (auto& [rank, entries] : lane.ranks) entries.clear();
    lane.entries = 0;
    return;
  }
  auto& rank = lane.ranks[work.rank];
  if (!rank.empty() && rank.front().work == index && rank.front().serial == work.serial) {
    rank.pop_front();
    --lane.entries;
  } else if (lane.entries > 2 * lane.size + kIdleMax) {
    tidy(id, works);
  }
}

// Entries that stand for nothing any more are dropped before they are many.
void ReadyQueues::tidy(LaneId id, const WorkTable& works) {
  Lane& lane = classes_[id.klass].lanes[id.home];
  lane.entries = 0;
  for (auto& [rank, entries] : lane.ranks) {
    std::deque<Entry> valid;
    for (const Entry& entry : entries) {
      if (is_valid(entry, id, rank, works)) valid.push_back(entry);
    }
    entries.swap(valid);
    lane.entries += entries.size();
  }
}

void ReadyQueues::rerank(WorkIndex index, std::uint8_t rank, WorkTable& works) {
  Work& work = works[index];
  if (work.rank == rank) return;
  work.rank = rank;
  if (!work.queued) return;
  Lane& lane = classes_[work.klass].lanes[work.home];
  lane.ranks[rank].push_back({index, work.serial});
  ++lane.entries;
  if (lane.entries > 2 * lane.size + kIdleMax) tidy({work.klass, work.home}, works);
}

// The first valid entry of the highest rank, or the last one of the lowest.
WorkIndex ReadyQueues::edge(LaneId id, bool front, const WorkTable& works) {
  Lane& lane = classes_[id.klass].lanes.at(id.home);
  const auto look = [&](std::uint8_t rank, std::deque<Entry>& entries, bool from_front) {
    while (!entries.empty()) {
      const Entry entry = from_front ? entries.front() : entries.back();
      if (is_valid(entry, id, rank, works)) return entry.work;
      if (from_front) {
        entries.pop_front();
      } else {
        entries.pop_back();
      }
      --lane.entries;
    }
    return kNone;
  };
  const bool reversed = shares_.at(classes_[id.klass].app).youngest_first;
  if (front) {
    for (auto& [rank, entries] : lane.ranks) {
      if (const WorkIndex found = look(rank, entries, !reversed); found != kNone) return found;
    }
  } else {
    for (auto& [rank, entries] : std::ranges::reverse_view(lane.ranks)) {
      if (const WorkIndex found = look(rank, entries, reversed); found != kNone) return found;
    }
  }
  SHOAL_CHECK(false, "a lane that has work has entries for it");
  return kNone;
}

WorkIndex ReadyQueues::head(LaneId lane, const WorkTable& works) {
  return edge(lane, true, works);
}

WorkIndex ReadyQueues::tail(LaneId lane, const WorkTable& works) {
  return edge(lane, false, works);
}

WorkIndex ReadyQueues::any(std::uint32_t klass, const WorkTable& works) {
  for (const auto& [home, lane] : classes_[klass].lanes) {
    if (lane.size > 0) return head({klass, home}, works);
  }
  SHOAL_CHECK(false, "a class that has work has a lane with some");
  return kNone;
}

void ReadyQueues::learn(std::uint32_t klass, AgentIndex agent, std::uint64_t run_us) {
  const auto mix = [&](std::uint64_t& mean) { mean = mean == 0 ? run_us + 1 : (mean * 7 + run_us + 1) / 8; };
  Class& c = classes_[klass];
  mix(c.mean_us);
  if (agent == kNone) return;
  if (c.mean_by_agent.size() >= kAgentsMax && !c.mean_by_agent.contains(agent)) return;
  mix(c.mean_by_agent[agent]);
}

void ReadyQueues::set_share(AppId app, std::uint32_t weight, bool youngest_first) {
  Share& share = shares_[app];
  share.weight = std::max<std::uint32_t>(weight, 1);
  share.youngest_first = youngest_first;
}

void ReadyQueues::charge(AppId app, std::uint64_t unit_us) {
  Share& share = shares_[app];
  clock_ = std::max(clock_, share.given);
  share.given += std::max<std::uint64_t>(unit_us, 1) * kWeight / share.weight;
}

void ReadyQueues::settle(AppId app, std::uint64_t expected_unit_us, std::uint64_t unit_us) {
  auto it = shares_.find(app);
  if (it == shares_.end()) return;
  Share& share = it->second;
  share.given -= std::min(share.given, std::max<std::uint64_t>(expected_unit_us, 1) * kWeight / share.weight);
  share.given += std::max<std::uint64_t>(unit_us, 1) * kWeight / share.weight;
}

void ReadyQueues::drop_app(AppId app) {
  auto it = shares_.find(app);
  if (it != shares_.end() && it->second.active.empty()) shares_.erase(it);
}

void ReadyQueues::check_invariants(const WorkTable& works) const {
  std::size_t queued = 0;
  std::map<AgentIndex, std::uint64_t> homed;
  for (WorkIndex i = 0; i < works.end(); ++i) {
    const Work& work = works[i];
    if (!work.live || !work.queued) continue;
    ++queued;
    if (work.home != kNone) homed[work.home] += work.homed_us;
    const auto& active = shares_.at(classes_[work.klass].app).active;
    SHOAL_CHECK(active.contains({work.klass, work.home}), "a lane with work is known to its application");
  }
  SHOAL_CHECK(queued == size_, "work that waits is counted");
  SHOAL_CHECK(homed == homed_us_, "what waits for an agent is summed up");
  for (const Class& c : classes_) {
    std::size_t size = 0;
    for (const auto& [home, lane] : c.lanes) {
      size += lane.size;
      SHOAL_CHECK(lane.entries >= lane.size, "work that waits has an entry");
    }
    SHOAL_CHECK(size == c.size, "the work of a class is that of its lanes");
  }
}

}  // namespace shoal::scheduler
