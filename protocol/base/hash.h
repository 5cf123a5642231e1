// protocol/base/hash.h
//
// Small non-cryptographic hashes that must give the same value on every machine: placement, seeds, trace
// hashes. Identity uses SHA-256 (protocol/identity), integrity CRC32C (crc32c.h).
#pragma once

#include <cstdint>
#include <string_view>

namespace shoal {

// Finaliser of SplitMix64: a bijection on 64 bits that spreads every input bit.
constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

constexpr std::uint64_t combine64(std::uint64_t a, std::uint64_t b) {
  return mix64(a + 0x9e3779b97f4a7c15ULL + mix64(b));
}

// FNV-1a over the bytes, finished by mix64.
constexpr std::uint64_t hash64(std::string_view bytes) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return mix64(h);
}

}  // namespace shoal
