// agent/reactor/reactor.h
//
// The loop of a process: waits on descriptors, timers and work posted by other threads, and calls back. One thread
// runs it. It owns no protocol and no policy, and it never wakes up without a reason: an idle reactor sleeps until
// its next timer, or for ever. For some microseconds after an event it stays awake: the answer of a process on the same
// host comes sooner than a sleeping one is woken.
//
// Order of one turn: hooks (before_wait) → wait → descriptors → timers → posted work. Whatever a hook or a callback
// posts is done in the following turn, which then does not wait.
//
// Thread-safety: none, except post(), which any thread may call.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "protocol/base/result.h"
#include "protocol/base/time.h"

namespace shoal::agent {

class Reactor {
 public:
  using FdCallback = std::function<void(std::uint32_t events)>;  // EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR …
  using Callback = std::function<void()>;
  using SignalCallback = std::function<void(int signal)>;
  using TimerId = std::uint64_t;
  using HookId = std::uint64_t;

  // kExhausted when the process has no descriptors left.
  static Result<std::unique_ptr<Reactor>> create();
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // The clock of the agent: CLOCK_MONOTONIC in microseconds.
  static Instant now();

  // Watches `fd` (not owned) for `events`, level-triggered unless EPOLLET is among them. kExists when it is watched
  // already, kUnsupported for a descriptor that cannot be waited on (a regular file).
  Result<> add(int fd, std::uint32_t events, FdCallback callback);
  // Changes the events of a watched descriptor; 0 pauses it (EPOLLHUP and EPOLLERR are still told).
  Result<> modify(int fd, std::uint32_t events);
  // Stops watching; call it *before* close(fd). No event of this turn reaches a removed callback, not even when the
  // number is re-used at once. A callback may remove itself. Unknown descriptors are ignored.
  void remove(int fd);
  bool watches(int fd) const;

  // A timer calls back once per set_timer(). It starts disarmed.
  TimerId add_timer(Callback callback);
  void set_timer(TimerId timer, Instant at);  // replaces the instant before; Instant::never() disarms
  void remove_timer(TimerId timer);

  // run_once() returns at `at` at the latest, whatever it was told, until another deadline is set. This is the slot for
  // an owner that does its own work between turns; never() clears it.
  void set_deadline(Instant at) { deadline_ = at; }

  // Calls `hook` at the start of every turn, before waiting, in the order of addition: for output gathered since.
  HookId before_wait(Callback hook);
  void remove_hook(HookId hook);

  // Delivers these signals through the loop instead of asynchronously. They are blocked in the calling thread, so call
  // it before other threads start. Once per reactor.
  Result<> watch_signals(const std::vector<int>& signals, SignalCallback callback);

  // Runs `work` in a turn of the loop. From any thread; wakes the loop if it sleeps.
  void post(Callback work);

  // One turn: waits until something happens, but not beyond `until` or the deadline, and calls back. Returns how many
  // callbacks ran. An `until` in the past polls.
  std::size_t run_once(Instant until = Instant::never());

  std::uint64_t turns() const { return turns_; }

 private:
  struct Watch {
    std::uint32_t generation = 0;
    FdCallback callback;
  };
  struct Timer {
    Instant at = Instant::never();
    Callback callback;
  };

  Reactor(int epoll_fd, int event_fd);
  // How many of `events`, which has room for all it may be told, have happened.
  std::size_t wait(Instant until, std::vector<epoll_event>& events);
  int sleep(Instant at, Instant until, std::vector<epoll_event>& events);
  void run_hooks();
  std::size_t dispatch(const epoll_event& event);
  std::size_t run_timers();
  std::size_t run_posted();
  void clear_event_fd();

  int epoll_fd_;
  int event_fd_;
  int signal_fd_ = -1;
  bool precise_wait_ = true;
  Instant awake_until_{0};
  std::atomic<std::thread::id> thread_;
  std::vector<std::unique_ptr<Watch>> watches_;  // by descriptor
  std::vector<std::unique_ptr<Watch>> removed_;  // kept until the turn ends: one of them may be running
  std::uint32_t generation_ = 0;
  std::map<TimerId, std::shared_ptr<Timer>> timers_;
  std::set<std::pair<std::int64_t, TimerId>> armed_;  // by instant
  TimerId last_timer_ = 0;
  Instant deadline_ = Instant::never();
  std::map<HookId, std::shared_ptr<Callback>> hooks_;
  HookId last_hook_ = 0;
  std::vector<epoll_event> events_;
  std::uint64_t turns_ = 0;
  int depth_ = 0;  // of nested turns

  std::mutex posted_mutex_;
  std::vector<Callback> posted_;  // guarded by posted_mutex_
};

}  // namespace shoal::agent
