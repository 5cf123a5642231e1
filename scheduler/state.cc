#include "scheduler/state.h"

#include <algorithm>

namespace shoal::scheduler {

namespace {

void add_label(Summary& to, const std::string& key, const std::string& value) {
  if (to.labels.size() < kSummaryLabelsMax) to.labels.emplace(key, value);
}

}  // namespace

Bytes encode_state(const State& state) {
  return wire::encode(state);
}
Bytes encode_summary(const Summary& summary) {
  return wire::encode(summary);
}
Result<State> decode_state(std::string_view bytes) {
  return wire::decode<State>(bytes);
}
Result<Summary> decode_summary(std::string_view bytes) {
  return wire::decode<Summary>(bytes);
}

void add(Summary& to, const State& agent) {
  ++to.agents;
  to.total64 += agent.resources.computing_units * kUnit64;
  to.free64 += agent.free64();
  to.units_max = std::max(to.units_max, agent.resources.computing_units);
  to.memory_mb_max = std::max(to.memory_mb_max, agent.resources.memory_mb);
  if (to.architectures.size() < kSummaryLabelsMax) to.architectures.insert(agent.resources.architecture);
  for (const auto& [key, value] : agent.resources.labels) add_label(to, key, value);
}

void add(Summary& to, const Summary& other) {
  to.agents += other.agents;
  to.total64 += other.total64;
  to.free64 += other.free64;
  to.units_max = std::max(to.units_max, other.units_max);
  to.memory_mb_max = std::max(to.memory_mb_max, other.memory_mb_max);
  for (const auto& architecture : other.architectures) {
    if (to.architectures.size() < kSummaryLabelsMax) to.architectures.insert(architecture);
  }
  for (const auto& [key, value] : other.labels) add_label(to, key, value);
}

}  // namespace shoal::scheduler
