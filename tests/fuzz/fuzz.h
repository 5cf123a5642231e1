// tests/fuzz/fuzz.h
//
// What every target checks: decoding ends in a value or an error, and a value that was accepted survives
// being encoded and decoded again. Anything else aborts, and libFuzzer keeps the input.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "protocol/wire/codec.h"

namespace shoal::fuzz {

inline void require(bool condition) {
  if (!condition) std::abort();
}

inline std::string_view view(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// True when `input` is a T.
template <class T>
bool decodes_stably(std::string_view input, const wire::Limits& limits = {}) {
  const auto value = wire::decode<T>(input, limits);
  if (!value) {
    require(!value.error().message.empty());
    return false;
  }
  const Bytes once = wire::encode(*value);
  const auto again = wire::decode<T>(once);
  require(again.has_value());
  require(wire::encode(*again) == once);
  return true;
}

}  // namespace shoal::fuzz
