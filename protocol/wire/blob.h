// protocol/wire/blob.h
//
// The frame around a value's bytes, inline or in the arena (docs/client-protocol.md §3): which codec wrote the body, so
// that values pass between languages. Only the parts every language shares; pickles are Python's business.
#pragma once

#include <cstdint>
#include <string_view>

#include "protocol/base/result.h"
#include "protocol/wire/bytes.h"
#include "protocol/wire/codec.h"

namespace shoal::wire {

enum class BlobCodec : std::uint8_t { kRaw = 0, kPickle = 1, kMsgpack = 2 };

struct Blob {
  BlobCodec codec = BlobCodec::kRaw;
  std::string_view body;  // points into the bytes that were read
};

// A blob without out-of-band buffers.
Bytes make_blob(BlobCodec codec, std::string_view body);

// kInvalid when `bytes` are not a blob. Bytes after the body are ignored.
Result<Blob> read_blob(std::string_view bytes);

// A value that travels as msgpack, and back. kUnsupported for a pickle, kInvalid for a value of another type.
template <class T>
Bytes to_blob(const T& value) {
  return make_blob(BlobCodec::kMsgpack, encode(value));
}
template <class T>
Result<T> from_blob(std::string_view bytes, const Limits& limits = {}) {
  auto blob = read_blob(bytes);
  if (!blob) return tl::unexpected<Error>(blob.error());
  if (blob->codec == BlobCodec::kPickle) {
    return fail(Code::kUnsupported, "the value is a Python object that only Python can read");
  }
  return decode<T>(blob->body, limits);
}

}  // namespace shoal::wire
