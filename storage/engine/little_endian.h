// storage/engine/little_endian.h
//
// Numbers as the files of this folder hold them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::storage {

inline void put_u32(std::string& out, std::uint32_t v) {
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<char>(v >> (8 * i)));
}
inline void put_u64(std::string& out, std::uint64_t v) {
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(v >> (8 * i)));
}
// The first four bytes of `bytes`, which must have them.
inline std::uint32_t get_u32(std::string_view bytes) {
  std::uint32_t v = 0;
  for (std::size_t i = 4; i-- > 0;) v = v << 8 | static_cast<unsigned char>(bytes[i]);
  return v;
}

}  // namespace shoal::storage
