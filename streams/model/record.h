// streams/model/record.h
//
// One record of a stream, and where records lie in a log.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/wire/bytes.h"

namespace shoal::streams {

using Offset = std::int64_t;  // position in a partition, from 0, without holes in an embedded log

struct Record {
  Bytes value;
  std::optional<Bytes> key;
  std::int64_t timestamp_ms = 0;  // since the epoch; of the event, as its producer stamped it
  std::vector<std::pair<std::string, Bytes>> headers;
  friend bool operator==(const Record&, const Record&) = default;

  // Payload bytes: what bounds and rates count.
  std::size_t bytes() const {
    std::size_t n = value.size() + (key ? key->size() : 0);
    for (const auto& [name, text] : headers) n += name.size() + text.size();
    return n;
  }
};

struct StoredRecord {
  Record record;
  std::uint32_t partition = 0;
  Offset offset = 0;
  friend bool operator==(const StoredRecord&, const StoredRecord&) = default;
};

// Offsets first..last, both included.
struct OffsetRange {
  Offset first = 0;
  Offset last = -1;
  friend bool operator==(const OffsetRange&, const OffsetRange&) = default;
};

}  // namespace shoal::streams
