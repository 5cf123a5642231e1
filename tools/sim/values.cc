#include "tools/sim/values.h"

#include "protocol/base/hash.h"
#include "protocol/wire/codec.h"

namespace shoal::sim {

const std::vector<FunctionSpec>& catalogue() {
  static const std::vector<FunctionSpec> kFunctions = {
      {FunctionId(0x5153, 1), "tick", 1'000, 1, 0, 0},     {FunctionId(0x5153, 2), "step", 20'000, 1, 0, 0},
      {FunctionId(0x5153, 3), "crunch", 250'000, 1, 0, 0}, {FunctionId(0x5153, 4), "long", 2'500'000, 1, 0, 0},
      {FunctionId(0x5153, 5), "wide", 120'000, 2, 0, 0},   {FunctionId(0x5153, 6), "bulk", 60'000, 1, 400'000, 0},
      {FunctionId(0x5153, 7), "flaky", 15'000, 1, 0, 2},
  };
  return kFunctions;
}

const FunctionSpec* find_function(FunctionId id) {
  for (const auto& function : catalogue()) {
    if (function.id == id) return &function;
  }
  return nullptr;
}

std::uint64_t output_content(FunctionId function, const std::vector<std::uint64_t>& inputs, std::uint32_t k) {
  std::uint64_t h = combine64(function.low(), k);
  for (const std::uint64_t input : inputs) h = combine64(h, input);
  return h;
}

std::uint64_t commutative_content(FunctionId function, const std::vector<std::uint64_t>& inputs, std::uint64_t before) {
  return before + output_content(function, inputs, 0x636f6d);
}

client::Value Arena::make(const Payload& payload, std::uint64_t bytes) {
  if (bytes <= client::kInlineMax) return client::Inline{wire::encode(payload)};
  const std::string name = "sim." + std::to_string(++last_);
  files_[name] = {payload, bytes};
  return client::Shared{name, bytes};
}

std::optional<Payload> Arena::read(const client::Value& value) const {
  if (const auto* inline_value = std::get_if<client::Inline>(&value)) {
    auto payload = wire::decode<Payload>(inline_value->bytes);
    if (!payload) return std::nullopt;
    return *payload;
  }
  if (const auto* shared = std::get_if<client::Shared>(&value)) {
    auto it = files_.find(shared->name);
    if (it != files_.end()) return it->second.payload;
  }
  return std::nullopt;
}

std::uint64_t Arena::size_of(const client::Value& value) const {
  if (const auto* inline_value = std::get_if<client::Inline>(&value)) return inline_value->bytes.size();
  if (const auto* shared = std::get_if<client::Shared>(&value)) return shared->bytes;
  return 0;
}

void Arena::erase(const client::Value& value) {
  if (const auto* shared = std::get_if<client::Shared>(&value)) files_.erase(shared->name);
}

}  // namespace shoal::sim
