#include "agent/compss/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace shoal::compss {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kParametersMax = 1000;

enum class Kind : std::uint8_t { kBoolean, kInteger, kReal, kText, kEncoded, kPath, kObject };
struct Type {
  Kind kind = Kind::kText;
  std::int64_t low = 0;  // of kInteger
  std::int64_t high = 0;
};

template <class T>
Type integer() {
  return {Kind::kInteger, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()};
}

// COMPSs' data types, the classes of Java and the types of XML Schema that its messages name.
std::optional<Type> type_of(std::string_view name) {
  static const std::map<std::string, Type, std::less<>> kTypes = {
      {"BOOLEAN_T", {Kind::kBoolean}},
      {"CHAR_T", {Kind::kText}},
      {"BYTE_T", integer<std::int8_t>()},
      {"SHORT_T", integer<std::int16_t>()},
      {"INT_T", integer<std::int32_t>()},
      {"LONG_T", integer<std::int64_t>()},
      {"FLOAT_T", {Kind::kReal}},
      {"DOUBLE_T", {Kind::kReal}},
      {"STRING_T", {Kind::kText}},
      {"STRING_64_T", {Kind::kEncoded}},
      {"ENUM_T", {Kind::kText}},
      {"FILE_T", {Kind::kPath}},
      {"DIRECTORY_T", {Kind::kPath}},
      {"OBJECT_T", {Kind::kObject}},
      {"java.lang.Boolean", {Kind::kBoolean}},
      {"java.lang.Character", {Kind::kText}},
      {"java.lang.Byte", integer<std::int8_t>()},
      {"java.lang.Short", integer<std::int16_t>()},
      {"java.lang.Integer", integer<std::int32_t>()},
      {"java.lang.Long", integer<std::int64_t>()},
      {"java.lang.Float", {Kind::kReal}},
      {"java.lang.Double", {Kind::kReal}},
      {"java.lang.String", {Kind::kText}},
  };
  auto found = kTypes.find(name);
  if (found == kTypes.end() && name.find('.') == std::string_view::npos && !name.ends_with("_T"))
    found = kTypes.find(std::string(name) + "_T");  // "INT" as well as "INT_T"
  if (found == kTypes.end()) return std::nullopt;
  return found->second;
}

// Base64 with padding (RFC 4648, 4): what Python's base64.b64encode writes.
std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += 4) {
    std::uint32_t bits = 0;
    std::size_t padding = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      const auto digit = kDigits.find(text[at + i]);
      const bool pads = text[at + i] == '=' && i >= 2 && at + 4 == text.size();
      if (digit == std::string_view::npos ? !pads : padding > 0) return std::nullopt;
      padding += pads ? 1 : 0;
      bits = bits << 6U | static_cast<std::uint32_t>(pads ? 0 : digit);
    }
    for (std::size_t i = 0; i < 3 - padding; ++i) out.push_back(static_cast<char>(bits >> (16 - 8 * i) & 0xFFU));
  }
  return out;
}

// The text behind base64 of '#' and the text; the '#' is there because COMPSs cannot pass an empty text.
std::optional<std::string> decoded(std::string_view text) {
  auto out = from_base64(trimmed(text));
  if (!out || out->empty() || out->front() != '#' || !is_utf8(*out)) return std::nullopt;
  return out->substr(1);
}

