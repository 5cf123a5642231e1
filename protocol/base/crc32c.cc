#include "protocol/base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace shoal {
namespace {

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = (c & 1) != 0 ? (c >> 1) ^ 0x82f63b78U : c >> 1;
    table[i] = c;
  }
  return table;
}

constexpr auto kTable = make_table();

std::uint32_t update_by_table(std::uint32_t c, const char* data, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) c = kTable[(c ^ static_cast<unsigned char>(data[i])) & 255] ^ (c >> 8);
  return c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t update_by_sse42(std::uint32_t c, const char* data, std::size_t size) {
  std::uint64_t wide = c;
  while (size >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, 8);
    wide = _mm_crc32_u64(wide, word);
    data += 8;
    size -= 8;
  }
  c = static_cast<std::uint32_t>(wide);
  while (size-- > 0) c = _mm_crc32_u8(c, static_cast<unsigned char>(*data++));
  return c;
}
#endif

}  // namespace

std::uint32_t crc32c(std::string_view bytes, std::uint32_t seed) {
  std::uint32_t c = ~seed;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return ~update_by_sse42(c, bytes.data(), bytes.size());
#endif
  return ~update_by_table(c, bytes.data(), bytes.size());
}

}  // namespace shoal
