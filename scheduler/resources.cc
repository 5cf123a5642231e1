#include "scheduler/resources.h"

#include <algorithm>
#include <charconv>

#include "protocol/base/check.h"

namespace shoal::scheduler {

namespace {

constexpr std::string_view kLabelPrefix = "label.";
constexpr std::string_view kAccepted =
    "accepted are computing_units, memory_size (GB), processor_architecture and label.KEY";

Result<std::uint64_t> whole(const std::string& key, std::string_view text, std::uint64_t max) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > max) {
    return fail(Code::kInvalid, "the constraint " + key + "=\"" + std::string(text) +
                                    "\" is not a whole number from 0 to " + std::to_string(max));
  }
  return value;
}

// GB with up to three decimals, as MB. No floating point: decisions must not depend on rounding modes.
Result<std::uint64_t> gigabytes(const std::string& key, const std::string& text) {
  const auto dot = text.find('.');
  auto integer = whole(key, std::string_view(text).substr(0, dot), 1U << 30);
  if (!integer) return integer;
  std::uint64_t thousandths = 0;
  if (dot != std::string::npos) {
    std::string decimals = text.substr(dot + 1, 3);
    while (decimals.size() < 3) decimals += '0';
    auto fraction = whole(key, decimals, 999);
    if (!fraction) return fraction;
    thousandths = *fraction;
  }
  return *integer * 1024 + thousandths * 1024 / 1000;
}

void append(std::string& to, const std::string& part) {
  if (!to.empty()) to += ", ";
  to += part;
}

}  // namespace

Result<Demand> parse_demand(const std::map<std::string, std::string>& constraints) {
  Demand demand;
  for (const auto& [key, value] : constraints) {
    if (key == "computing_units") {
      auto units = whole(key, value, 1U << 20);
      if (!units) return tl::unexpected<Error>(units.error());
      demand.units = static_cast<std::uint32_t>(*units);
    } else if (key == "memory_size") {
      auto memory = gigabytes(key, value);
      if (!memory) return tl::unexpected<Error>(memory.error());
      demand.memory_mb = *memory;
    } else if (key == "processor_architecture") {
      demand.architecture = value;
    } else if (key.starts_with(kLabelPrefix) && key.size() > kLabelPrefix.size()) {
      demand.labels[key.substr(kLabelPrefix.size())] = value;
    } else {
      return fail(Code::kInvalid, "the constraint \"" + key + "\" is not known here; " + std::string(kAccepted));
    }
  }
  return demand;
}

std::string describe(const Demand& demand) {
  std::string text = "computing_units=" + std::to_string(demand.units);
  if (demand.memory_mb != 0) append(text, "memory_size=" + std::to_string(demand.memory_mb) + " MB");
  if (!demand.architecture.empty()) append(text, "processor_architecture=" + demand.architecture);
  for (const auto& [key, value] : demand.labels) append(text, "label." + key + "=" + value);
  if (!demand.language.empty()) append(text, demand.language + " executors");
  return text;
}

std::string describe(const Resources& resources) {
  std::string text = std::to_string(resources.computing_units) + " units, " + std::to_string(resources.memory_mb) +
                     " MB, " + resources.architecture;
  for (const auto& [key, value] : resources.labels) append(text, "label." + key + "=" + value);
  for (const auto& language : resources.languages) append(text, language);
  return text;
}

std::string describe(const Summary& summary) {
  std::string text = std::to_string(summary.agents) + " agents of up to " + std::to_string(summary.units_max) +
                     " units and " + std::to_string(summary.memory_mb_max) + " MB";
  for (const auto& architecture : summary.architectures) append(text, architecture);
  for (const auto& [key, value] : summary.labels) append(text, "label." + key + "=" + value);
  return text;
}

bool can_meet(const Resources& resources, const Demand& demand) {
  if (resources.computing_units == 0 || demand.units > resources.computing_units) return false;
  if (demand.memory_mb > resources.memory_mb) return false;
  if (!demand.architecture.empty() && demand.architecture != resources.architecture) return false;
  const auto& languages = resources.languages;
  if (!demand.language.empty() && !languages.empty() &&
      std::find(languages.begin(), languages.end(), demand.language) == languages.end()) {
    return false;
  }
  return std::all_of(demand.labels.begin(), demand.labels.end(), [&](const auto& label) {
    auto it = resources.labels.find(label.first);
    return it != resources.labels.end() && it->second == label.second;
  });
}

bool can_meet(const Summary& summary, const Demand& demand) {
  if (summary.units_max == 0 || demand.units > summary.units_max) return false;
  if (demand.memory_mb > summary.memory_mb_max) return false;
  if (!demand.architecture.empty() && !summary.architectures.contains(demand.architecture)) return false;
  return std::all_of(demand.labels.begin(), demand.labels.end(),
                     [&](const auto& label) { return summary.labels.contains({label.first, label.second}); });
}

std::uint64_t charge64(const Demand& demand, std::uint64_t mean_us) {
  const bool brief = mean_us != 0 && mean_us < kShortUs;
  return std::max<std::uint64_t>(brief ? demand.units : demand.units * kUnit64, 1);
}

void Ledger::set_total(std::uint32_t units, std::uint64_t memory_mb) {
  total64_ = units * kUnit64;
  memory_mb_ = memory_mb;
}

bool Ledger::fits(std::uint64_t units64, std::uint64_t memory_mb) const {
  return used64_ + units64 <= total64_ && (memory_mb == 0 || used_memory_mb_ + memory_mb <= memory_mb_);
}

void Ledger::take(std::uint64_t units64, std::uint64_t memory_mb) {
  used64_ += units64;
  used_memory_mb_ += memory_mb;
}

void Ledger::give_back(std::uint64_t units64, std::uint64_t memory_mb) {
  SHOAL_CHECK(used64_ >= units64 && used_memory_mb_ >= memory_mb, "more was given back than was taken");
  used64_ -= units64;
  used_memory_mb_ -= memory_mb;
}

}  // namespace shoal::scheduler
