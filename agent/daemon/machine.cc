#include "agent/daemon/machine.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <optional>

#include "agent/daemon/python_path.h"

namespace shoal::daemon {
namespace {

std::uint32_t usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<std::uint32_t>(std::max(1, CPU_COUNT(&set)));
}

std::uint64_t machine_memory_mb() {
  const auto pages = ::sysconf(_SC_PHYS_PAGES);
  const auto page = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page) >> 20 : 0;
}

// The value of the first line "KEY<separator>VALUE" of a file, without blanks and quotes around it.
std::optional<std::string> value_in(const char* path, std::string_view key, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto at = line.find(separator);
    if (at == std::string::npos) continue;
    const auto trimmed = [](std::string_view text) {
      const auto begin = text.find_first_not_of(" \t\"");
      const auto end = text.find_last_not_of(" \t\"");
      return begin == std::string_view::npos ? std::string_view() : text.substr(begin, end - begin + 1);
    };
    if (trimmed(std::string_view(line).substr(0, at)) == key)
      return std::string(trimmed(std::string_view(line).substr(at + 1)));
  }
  return std::nullopt;
}

std::map<std::string, std::string> facts_of(const utsname& machine, const std::string& home) {
  std::map<std::string, std::string> out{{"operating_system_type", machine.sysname}};
  const auto note = [&out](const char* key, const std::optional<std::string>& value) {
    if (value && !value->empty()) out[key] = *value;
  };
  note("operating_system_distribution", value_in("/etc/os-release", "ID", '='));
  note("operating_system_version", value_in("/etc/os-release", "VERSION_ID", '='));
  note("processor_name", value_in("/proc/cpuinfo", "model name", ':'));
  if (const auto mhz = value_in("/proc/cpuinfo", "cpu MHz", ':')) {
    char* end = nullptr;
    const double value = std::strtod(mhz->c_str(), &end);
    if (end != mhz->c_str() && value > 0) out["processor_speed"] = fmt::format("{:.3f}", value / 1000);
  }
  struct statvfs disk = {};
  if (::statvfs(home.c_str(), &disk) == 0)
    out["storage_size"] = fmt::format("{}", (std::uint64_t{disk.f_bavail} * disk.f_frsize) >> 30);
  return out;
}

}  // namespace

std::string host_name() {
  char host[256] = {};
  ::gethostname(host, sizeof(host) - 1);
  return host;
}

std::optional<scheduler::Platform> python_platform(const std::string& python) {
  const auto version = python_version_of(python);
  utsname machine{};
  if (!version || ::uname(&machine) != 0) return std::nullopt;
  scheduler::Platform out;
  out.minor = version->minor;
  out.abi = "cp3" + std::to_string(version->minor) + version->flags;
  out.architecture = machine.machine;
  char libc[64] = {};  // "glibc 2.36"; other libraries do not know the question
  if (::confstr(_CS_GNU_LIBC_VERSION, libc, sizeof(libc)) > 0 &&
      std::sscanf(libc, "glibc %d.%d", &out.libc_major, &out.libc_minor) == 2)
    out.libc = "glibc";
  return out;
}

scheduler::Resources resources_of(const settings::Settings& settings, const std::string& python) {
  scheduler::Resources out;
  const std::int64_t units = settings.integer("computing_units");
  out.computing_units = units < 0 ? usable_cores() : static_cast<std::uint32_t>(units);
  const std::int64_t memory = settings.integer("memory_mb");
  out.memory_mb = memory < 0 ? machine_memory_mb() : static_cast<std::uint64_t>(memory);
  utsname machine{};
  if (::uname(&machine) == 0) {
    out.architecture = machine.machine;
    out.facts = facts_of(machine, settings.text("home"));
    out.facts["processor_architecture"] = machine.machine;
  }
  out.labels = settings.labels();
  out.languages = {"command", "c++"};
  if (python.empty()) return out;
  out.languages.emplace_back("python");
  if (const auto platform = python_platform(python)) {
    out.facts["python_version"] = fmt::format("3.{}", platform->minor);
    out.facts[std::string(scheduler::kPlatformFact)] = scheduler::platform_text(*platform);
  }
  return out;
}

}  // namespace shoal::daemon
