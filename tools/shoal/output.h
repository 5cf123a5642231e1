// tools/shoal/output.h
//
// Results for people and for programs: one value in one of seven formats. Data goes to stdout, everything else to
// stderr. Rendering is pure: nothing here asks what the terminal is, except decide_color().
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/result.h"
#include "protocol/wire/dynamic.h"

namespace shoal::cli {

// Of every JSON and YAML object printed ("schema"). Grows when a key changes its meaning or goes, not when one is
// added.
constexpr std::int64_t kSchema = 1;

enum class Format : std::uint8_t {
  kTable,
  kWide,   // the table with every column, nothing shortened
  kJson,   // all that is known, as one object
  kJsonl,  // one object a line
  kYaml,
  kCsv,    // the columns of kWide, raw, with a heading of keys
  kQuiet,  // ids only
};
constexpr std::string_view kFormats = "table, wide, json, jsonl, yaml, csv, quiet";

// How a value is written in a table; other formats have it raw.
enum class Show : std::uint8_t {
  kPlain,
  kId,      // its first 12 digits
  kBytes,   // 1536 → 1.5 KiB
  kMib,     // 2048 → 2.0 GiB
  kMillis,  // 90500 → 1m30s
  kMicros,
  kTime,   // milliseconds since 1970 → local date and time
  kState,  // in colour
  kUnits,  // free of all: 1/4
};

// A column of a table, or a line of an object: which key of the row, and its heading.
struct Column {
  std::string_view key;
  std::string_view heading;
  Show show = Show::kPlain;
  bool wide = false;  // only in kWide and kCsv
};

// What a command shows of an answer.
struct Shape {
  std::string_view list = {};            // the key of the answer that holds the rows; empty: the answer is one object
  std::vector<Column> columns = {};      // empty: every key
  std::string_view id = {};              // the key that kQuiet prints
  std::vector<std::string> chosen = {};  // --columns: these keys instead, as they are
};

struct Look {
  Format format = Format::kTable;
  bool color = false;
};

std::optional<Format> parse_format(std::string_view text);

// `answer` in the format of `look`, ending with a line end unless it is empty.
std::string render(const wire::Dynamic& answer, const Shape& shape, const Look& look);

// JSON of `value`, two spaces a level, or on one line. Bytes become text when they are UTF-8, else hexadecimal.
std::string to_json(const wire::Dynamic& value, bool one_line = false);
std::string to_yaml(const wire::Dynamic& value);
std::string to_csv(const std::vector<std::vector<std::string>>& rows);

// One value as short text on one line, as filters and tables see it.
std::string plain(const wire::Dynamic& value);

// Colour or not: `when` (auto, always, never), then NO_COLOR, CLICOLOR_FORCE, TERM=dumb, then whether it is a terminal.
bool decide_color(std::string_view when, const std::map<std::string, std::string>& environment, bool terminal);

// Writes to stdout.
void put(std::string_view text);
// "shoal: …" on stderr.
void complain(std::string_view message);

// 1536 → "1.5 KiB", 90500 ms → "1m30s".
std::string human_bytes(std::int64_t bytes);
std::string human_ms(std::int64_t ms);

}  // namespace shoal::cli
