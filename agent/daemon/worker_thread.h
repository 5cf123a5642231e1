// agent/daemon/worker_thread.h
//
// One thread for work that would hold up the loop: hashing large contents. Jobs run in order; each job's
// follow-up runs on the loop. The thread starts with the first job.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "agent/reactor/reactor.h"

namespace shoal::daemon {

class WorkerThread {
 public:
  explicit WorkerThread(agent::Reactor& reactor) : reactor_(reactor) {}
  ~WorkerThread() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

  // Runs `job` on the thread, then `after` on the loop. Called from the loop's thread only.
  void run(std::function<void()> job, std::function<void()> after) {
    if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back({std::move(job), std::move(after)});
    }
    wake_.notify_one();
  }

 private:
  struct Job {
    std::function<void()> job;
    std::function<void()> after;
  };

  void work() {
    while (true) {
      Job next;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (stopping_) return;
        next = std::move(jobs_.front());
        jobs_.pop_front();
      }
      next.job();
      reactor_.post(std::move(next.after));
    }
  }

  agent::Reactor& reactor_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;   // guarded by mutex_
  bool stopping_ = false;  // guarded by mutex_
};

}  // namespace shoal::daemon
