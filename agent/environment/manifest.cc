#include "agent/environment/manifest.h"

#include <fmt/format.h>

#include <algorithm>

#include "agent/environment/wheel.h"
#include "protocol/wire/codec.h"

namespace shoal::environment {

namespace {

constexpr std::uint32_t kFormat = 1;
constexpr std::size_t kNameBytesMax = 255;
constexpr std::size_t kVariableBytesMax = 64U << 10;

bool is_tag_text(std::string_view text) {
  return !text.empty() && text.size() <= kNameBytesMax && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '-';
  });
}

bool is_version(std::string_view text) {
  return text.starts_with("3.") && text.size() > 2 && text.size() <= 5 &&
         text.find_first_not_of("0123456789", 2) == std::string_view::npos;
}

bool is_variable(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ","));
}

// ELF's names for machines, as uname has them.
std::string_view machine_name(unsigned number) {
  switch (number) {
    case 0x03:
      return "i686";
    case 0x15:
      return "ppc64le";
    case 0x16:
      return "s390x";
    case 0x28:
      return "armv7l";
    case 0x3e:
      return "x86_64";
    case 0xb7:
      return "aarch64";
    case 0xf3:
      return "riscv64";
    default:
      return "unknown";
  }
}

}  // namespace

bool is_plain(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax && name.front() != '.' &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

Result<Manifest> parse_manifest(std::string_view bytes) {
  auto manifest = wire::decode<Manifest>(bytes);
  if (!manifest) return fail(Code::kCorrupt, "the bundle's manifest cannot be read: " + manifest.error().message);
  if (auto fine = check_manifest(*manifest); !fine) return tl::unexpected<Error>(fine.error());
  return manifest;
}

Result<> check_manifest(const Manifest& manifest) {
  if (manifest.version > kFormat) {
    return fail(Code::kUnsupported, fmt::format("the bundle has format {}, and this agent reads {}; upgrade it",
                                                manifest.version, kFormat));
  }
  const auto refuse = [](std::string_view what) {
    return fail(Code::kCorrupt, fmt::format("the bundle's manifest has {}", what));
  };
  if (!manifest.python.empty() && !is_version(manifest.python)) return refuse("no version of Python such as 3.11");
  for (const std::size_t count : {manifest.wheels.size(), manifest.modules.size(), manifest.builds.size(),
                                  manifest.libraries.size(), manifest.variables.size()}) {
    if (count > kItemsMax) return refuse(fmt::format("a list of more than {} items", kItemsMax));
  }
  if (auto wheels = by_distribution(manifest.wheels); !wheels) return refuse("a bad wheel: " + wheels.error().message);
  if (!std::all_of(manifest.modules.begin(), manifest.modules.end(), is_plain)) return refuse("a bad name of a module");
  for (const auto& [name, tags] : manifest.builds) {
    if (!is_plain(name) || tags.empty() || tags.size() > kItemsMax ||
        !std::all_of(tags.begin(), tags.end(), is_tag_text))
      return refuse("a bad description of an extension module");
  }
  for (const auto& [architecture, files] : manifest.libraries) {
    if (!is_plain(architecture) || !is_tag_text(architecture) || files.size() > kItemsMax ||
        !std::all_of(files.begin(), files.end(), is_plain))
      return refuse("a bad name of a library or architecture");
  }
  for (const auto& [name, value] : manifest.variables) {
    if (!is_variable(name) || value.size() > kVariableBytesMax || value.find('\0') != std::string::npos)
      return refuse("a bad variable");
  }
  return {};
}

std::vector<scheduler::Requirement> requirements_of(const Manifest& manifest) {
  using Match = scheduler::Requirement::Match;
  std::vector<scheduler::Requirement> out;
  if (!manifest.python.empty()) out.push_back({Match::kEqual, "python_version", manifest.python});
  if (auto grouped = by_distribution(manifest.wheels)) {
    for (const auto& [distribution, wheels] : *grouped) {
      std::vector<std::string> tags;
      for (const auto& wheel : wheels) tags.push_back(wheel.tag);
      const bool anywhere = std::any_of(tags.begin(), tags.end(), [](const std::string& tag) {
        return tag == "py3-none-any" || tag == "py2.py3-none-any";
      });
      if (!anywhere) out.push_back({Match::kBuild, distribution, joined(tags)});
    }
  }
  for (const auto& [name, tags] : manifest.builds) out.push_back({Match::kBuild, name, joined(tags)});
  if (!manifest.libraries.empty()) {
    std::vector<std::string> architectures;
    architectures.reserve(manifest.libraries.size());
    for (const auto& [architecture, files] : manifest.libraries) architectures.push_back(architecture);
    out.push_back({Match::kAnyOf, "processor_architecture", joined(architectures)});
  }
  return out;
}

Result<std::string> build_of(std::string_view file_name, std::string_view first_bytes) {
  if (first_bytes.size() < kElfHeaderBytes || !first_bytes.starts_with("\x7f"
                                                                       "ELF"))
    return fail(Code::kInvalid, fmt::format("{} is not a shared object (ELF)", file_name));
  const bool big = first_bytes[5] == 2;
  const auto low = static_cast<unsigned char>(first_bytes[big ? 19 : 18]);
  const auto high = static_cast<unsigned char>(first_bytes[big ? 18 : 19]);
  const std::string_view machine = machine_name(low | static_cast<unsigned>(high) << 8);
  // "name.cpython-311-x86_64-linux-gnu.so", "name.abi3.so", "name.so"
  constexpr std::string_view kTagged = ".cpython-3";
  if (const auto at = file_name.find(kTagged); at != std::string_view::npos) {
    std::string_view version = file_name.substr(at + kTagged.size());
    version = version.substr(0, version.find_first_of("-."));
    const std::string_view minor = version.substr(0, version.find_first_not_of("0123456789"));
    return fmt::format("cp3{}-cp3{}-linux_{}", minor, version, machine);
  }
  if (file_name.ends_with(".abi3.so")) return fmt::format("cp32-abi3-linux_{}", machine);
  return fmt::format("py3-none-linux_{}", machine);
}

}  // namespace shoal::environment
