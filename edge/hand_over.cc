#include "edge/hand_over.h"

#include <unistd.h>

#include <chrono>

namespace shoal::edge {

HandOver::HandOver(std::size_t readings_max, int wake_fd) : readings_max_(readings_max), wake_fd_(wake_fd) {}

void HandOver::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_fd_, &one, sizeof one);  // a full counter is readable already
}

bool HandOver::push(Reading reading, Until until) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stopped_ || queue_.size() + under_way_ < readings_max_; });
  if (stopped_) return false;
  const std::uint64_t number = ++pushed_;
  queue_.push_back(std::move(reading));
  wake();
  if (until == Until::kAccepted) return true;
  changed_.wait(lock, [&] { return stopped_ || appended_ >= number; });
  return appended_ >= number;
}

bool HandOver::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stopped_ || appended_ == pushed_; });
  return appended_ == pushed_;
}

bool HandOver::sleep(std::int64_t ms) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stopped_; });
}

void HandOver::report(std::string state, bool healthy, std::string error) {
  const std::lock_guard lock(mutex_);
  status_.state = std::move(state);
  status_.healthy = healthy;
  status_.error = std::move(error);
  wake();
}

void HandOver::count_reconnect() {
  const std::lock_guard lock(mutex_);
  ++status_.reconnects;
}

void HandOver::finish() {
  const std::lock_guard lock(mutex_);
  status_.finished = true;
  wake();
}

std::vector<Reading> HandOver::take(std::size_t readings_max, std::size_t bytes_max) {
  const std::lock_guard lock(mutex_);
  std::vector<Reading> taken;
  if (under_way_ > 0) return taken;
  std::size_t bytes = 0;
  while (!queue_.empty() && taken.size() < readings_max &&
         (taken.empty() || bytes + queue_.front().value.size() <= bytes_max)) {
    bytes += queue_.front().value.size();
    taken.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  under_way_ = taken.size();
  return taken;
}

void HandOver::done() {
  const std::lock_guard lock(mutex_);
  appended_ += under_way_;
  under_way_ = 0;
  changed_.notify_all();
}

void HandOver::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

HandOver::Status HandOver::status() const {
  const std::lock_guard lock(mutex_);
  Status status = status_;
  status.waiting = queue_.size() + under_way_;
  status.appended = appended_;
  return status;
}

}  // namespace shoal::edge