template <class T>
std::optional<T> number(const std::string& text) {
  const std::string plain = trimmed(text);
  std::string_view digits = plain;
  if (digits.starts_with('+')) digits.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

Result<Json> basic(const Type& type, const std::string& text, const std::string& where) {
  switch (type.kind) {
    case Kind::kBoolean: {
      const std::string word = trimmed(text);
      if (word != "true" && word != "false")
        return fail(Code::kInvalid, fmt::format("{} is true or false, not \"{}\"", where, word));
      return Json(word == "true");
    }
    case Kind::kInteger: {
      const auto value = number<std::int64_t>(text);
      if (!value || *value < type.low || *value > type.high) {
        return fail(Code::kInvalid, fmt::format("{} is a whole number from {} to {}, not \"{}\"", where, type.low,
                                                type.high, trimmed(text)));
      }
      return Json(*value);
    }
    case Kind::kReal: {
      const auto value = number<double>(text);
      if (!value || !std::isfinite(*value))
        return fail(Code::kInvalid, fmt::format("{} is a finite number, not \"{}\"", where, trimmed(text)));
      return Json(*value);
    }
    case Kind::kEncoded: {
      auto value = decoded(text);
      if (!value) {
        return fail(
            Code::kInvalid,
            fmt::format("{} is base64 of '#' and the text, as STRING_64_T is; send a plain text as STRING_T", where));
      }
      return Json(std::move(*value));
    }
    case Kind::kPath: {
      const std::string path = trimmed(text);
      if (path.empty()) return fail(Code::kInvalid, fmt::format("{} names no file", where));
      return Json(path);
    }
    case Kind::kText:
    case Kind::kObject:
      break;
  }
  return Json(text);
}

class Reader {
 public:
  explicit Reader(bool python) : python_(python) {}

  Result<Json> parameter(const Element& params, const std::string& where) const {
    const std::string name = params.text_of("type");
    const auto type = type_of(name);
    if (!type) {
      return fail(Code::kInvalid, fmt::format("{} has the type \"{}\"; basic types, STRING_T, STRING_64_T, FILE_T, "
                                              "DIRECTORY_T and OBJECT_T can be passed",
                                              where, name));
    }
    if (const Element* list = params.child("array")) return array(*list, where);
    const Element* element = params.child("element");
    if (element == nullptr) return fail(Code::kInvalid, where + " has no <element> and no <array>");
    return type->kind == Kind::kObject ? object(*element, where, false) : single(*element, *type, where);
  }

 private:
  Result<Json> single(const Element& element, const Type& type, const std::string& where) const {
    const Element* value = element.child("value");
    if (value == nullptr) return fail(Code::kInvalid, where + " has no <value>");
    // Only Python programs get texts encoded: for others COMPSs' scripts write them plainly, whatever the type.
    const Type as = type.kind == Kind::kEncoded && !python_ ? Type{Kind::kText} : type;
    return basic(as, value->text, where);
  }

  // By the class that the message names. What COMPSs serialised with Java cannot be read by anybody else.
  Result<Json> object(const Element& element, const std::string& where, bool in_array) const {
    const std::string name = element.text_of("className");
    const auto type = type_of(name.empty() ? "java.lang.String" : name);
    if (!type || type->kind == Kind::kObject) {
      return fail(Code::kInvalid, fmt::format("{} is a Java object of class {}, which only Java can read; pass basic "
                                              "values, texts, files, or arrays of them",
                                              where, name));
    }
    const Element* value = element.child("value");
    if (python_ && in_array && type->kind == Kind::kText && value != nullptr) {
      if (auto text = decoded(value->text)) return Json(std::move(*text));
    }
    return single(element, *type, where);
  }

  Result<Json> array(const Element& list, const std::string& where) const {
    Json out = Json::array();
    const Element* values = list.child("values");
    if (values == nullptr) return out;
    for (const auto& item : values->children) {
      const std::string place = fmt::format("{}, item {}", where, out.size());
      if (item.name != "element" && item.name != "array")
        return fail(Code::kInvalid, fmt::format("{} is <{}>, not <element> or <array>", place, item.name));
      auto value = item.name == "array" ? array(item, place) : object(item, place, true);
      if (!value) return value;
      out.push_back(std::move(*value));
    }
    return out;
  }

  bool python_;
};

void append_words(const Json& value, std::vector<std::string>& words) {
  if (value.is_array()) {
    for (const auto& item : value) append_words(item, words);
  } else {
    words.push_back(value.is_string() ? value.get<std::string>() : value.dump());
  }
}

Arguments arguments_of(const Json& list) {
  Arguments out;
  out.json = list.dump(-1, ' ', true);
  append_words(list, out.words);
  return out;
}

Error too_many() {
  return {Code::kInvalid, fmt::format("an application has at most {} parameters", kParametersMax)};
}

}  // namespace

Result<Arguments> read_parameters(const Element& parameters, bool python) {
  std::vector<std::pair<std::int64_t, const Element*>> ordered;
  bool numbered = true;
  for (const auto& params : parameters.children) {
    if (params.name != "params")
      return fail(Code::kInvalid, fmt::format("<parameters> holds <params>, not <{}>", params.name));
    auto id = params.attributes.find("paramId");
    const auto position = id == params.attributes.end() ? std::nullopt : number<std::int64_t>(id->second);
    numbered = numbered && position.has_value();
    ordered.emplace_back(position.value_or(0), &params);
  }
  if (ordered.size() > kParametersMax) return tl::unexpected<Error>(too_many());
  if (numbered)
    std::stable_sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  const Reader reader(python);
  Json out = Json::array();
  for (const auto& [position, params] : ordered) {
    auto value = reader.parameter(*params, fmt::format("parameter {}", out.size()));
    if (!value) return tl::unexpected<Error>(value.error());
    out.push_back(std::move(*value));
  }
  return arguments_of(out);
}

Result<Arguments> read_json_parameters(std::string_view body) {
  const Json message = Json::parse(body, nullptr, false);
  if (!message.is_object() || !message.contains("parameters")) return arguments_of(Json::array());
  const Json& given = message["parameters"];
  if (!given.is_array()) return fail(Code::kInvalid, "\"parameters\" is a list of values");
  if (given.size() > kParametersMax) return tl::unexpected<Error>(too_many());
  Json out = Json::array();
  for (const auto& item : given) {
    if (!item.is_object() || !item.contains("type") || !item.contains("value")) {
      out.push_back(item);
      continue;
    }
    const std::string where = fmt::format("parameter {}", out.size());
    const Json& value = item["value"];
    const auto type = item["type"].is_string() ? type_of(item["type"].get<std::string>()) : std::nullopt;
    if (!type) return fail(Code::kInvalid, fmt::format("{} has an unknown type {}", where, item["type"].dump()));
    if (type->kind == Kind::kObject) {
      out.push_back(value);
      continue;
    }
    auto read = basic(*type, value.is_string() ? value.get<std::string>() : value.dump(), where);
    if (!read) return tl::unexpected<Error>(read.error());
    out.push_back(std::move(*read));
  }
  return arguments_of(out);
}

}  // namespace shoal::compss
