#include "agent/reactor/reactor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace shoal::agent {

namespace {

constexpr std::size_t kEventsPerTurn = 256;
// For so long after an event the loop looks again instead of sleeping, and lets others run in between.
constexpr Duration kAwake = microseconds(50);
constexpr std::int64_t kWaitMaxUs = 3600LL * 1000 * 1000;  // an hour: far from every overflow

std::uint64_t key_of(int fd, std::uint32_t generation) {
  return static_cast<std::uint64_t>(generation) << 32 | static_cast<std::uint32_t>(fd);
}

tl::unexpected<Error> errno_failure(Code code, const std::string& what) {
  return fail(code, what + ": " + ::strerror(errno));
}

}  // namespace

Result<std::unique_ptr<Reactor>> Reactor::create() {
  const int epoll_fd = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) return errno_failure(Code::kExhausted, "cannot create the event loop (epoll_create1)");
  const int event_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event_fd < 0) {
    auto failure = errno_failure(Code::kExhausted, "cannot create the event loop (eventfd)");
    ::close(epoll_fd);
    return failure;
  }
  auto reactor = std::unique_ptr<Reactor>(new Reactor(epoll_fd, event_fd));
  if (auto added = reactor->add(event_fd, EPOLLIN, [r = reactor.get()](std::uint32_t) { r->clear_event_fd(); });
      !added) {
    return tl::unexpected<Error>(added.error());
  }
  return reactor;
}

Reactor::Reactor(int epoll_fd, int event_fd)
    : epoll_fd_(epoll_fd), event_fd_(event_fd), thread_(std::this_thread::get_id()) {
  events_.resize(kEventsPerTurn);
}

Reactor::~Reactor() {
  if (signal_fd_ >= 0) ::close(signal_fd_);
  ::close(event_fd_);
  ::close(epoll_fd_);
}

Instant Reactor::now() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return Instant{static_cast<std::int64_t>(t.tv_sec) * 1'000'000 + t.tv_nsec / 1000};
}

Result<> Reactor::add(int fd, std::uint32_t events, FdCallback callback) {
  if (fd < 0) return fail(Code::kInvalid, "cannot watch a negative descriptor");
  const auto slot = static_cast<std::size_t>(fd);
  if (slot < watches_.size() && watches_[slot]) {
    return fail(Code::kExists, "descriptor " + std::to_string(fd) + " is watched already");
  }
  const std::uint32_t generation = ++generation_;
  epoll_event event{};
  event.events = events;
  event.data.u64 = key_of(fd, generation);
  if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
    const Code code = errno == EPERM ? Code::kUnsupported : errno == EBADF ? Code::kInvalid : Code::kExhausted;
    return errno_failure(code, "cannot watch descriptor " + std::to_string(fd));
  }
  if (slot >= watches_.size()) watches_.resize(slot + 1);
  watches_[slot] = std::make_unique<Watch>(Watch{generation, std::move(callback)});
  return {};
}

Result<> Reactor::modify(int fd, std::uint32_t events) {
  if (!watches(fd)) return fail(Code::kNotFound, "descriptor " + std::to_string(fd) + " is not watched");
  epoll_event event{};
  event.events = events;
  event.data.u64 = key_of(fd, watches_[static_cast<std::size_t>(fd)]->generation);
  if (::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event) != 0) {
    return errno_failure(Code::kInvalid, "cannot change what descriptor " + std::to_string(fd) + " is watched for");
  }
  return {};
}

void Reactor::remove(int fd) {
  if (!watches(fd)) return;
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
  removed_.push_back(std::move(watches_[static_cast<std::size_t>(fd)]));
}

bool Reactor::watches(int fd) const {
  return fd >= 0 && static_cast<std::size_t>(fd) < watches_.size() && watches_[static_cast<std::size_t>(fd)];
}

Reactor::TimerId Reactor::add_timer(Callback callback) {
  const TimerId id = ++last_timer_;
  timers_.emplace(id, std::make_shared<Timer>(Timer{Instant::never(), std::move(callback)}));
  return id;
}

void Reactor::set_timer(TimerId timer, Instant at) {
  const auto found = timers_.find(timer);
  if (found == timers_.end() || found->second->at == at) return;
  armed_.erase({found->second->at.us, timer});
  found->second->at = at;
  if (at != Instant::never()) armed_.emplace(at.us, timer);
}

void Reactor::remove_timer(TimerId timer) {
  const auto found = timers_.find(timer);
  if (found == timers_.end()) return;
  armed_.erase({found->second->at.us, timer});
  timers_.erase(found);
}

Result<> Reactor::watch_signals(const std::vector<int>& signals, SignalCallback callback) {
  if (signal_fd_ >= 0) return fail(Code::kExists, "signals are watched already");
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
  if (::pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) return fail(Code::kInvalid, "cannot block these signals");
  signal_fd_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd_ < 0) return errno_failure(Code::kExhausted, "cannot watch signals (signalfd)");
  return add(signal_fd_, EPOLLIN, [this, handler = std::move(callback)](std::uint32_t) {
    signalfd_siginfo info{};
    while (::read(signal_fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      handler(static_cast<int>(info.ssi_signo));
    }
  });
}

