// protocol/link/tcp.h
//
// The few things that ZeroMQ does not tell about its TCP connections: who is at the other end, whether a host
// refuses a port, and how to end one connection of many. Internal to this folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace shoal::link {

// True for "tcp://HOST:PORT" with a port of 1 to 65535; for an address to listen on, also 0, "*" and host
// "*".
bool is_dialable(const std::string& endpoint);
bool is_bindable(const std::string& endpoint);

// A numeric IPv4 address and port, in network byte order.
struct TcpAddress {
  std::uint32_t host = 0;
  std::uint16_t port = 0;
  friend bool operator==(const TcpAddress&, const TcpAddress&) = default;
};

// "tcp://1.2.3.4:77" as an address; nullopt for names, wildcards and other transports: nothing is looked up.
std::optional<TcpAddress> numeric_address(const std::string& endpoint);
// As above, but asks the resolver for names. May block.
std::optional<TcpAddress> resolved_address(const std::string& endpoint);

// The other end of a connected socket; nullopt when `fd` is not one (any more).
std::optional<TcpAddress> peer_of(int fd);

// Ends the connection `fd`, if it is still the one with `peer`. ZeroMQ sees it as closed by the other side.
void cut_connection(int fd, const TcpAddress& peer);

// One attempt to connect, to learn whether the host refuses. Nothing is ever sent on it.
class Probe {
 public:
  enum class Verdict : std::uint8_t { kPending, kRefused, kOther };

  explicit Probe(const TcpAddress& address);
  ~Probe();
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;
  Probe(Probe&& other) noexcept;
  Probe& operator=(Probe&& other) noexcept;

  // Writable when a pending verdict may have changed; -1 when there is nothing to wait for.
  int fd() const { return fd_; }
  Verdict verdict();

 private:
  int fd_ = -1;
  Verdict verdict_ = Verdict::kPending;
};

}  // namespace shoal::link
