#include "agent/compss/document.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <pugixml.hpp>
#include <utility>

namespace shoal::compss {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

std::string local_name(std::string_view name) {
  const auto colon = name.rfind(':');
  return std::string(colon == std::string_view::npos ? name : name.substr(colon + 1));
}

Error too_much() {
  return {Code::kInvalid, fmt::format("the body is nested deeper than {} levels or has more than {} elements",
                                      kDepthMax, kElementsMax)};
}

bool copy(const pugi::xml_node& node, std::size_t depth, std::size_t& count, Element& out) {
  if (depth > kDepthMax || ++count > kElementsMax) return false;
  out.name = local_name(node.name());
  for (const auto& attribute : node.attributes()) out.attributes[local_name(attribute.name())] = attribute.value();
  for (const auto& below : node.children()) {
    if (below.type() == pugi::node_pcdata || below.type() == pugi::node_cdata) {
      out.text += below.value();
    } else if (below.type() == pugi::node_element) {
      if (!copy(below, depth + 1, count, out.children.emplace_back())) return false;
    }
  }
  return true;
}

std::string scalar_text(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_null() ? "" : value.dump();
}

bool copy(const nlohmann::json& value, std::string_view name, std::size_t depth, std::size_t& count,
          std::vector<Element>& out) {
  if (depth > kDepthMax) return false;
  if (value.is_array()) {
    for (const auto& item : value) {
      if (!copy(item, name, depth + 1, count, out)) return false;
    }
    return true;
  }
  if (++count > kElementsMax) return false;
  Element element;
  element.name = name;
  if (value.is_object()) {
    for (const auto& [key, below] : value.items()) {
      if (!copy(below, key, depth + 1, count, element.children)) return false;
    }
  } else {
    element.text = scalar_text(value);
  }
  out.push_back(std::move(element));
  return true;
}

}  // namespace

const Element* Element::child(std::string_view wanted) const {
  for (const auto& below : children) {
    if (below.name == wanted) return &below;
  }
  return nullptr;
}

std::string Element::text_of(std::string_view wanted) const {
  const Element* found = child(wanted);
  return found == nullptr ? "" : trimmed(found->text);
}

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(kBlanks) - first + 1));
}

// The forms of RFC 3629: no overlong ones, no surrogates, nothing beyond U+10FFFF.
bool is_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto lead = static_cast<unsigned char>(text[at]);
    std::size_t more = 0;
    unsigned low = 0x80;
    unsigned high = 0xBF;
    if (lead < 0x80) {
      ++at;
      continue;
    }
    if (lead >= 0xC2 && lead <= 0xDF) {
      more = 1;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      more = 2;
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      more = 3;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    } else {
      return false;
    }
    if (text.size() - at <= more) return false;
    for (std::size_t i = 1; i <= more; ++i) {
      const auto next = static_cast<unsigned char>(text[at + i]);
      if (next < low || next > high) return false;
      low = 0x80;
      high = 0xBF;
    }
    at += more + 1;
  }
  return true;
}

Result<Form> form_of(std::string_view content_type, std::string_view body) {
  if (content_type.find("json") != std::string_view::npos) return Form::kJson;
  if (content_type.find("xml") != std::string_view::npos) return Form::kXml;
  const auto first = body.find_first_not_of(kBlanks);
  const char begin = first == std::string_view::npos ? '\0' : body[first];
  if (begin == '<') return Form::kXml;
  if (begin == '{') return Form::kJson;
  return fail(Code::kInvalid, "the body is neither XML nor JSON; say which with a content type");
}

Result<Element> parse_xml(std::string_view body) {
  if (!is_utf8(body) || body.find('\0') != std::string_view::npos)
    return fail(Code::kInvalid, "the XML is not UTF-8 text");
  pugi::xml_document document;
  const unsigned options = pugi::parse_default | pugi::parse_doctype | pugi::parse_ws_pcdata_single;
  const auto parsed = document.load_buffer(body.data(), body.size(), options, pugi::encoding_utf8);
  if (!parsed)
    return fail(Code::kInvalid, fmt::format("the XML is broken at byte {}: {}", parsed.offset, parsed.description()));
  std::size_t roots = 0;
  for (const auto& node : document.children()) {
    if (node.type() == pugi::node_doctype)
      return fail(Code::kInvalid, "the XML declares a document type; send it without");
    roots += node.type() == pugi::node_element ? 1 : 0;
  }
  if (roots != 1) return fail(Code::kInvalid, fmt::format("the XML has {} root elements, not one", roots));
  Element root;
  std::size_t count = 0;
  if (!copy(document.document_element(), 1, count, root)) return tl::unexpected<Error>(too_much());
  return root;
}

Result<Element> parse_json(std::string_view body, std::string_view root) {
  bool deep = false;
  const auto watch = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    deep = deep || depth > static_cast<int>(kDepthMax);
    return !deep;
  };
  const auto value = nlohmann::json::parse(body, watch, false);
  if (deep) return tl::unexpected<Error>(too_much());
  if (value.is_discarded() || !value.is_object())
    return fail(Code::kInvalid, value.is_discarded() ? "the JSON is broken" : "the JSON is not an object");
  std::vector<Element> out;
  std::size_t count = 0;
  if (!copy(value, root, 1, count, out)) return tl::unexpected<Error>(too_much());
  return std::move(out.front());
}

}  // namespace shoal::compss
