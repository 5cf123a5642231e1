#include "agent/gateway/exposition.h"

#include <fmt/format.h>

namespace shoal::gateway {
namespace {

void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
}

}  // namespace

Exposition& Exposition::family(std::string_view name, MetricType type, std::string_view help) {
  family_ = name;
  text_ += fmt::format("# HELP {} ", name);
  append_escaped(text_, help, false);
  text_ += fmt::format("\n# TYPE {} {}\n", name, type == MetricType::kCounter ? "counter" : "gauge");
  return *this;
}

void Exposition::begin_sample(std::initializer_list<Label> labels) {
  text_ += family_;
  if (labels.size() == 0) return;
  char separator = '{';
  for (const auto& [name, value] : labels) {
    text_ += separator;
    text_ += name;
    text_ += "=\"";
    append_escaped(text_, value, true);
    text_ += '"';
    separator = ',';
  }
  text_ += '}';
}

Exposition& Exposition::sample(double value, std::initializer_list<Label> labels) {
  begin_sample(labels);
  text_ += fmt::format(" {}\n", value);
  return *this;
}

Exposition& Exposition::sample(std::uint64_t value, std::initializer_list<Label> labels) {
  begin_sample(labels);
  text_ += fmt::format(" {}\n", value);
  return *this;
}

void Exposition::counter(std::string_view name, std::string_view help, std::uint64_t value) {
  family(name, MetricType::kCounter, help).sample(value);
}

void Exposition::gauge(std::string_view name, std::string_view help, std::uint64_t value) {
  family(name, MetricType::kGauge, help).sample(value);
}

}  // namespace shoal::gateway
