// agent/gateway/exposition.h
//
// Writes metrics in the Prometheus text format 0.0.4: families with help and type, samples with escaped labels. A
// family's samples must follow it directly, as the format asks.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace shoal::gateway {

enum class MetricType : std::uint8_t { kCounter, kGauge };  // counters only grow, and their names end in _total

class Exposition {
 public:
  using Label = std::pair<std::string_view, std::string_view>;

  // Begins a family; the samples that follow are its.
  Exposition& family(std::string_view name, MetricType type, std::string_view help);
  Exposition& sample(double value, std::initializer_list<Label> labels = {});
  Exposition& sample(std::uint64_t value, std::initializer_list<Label> labels = {});
  // A family of one sample without labels.
  void counter(std::string_view name, std::string_view help, std::uint64_t value);
  void gauge(std::string_view name, std::string_view help, std::uint64_t value);

  const std::string& text() const { return text_; }

 private:
  void begin_sample(std::initializer_list<Label> labels);

  std::string family_;
  std::string text_;
};

}  // namespace shoal::gateway
