#include "storage/engine/completions.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "protocol/base/check.h"

namespace shoal::storage {

Completions::Completions() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  SHOAL_CHECK(bool(event_), "no eventfd: the process has no file descriptor left");
}

void Completions::push(std::uint64_t id, Result<> result) {
  if (id == 0) return;
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = finished_.empty();
    finished_.push_back({id, std::move(result)});
  }
  if (!first) return;
  const std::uint64_t one = 1;
  const ssize_t written = ::write(event_.get(), &one, sizeof one);
  (void)written;  // fails only at 2^64 - 1, when it is readable anyway
}

void Completions::poll(std::vector<Completion>& out) {
  std::uint64_t count = 0;
  const ssize_t read = ::read(event_.get(), &count, sizeof count);
  (void)read;  // nothing to read: nothing has finished
  const std::lock_guard lock(mutex_);
  for (Completion& one : finished_) out.push_back(std::move(one));
  finished_.clear();
}

}  // namespace shoal::storage