void Reactor::post(Callback work) {
  bool first = false;
  {
    const std::lock_guard lock(posted_mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(work));
  }
  // The loop's own thread sees `posted_` before it waits; only others must wake it, once per batch.
  if (first && std::this_thread::get_id() != thread_.load(std::memory_order_relaxed)) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(event_fd_, &one, sizeof one);
  }
}

void Reactor::clear_event_fd() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(event_fd_, &count, sizeof count);
}

Reactor::HookId Reactor::before_wait(Callback hook) {
  hooks_.emplace(++last_hook_, std::make_shared<Callback>(std::move(hook)));
  return last_hook_;
}

void Reactor::remove_hook(HookId hook) {
  hooks_.erase(hook);
}

void Reactor::run_hooks() {
  // By id, not by iterator: a hook may add and remove hooks.
  for (auto next = hooks_.begin(); next != hooks_.end();) {
    const HookId id = next->first;
    const std::shared_ptr<Callback> hook = next->second;
    (*hook)();
    next = hooks_.upper_bound(id);
  }
}

std::size_t Reactor::wait(Instant until, std::vector<epoll_event>& events) {
  const int room = static_cast<int>(events.size());
  int count = 0;
  Instant at = now();
  // What follows an event is often close behind it, and to be woken takes longer than to look: see kAwake.
  while ((count = ::epoll_wait(epoll_fd_, events.data(), room, 0)) == 0 && at < awake_until_ && at < until) {
    ::sched_yield();
    at = now();
  }
  if (count == 0 && at < until) count = sleep(at, until, events);
  return static_cast<std::size_t>(std::max(count, 0));
}

int Reactor::sleep(Instant at, Instant until, std::vector<epoll_event>& events) {
  const int room = static_cast<int>(events.size());
  const std::int64_t left = until == Instant::never() ? -1 : std::clamp<std::int64_t>(until.us - at.us, 0, kWaitMaxUs);
  if (precise_wait_) {
    timespec timeout{static_cast<time_t>(left / 1'000'000), static_cast<long>(left % 1'000'000 * 1000)};
    const int count = ::epoll_pwait2(epoll_fd_, events.data(), room, left < 0 ? nullptr : &timeout, nullptr);
    if (count >= 0 || errno != ENOSYS) return count;
    precise_wait_ = false;  // before Linux 5.11: milliseconds, rounded up
  }
  return ::epoll_wait(epoll_fd_, events.data(), room, left < 0 ? -1 : static_cast<int>((left + 999) / 1000));
}

std::size_t Reactor::dispatch(const epoll_event& event) {
  const auto slot = static_cast<std::size_t>(event.data.u64 & 0xffffffffU);
  const auto generation = static_cast<std::uint32_t>(event.data.u64 >> 32);
  // Removed in this turn, and perhaps the number already has another owner.
  if (slot >= watches_.size() || !watches_[slot] || watches_[slot]->generation != generation) return 0;
  watches_[slot]->callback(event.events);
  return 1;
}

std::size_t Reactor::run_timers() {
  if (armed_.empty()) return 0;
  std::size_t ran = 0;
  const Instant at = now();
  // Bounded: a timer that re-arms itself in the past waits for the next turn.
  for (std::size_t left = armed_.size(); left > 0 && !armed_.empty() && armed_.begin()->first <= at.us; --left) {
    const std::shared_ptr<Timer> timer = timers_.at(armed_.begin()->second);  // survives its own removal
    armed_.erase(armed_.begin());
    timer->at = Instant::never();
    timer->callback();
    ++ran;
  }
  return ran;
}

std::size_t Reactor::run_posted() {
  std::vector<Callback> work;
  {
    const std::lock_guard lock(posted_mutex_);
    work.swap(posted_);
  }
  for (const Callback& item : work) item();
  return work.size();
}

std::size_t Reactor::run_once(Instant until) {
  ++turns_;
  thread_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  ++depth_;
  run_hooks();
  Instant wake = std::min(until, deadline_);
  if (!armed_.empty()) wake = std::min(wake, Instant{armed_.begin()->first});
  {
    const std::lock_guard lock(posted_mutex_);
    if (!posted_.empty()) wake = Instant{0};
  }
  // Taken out of the member, so that a callback may run a nested turn.
  std::vector<epoll_event> events = std::move(events_);
  events.resize(kEventsPerTurn);
  const std::size_t count = wait(wake, events);
  std::size_t ran = 0;
  for (std::size_t i = 0; i < count; ++i) ran += dispatch(events[i]);
  if (count > 0) awake_until_ = now() + kAwake;
  ran += run_timers();
  ran += run_posted();
  events_ = std::move(events);
  // An outer turn may be inside a callback that has been removed meanwhile.
  if (--depth_ == 0) removed_.clear();
  return ran;
}

}  // namespace shoal::agent
