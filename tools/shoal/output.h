// tools/shoal/output.h
//
// Results for people and for programs: one value, shown as a table or as JSON. Data goes to stdout,
// everything else to stderr; colour only on a terminal that wants it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/result.h"
#include "protocol/wire/dynamic.h"

namespace shoal::cli {

enum class Format : std::uint8_t { kTable, kJson, kQuiet };

// A column of a table: which key of each row, and its heading.
struct Column {
  std::string_view key;
  std::string_view heading;
};

std::optional<Format> parse_format(std::string_view text);

// JSON of `value`, two spaces a level. Bytes become hexadecimal.
std::string to_json(const wire::Dynamic& value);

// A list of maps as a table with these columns (all keys of the first row when there are none); a map as "key
// value" lines; a scalar as it is. kQuiet prints only the first column.
void print(const wire::Dynamic& value, Format format, const std::vector<Column>& columns = {});

// "shoal: …" on stderr.
void complain(std::string_view message);

// 1536 → "1.5 KiB", 90500 ms → "1m30s".
std::string human_bytes(std::int64_t bytes);
std::string human_ms(std::int64_t ms);

}  // namespace shoal::cli
