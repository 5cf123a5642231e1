// agent/gateway/http_server.h
//
// Sockets of the HTTP gateway on the agent's loop: accepts, reads, writes, and gives up on who is slow. Knows no route.
// Costs nothing while nobody is connected: one watched descriptor, no timer.
//
// Thread-safety: none; works in turns of the reactor, which must outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/gateway/access.h"
#include "agent/reactor/reactor.h"
#include "protocol/base/result.h"
#include "protocol/http/server_connection.h"

namespace shoal::gateway {

struct ServerLimits {
  http::Limits message;
  std::size_t connections_max = 64;         // one more is answered 503 and closed
  Duration request_time_max = seconds(10);  // for a request to arrive whole, and for its answer to be taken
  Duration keep_alive_max = seconds(75);    // between requests
};

class HttpServer {
 public:
  // Called once for every request, at once or later, from a turn of the reactor. Ignored when the peer has gone.
  using Answer = std::function<void(const http::Response&)>;
  using Handler = std::function<void(const http::Request&, const Peer&, Answer)>;
  struct Counters {
    std::uint64_t connections = 0;  // accepted
    std::uint64_t requests = 0;     // whole ones
    std::uint64_t refused = 0;      // malformed, too large, too many connections
    std::uint64_t timed_out = 0;    // connections given up on
    std::size_t open = 0;           // now
  };

  // Listens at "host:port": a numeric address ([::1] for IPv6), "localhost", or "*" for all; port 0 takes a free one.
  // kInvalid: not an address; kUnavailable: in use, or not of this host. Messages name the address.
  static Result<std::unique_ptr<HttpServer>> listen(agent::Reactor& reactor, const std::string& address,
                                                    Handler handler, ServerLimits limits = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  const std::string& address() const { return address_; }  // "127.0.0.1:41234"
  bool loopback_only() const { return loopback_; }
  Counters counters() const;

 private:
  struct Connection;

  HttpServer(agent::Reactor& reactor, Handler handler, ServerLimits limits);
  void on_accept();
  void on_ready(std::uint64_t id, std::uint32_t events);
  // False when the connection was closed.
  bool serve(std::uint64_t id);
  bool flush(std::uint64_t id, Connection& connection);
  void watch(Connection& connection);
  void close(std::uint64_t id);
  void on_timer();
  void arm_timer();

  agent::Reactor& reactor_;
  Handler handler_;
  const ServerLimits limits_;
  int fd_ = -1;
  std::string address_;
  bool loopback_ = false;
  Instant accept_again_ = Instant::never();  // paused until then: no descriptors left
  std::map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::uint64_t last_id_ = 0;
  agent::Reactor::TimerId timer_ = 0;
  Counters counters_;
};

}  // namespace shoal::gateway
