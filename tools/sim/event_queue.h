// tools/sim/event_queue.h
//
// Virtual time: everything that happens in a simulated world is an action at an instant, carried out in the total
// order (instant, sequence of scheduling). Nothing here knows what the actions do.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "protocol/base/time.h"

namespace shoal::sim {

class EventQueue {
 public:
  using Action = std::function<void()>;

  // Carries `action` out at `at`, or now if that has passed, after everything already scheduled for that instant.
  // O(log n).
  void at(Instant at, Action action);
  void after(Duration delay, Action action) { at(now_ + delay, std::move(action)); }

  // Carries out the earliest action; false when there is none.
  bool run_next();

  Instant now() const { return now_; }
  // Instant of the earliest action; never() when there is none.
  Instant next() const;
  std::size_t size() const { return heap_.size(); }
  // Actions carried out so far: the coordinate of `--until-event`.
  std::uint64_t executed() const { return executed_; }

 private:
  struct Key {
    std::int64_t at_us;
    std::uint64_t sequence;
    std::uint32_t slot;
  };
  static bool later(const Key& a, const Key& b) {
    return a.at_us != b.at_us ? a.at_us > b.at_us : a.sequence > b.sequence;
  }

  Instant now_;
  std::uint64_t sequence_ = 0;
  std::uint64_t executed_ = 0;
  std::vector<Key> heap_;
  std::vector<Action> slots_;  // actions stay put while their keys move in the heap
  std::vector<std::uint32_t> free_slots_;
};

}  // namespace shoal::sim
