// storage/model/tombstone.h
//
// Deletion. Every put gives the object a birth number; a delete buries the births that it saw, each as a
// record with a name of its own. So a deletion travels, persists and reaches the root like any other name; an
// agent that slept through it learns of it when it announces its copy; and content put again lives on,
// whoever knew what (an observed-remove set: Shapiro et al. 2011).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "protocol/base/id.h"

namespace shoal::storage {

// Names that start so belong to the store itself; clients neither set nor list them.
inline constexpr char kInternalPrefix = '~';
inline constexpr std::string_view kTombstonePrefix = "~gone/";

struct Buried {
  ObjectId object;
  std::uint64_t birth = 0;
};

// What the tombstones of `object` start with; the birth follows.
inline std::string tombstones_of(ObjectId object) {
  return std::string(kTombstonePrefix) + object.hex() + "/";
}

inline std::string tombstone_name(ObjectId object, std::uint64_t birth) {
  return tombstones_of(object) + ObjectId(0, birth).hex().substr(16);
}

// What a record with this name buries; nullopt if it is no tombstone.
inline std::optional<Buried> buried_by(std::string_view record_name) {
  constexpr std::size_t kIdDigits = 32;
  if (!record_name.starts_with(kTombstonePrefix)) return std::nullopt;
  record_name.remove_prefix(kTombstonePrefix.size());
  if (record_name.size() != kIdDigits + 1 + 16 || record_name[kIdDigits] != '/') return std::nullopt;
  auto object = ObjectId::from_hex_text(record_name.substr(0, kIdDigits));
  auto birth = ObjectId::from_hex_text(std::string(16, '0') + std::string(record_name.substr(kIdDigits + 1)));
  if (!object || !birth) return std::nullopt;
  return Buried{*object, birth->low()};
}

}  // namespace shoal::storage
