// agent/daemon/requester.h
//
// Whoever is to get the answer to a request: a client of this agent, or one of another agent.
#pragma once

#include <cstdint>
#include <optional>

#include "protocol/base/id.h"
#include "protocol/wire/address.h"

namespace shoal::daemon {

struct Requester {
  ClientId client;
  std::uint64_t request = 0;
  std::optional<wire::Address> remote;  // the agent that asks on behalf of its client
};

}  // namespace shoal::daemon
