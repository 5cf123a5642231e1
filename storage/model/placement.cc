#include "storage/model/placement.h"

#include <algorithm>
#include <bit>

#include "protocol/base/hash.h"
#include "storage/model/tombstone.h"

namespace shoal::storage {
namespace {

constexpr std::uint64_t kDirectorySalt = 0x646972656374ULL;  // directory and placement choose independently

std::uint64_t draw(std::uint64_t key, AgentId agent) {
  return combine64(combine64(key, agent.high()), agent.low());
}

}  // namespace

std::uint64_t negative_log2(std::uint64_t hash) {
  if (hash == 0) return 64ULL << 16;
  const int leading = std::countl_zero(hash);
  // Fraction by repeated squaring of a mantissa in [1, 2), held with 31 fractional bits.
  std::uint64_t mantissa = (hash << leading) >> 32;
  std::uint64_t fraction = 0;
  for (int bit = 0; bit < 16; ++bit) {
    mantissa = (mantissa * mantissa) >> 31;
    fraction <<= 1;
    if (mantissa >= (2ULL << 31)) {
      mantissa >>= 1;
      fraction |= 1;
    }
  }
  const std::uint64_t log2 = (static_cast<std::uint64_t>(63 - leading) << 16) + fraction;
  return (64ULL << 16) - log2;
}

std::vector<AgentId> rank(std::uint64_t key, std::vector<Candidate> candidates) {
  struct Scored {
    std::uint64_t cost;
    std::uint64_t tie;
    AgentId agent;
  };
  std::vector<Scored> scored;
  scored.reserve(candidates.size());
  for (const Candidate& candidate : candidates) {
    if (candidate.weight == 0) continue;
    const std::uint64_t hash = draw(key, candidate.agent);
    // 16 more bits before the division, so that close costs stay apart.
    scored.push_back({(negative_log2(hash) << 16) / candidate.weight, hash, candidate.agent});
  }
  std::sort(scored.begin(), scored.end(), [](const Scored& a, const Scored& b) {
    if (a.cost != b.cost) return a.cost < b.cost;
    if (a.tie != b.tie) return a.tie > b.tie;
    return a.agent < b.agent;
  });
  std::vector<AgentId> out;
  out.reserve(scored.size());
  for (const Scored& one : scored) out.push_back(one.agent);
  return out;
}

std::vector<AgentId> directory_of(std::uint64_t key, const std::vector<AgentId>& members, std::size_t count) {
  std::vector<std::pair<std::uint64_t, AgentId>> best;  // descending
  best.reserve(count + 1);
  for (AgentId member : members) {
    const std::pair<std::uint64_t, AgentId> mine{draw(key ^ kDirectorySalt, member), member};
    auto at = std::find_if(best.begin(), best.end(), [&](const auto& other) { return mine > other; });
    best.insert(at, mine);
    if (best.size() > count) best.pop_back();
  }
  std::vector<AgentId> out;
  out.reserve(best.size());
  for (const auto& [score, agent] : best) out.push_back(agent);
  return out;
}

std::uint64_t placement_key(ObjectId object) {
  return combine64(object.high(), object.low());
}

std::uint64_t placement_key(const std::string& record_name) {
  if (auto buried = buried_by(record_name)) return placement_key(buried->object);
  return hash64(record_name);
}

}  // namespace shoal::storage
