// protocol/link/wait_set.h
//
// Many descriptors behind one: an epoll instance, with an event descriptor to wake it from inside. Internal
// to this folder.
#pragma once

#include <cstdint>
#include <vector>

namespace shoal::link {

class WaitSet {
 public:
  WaitSet();
  ~WaitSet();
  WaitSet(const WaitSet&) = delete;
  WaitSet& operator=(const WaitSet&) = delete;

  int fd() const { return epoll_; }
  // `tag` comes back from take_ready() while `fd` is readable (or, with for_writing, writable).
  void add(int fd, std::uint64_t tag, bool for_writing = false);
  void remove(int fd);
  // Makes fd() readable until the next take_ready(). Cheap when it is already.
  void wake();
  // The tags of what is ready now, without waiting; forgets wake().
  void take_ready(std::vector<std::uint64_t>& tags);

 private:
  int epoll_ = -1;
  int waker_ = -1;
  bool awake_ = false;
};

}  // namespace shoal::link
