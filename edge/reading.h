// edge/reading.h
//
// What a source brings: one record on its way into a stream.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/wire/bytes.h"

namespace shoal::edge {

struct Reading {
  Bytes value;
  std::optional<Bytes> key;
  std::optional<std::int64_t> timestamp_ms;  // empty: when it is appended
  std::vector<std::pair<std::string, Bytes>> headers;
  std::optional<std::int32_t> sequence;  // of a source that can repeat itself exactly: repeats are rejected
};

}  // namespace shoal::edge
