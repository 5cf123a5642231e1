#include "tools/shoal/output.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "protocol/base/id.h"

namespace shoal::cli {
namespace {

constexpr std::size_t kShortId = 12;

std::string colored(const std::string& text, std::string_view code) {
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

std::string_view state_color(std::string_view state) {
  if (state == "failed" || state == "fail" || state == "dead" || state == "error") return "31";
  if (state == "suspect" || state == "waiting" || state == "warn" || state == "cancelled") return "33";
  if (state == "done" || state == "alive" || state == "ok" || state == "running" || state == "connected") return "32";
  return "0";
}

// Columns that `text` takes on a screen, near enough: code points.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string local_time(std::int64_t unix_ms) {
  const std::time_t seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm parts{};
  ::localtime_r(&seconds, &parts);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", parts);
}

std::string cell(const wire::Dynamic& row, const Column& column, bool full) {
  const wire::Dynamic& value = row[column.key];
  const auto* number = value.as_int();
  switch (column.show) {
    case Show::kId:
      if (const auto* text = value.as_text(); text != nullptr && !full)
        return text->empty() ? "-" : text->substr(0, kShortId);
      break;
    case Show::kBytes:
      if (number != nullptr) return human_bytes(*number);
      break;
    case Show::kMib:
      if (number != nullptr) return human_bytes(*number << 20);
      break;
    case Show::kMillis:
      if (number != nullptr) return human_ms(*number);
      break;
    case Show::kMicros:
      if (number != nullptr) return *number < 10'000 ? fmt::format("{}us", *number) : human_ms(*number / 1000);
      break;
    case Show::kTime:
      if (number != nullptr) return local_time(*number);
      break;
    case Show::kUnits:
      if (!value.is_nil()) return fmt::format("{}/{}", plain(value), plain(row["computing_units"]));
      break;
    case Show::kPlain:
    case Show::kState:
      break;
  }
  return plain(value);
}

std::vector<Column> columns_of(const Shape& shape, const wire::Dynamic* row, bool wide) {
  std::vector<Column> out;
  if (!shape.chosen.empty()) {
    for (const auto& key : shape.chosen) {
      const auto known = std::find_if(shape.columns.begin(), shape.columns.end(),
                                      [&](const Column& column) { return column.key == key; });
      out.push_back(known != shape.columns.end() ? *known : Column{key, key});
    }
    return out;
  }
  for (const auto& column : shape.columns) {
    if (wide || !column.wide) out.push_back(column);
  }
  if (!shape.columns.empty() || row == nullptr || row->as_map() == nullptr) return out;
  for (const auto& [key, item] : *row->as_map()) out.push_back({key, key});
  return out;
}

std::string upper(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return std::toupper(c); });
  return out;
}

std::string table(const wire::Dynamic::Array& rows, const std::vector<Column>& columns, const Look& look) {
  std::vector<std::vector<std::string>> cells(1);
  for (const auto& column : columns) cells[0].push_back(upper(column.heading));
  for (const auto& row : rows) {
    auto& line = cells.emplace_back();
    for (const auto& column : columns) line.push_back(cell(row, column, look.format == Format::kWide));
  }
  std::vector<std::size_t> widths(columns.size());
  for (const auto& line : cells) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], width_of(line[i]));
  }
  std::string out;
  for (std::size_t y = 0; y < cells.size(); ++y) {
    for (std::size_t x = 0; x < columns.size(); ++x) {
      const std::string& text = cells[y][x];
      const bool painted = look.color && (y == 0 || columns[x].show == Show::kState);
      out += painted ? colored(text, y == 0 ? "1" : state_color(text)) : text;
      out += x + 1 < columns.size() ? std::string(widths[x] - width_of(text) + 2, ' ') : "\n";
    }
  }
  return out;
}

std::string lines(const wire::Dynamic& object, const std::vector<Column>& columns, const Look& look) {
  std::size_t width = 0;
  for (const auto& column : columns) width = std::max(width, width_of(std::string(column.heading)));
  std::string out;
  for (const auto& column : columns) {
    const std::string head(column.heading);
    out += (look.color ? colored(head, "1") : head) + std::string(width - width_of(head) + 2, ' ') +
           cell(object, column, look.format == Format::kWide) + "\n";
  }
  return out;
}

