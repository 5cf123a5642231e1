#include "scheduler/wheel_tag.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

namespace shoal::scheduler {

namespace {

constexpr int kMinorMax = 999;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  for (;;) {
    const auto end = text.find(separator);
    out.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return out;
    text.remove_prefix(end + 1);
  }
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > kMinorMax) return std::nullopt;
  return value;
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// What the Python and ABI parts say; 0: not for this interpreter.
unsigned interpreter_rank(const Platform& platform, std::string_view python, std::string_view abi) {
  const bool generic = take_prefix(python, "py3");
  if (!generic && !take_prefix(python, "cp3")) return 0;
  const std::optional<int> minor = python.empty() ? std::optional<int>(0) : number(python);
  if (!minor) return 0;
  const bool exact = !python.empty() && *minor == platform.minor;
  if (abi == "none") return generic ? (*minor <= platform.minor ? 1U : 0U) : (python.empty() || exact ? 2U : 0U);
  if (generic) return 0;
  if (abi == "abi3") return *minor <= platform.minor && !platform.abi.ends_with('t') ? 3U : 0U;
  return exact && abi == platform.abi ? 4U : 0U;
}

bool libc_is(const Platform& platform, std::string_view libc, int major, int minor) {
  if (platform.libc != libc || platform.libc_major != major) return false;
  return platform.libc_minor >= minor;
}

// The rest of a machine tag after "manylinux_" or "musllinux_": "<major>_<minor>_<architecture>".
bool versioned(const Platform& platform, std::string_view libc, std::string_view rest) {
  const auto first = rest.find('_');
  const auto second = first == std::string_view::npos ? first : rest.find('_', first + 1);
  if (second == std::string_view::npos) return false;
  const auto major = number(rest.substr(0, first));
  const auto minor = number(rest.substr(first + 1, second - first - 1));
  return major && minor && rest.substr(second + 1) == platform.architecture && libc_is(platform, libc, *major, *minor);
}

// What the machine part says; 0: not for this machine.
unsigned machine_rank(const Platform& platform, std::string_view machine) {
  struct Legacy {
    std::string_view prefix;
    int glibc_minor;
  };
  constexpr std::array<Legacy, 3> kLegacy{{{"manylinux1_", 5}, {"manylinux2010_", 12}, {"manylinux2014_", 17}}};
  if (machine == "any") return 1;
  for (const auto& legacy : kLegacy) {
    std::string_view rest = machine;
    if (take_prefix(rest, legacy.prefix))
      return rest == platform.architecture && libc_is(platform, "glibc", 2, legacy.glibc_minor) ? 2U : 0U;
  }
  if (take_prefix(machine, "manylinux_")) return versioned(platform, "glibc", machine) ? 2U : 0U;
  if (take_prefix(machine, "musllinux_")) return versioned(platform, "musl", machine) ? 2U : 0U;
  if (take_prefix(machine, "linux_")) return machine == platform.architecture ? 3U : 0U;
  return 0;
}

}  // namespace

std::optional<Platform> parse_platform(std::string_view text) {
  const auto parts = split(text, '-');
  if (parts.size() != 4) return std::nullopt;
  std::string_view python = parts[0];
  if (!take_prefix(python, "cp3")) return std::nullopt;
  const auto minor = number(python);
  if (!minor || parts[1].empty() || parts[2].empty()) return std::nullopt;
  Platform out{*minor, std::string(parts[1]), std::string(parts[2]), {}, 0, 0};
  const auto libc = split(parts[3], '_');
  if (libc.size() != 2) return out;
  const auto version = split(libc[1], '.');
  const auto major = number(version[0]);
  const auto libc_minor = version.size() > 1 ? number(version[1]) : std::optional<int>(0);
  if (!major || !libc_minor) return out;
  out.libc = std::string(libc[0]);
  out.libc_major = *major;
  out.libc_minor = *libc_minor;
  return out;
}

std::string platform_text(const Platform& platform) {
  std::string libc = "unknown";
  if (!platform.libc.empty())
    libc = platform.libc + "_" + std::to_string(platform.libc_major) + "." + std::to_string(platform.libc_minor);
  return "cp3" + std::to_string(platform.minor) + "-" + platform.abi + "-" + platform.architecture + "-" + libc;
}

unsigned suits(const Platform& platform, std::string_view tag) {
  const auto parts = split(tag, '-');
  if (parts.size() != 3) return 0;
  unsigned interpreter = 0;
  for (const auto python : split(parts[0], '.')) {
    for (const auto abi : split(parts[1], '.'))
      interpreter = std::max(interpreter, interpreter_rank(platform, python, abi));
  }
  unsigned machine = 0;
  for (const auto one : split(parts[2], '.')) machine = std::max(machine, machine_rank(platform, one));
  return interpreter == 0 || machine == 0 ? 0 : interpreter * 4 + machine;
}

}  // namespace shoal::scheduler
