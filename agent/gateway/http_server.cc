#include "agent/gateway/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

namespace shoal::gateway {
namespace {

constexpr int kBacklog = 64;
constexpr int kAcceptsPerTurn = 16;
constexpr std::size_t kReadBytes = 16U << 10;

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
};

Result<Address> parse_address(const std::string& text) {
  const auto colon = text.rfind(':');
  std::string host = colon == std::string::npos ? "" : text.substr(0, colon);
  const std::string port = colon == std::string::npos ? "" : text.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  if (host == "*") host = "0.0.0.0";
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* found = nullptr;
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  const bool is_port = !port.empty() && error == std::errc() && end == port.data() + port.size() && number <= 65535;
  if (host.empty() || !is_port || ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) {
    return fail(Code::kInvalid,
                fmt::format("\"{}\" is not an address and port, such as 127.0.0.1:9464 or [::1]:0", text));
  }
  Address out;
  ::memcpy(&out.bytes, found->ai_addr, found->ai_addrlen);
  out.size = found->ai_addrlen;
  ::freeaddrinfo(found);
  return out;
}

std::string text_of(const Address& address) {
  std::array<char, INET6_ADDRSTRLEN> host{};
  if (address.bytes.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address.bytes);
    ::inet_ntop(AF_INET6, &v6->sin6_addr, host.data(), host.size());
    return fmt::format("[{}]:{}", host.data(), ntohs(v6->sin6_port));
  }
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address.bytes);
  ::inet_ntop(AF_INET, &v4->sin_addr, host.data(), host.size());
  return fmt::format("{}:{}", host.data(), ntohs(v4->sin_port));
}

bool is_loopback(const Address& address) {
  if (address.bytes.ss_family == AF_INET6)
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(&address.bytes)->sin6_addr);
  return ntohl(reinterpret_cast<const sockaddr_in*>(&address.bytes)->sin_addr.s_addr) >> 24 == 127;
}

}  // namespace

struct HttpServer::Connection {
  explicit Connection(const http::Limits& limits) : http(limits) {}
  int fd = -1;
  http::ServerConnection http;
  std::string unsent;
  Instant deadline;
  bool answering = false;  // a handler has the request
  bool serving = false;    // serve() runs: an answer given meanwhile is picked up by it
  bool counted = false;    // as refused
  bool peer_done = false;  // it has sent all it will
};

Result<std::unique_ptr<HttpServer>> HttpServer::listen(agent::Reactor& reactor, const std::string& address,
                                                       Handler handler, ServerLimits limits) {
  auto wanted = parse_address(address);
  if (!wanted) return tl::unexpected<Error>(wanted.error());
  std::unique_ptr<HttpServer> server(new HttpServer(reactor, std::move(handler), limits));
  server->fd_ = ::socket(wanted->bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  if (server->fd_ < 0 || ::setsockopt(server->fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      ::bind(server->fd_, reinterpret_cast<const sockaddr*>(&wanted->bytes), wanted->size) != 0 ||
      ::listen(server->fd_, kBacklog) != 0) {
    return fail(Code::kUnavailable, fmt::format("cannot listen at {}: {}", address, ::strerror(errno)));
  }
  Address bound;
  bound.size = sizeof(bound.bytes);
  ::getsockname(server->fd_, reinterpret_cast<sockaddr*>(&bound.bytes), &bound.size);
  server->address_ = text_of(bound);
  server->loopback_ = is_loopback(bound);
  auto added = reactor.add(server->fd_, EPOLLIN, [raw = server.get()](std::uint32_t) { raw->on_accept(); });
  if (!added) return tl::unexpected<Error>(added.error());
  return server;
}

HttpServer::HttpServer(agent::Reactor& reactor, Handler handler, ServerLimits limits)
    : reactor_(reactor), handler_(std::move(handler)), limits_(limits) {
  timer_ = reactor_.add_timer([this] { on_timer(); });
}

HttpServer::~HttpServer() {
  while (!connections_.empty()) close(connections_.begin()->first);
  reactor_.remove_timer(timer_);
  if (fd_ >= 0) {
    reactor_.remove(fd_);
    ::close(fd_);
  }
}

HttpServer::Counters HttpServer::counters() const {
  Counters out = counters_;
  out.open = connections_.size();
  return out;
}

void HttpServer::on_accept() {
  for (int turn = 0; turn < kAcceptsPerTurn; ++turn) {
    const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      // Out of descriptors, the listening socket stays readable: look again later instead of spinning.
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        (void)reactor_.modify(fd_, 0);
        accept_again_ = agent::Reactor::now() + seconds(1);
        arm_timer();
      }
      return;
    }
    ++counters_.connections;
    if (connections_.size() >= limits_.connections_max) {
      ++counters_.refused;
      constexpr std::string_view kBusy =
          "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
      (void)::send(fd, kBusy.data(), kBusy.size(), MSG_NOSIGNAL);
      ::close(fd);
      continue;
    }
    const std::uint64_t id = ++last_id_;
    auto connection = std::make_unique<Connection>(limits_.message);
    connection->fd = fd;
    connection->deadline = agent::Reactor::now() + limits_.request_time_max;
    auto added = reactor_.add(fd, EPOLLIN, [this, id](std::uint32_t events) { on_ready(id, events); });
    if (!added) {
      ::close(fd);
      continue;
    }
    connections_[id] = std::move(connection);
    arm_timer();
  }
}

