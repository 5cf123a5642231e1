// protocol/wire/dynamic.h
//
// A value whose shape is known only at run time: parameters and results of administrative requests, which the CLI
// shows as tables or JSON. Hot paths use structs (codec.h) instead.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/wire/codec.h"

namespace shoal::wire {

class Dynamic {
 public:
  using Array = std::vector<Dynamic>;
  using Map = std::map<std::string, Dynamic, std::less<>>;

  Dynamic() = default;
  Dynamic(bool v) : value_(v) {}                      // NOLINT(google-explicit-constructor)
  Dynamic(double v) : value_(v) {}                    // NOLINT(google-explicit-constructor)
  Dynamic(const char* v) : value_(std::string(v)) {}  // NOLINT(google-explicit-constructor)
  Dynamic(std::string v) : value_(std::move(v)) {}    // NOLINT(google-explicit-constructor)
  Dynamic(Bytes v) : value_(std::move(v)) {}          // NOLINT(google-explicit-constructor)
  Dynamic(Array v) : value_(std::move(v)) {}          // NOLINT(google-explicit-constructor)
  Dynamic(Map v) : value_(std::move(v)) {}            // NOLINT(google-explicit-constructor)
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  Dynamic(T v) : value_(static_cast<std::int64_t>(v)) {}  // NOLINT(google-explicit-constructor)

  bool is_nil() const { return std::holds_alternative<std::monostate>(value_); }
  const bool* as_bool() const { return std::get_if<bool>(&value_); }
  const std::int64_t* as_int() const { return std::get_if<std::int64_t>(&value_); }
  const double* as_real() const { return std::get_if<double>(&value_); }
  const std::string* as_text() const { return std::get_if<std::string>(&value_); }
  const Bytes* as_bytes() const { return std::get_if<Bytes>(&value_); }
  const Array* as_array() const { return std::get_if<Array>(&value_); }
  const Map* as_map() const { return std::get_if<Map>(&value_); }
  Array* as_array() { return std::get_if<Array>(&value_); }
  Map* as_map() { return std::get_if<Map>(&value_); }

  // The value under `key` of a map, or a nil Dynamic.
  const Dynamic& operator[](std::string_view key) const;
  // Text under `key`, or `otherwise`.
  std::string text_or(std::string_view key, std::string otherwise) const;
  std::int64_t int_or(std::string_view key, std::int64_t otherwise) const;
  bool bool_or(std::string_view key, bool otherwise) const;

  friend bool operator==(const Dynamic&, const Dynamic&) = default;

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Bytes, Array, Map> value_;
};

void put(Encoder& e, const Dynamic& v);
bool get(Node n, Dynamic& v);

}  // namespace shoal::wire
