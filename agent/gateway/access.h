// agent/gateway/access.h
//
// Who may have things done over HTTP. The gateway has no users yet, so the rule looks at what cannot be forged from
// outside: whether the other end of the connection is a process of this host, and whose. A web page is never obeyed,
// whoever runs the browser.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/base/result.h"
#include "protocol/http/server_connection.h"

namespace shoal::gateway {

enum class Access : std::uint8_t {
  kNobody,  // switched off
  kOwner,   // processes of this host that run as the agent's user, or as root
  kHost,    // any process of this host
  kAnyone,  // whoever reaches the port
};

// The other end of a connection. Valid while the request is being handled.
struct Peer {
  int fd = -1;
  // The user of the process at the other end, when that is on this host (in this network namespace) and still
  // connected; nullopt otherwise. Reads the kernel's table of connections: for requests that are rare.
  std::optional<uid_t> user() const;
};

struct AccessRule {
  Access access = Access::kNobody;
  std::string setting;                  // what says so, for messages
  std::vector<std::string> host_names;  // besides addresses and "localhost": names by which this host may be called
};

// kDenied with what to do about it.
Result<> check_access(const AccessRule& rule, const http::Request& request, const Peer& peer);

}  // namespace shoal::gateway
