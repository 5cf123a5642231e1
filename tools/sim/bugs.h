// tools/sim/bugs.h
//
// Deliberate mistakes, each of which must turn an invariant red: the proof that the checks can see. All are planted in
// the simulated drivers; the core has no switch for them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "agent/node/node.h"

namespace shoal::sim {

enum class Bug : std::uint8_t {
  kNone,
  kDropAfterTicket,    // sends do not wait for the write they name
  kLoseSyncedWrites,   // the disk reports durable what a crash still loses
  kForgetIncarnation,  // a restarted agent takes up the incarnation of its last life
  kTwoHeads,           // votes are not recovered
  kUnfencedResults,    // the result of a superseded attempt is reported as the current one's
  kTwoResults,         // some readers are given another execution's result
  kWrongResults,       // one execution in a hundred computes something else
  kOvercommit,         // an agent tells others of twice the computing units it has
};

std::optional<Bug> bug_from(std::string_view name);
std::string_view bug_name(Bug bug);
const std::vector<Bug>& all_bugs();

// What a restarted agent is given to recover, under this bug.
node::Recovered recovered_under(Bug bug, node::Recovered contents);

}  // namespace shoal::sim
