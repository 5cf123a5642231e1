// tools/shoal/client.h
//
// The command line's connection to an agent: blocking requests over the agent's Unix socket. One thread uses
// it.
#pragma once

#include <functional>
#include <string>

#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/wire/client.h"

namespace shoal::cli {

class Client {
 public:
  // kUnavailable when no agent answers at `socket`, with what to do.
  static Result<Client> connect(const std::string& socket);
  ~Client();
  Client(Client&& other) noexcept;
  Client& operator=(Client&&) = delete;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Requests go to this agent (name, id or unique prefix of it) instead of the one that answers the socket.
  void set_agent(std::string agent) { agent_ = std::move(agent); }

  // How long a request waits for its answer: 30 s unless said otherwise.
  void set_timeout(Duration timeout) { timeout_ = timeout; }

  // One request, one answer. The agent's own error comes back as it is; kTimeout when none came in time.
  Result<wire::Dynamic> request(const std::string& method, wire::Dynamic::Map params = {});

  // Waits for the next event of a subscription; kTimeout when none came, kUnavailable when the agent went
  // away.
  Result<client::Event> next_event(Duration timeout);

 private:
  Client(int fd, client::Welcome welcome);
  Result<> send(client::Kind kind, const Bytes& message);
  // The next frame before `deadline_us` of the monotonic clock: its kind and its message, still encoded.
  Result<std::pair<client::Kind, Bytes>> receive(Instant deadline);

  int fd_ = -1;
  client::Welcome welcome_;
  std::string agent_;
  Duration timeout_ = seconds(30);
  std::string buffer_;
  std::uint64_t last_request_ = 0;
  std::vector<client::Event> events_;
};

}  // namespace shoal::cli
