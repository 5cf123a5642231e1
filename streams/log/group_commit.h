// streams/log/group_commit.h
//
// Makes appended bytes durable without blocking the loop: files are handed over, one background thread syncs them in
// groups, and the loop learns on a descriptor how far it got. The thread starts with the first request, so an agent
// that promises no more than `process` has none. A sync that fails stops the process: what the disk holds is then
// unknown, and a restart reads it anew.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "streams/log/file.h"

namespace shoal::streams {

struct GroupCommitOptions {
  std::int64_t linger_ms = 10;             // a request waits at most this long for company (design: at most 50)
  std::uint64_t linger_bytes = 256 << 10;  // or until this much is waiting
};

class GroupCommit {
 public:
  // `wake_fd` (an eventfd, not owned) becomes readable whenever done() grew.
  explicit GroupCommit(int wake_fd, GroupCommitOptions options = {});
  ~GroupCommit();  // finishes what was asked for
  GroupCommit(const GroupCommit&) = delete;
  GroupCommit& operator=(const GroupCommit&) = delete;

  // Asks that `files`, of which `bytes` are new, become durable. Tickets grow from 1.
  std::uint64_t add(std::vector<std::shared_ptr<File>> files, std::uint64_t bytes);
  // Every request up to this ticket is durable.
  std::uint64_t done() const;
  std::uint64_t syncs() const;  // groups so far, for metrics

 private:
  void run();

  const int wake_fd_;
  const GroupCommitOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<File>> files_;  // waiting, may repeat
  std::uint64_t bytes_ = 0;
  std::uint64_t asked_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t syncs_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace shoal::streams
