// JSON, YAML and CSV.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "protocol/base/id.h"
#include "tools/shoal/output.h"

namespace shoal::cli {
namespace {

using Json = nlohmann::ordered_json;

bool is_utf8(const std::string& text) {
  // The parser of nlohmann checks it as it must: a string that dumps strictly is UTF-8.
  try {
    (void)Json(text).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

Json json_of(const wire::Dynamic& value) {
  if (const auto* flag = value.as_bool()) return *flag;
  if (const auto* number = value.as_int()) return *number;
  if (const auto* real = value.as_real()) return *real;
  if (const auto* text = value.as_text()) return *text;
  if (const auto* bytes = value.as_bytes()) {
    std::string text(*bytes);
    return is_utf8(text) ? Json(std::move(text)) : Json(to_hex(*bytes));
  }
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

// Text that YAML reads as itself without quotes. Anything doubtful is quoted, the way JSON does.
bool is_plain_yaml(const std::string& text) {
  if (text.empty() || std::string_view("-?:,[]{}#&*!|>'\"%@` \t").find(text.front()) != std::string_view::npos)
    return false;
  static const std::vector<std::string> kWords = {"true", "false", "yes", "no", "on", "off", "null", "~", "y", "n"};
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (std::find(kWords.begin(), kWords.end(), lower) != kWords.end()) return false;
  const bool numeric = std::string_view("0123456789.+").find(text.front()) != std::string_view::npos;
  const bool simple = std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("_-./ ").find(static_cast<char>(c)) != std::string_view::npos;
  });
  return simple && !numeric && text.back() != ' ';
}

std::string yaml_scalar(const Json& value) {
  const auto dump = [&] { return value.dump(-1, ' ', false, Json::error_handler_t::replace); };
  if (!value.is_string()) return dump();
  const auto& text = value.get_ref<const std::string&>();
  return is_plain_yaml(text) ? text : dump();
}

void put_yaml(std::string& out, const Json& value, std::size_t indent, bool after_dash) {
  const std::string space(indent, ' ');
  bool first = after_dash;  // the first line of a list's item begins behind its dash
  const auto child = [&](const Json& item) {
    if (item.is_structured() && !item.empty()) {
      out += item.is_array() ? "\n" : "";
      put_yaml(out, item, indent + 2, false);
    } else {
      out += " " + (item.is_structured() ? (item.is_array() ? "[]" : "{}") : yaml_scalar(item)) + "\n";
    }
  };
  if (value.is_object()) {
    for (const auto& [key, item] : value.items()) {
      out += (first ? "" : space) + yaml_scalar(Json(key)) + ":";
      first = false;
      if (item.is_object() && !item.empty()) out += "\n";
      child(item);
    }
  } else if (value.is_array()) {
    for (const auto& item : value) {
      out += space + "-";
      if (item.is_object() && !item.empty()) {
        out += " ";
        put_yaml(out, item, indent + 2, true);
      } else {
        child(item);
      }
    }
  } else {
    out += yaml_scalar(value) + "\n";
  }
}

}  // namespace

std::string to_json(const wire::Dynamic& value, bool one_line) {
  return json_of(value).dump(one_line ? -1 : 2, ' ', false, Json::error_handler_t::replace);
}

std::string to_yaml(const wire::Dynamic& value) {
  const Json json = json_of(value);
  if (json.is_structured() && json.empty()) return json.is_array() ? "[]\n" : "{}\n";
  std::string out;
  put_yaml(out, json, 0, false);
  return out;
}

// RFC 4180, but with \n as line end.
std::string to_csv(const std::vector<std::vector<std::string>>& rows) {
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) out += ',';
      if (row[i].find_first_of(",\"\r\n") == std::string::npos) {
        out += row[i];
        continue;
      }
      out += '"';
      for (const char c : row[i]) out += c == '"' ? std::string("\"\"") : std::string(1, c);
      out += '"';
    }
    out += '\n';
  }
  return out;
}

}  // namespace shoal::cli
