// agent/gateway/http_caller.h
//
// Tells other HTTP servers something, in order, with a few tries each. Has a thread of its own, which starts with the
// first call: looking up a name may take seconds, and nobody waits for these calls but their callbacks.
//
// Thread-safety: call() from the reactor's thread; callbacks run there, too.
#pragma once

#include <netdb.h>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "agent/reactor/reactor.h"
#include "protocol/base/result.h"

namespace shoal::gateway {

struct CallerLimits {
  std::size_t calls_max = 1000;        // waiting
  Duration try_time_max = seconds(5);  // from connecting to the head of the answer
  int tries = 3;                       // of a server that cannot be reached or says 5xx
  Duration pause = seconds(1);         // before the second try; twice that before the third
};

struct Call {
  std::string method;
  std::string url;
  std::string content_type;
  std::string body;
};

class HttpCaller {
 public:
  // The status of the answer; kUnavailable when there was none, with the last reason.
  using Done = std::function<void(Result<unsigned> status)>;

  explicit HttpCaller(agent::Reactor& reactor, CallerLimits limits = {});
  ~HttpCaller();  // gives up what waits; the reactor must outlive it
  HttpCaller(const HttpCaller&) = delete;
  HttpCaller& operator=(const HttpCaller&) = delete;

  // kInvalid: no http:// URL; kExhausted: too many wait. `done` is called once for a call that was taken, unless this
  // object ends before.
  Result<> call(Call call, Done done);

 private:
  struct Job {
    Call call;
    Done done;
  };
  void work();
  Result<unsigned> carry_out(const Call& call);
  Result<unsigned> try_once(const Call& call) const;
  bool rest(Duration pause);  // false when this object is to end
  // Steps of a try; of the first two an empty text means that it went well, another why not.
  std::string connect(int fd, const addrinfo& address, Instant until) const;
  std::string send(int fd, std::string_view bytes, Instant until) const;
  Result<unsigned> receive(int fd, const std::string& url, Instant until) const;
  bool wait_for(int fd, short events, Instant until) const;

  agent::Reactor& reactor_;
  const CallerLimits limits_;
  int stop_fd_ = -1;  // readable once this object is to end
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;   // guarded by mutex_
  bool stopping_ = false;  // guarded by mutex_
};

}  // namespace shoal::gateway
