#include "tools/sim/event_queue.h"

#include <algorithm>
#include <utility>

namespace shoal::sim {

void EventQueue::at(Instant at, Action action) {
  std::uint32_t slot = 0;
  if (free_slots_.empty()) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.push_back(std::move(action));
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot] = std::move(action);
  }
  heap_.push_back({std::max(at, now_).us, ++sequence_, slot});
  std::push_heap(heap_.begin(), heap_.end(), later);
}

Instant EventQueue::next() const {
  return heap_.empty() ? Instant::never() : Instant{heap_.front().at_us};
}

bool EventQueue::run_next() {
  if (heap_.empty()) return false;
  std::pop_heap(heap_.begin(), heap_.end(), later);
  const Key key = heap_.back();
  heap_.pop_back();
  now_ = Instant{key.at_us};
  ++executed_;
  Action action = std::move(slots_[key.slot]);
  slots_[key.slot] = nullptr;
  free_slots_.push_back(key.slot);
  action();
  return true;
}

}  // namespace shoal::sim
