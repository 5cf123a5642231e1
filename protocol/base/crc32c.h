// protocol/base/crc32c.h
//
// CRC-32C (Castagnoli, RFC 3720 appendix B.4) with the SSE4.2 instruction where the processor has it: the
// checksum of segments and of Kafka record batches.
#pragma once

#include <cstdint>
#include <string_view>

namespace shoal {

// Checksum of `bytes`, continuing from `seed` (a previous checksum; 0 to start).
std::uint32_t crc32c(std::string_view bytes, std::uint32_t seed = 0);

}  // namespace shoal
