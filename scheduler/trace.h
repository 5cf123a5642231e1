// scheduler/trace.h
//
// What people are shown about tasks that are finished: a bounded ring with times and dependencies, and counters. It
// has no part in any decision.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

#include "protocol/base/id.h"
#include "scheduler/data.h"
#include "scheduler/estimates.h"

namespace shoal::scheduler {

struct TraceEntry {
  enum class End : std::uint8_t { kDone, kFailed, kCancelled };
  TaskId task;
  std::uint32_t function = 0;
  AgentIndex agent = kNone;
  End end = End::kDone;
  std::uint32_t attempts = 0;
  std::int64_t ready_us = 0;
  std::int64_t start_us = 0;
  std::int64_t end_us = 0;
  std::vector<TaskId> after;          // tasks whose results it read
  std::vector<Candidate> candidates;  // what spoke for `agent`, the best first
};

// For people.
constexpr std::string_view end_name(TraceEntry::End end) {
  switch (end) {
    case TraceEntry::End::kDone:
      return "done";
    case TraceEntry::End::kFailed:
      return "failed";
    case TraceEntry::End::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

class Trace {
 public:
  explicit Trace(std::uint32_t entries_max) : entries_max_(entries_max) {}

  // The next entry to fill in; the oldest one once the ring is full (its `after` is empty, with its memory).
  TraceEntry& next() {
    if (entries_.size() < entries_max_) return entries_.emplace_back();
    TraceEntry& entry = entries_[oldest_];
    oldest_ = (oldest_ + 1) % entries_max_;
    entry.after.clear();
    entry.candidates.clear();
    return entry;
  }

  // Takes back the entry that next() gave last.
  void undo() {
    if (entries_.size() < entries_max_ || oldest_ == 0) {
      entries_.pop_back();
    } else {
      oldest_ = (oldest_ + entries_max_ - 1) % entries_max_;
    }
  }

  // The youngest, when there is any.
  TraceEntry& last() {
    return entries_.size() < entries_max_ || oldest_ == 0 ? entries_.back() : entries_[oldest_ - 1];
  }

  std::size_t size() const { return entries_.size(); }
  // From the oldest (0) on.
  const TraceEntry& at(std::size_t i) const { return entries_[(oldest_ + i) % entries_.size()]; }

 private:
  std::uint32_t entries_max_;
  std::size_t oldest_ = 0;
  std::vector<TraceEntry> entries_;
};

struct TaskCounts {
  std::uint64_t submitted = 0;
  std::uint64_t done = 0;
  std::uint64_t failed = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t retried = 0;     // attempts after a failure
  std::uint64_t lost = 0;        // attempts lost with their agent or executor
  std::uint64_t recomputed = 0;  // tasks run again for a lost value
  std::uint64_t replayed = 0;    // tasks known from the journal of a lost master
  std::map<AgentIndex, std::uint64_t> by_agent;
  std::uint64_t unfinished() const { return submitted - done - failed - cancelled; }
  // Adds all but by_agent.
  void add(const TaskCounts& other) {
    submitted += other.submitted;
    done += other.done;
    failed += other.failed;
    cancelled += other.cancelled;
    retried += other.retried;
    lost += other.lost;
    recomputed += other.recomputed;
    replayed += other.replayed;
  }
};

}  // namespace shoal::scheduler
