// protocol/link/join.h
//
// The newcomer's side of joining a realm: one blocking call for the command line and for a daemon that
// starts.
#pragma once

#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/identity/realm.h"
#include "protocol/identity/token.h"

namespace shoal::link {

// Redeems `token` at its issuer and returns the certificate for `keys` with agents to contact. Tries the
// token's endpoints in turn until `timeout` has passed. The grant is checked: it is for these keys and this
// realm. kDenied: the issuer's refusal, in its words. kUnavailable: nobody listens there. kTimeout: no answer
// in time (the token may be spent; asking again with the same keys is safe).
Result<identity::JoinGrant> join_realm(const identity::JoinToken& token, const identity::AgentKeys& keys,
                                       const identity::Profile& profile, Duration timeout);

}  // namespace shoal::link
