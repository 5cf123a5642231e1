#include "protocol/link/wait_set.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>

#include "protocol/base/check.h"

namespace shoal::link {
namespace {
constexpr std::uint64_t kWakerTag = UINT64_MAX;
}

WaitSet::WaitSet() : epoll_(::epoll_create1(EPOLL_CLOEXEC)), waker_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  SHOAL_CHECK(epoll_ >= 0 && waker_ >= 0, "the process must have descriptors left to start; raise ulimit -n");
  add(waker_, kWakerTag);
}

WaitSet::~WaitSet() {
  ::close(waker_);
  ::close(epoll_);
}

void WaitSet::add(int fd, std::uint64_t tag, bool for_writing) {
  epoll_event event{};
  event.events = for_writing ? EPOLLOUT : EPOLLIN;
  event.data.u64 = tag;
  SHOAL_CHECK(::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0, "a descriptor can be watched once");
}

void WaitSet::remove(int fd) {
  ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
}

void WaitSet::wake() {
  if (awake_) return;
  awake_ = true;
  const std::uint64_t one = 1;
  SHOAL_CHECK(::write(waker_, &one, sizeof one) == sizeof one, "an event descriptor takes one more");
}

void WaitSet::take_ready(std::vector<std::uint64_t>& tags) {
  tags.clear();
  std::array<epoll_event, 128> events;
  const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t tag = events[static_cast<std::size_t>(i)].data.u64;
    if (tag != kWakerTag) tags.push_back(tag);
  }
  if (!awake_) return;
  std::uint64_t value = 0;
  SHOAL_CHECK(::read(waker_, &value, sizeof value) == sizeof value, "it was written to");
  awake_ = false;
}

}  // namespace shoal::link
