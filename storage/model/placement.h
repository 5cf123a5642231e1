// storage/model/placement.h
//
// Who keeps what: rendezvous hashing (Thaler and Ravishankar 1998), so that every agent computes the same
// answer from the member list alone and a member that comes or goes moves only its own share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/base/id.h"

namespace shoal::storage {

// One agent that can be chosen.
struct Candidate {
  AgentId agent;
  std::uint32_t weight = 1;  // share relative to the others; 0 is never chosen
};

// -log2(h / 2^64) in 1/65536ths for a hash `h`: the exponential variate that weighted rendezvous divides by
// the weight. Integers only, so that all compilers agree.
std::uint64_t negative_log2(std::uint64_t hash);

// The candidates, best first, for `key`. Weighted: a member with weight 2 comes first twice as often. O(n log
// n).
std::vector<AgentId> rank(std::uint64_t key, std::vector<Candidate> candidates);

// The `count` members that keep the directory entry of `key`, best first; fewer if there are fewer. O(n).
std::vector<AgentId> directory_of(std::uint64_t key, const std::vector<AgentId>& members, std::size_t count);

std::uint64_t placement_key(ObjectId object);
// Of a record's name. Tombstones live with the directory of the object they bury.
std::uint64_t placement_key(const std::string& record_name);

}  // namespace shoal::storage
