#include "streams/log/group_commit.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>

#include "protocol/base/check.h"

namespace shoal::streams {

GroupCommit::GroupCommit(int wake_fd, GroupCommitOptions options) : wake_fd_(wake_fd), options_(options) {}

GroupCommit::~GroupCommit() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::uint64_t GroupCommit::add(std::vector<std::shared_ptr<File>> files, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  files_.insert(files_.end(), std::make_move_iterator(files.begin()), std::make_move_iterator(files.end()));
  bytes_ += bytes;
  ++asked_;
  if (!thread_.joinable()) {
    // Signals are for the loop thread.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  changed_.notify_all();
  return asked_;
}

std::uint64_t GroupCommit::done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

std::uint64_t GroupCommit::syncs() const {
  const std::lock_guard lock(mutex_);
  return syncs_;
}

void GroupCommit::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || asked_ > done_; });
    if (asked_ == done_) return;
    changed_.wait_for(lock, std::chrono::milliseconds(options_.linger_ms),
                      [this] { return stopping_ || bytes_ >= options_.linger_bytes; });
    std::vector<std::shared_ptr<File>> files = std::move(files_);
    files_.clear();
    bytes_ = 0;
    const std::uint64_t upto = asked_;
    lock.unlock();
    std::sort(files.begin(), files.end());
    files.erase(std::unique(files.begin(), files.end()), files.end());
    for (const auto& file : files) SHOAL_CHECK(file->sync().has_value(), "a sync of a stream's log failed");
    files.clear();
    lock.lock();
    done_ = upto;
    ++syncs_;
    const std::uint64_t one = 1;
    // A full eventfd counter is readable already; nothing is lost.
    [[maybe_unused]] const ssize_t n = ::write(wake_fd_, &one, sizeof one);
  }
}

}  // namespace shoal::streams
