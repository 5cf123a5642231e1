#include "protocol/link/tcp.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <utility>

namespace shoal::link {
namespace {

struct HostAndPort {
  std::string host;
  std::uint16_t port = 0;  // 0: any
};

std::optional<HostAndPort> split_endpoint(const std::string& endpoint) {
  constexpr std::string_view kScheme = "tcp://";
  const auto colon = endpoint.rfind(':');
  if (!endpoint.starts_with(kScheme) || colon < kScheme.size() || colon == std::string::npos) return std::nullopt;
  HostAndPort out;
  out.host = endpoint.substr(kScheme.size(), colon - kScheme.size());
  if (out.host.empty()) return std::nullopt;
  if (endpoint.substr(colon + 1) == "*") return out;
  const char* end = endpoint.data() + endpoint.size();
  const auto parsed = std::from_chars(endpoint.data() + colon + 1, end, out.port);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return out;
}

sockaddr_in to_sockaddr(const TcpAddress& address) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_addr.s_addr = address.host;
  out.sin_port = address.port;
  return out;
}

}  // namespace

bool is_bindable(const std::string& endpoint) {
  return split_endpoint(endpoint).has_value();
}

bool is_dialable(const std::string& endpoint) {
  const auto parts = split_endpoint(endpoint);
  return parts && parts->port != 0 && parts->host != "*";
}

std::optional<TcpAddress> numeric_address(const std::string& endpoint) {
  const auto parts = split_endpoint(endpoint);
  in_addr host{};
  if (!parts || parts->port == 0 || ::inet_pton(AF_INET, parts->host.c_str(), &host) != 1 || host.s_addr == INADDR_ANY)
    return std::nullopt;
  return TcpAddress{host.s_addr, htons(parts->port)};
}

std::optional<TcpAddress> resolved_address(const std::string& endpoint) {
  if (auto numeric = numeric_address(endpoint)) return numeric;
  if (!is_dialable(endpoint)) return std::nullopt;
  const auto parts = split_endpoint(endpoint);
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(parts->host.c_str(), nullptr, &hints, &found) != 0 || found == nullptr) return std::nullopt;
  const TcpAddress out{reinterpret_cast<sockaddr_in*>(found->ai_addr)->sin_addr.s_addr, htons(parts->port)};
  ::freeaddrinfo(found);
  return out;
}

std::optional<TcpAddress> peer_of(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (fd < 0 || ::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 || address.sin_family != AF_INET) {
    return std::nullopt;
  }
  return TcpAddress{address.sin_addr.s_addr, address.sin_port};
}

void cut_connection(int fd, const TcpAddress& peer) {
  // The descriptor belongs to ZeroMQ's thread, which may have closed it, and somebody else may have it now.
  if (peer_of(fd) == peer) ::shutdown(fd, SHUT_RDWR);
}

Probe::Probe(const TcpAddress& address) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) {
    verdict_ = Verdict::kOther;
    return;
  }
  const sockaddr_in target = to_sockaddr(address);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&target), sizeof target) == 0) {
    verdict_ = Verdict::kOther;
  } else if (errno != EINPROGRESS) {
    verdict_ = errno == ECONNREFUSED ? Verdict::kRefused : Verdict::kOther;
  }
}

Probe::~Probe() {
  if (fd_ >= 0) ::close(fd_);
}

Probe::Probe(Probe&& other) noexcept : fd_(std::exchange(other.fd_, -1)), verdict_(other.verdict_) {}

Probe& Probe::operator=(Probe&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(verdict_, other.verdict_);
  return *this;
}

Probe::Verdict Probe::verdict() {
  if (verdict_ != Verdict::kPending) return verdict_;
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = EBADF;
  if (error == ECONNREFUSED) verdict_ = Verdict::kRefused;
  if (error != 0 && error != ECONNREFUSED) verdict_ = Verdict::kOther;
  if (error == 0 && peer_of(fd_)) verdict_ = Verdict::kOther;  // it is connected
  return verdict_;
}

}  // namespace shoal::link
