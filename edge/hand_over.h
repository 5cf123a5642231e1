// edge/hand_over.h
//
// Where the thread of a source meets the agent's loop thread: a bounded queue in which the source waits until its
// reading is in the stream's log. Waiting is the back-pressure: an MQTT message is acknowledged to its broker only
// after push() returned true.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "edge/reading.h"

namespace shoal::edge {

class HandOver {
 public:
  enum class Until : std::uint8_t {
    kAccepted,  // there is room in the queue
    kAppended,  // the reading is in the log
  };

  // `wake_fd` (an eventfd, not owned) is written when there is something to take.
  HandOver(std::size_t readings_max, int wake_fd);

  // ---- the source's thread ----
  // False when the hand-over was stopped: the reading was not appended.
  bool push(Reading reading, Until until);
  // Waits until everything pushed is appended; false when stopped.
  bool drain();
  // Sleeps up to `ms`; false when stopped.
  bool sleep(std::int64_t ms);
  // What the source is doing, for people; `healthy` if that is as it should be.
  void report(std::string state, bool healthy, std::string error);
  void count_reconnect();
  // The source has nothing more to bring.
  void finish();

  // ---- the loop thread ----
  // The next readings, which count as under way until done(). Empty while others are.
  std::vector<Reading> take(std::size_t readings_max, std::size_t bytes_max);
  void done();
  // Releases the source; nothing is accepted any more.
  void stop();

  struct Status {
    std::string state;
    bool healthy = false;
    std::string error;
    bool finished = false;
    std::size_t waiting = 0;
    std::uint64_t appended = 0;
    std::uint64_t reconnects = 0;
  };
  Status status() const;

 private:
  void wake() const;

  const std::size_t readings_max_;
  const int wake_fd_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Reading> queue_;
  std::size_t under_way_ = 0;
  std::uint64_t pushed_ = 0;
  std::uint64_t appended_ = 0;
  bool stopped_ = false;
  Status status_;
};

}  // namespace shoal::edge
