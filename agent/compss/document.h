// agent/compss/document.h
//
// The body of a request as a small tree, whether it came as XML or as JSON. It is what anybody may send, so everything
// is bounded and checked here: depth, number of elements, UTF-8, no document type (so no entities but the five of XML,
// and nothing is ever fetched or expanded). pugixml stays behind this header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/result.h"

namespace shoal::compss {

enum class Form : std::uint8_t { kXml, kJson };

constexpr std::size_t kDepthMax = 32;
constexpr std::size_t kElementsMax = 10'000;

struct Element {
  std::string name;  // without a namespace prefix; of an item of a JSON array the name of the array
  std::string text;  // as it was written, blanks included
  std::map<std::string, std::string> attributes;  // XML only; without prefixes
  std::vector<Element> children;

  // The first child of that name; nullptr when there is none.
  const Element* child(std::string_view wanted) const;
  // The child's text without blanks around it; empty when there is none.
  std::string text_of(std::string_view wanted) const;
};

// What the body is written in, by its content type or, when that says neither (curl's default does not), by how it
// begins. kInvalid for anything else.
Result<Form> form_of(std::string_view content_type, std::string_view body);

// The root element. kInvalid with the reason for everything that is not well-formed or too much.
Result<Element> parse_xml(std::string_view body);
// An object becomes an element named `root`: its members are the children, an array's items are children of one name.
Result<Element> parse_json(std::string_view body, std::string_view root);

bool is_utf8(std::string_view text);
std::string trimmed(std::string_view text);

}  // namespace shoal::compss
