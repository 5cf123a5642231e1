// scheduler/fingerprint.h
//
// Whether a call is the one that another run of the program made: a hash of its accesses with what they say by
// themselves. What large arguments and files contain is not looked at, and code inside of values is not either, because
// it is packed differently in every process.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "protocol/wire/client.h"

namespace shoal::scheduler {

std::uint64_t fingerprint(const client::Value& value);

// `put` has the fingerprints of data that the program gave itself. Never 0. O(bytes of inline values).
std::uint64_t fingerprint(const std::vector<client::Access>& accesses,
                          const std::unordered_map<DatumId, std::uint64_t>& put);

}  // namespace shoal::scheduler