std::string csv(const wire::Dynamic::Array& rows, const std::vector<Column>& columns) {
  std::vector<std::vector<std::string>> out(1);
  for (const auto& column : columns) out[0].emplace_back(column.key);
  for (const auto& row : rows) {
    auto& line = out.emplace_back();
    for (const auto& column : columns) {
      const auto& value = row[column.key];
      line.push_back(value.is_nil() ? "" : value.as_text() != nullptr ? *value.as_text() : plain(value));
    }
  }
  return to_csv(out);
}

std::string ids(const wire::Dynamic::Array& rows, std::string_view key) {
  std::string out;
  for (const auto& row : rows) out += plain(key.empty() ? row : row[key]) + "\n";
  return out;
}

wire::Dynamic with_schema(const wire::Dynamic& answer) {
  if (answer.as_map() == nullptr) return answer;
  wire::Dynamic out = answer;
  (*out.as_map())["schema"] = kSchema;
  return out;
}

std::string jsonl(const wire::Dynamic::Array& rows) {
  std::string out;
  for (const auto& row : rows) out += to_json(row, true) + "\n";
  return out;
}

std::string render_object(const wire::Dynamic& answer, const Shape& shape, const Look& look) {
  if (answer.is_nil()) return {};
  if (answer.as_map() == nullptr) return plain(answer) + "\n";
  const bool all = look.format == Format::kWide || look.format == Format::kCsv;
  // Everything is shown of an object in these formats, whatever the table leaves out.
  const auto columns = columns_of(all && shape.chosen.empty() ? Shape{} : shape, &answer, all);
  if (look.format == Format::kCsv) return csv({answer}, columns);
  if (look.format == Format::kQuiet) return shape.id.empty() ? "" : plain(answer[shape.id]) + "\n";
  return lines(answer, columns, look);
}

}  // namespace

std::optional<Format> parse_format(std::string_view text) {
  static const std::map<std::string_view, Format> kNames = {
      {"table", Format::kTable}, {"wide", Format::kWide}, {"json", Format::kJson},   {"jsonl", Format::kJsonl},
      {"yaml", Format::kYaml},   {"csv", Format::kCsv},   {"quiet", Format::kQuiet},
  };
  const auto it = kNames.find(text);
  return it == kNames.end() ? std::nullopt : std::optional(it->second);
}

std::string plain(const wire::Dynamic& value) {
  if (value.is_nil()) return "-";
  if (const auto* text = value.as_text()) return text->empty() ? "-" : *text;
  if (const auto* flag = value.as_bool()) return *flag ? "yes" : "no";
  if (const auto* number = value.as_int()) return std::to_string(*number);
  if (const auto* real = value.as_real()) return fmt::format("{:.3g}", *real);
  if (const auto* bytes = value.as_bytes()) return to_hex(*bytes);
  std::string out;
  if (const auto* array = value.as_array()) {
    for (const auto& item : *array) out += (out.empty() ? "" : ",") + plain(item);
  }
  if (const auto* map = value.as_map()) {
    for (const auto& [key, item] : *map) out += (out.empty() ? "" : ",") + key + "=" + plain(item);
  }
  return out.empty() ? "-" : out;
}

std::string render(const wire::Dynamic& answer, const Shape& shape, const Look& look) {
  if (look.format == Format::kJson) return to_json(with_schema(answer)) + "\n";
  if (look.format == Format::kYaml) return to_yaml(with_schema(answer));
  if (shape.list.empty()) {
    return look.format == Format::kJsonl ? to_json(with_schema(answer), true) + "\n"
                                         : render_object(answer, shape, look);
  }
  static const wire::Dynamic::Array kNone;
  const auto* found = answer[shape.list].as_array();
  const auto& rows = found == nullptr ? kNone : *found;
  const bool wide = look.format == Format::kWide || look.format == Format::kCsv;
  const auto columns = columns_of(shape, rows.empty() ? nullptr : &rows.front(), wide);
  if (look.format == Format::kJsonl) return jsonl(rows);
  if (look.format == Format::kCsv) return csv(rows, columns);
  if (look.format == Format::kQuiet) return ids(rows, shape.id);
  return table(rows, columns, look);
}

bool decide_color(std::string_view when, const std::map<std::string, std::string>& environment, bool terminal) {
  if (when == "always") return true;
  if (when == "never") return false;
  const auto value = [&](const char* name) {
    const auto it = environment.find(name);
    return it == environment.end() ? std::string() : it->second;
  };
  if (!value("NO_COLOR").empty()) return false;
  if (const std::string force = value("CLICOLOR_FORCE"); !force.empty() && force != "0") return true;
  return terminal && value("TERM") != "dumb" && !value("TERM").empty();
}

void put(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
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
