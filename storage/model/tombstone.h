// storage/model/tombstone.h
//
// A deleted object is a record: its name tells the object, its epoch kills every birth below it. So a deletion travels,
// persists and reaches the root like any other name, and an agent that slept through it learns of it when it announces
// its copy.
#pragma once

#include <optional>
#include <string>

#include "protocol/base/id.h"

namespace shoal::storage {

// Names that start so belong to the store itself; clients neither set nor list them.
inline constexpr char kInternalPrefix = '~';
inline constexpr std::string_view kTombstonePrefix = "~gone/";

inline std::string tombstone_name(ObjectId object) { return std::string(kTombstonePrefix) + object.hex(); }

// The object that a record with this name buries; nullopt if it is no tombstone.
inline std::optional<ObjectId> buried_by(std::string_view record_name) {
  if (!record_name.starts_with(kTombstonePrefix)) return std::nullopt;
  return ObjectId::from_hex_text(record_name.substr(kTombstonePrefix.size()));
}

}  // namespace shoal::storage
