#include "scheduler/resources.h"

#include <algorithm>

#include "protocol/base/check.h"
#include "scheduler/wheel_tag.h"

namespace shoal::scheduler {

namespace {

constexpr std::string_view kAccepted =
    "accepted are computing_units, memory_size (GB), memory_type, processor_architecture, processor_name, "
    "processor_speed (GHz), processor_type (CPU), processor_internal_memory_size (GB), processor_property_name with "
    "processor_property_value, storage_size (GB), storage_type, storage_bandwidth, operating_system_type, "
    "operating_system_distribution, operating_system_version, python_version, app_software, host_queues, "
    "wall_clock_limit, is_local "
    "and "
    "label.KEY";

Result<std::uint32_t> read_units(const std::string& value) {
  constexpr std::uint64_t kMax = 1U << 20;
  const auto units = thousandths(value);
  if (!units || *units % 1000 != 0 || value.find('.') != std::string::npos || *units / 1000 > kMax) {
    return fail(Code::kInvalid, "the constraint computing_units=\"" + value + "\" is not a whole number from 0 to " +
                                    std::to_string(kMax));
  }
  return static_cast<std::uint32_t>(*units / 1000);
}

Result<std::uint64_t> read_memory_mb(const std::string& gigabytes) {
  const auto size = thousandths(gigabytes);
  if (!size) return fail(Code::kInvalid, "the constraint memory_size=\"" + gigabytes + "\" is not a number of GB");
  return *size * 1024 / 1000;
}

// Programs name architectures as Debian and COMPSs do, agents as uname does.
std::string architecture_of(const std::string& name) {
  if (name == "amd64") return "x86_64";
  return name == "arm64" ? "aarch64" : name;
}

// What agents find out themselves, and summaries leave out because it is different on every one.
bool is_fact(const std::string& key) {
  return key.starts_with("operating_system_") || key == "processor_name" || key == "processor_speed" ||
         key == "processor_architecture" || key == "storage_size" || key == "python_version" || key == kPlatformFact;
}

bool meets(const Resources& resources, const Requirement& requirement) {
  const std::string key(label_of(requirement));
  auto label = resources.labels.find(key);
  if (label != resources.labels.end()) return meets(label->second, requirement);
  auto fact = resources.facts.find(key);
  return fact != resources.facts.end() ? meets(fact->second, requirement) : met_without_label(requirement);
}

bool meets(const Summary& summary, const Requirement& requirement) {
  if (is_fact(std::string(label_of(requirement))) || met_without_label(requirement) ||
      summary.labels.size() >= kSummaryLabelsMax)
    return true;
  return std::any_of(summary.labels.begin(), summary.labels.end(), [&](const auto& label) {
    return label.first == requirement.key && meets(label.second, requirement);
  });
}

void append(std::string& to, const std::string& part) {
  if (!to.empty()) to += ", ";
  to += part;
}

}  // namespace

Result<Demand> parse_demand(const std::map<std::string, std::string>& constraints) {
  Demand demand;
  std::string property;
  std::string property_value;
  for (const auto& [key, value] : constraints) {
    if (key == "computing_units") {
      auto units = read_units(value);
      if (!units) return tl::unexpected<Error>(units.error());
      demand.units = *units;
    } else if (key == "memory_size") {
      auto memory = read_memory_mb(value);
      if (!memory) return tl::unexpected<Error>(memory.error());
      demand.memory_mb = *memory;
    } else if (key == "processor_architecture") {
      demand.architecture = architecture_of(value);
    } else if (key == "is_local") {
      if (value != "true" && value != "false")
        return fail(Code::kInvalid, "the constraint is_local=\"" + value + "\" is neither true nor false");
      demand.local = value == "true";
    } else if (key == "processor_property_name") {
      property = value;
    } else if (key == "processor_property_value") {
      property_value = value;
    } else {
      auto requirement = parse_requirement(key, value);
      if (!requirement) return tl::unexpected<Error>(requirement.error());
      if (!*requirement) {
        return fail(Code::kInvalid, "the constraint \"" + key + "\" is not known here; " + std::string(kAccepted));
      }
      demand.requirements.push_back(std::move(**requirement));
    }
  }
  if (property.empty() != property_value.empty()) {
    return fail(Code::kInvalid,
                "the constraints processor_property_name and processor_property_value only have a meaning together");
  }
  if (!property.empty()) demand.requirements.push_back({Requirement::Match::kEqual, property, property_value});
  return demand;
}

std::string describe(const Demand& demand) {
  std::string text = "computing_units=" + std::to_string(demand.units);
  if (demand.memory_mb != 0) append(text, "memory_size=" + std::to_string(demand.memory_mb) + " MB");
  if (!demand.architecture.empty()) append(text, "processor_architecture=" + demand.architecture);
  for (const auto& requirement : demand.requirements) append(text, describe(requirement));
  if (demand.local) append(text, "is_local=true");
  if (!demand.language.empty()) append(text, demand.language + " executors");
  return text;
}

std::string describe(const Resources& resources) {
  std::string text = std::to_string(resources.computing_units) + " units, " + std::to_string(resources.memory_mb) +
                     " MB, " + resources.architecture;
  for (const auto& [key, value] : resources.labels) append(text, "label." + key + "=" + value);
  for (const auto& language : resources.languages) append(text, language);
  if (auto platform = resources.facts.find(std::string(kPlatformFact)); platform != resources.facts.end())
    text += " (" + platform->second + ")";
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
  return std::all_of(demand.requirements.begin(), demand.requirements.end(),
                     [&](const Requirement& requirement) { return meets(resources, requirement); });
}

bool can_meet(const Summary& summary, const Demand& demand) {
  if (summary.units_max == 0 || demand.units > summary.units_max) return false;
  if (demand.memory_mb > summary.memory_mb_max) return false;
  if (!demand.architecture.empty() && !summary.architectures.contains(demand.architecture)) return false;
  return std::all_of(demand.requirements.begin(), demand.requirements.end(),
                     [&](const Requirement& requirement) { return meets(summary, requirement); });
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