void HttpServer::on_ready(std::uint64_t id, std::uint32_t events) {
  Connection& connection = *connections_.at(id);
  if ((events & EPOLLERR) != 0) return close(id);
  if ((events & EPOLLOUT) != 0 && !flush(id, connection)) return;
  if ((events & (EPOLLIN | EPOLLHUP)) != 0) {
    std::array<char, kReadBytes> bytes;
    const ssize_t got = ::recv(connection.fd, bytes.data(), bytes.size(), 0);
    if (got < 0 && errno != EAGAIN && errno != EINTR) return close(id);
    if (got == 0) connection.peer_done = true;
    if (got > 0) {
      if (connection.http.idle()) connection.deadline = agent::Reactor::now() + limits_.request_time_max;
      connection.http.receive({bytes.data(), static_cast<std::size_t>(got)});
    }
  }
  if (serve(id)) arm_timer();
}

// Hands out what has arrived whole and sends what there is to send, until something has to be waited for.
bool HttpServer::serve(std::uint64_t id) {
  Connection& connection = *connections_.at(id);
  bool more = true;
  while (more) {
    more = false;
    connection.serving = true;
    while (!connection.answering && connection.unsent.size() <= limits_.message.body_bytes_max) {
      auto request = connection.http.next();
      if (!request) break;
      more = true;
      ++counters_.requests;
      connection.answering = true;
      handler_(*request, Peer{connection.fd}, [this, id](const http::Response& response) {
        auto it = connections_.find(id);
        if (it == connections_.end() || !it->second->answering) return;
        Connection& asked = *it->second;
        asked.answering = false;
        asked.http.answer(response);
        asked.deadline =
            agent::Reactor::now() + (asked.http.idle() ? limits_.keep_alive_max : limits_.request_time_max);
        if (!asked.serving && serve(id)) arm_timer();
      });
      connection.unsent += connection.http.take_output();
    }
    connection.serving = false;
    connection.unsent += connection.http.take_output();
    if (connection.http.refused() && !connection.counted) {
      connection.counted = true;
      ++counters_.refused;
    }
    if (!flush(id, connection)) return false;
    more = more && !connection.answering && connection.unsent.empty();
  }
  return true;
}

bool HttpServer::flush(std::uint64_t id, Connection& connection) {
  while (!connection.unsent.empty()) {
    const ssize_t sent = ::send(connection.fd, connection.unsent.data(), connection.unsent.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) {
      close(id);
      return false;
    }
    if (sent < 0) break;
    connection.unsent.erase(0, static_cast<std::size_t>(sent));
  }
  const bool done = connection.http.closing() || (connection.peer_done && !connection.answering);
  if (done && connection.unsent.empty()) {
    // What the peer still sends would make the kernel answer with a reset, and the last words would be lost.
    std::array<char, kReadBytes> rest;
    ::shutdown(connection.fd, SHUT_WR);
    for (int turn = 0; turn < 16 && ::recv(connection.fd, rest.data(), rest.size(), 0) > 0; ++turn) {
    }
    close(id);
    return false;
  }
  watch(connection);
  return true;
}

void HttpServer::watch(Connection& connection) {
  std::uint32_t events = connection.unsent.empty() ? 0U : static_cast<std::uint32_t>(EPOLLOUT);
  if (connection.http.wants_input() && !connection.peer_done) events |= EPOLLIN;
  (void)reactor_.modify(connection.fd, events);
}

void HttpServer::close(std::uint64_t id) {
  auto gone = connections_.extract(id);
  if (gone.empty()) return;
  reactor_.remove(gone.mapped()->fd);
  ::close(gone.mapped()->fd);
}

void HttpServer::on_timer() {
  const Instant now = agent::Reactor::now();
  std::vector<std::uint64_t> late;
  for (const auto& [id, connection] : connections_) {
    if (connection->deadline <= now) late.push_back(id);
  }
  counters_.timed_out += late.size();
  for (const std::uint64_t id : late) close(id);
  if (accept_again_ <= now) {
    accept_again_ = Instant::never();
    (void)reactor_.modify(fd_, EPOLLIN);
  }
  arm_timer();
}

void HttpServer::arm_timer() {
  Instant next = accept_again_;
  for (const auto& [id, connection] : connections_) next = std::min(next, connection->deadline);
  reactor_.set_timer(timer_, next);
}

}  // namespace shoal::gateway
