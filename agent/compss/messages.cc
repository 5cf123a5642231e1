#include "agent/compss/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <pugixml.hpp>
#include <sstream>
#include <utility>

namespace shoal::compss {
namespace {

constexpr std::size_t kNameBytesMax = 1024;
constexpr std::size_t kForwardsMax = 64;

bool is_identifier(std::string_view word) {
  const auto fits = [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x80 || std::isalnum(byte) != 0 || c == '_';
  };
  return !word.empty() && std::isdigit(static_cast<unsigned char>(word.front())) == 0 &&
         std::all_of(word.begin(), word.end(), fits);
}

bool is_module(std::string_view name) {
  while (true) {
    const auto dot = std::min(name.find('.'), name.size());
    if (!is_identifier(name.substr(0, dot))) return false;
    if (dot == name.size()) return true;
    name.remove_prefix(dot + 1);
  }
}

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

Result<Element> root_of(const Body& body, Form form, std::string_view name) {
  if (form == Form::kJson) return parse_json(body.text, name);
  auto root = parse_xml(body.text);
  if (root && !name.empty() && root->name != name)
    return fail(Code::kInvalid, fmt::format("the root element is <{}>, not <{}>", root->name, name));
  return root;
}

Result<Element> root_of(const Body& body, std::string_view name) {
  auto form = form_of(body.content_type, body.text);
  if (!form) return tl::unexpected<Error>(form.error());
  return root_of(body, *form, name);
}

Result<Language> language_of(const Element& root) {
  const std::string said = upper(root.text_of("lang"));
  if (said == "PYTHON") return Language::kPython;
  if (said == "C") return Language::kNative;
  if (said == "JAVA" || said.empty()) {
    return fail(Code::kInvalid,
                fmt::format("{}: Shoal runs Python programs (lang PYTHON) and native ones (lang C)",
                            said.empty() ? "no lang means JAVA to COMPSs" : "lang JAVA cannot be run here"));
  }
  return fail(Code::kInvalid, fmt::format("there is no language \"{}\"; lang is PYTHON or C", said));
}

Result<> read_program(const Element& root, StartApplication& out) {
  out.program = root.text_of("className");
  out.function = root.text_of("methodName");
  if (out.program.empty()) return fail(Code::kInvalid, "no className says what to run");
  if (std::max(out.program.size(), out.function.size()) > kNameBytesMax)
    return fail(Code::kInvalid, "className or methodName is too long");
  if (out.language == Language::kNative) {
    if (out.program.front() == '/') return {};
    return fail(Code::kInvalid, "className of a native program is its absolute path");
  }
  const bool file = out.program.front() == '/' && out.program.ends_with(".py");
  if (!file && !is_module(out.program)) {
    return fail(Code::kInvalid, fmt::format("className \"{}\" is neither a module (such as package.module) nor the "
                                            "absolute path of a .py file",
                                            out.program));
  }
  if (out.function.empty()) out.function = "main";
  if (!is_identifier(out.function))
    return fail(Code::kInvalid, fmt::format("methodName \"{}\" is no name of a function", out.function));
  return {};
}

Result<> refuse_unknown(const Element& root) {
  const Element* target = root.child("target");
  if (target != nullptr && !target->children.empty())
    return fail(Code::kUnsupported, "methods of an object (target) cannot be called; call a function of the module");
  for (const char* name : {"prolog", "epilog"}) {
    const Element* around = root.child(name);
    if (around != nullptr && !around->text_of("binary").empty()) {
      return fail(Code::kUnsupported, fmt::format("a {0} cannot be sent with the application; write @{0} above the "
                                                  "function",
                                                  name));
    }
  }
  return {};
}

Result<> read_actions(const Element& root, StartApplication& out) {
  if (const Element* orchestrator = root.child("orchestrator")) {
    std::string host = orchestrator->text_of("host");
    if (host.empty()) host = orchestrator->text_of("address");
    const std::string said = upper(orchestrator->text_of("method"));
    const std::string method = said.empty() ? "PUT" : said;
    auto url = http_url(host, orchestrator->text_of("operation"));
    if (!url) {
      return fail(Code::kInvalid, fmt::format("orchestrator: \"{}\" is not the address of an HTTP server, such as "
                                              "http://host:46101",
                                              host));
    }
    if (method != "PUT" && method != "POST")
      return fail(Code::kInvalid, fmt::format("orchestrator: the end is told by PUT or POST, not {}", method));
    out.orchestrator = CallBack{method, std::move(*url)};
  }
  const Element* action = root.child("action");
  if (action == nullptr) return {};
  if (action->text_of("actionName") != "stop") {
    return fail(Code::kInvalid,
                fmt::format("there is no action \"{}\"; it is \"stop\"", action->text_of("actionName")));
  }
  out.stop = true;
  const Element* forward = action->child("forwardTo");
  if (forward == nullptr) return {};
  // In JSON forwardTo may be the list itself.
  const bool plain = forward->children.empty();
  for (const auto& agent : plain ? action->children : forward->children) {
    if (plain && agent.name != "forwardTo") continue;
    auto url = http_url(trimmed(agent.text), "");
    if (!url || out.forward_to.size() >= kForwardsMax) {
      return fail(Code::kInvalid,
                  fmt::format("forwardTo: \"{}\" is not the address of an agent, such as http://host:46101, or there "
                              "are more than {}",
                              trimmed(agent.text), kForwardsMax));
    }
    out.forward_to.push_back(std::move(*url));
  }
  return {};
}

// CPUs of a resource description; nothing when it names none.
Result<std::optional<std::uint32_t>> units_of(const Element& description) {
  const Element* processors = description.child("processors");
  if (processors == nullptr) return std::optional<std::uint32_t>();
  // A list wrapped in one element, or (older messages, JSON) the items themselves.
  const bool wrapped = processors->child("processor") != nullptr;
  std::uint64_t total = 0;
  bool any = false;
  for (const auto& item : wrapped ? processors->children : description.children) {
    if (item.name != (wrapped ? "processor" : "processors")) continue;
    const std::string type = upper(item.text_of("type"));
    if (!type.empty() && type != "CPU") continue;
    const std::string text = item.text_of("computingUnits");
    if (text.empty()) continue;
    std::uint32_t units = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), units);
    if (error != std::errc() || end != text.data() + text.size() || units > 100'000)
      return fail(Code::kInvalid, fmt::format("computingUnits is a whole number up to 100000, not \"{}\"", text));
    total += units;
    any = true;
  }
  if (!any) return std::optional<std::uint32_t>();
  return std::optional<std::uint32_t>(static_cast<std::uint32_t>(std::min<std::uint64_t>(total, 1'000'000)));
}

Result<NodeRequest> named(std::string name, const char* where) {
  if (name.empty()) return fail(Code::kInvalid, fmt::format("no {} says which agent is meant", where));
  if (name.size() > kNameBytesMax) return fail(Code::kInvalid, fmt::format("the {} is too long", where));
  return NodeRequest{std::move(name), {}, {}};
}

// The adaptor's properties: <resourceConf><Property><Name>Port</Name><Value>46102</Value></Property></resourceConf>.
std::string port_of(const Element& resource) {
  for (const char* conf : {"resourceConf", "projectConf"}) {
    const Element* properties = resource.child(conf);
    if (properties == nullptr) continue;
    for (const auto& property : properties->children) {
      if (property.name == "Port") return trimmed(property.text);
      if (upper(property.text_of("Name")) == "PORT") return property.text_of("Value");
    }
  }
  return "";
}

}  // namespace

