#include "tools/shoal/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "protocol/base/id.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const wire::Dynamic& value) {
  if (const auto* flag = value.as_bool()) return *flag;
  if (const auto* number = value.as_int()) return *number;
  if (const auto* real = value.as_real()) return *real;
  if (const auto* text = value.as_text()) return *text;
  if (const auto* bytes = value.as_bytes()) return to_hex(*bytes);
  if (const auto* array = value.as_array()) {
    Json out = Json::array();
    for (const auto& item : *array) out.push_back(json_of(item));
    return out;
  }
  if (const auto* map = value.as_map()) {
    Json out = Json::object();
    for (const auto& [key, item] : *map) out[key] = json_of(item);
    return out;
  }
  return nullptr;
}

// One cell: short and on one line.
std::string cell(const wire::Dynamic& value) {
  if (value.is_nil()) return "-";
  if (const auto* text = value.as_text()) return text->empty() ? "-" : *text;
  if (const auto* flag = value.as_bool()) return *flag ? "yes" : "no";
  if (const auto* number = value.as_int()) return std::to_string(*number);
  if (const auto* real = value.as_real()) return fmt::format("{:.3g}", *real);
  if (const auto* array = value.as_array()) {
    std::string out;
    for (const auto& item : *array) out += (out.empty() ? "" : ",") + cell(item);
    return out.empty() ? "-" : out;
  }
  if (const auto* map = value.as_map()) {
    std::string out;
    for (const auto& [key, item] : *map) out += (out.empty() ? "" : ",") + key + "=" + cell(item);
    return out.empty() ? "-" : out;
  }
  return to_hex(*value.as_bytes());
}

bool use_bold() {
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr && term != nullptr &&
         std::string_view(term) != "dumb";
}

void print_table(const wire::Dynamic::Array& rows, const std::vector<Column>& columns) {
  std::vector<std::vector<std::string>> cells;
  std::vector<std::size_t> widths;
  for (const auto& column : columns) widths.push_back(column.heading.size());
  for (const auto& row : rows) {
    auto& line = cells.emplace_back();
    for (std::size_t i = 0; i < columns.size(); ++i) {
      line.push_back(cell(row[columns[i].key]));
      widths[i] = std::max(widths[i], line.back().size());
    }
  }
  const bool bold = use_bold();
  std::string head;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    head += i + 1 < columns.size() ? fmt::format("{:<{}}  ", columns[i].heading, widths[i])
                                   : std::string(columns[i].heading);
  }
  fmt::print("{}{}{}\n", bold ? "\x1b[1m" : "", head, bold ? "\x1b[0m" : "");
  for (const auto& line : cells) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (i + 1 < line.size()) {
        fmt::print("{:<{}}  ", line[i], widths[i]);
      } else {
        fmt::print("{}\n", line[i]);
      }
    }
  }
}

}  // namespace

std::optional<Format> parse_format(std::string_view text) {
  if (text == "table") return Format::kTable;
  if (text == "json") return Format::kJson;
  if (text == "quiet") return Format::kQuiet;
  return std::nullopt;
}

std::string to_json(const wire::Dynamic& value) {
  return json_of(value).dump(2, ' ', false, Json::error_handler_t::replace);
}

void print(const wire::Dynamic& value, Format format, const std::vector<Column>& columns) {
  if (format == Format::kJson) {
    fmt::print("{}\n", to_json(value));
    return;
  }
  if (const auto* rows = value.as_array()) {
    std::vector<Column> shown = columns;
    if (shown.empty() && !rows->empty() && rows->front().as_map() != nullptr) {
      for (const auto& [key, item] : *rows->front().as_map()) shown.push_back({key, key});
    }
    if (format == Format::kQuiet) {
      for (const auto& row : *rows) fmt::print("{}\n", shown.empty() ? cell(row) : cell(row[shown.front().key]));
      return;
    }
    if (shown.empty()) {
      for (const auto& row : *rows) fmt::print("{}\n", cell(row));
      return;
    }
    print_table(*rows, shown);
    return;
  }
  if (const auto* map = value.as_map()) {
    std::size_t width = 0;
    for (const auto& [key, item] : *map) width = std::max(width, key.size());
    for (const auto& [key, item] : *map) fmt::print("{:<{}}  {}\n", key, width, cell(item));
    return;
  }
  if (!value.is_nil()) fmt::print("{}\n", cell(value));
}

void complain(std::string_view message) {
  fmt::print(stderr, "shoal: {}\n", message);
}

std::string human_bytes(std::int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double amount = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (amount >= 1024 && unit + 1 < std::size(kUnits)) {
    amount /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", amount, kUnits[unit]);
}

std::string human_ms(std::int64_t ms) {
  if (ms < 1000) return fmt::format("{}ms", ms);
  const std::int64_t s = ms / 1000;
  if (s < 60) return fmt::format("{}.{}s", s, ms % 1000 / 100);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}h{:02}m", s / 3600, s % 3600 / 60);
}

}  // namespace shoal::cli
