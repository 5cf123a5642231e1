// protocol/wire/bytes.h
//
// Two kinds of octet strings, told apart by type because msgpack (and Python) tells them apart: std::string is text,
// Bytes is binary.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace shoal {

struct Bytes : std::string {
  using std::string::string;
  Bytes() = default;
  explicit Bytes(std::string text) : std::string(std::move(text)) {}
  explicit Bytes(std::string_view text) : std::string(text) {}
};

}  // namespace shoal
