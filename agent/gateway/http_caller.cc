#include "agent/gateway/http_caller.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>

#include "protocol/http/client_exchange.h"

namespace shoal::gateway {
namespace {

struct Socket {
  explicit Socket(int descriptor) : fd(descriptor) {}
  ~Socket() {
    if (fd >= 0) ::close(fd);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd;
};

Error unreachable(const std::string& url, const std::string& why) {
  return {Code::kUnavailable, fmt::format("{} cannot be told: {}", url, why)};
}

}  // namespace

HttpCaller::HttpCaller(agent::Reactor& reactor, CallerLimits limits)
    : reactor_(reactor), limits_(limits), stop_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

HttpCaller::~HttpCaller() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  const std::uint64_t one = 1;
  (void)!::write(stop_fd_, &one, sizeof(one));
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  if (stop_fd_ >= 0) ::close(stop_fd_);
}

Result<> HttpCaller::call(Call call, Done done) {
  if (auto target = http::parse_url(call.url); !target) return tl::unexpected<Error>(target.error());
  const std::lock_guard lock(mutex_);
  if (jobs_.size() >= limits_.calls_max)
    return fail(Code::kExhausted, fmt::format("{} calls wait already", limits_.calls_max));
  jobs_.push_back({std::move(call), std::move(done)});
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  wake_.notify_one();
  return {};
}

void HttpCaller::work() {
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    auto status = carry_out(job.call);
    reactor_.post([done = std::move(job.done), status = std::move(status)] { done(status); });
  }
}

Result<unsigned> HttpCaller::carry_out(const Call& call) {
  Duration pause = limits_.pause;
  for (int turn = 1;; ++turn) {
    auto status = try_once(call);
    const bool again = status ? *status >= 500 : status.error().code == Code::kUnavailable;
    if (!again || turn >= limits_.tries) return status;
    if (!rest(pause)) return status;
    pause = pause * 2;
  }
}

bool HttpCaller::rest(Duration pause) {
  std::unique_lock lock(mutex_);
  return !wake_.wait_for(lock, std::chrono::microseconds(pause.us), [this] { return stopping_; });
}

// False when the time is over or this object is to end.
bool HttpCaller::wait_for(int fd, short events, Instant until) const {
  std::array<pollfd, 2> watched{pollfd{fd, events, 0}, pollfd{stop_fd_, POLLIN, 0}};
  while (true) {
    const std::int64_t left_ms = std::max<std::int64_t>(0, (until - agent::Reactor::now()).us / 1000);
    const int ready = ::poll(watched.data(), watched.size(), static_cast<int>(left_ms));
    if (ready < 0 && errno == EINTR) continue;
    return ready > 0 && watched[1].revents == 0;
  }
}

Result<unsigned> HttpCaller::try_once(const Call& call) const {
  const Instant until = agent::Reactor::now() + limits_.try_time_max;
  const auto target = http::parse_url(call.url);
  if (!target) return tl::unexpected<Error>(target.error());
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  if (const int failed = ::getaddrinfo(target->host.c_str(), target->port.c_str(), &hints, &list); failed != 0)
    return tl::unexpected<Error>(unreachable(call.url, ::gai_strerror(failed)));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(list, &::freeaddrinfo);
  std::string why = "no address";
  for (const addrinfo* address = list; address != nullptr; address = address->ai_next) {
    const Socket socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    why = connect(socket.fd, *address, until);
    if (!why.empty()) continue;
    why = send(socket.fd, http::request_bytes(call.method, *target, call.content_type, call.body), until);
    if (!why.empty()) break;
    return receive(socket.fd, call.url, until);
  }
  return tl::unexpected<Error>(unreachable(call.url, why));
}

std::string HttpCaller::connect(int fd, const addrinfo& address, Instant until) const {
  if (::connect(fd, address.ai_addr, address.ai_addrlen) == 0) return "";
  if (errno != EINPROGRESS) return std::strerror(errno);
  if (!wait_for(fd, POLLOUT, until)) return "no connection in time";
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error == 0 ? "" : std::strerror(error);
}

std::string HttpCaller::send(int fd, std::string_view bytes, Instant until) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      return std::strerror(errno);
    } else if (!wait_for(fd, POLLOUT, until)) {
      return "it does not take the request";
    }
  }
  return "";
}

Result<unsigned> HttpCaller::receive(int fd, const std::string& url, Instant until) const {
  http::ClientExchange exchange;
  while (wait_for(fd, POLLIN, until)) {
    std::array<char, 4096> buffer{};
    // No lock is held while a call is under way.
    const ssize_t got =
        ::recv(fd, buffer.data(), buffer.size(), 0);  // NOLINT(clang-analyzer-unix.BlockInCriticalSection)
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) return tl::unexpected<Error>(unreachable(url, "it closed the connection without an answer"));
    auto status = exchange.receive({buffer.data(), static_cast<std::size_t>(got)});
    if (!status) return tl::unexpected<Error>(status.error());
    if (*status) return **status;
  }
  return tl::unexpected<Error>(unreachable(url, "it does not answer"));
}

}  // namespace shoal::gateway
