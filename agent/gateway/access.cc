#include "agent/gateway/access.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

namespace shoal::gateway {
namespace {

// An address and port, IPv4 as the IPv6 address that stands for it.
struct Endpoint {
  std::array<std::uint8_t, 16> address{};
  std::uint16_t port = 0;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

Endpoint mapped(const std::uint8_t* v4, std::uint16_t port) {
  Endpoint out;
  out.address[10] = out.address[11] = 0xFF;
  std::memcpy(out.address.data() + 12, v4, 4);
  out.port = port;
  return out;
}

std::optional<Endpoint> endpoint_of(const sockaddr_storage& bytes) {
  if (bytes.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&bytes);
    return mapped(reinterpret_cast<const std::uint8_t*>(&v4->sin_addr), ntohs(v4->sin_port));
  }
  if (bytes.ss_family != AF_INET6) return std::nullopt;
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&bytes);
  Endpoint out;
  std::memcpy(out.address.data(), &v6->sin6_addr, out.address.size());
  out.port = ntohs(v6->sin6_port);
  return out;
}

template <class T>
std::optional<T> number(std::string_view text, int base) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// As /proc/net/tcp writes it: words of the address in the host's byte order, ":", the port.
std::optional<Endpoint> endpoint_of(std::string_view text) {
  const auto colon = text.find(':');
  if (colon != 8 && colon != 32) return std::nullopt;
  const auto port = number<std::uint16_t>(text.substr(colon + 1), 16);
  if (!port) return std::nullopt;
  std::array<std::uint8_t, 16> bytes{};
  for (std::size_t at = 0; at < colon; at += 8) {
    const auto word = number<std::uint32_t>(text.substr(at, 8), 16);
    if (!word) return std::nullopt;
    std::memcpy(bytes.data() + at / 2, &*word, sizeof(*word));
  }
  if (colon == 8) return mapped(bytes.data(), *port);
  return Endpoint{bytes, *port};
}

// Only of an established connection: sockets that wait for their end are listed as root's.
std::optional<uid_t> user_in(const char* table, const Endpoint& near, const Endpoint& far) {
  std::ifstream file(table);
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string slot, local, remote, state, queues, timer, retransmits, user;
    words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> user;
    if (state != "01" || endpoint_of(local) != near || endpoint_of(remote) != far) continue;
    return number<uid_t>(user, 10);
  }
  return std::nullopt;
}

// The host of a Host header, without port and brackets. HTTP/1.0 needs none, but browsers do not speak that.
std::string host_of(const http::Request& request) {
  const auto header = request.headers.find("host");
  if (header == request.headers.end()) return "localhost";
  std::string host = header->second;
  if (host.starts_with('[')) return host.substr(1, std::min(host.find(']'), host.size()) - 1);
  host.resize(std::min(host.find(':'), host.size()));
  std::transform(host.begin(), host.end(), host.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return host;
}

// A page of another site can have a name of its own point at this host (DNS rebinding); an address it cannot take.
bool names_this_host(const std::string& host, const std::vector<std::string>& names) {
  std::array<std::uint8_t, 16> ignored{};
  if (host == "localhost") return true;
  if (::inet_pton(AF_INET, host.c_str(), ignored.data()) == 1) return true;
  if (::inet_pton(AF_INET6, host.c_str(), ignored.data()) == 1) return true;
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::equal(name.begin(), name.end(), host.begin(), host.end(),
                      [](unsigned char a, unsigned char b) { return std::tolower(a) == b; });
  });
}

}  // namespace

std::optional<uid_t> Peer::user() const {
  sockaddr_storage here{};
  sockaddr_storage there{};
  socklen_t size = sizeof(here);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size) != 0) return std::nullopt;
  size = sizeof(there);
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&there), &size) != 0) return std::nullopt;
  const auto far = endpoint_of(here);  // seen from the peer
  const auto near = endpoint_of(there);
  if (!near || !far) return std::nullopt;
  for (const char* table : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
    if (auto user = user_in(table, *near, *far)) return user;
  }
  return std::nullopt;
}

Result<> check_access(const AccessRule& rule, const http::Request& request, const Peer& peer) {
  if (rule.access == Access::kNobody)
    return fail(Code::kDenied, fmt::format("this interface is switched off here ({} = none)", rule.setting));
  for (const char* header : {"origin", "sec-fetch-site"}) {
    if (request.headers.find(header) == request.headers.end()) continue;
    return fail(Code::kDenied,
                fmt::format("requests of web pages are not obeyed (this one has the header {})", header));
  }
  if (rule.access == Access::kAnyone) return {};
  if (!names_this_host(host_of(request), rule.host_names)) {
    return fail(Code::kDenied,
                fmt::format("\"{}\" is not a name of this agent; call it by its address", host_of(request)));
  }
  const auto user = peer.user();
  if (!user) {
    return fail(Code::kDenied,
                fmt::format("only processes of this host may ask for this ({} = anyone lifts that; set it "
                            "only in a network where everybody may run programs here)",
                            rule.setting));
  }
  if (rule.access == Access::kHost || *user == ::geteuid() || *user == 0) return {};
  return fail(Code::kDenied,
              fmt::format("only the user that runs this agent may ask for this ({} = host lifts that)", rule.setting));
}

}  // namespace shoal::gateway
