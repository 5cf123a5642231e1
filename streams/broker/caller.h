// streams/broker/caller.h
//
// Who asked, and what they are told: the vocabulary that the parts of the broker share. Not part of its interface.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/wire/address.h"
#include "protocol/wire/dynamic.h"
#include "streams/broker/broker.h"
#include "streams/log/group_commit.h"
#include "streams/model/engine.h"

namespace shoal::streams {

// A connected process: a client of this agent or of another.
struct Origin {
  AgentId agent;
  ClientId client;
  friend auto operator<=>(const Origin&, const Origin&) = default;
};

// Where an answer goes.
struct Caller {
  enum class Kind : std::uint8_t {
    kClient,   // of this agent
    kAgent,    // a request message of another agent
    kForward,  // a forward message of another agent, for `stream`
    kGather,   // a part of an answer that this agent is composing; `request` numbers the composition
    kNobody,   // the agent itself; `request` tells what for, 0: nothing
  };
  Kind kind = Kind::kNobody;
  Origin origin;
  std::uint64_t request = 0;
  wire::Address address;  // kAgent, kForward
  std::string stream;     // kForward
};

struct Answer {
  Caller caller;
  Result<wire::Dynamic> result;
};

// What the parts use of the broker they live in.
struct Services {
  AgentId self;
  const BrokerLimits& limits;
  const std::function<std::int64_t()>& wall_ms;
  GroupCommit& commits;
  int wake_fd;
  BrokerCounters& counters;
};

}  // namespace shoal::streams
