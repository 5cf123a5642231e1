// streams/model/compression.h
//
// zstd and lz4 (frames with independent blocks, as Kafka's Java client requires) behind two functions. The only file
// that includes them is compression.cc. Pure.
#pragma once

#include <string>
#include <string_view>

#include "protocol/base/result.h"
#include "streams/model/record_batch.h"

namespace shoal::streams {

// `bytes` packed by `codec`; kFailed if the library refuses.
Result<std::string> compress(Codec codec, std::string_view bytes);

// The reverse; kCorrupt for bad input or when the result would exceed `bytes_max`.
Result<std::string> decompress(Codec codec, std::string_view bytes, std::size_t bytes_max);

}  // namespace shoal::streams