std::optional<std::string> http_url(std::string_view address, std::string_view operation) {
  std::string url(address);
  if (url.find("://") == std::string::npos) url = "http://" + url;
  constexpr std::string_view kScheme = "http://";
  const bool plain = std::all_of(url.begin(), url.end(), [](unsigned char c) { return c > 0x20 && c < 0x7F; });
  if (!url.starts_with(kScheme) || url.size() > kNameBytesMax || !plain) return std::nullopt;
  const auto host_end = std::min(url.find_first_of("/?#", kScheme.size()), url.size());
  if (host_end == kScheme.size() || url.find('@') < host_end) return std::nullopt;
  if (operation.empty()) return url;
  const bool fits =
      operation.size() <= kNameBytesMax &&
      std::all_of(operation.begin(), operation.end(), [](unsigned char c) { return c > 0x20 && c < 0x7F; });
  if (!fits) return std::nullopt;
  while (url.ends_with('/')) url.pop_back();
  return url + (operation.front() == '/' ? "" : "/") + std::string(operation);
}

Result<StartApplication> read_start(const Body& body) {
  auto form = form_of(body.content_type, body.text);
  if (!form) return tl::unexpected<Error>(form.error());
  auto root = root_of(body, *form, "startApplication");
  if (!root) return tl::unexpected<Error>(root.error());
  StartApplication out;
  auto language = language_of(*root);
  if (!language) return tl::unexpected<Error>(language.error());
  out.language = *language;
  for (const auto& read : {read_program(*root, out), refuse_unknown(*root), read_actions(*root, out)}) {
    if (!read) return tl::unexpected<Error>(read.error());
  }
  out.has_result = root->text_of("hasResult") == "true";
  static const Element kNone;
  const Element* parameters = root->child("parameters");
  auto arguments = *form == Form::kJson ? read_json_parameters(body.text)
                                        : read_parameters(parameters == nullptr ? kNone : *parameters,
                                                          out.language == Language::kPython);
  if (!arguments) return tl::unexpected<Error>(arguments.error());
  out.arguments = std::move(*arguments);
  return out;
}

Result<NodeRequest> read_new_resource(const Body& body) {
  auto root = root_of(body, "newResource");
  if (!root) return tl::unexpected<Error>(root.error());
  const Element* resource = root->child("externalResource");
  if (resource == nullptr) resource = root->child("nioResource");
  if (resource == nullptr) resource = &*root;  // JSON may say it directly
  auto out = named(resource->text_of("name"), "name");
  if (!out) return out;
  out->port = port_of(*resource);
  if (out->port.empty()) out->port = resource->text_of("port");
  if (const Element* description = resource->child("description")) {
    auto units = units_of(*description);
    if (!units) return tl::unexpected<Error>(units.error());
    out->units = *units;
  }
  return out;
}

Result<NodeRequest> read_reduce_node(const Body& body) {
  auto root = root_of(body, "reduceNode");
  if (!root) return tl::unexpected<Error>(root.error());
  auto out = named(root->text_of("workerName"), "workerName");
  if (!out) return out;
  if (const Element* resources = root->child("resources")) {
    auto units = units_of(*resources);
    if (!units) return tl::unexpected<Error>(units.error());
    out->units = *units;
  }
  return out;
}

Result<NodeRequest> read_worker(const Body& body) {
  auto root = root_of(body, "");
  if (!root) return tl::unexpected<Error>(root.error());
  return named(root->text_of("workerName"), "workerName");
}

Result<EndApplication> read_end(const Body& body) {
  auto root = root_of(body, "endApplication");
  if (!root) return tl::unexpected<Error>(root.error());
  EndApplication out;
  out.job = root->text_of("jobId");
  out.status = root->text_of("endStatus");
  if (out.job.empty() || out.job.size() > kNameBytesMax) return fail(Code::kInvalid, "no jobId says what has ended");
  const bool word = is_identifier(out.status) && out.status.size() <= kNameBytesMax;
  if (!word) return fail(Code::kInvalid, "endStatus is a word such as OK or EXECUTION_FAILED");
  for (const auto& result : root->children) {
    if (result.name != "results") continue;
    for (const auto& place : result.children) {
      if (place.name == "locations") out.locations.push_back(trimmed(place.text));
    }
  }
  return out;
}

std::string write_end(const EndApplication& end) {
  pugi::xml_document document;
  auto declaration = document.append_child(pugi::node_declaration);
  declaration.append_attribute("version") = "1.0";
  declaration.append_attribute("encoding") = "UTF-8";
  declaration.append_attribute("standalone") = "yes";
  auto root = document.append_child("endApplication");
  const auto put = [](pugi::xml_node below, const char* name, const std::string& text) {
    below.append_child(name).append_child(pugi::node_pcdata).set_value(text.c_str());
  };
  put(root, "endStatus", end.status);
  put(root, "jobId", end.job);
  auto profile = root.append_child("profile");
  for (const auto& [name, value] : end.profile) put(profile, name.c_str(), std::to_string(value));
  for (const auto& location : end.locations) put(root.append_child("results"), "locations", location);
  std::ostringstream out;
  document.save(out, "", pugi::format_raw, pugi::encoding_utf8);
  return out.str();
}

}  // namespace shoal::compss
