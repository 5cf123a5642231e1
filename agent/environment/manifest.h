// agent/environment/manifest.h
//
// What a bundle holds, as its file "manifest" says, and what that asks of an agent. A bundle is a tar archive
// (agent/packing) with a fixed order and without owners and times:
//
//   manifest                  this, encoded
//   wheels/NAME.whl           of any Python and machine: each agent installs those that suit it
//   modules/NAME              packages, modules and extension modules as they are
//   lib/ARCHITECTURE/NAME     shared objects
//
// Its id is the beginning of the SHA-256 of all of it, so whoever has the id can check what it was sent.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/wire/bytes.h"
#include "scheduler/requirement.h"

namespace shoal::environment {

constexpr std::uint64_t kBundleBytesMax = 2ULL << 30;
constexpr std::uint64_t kBuiltBytesMax = 8ULL << 30;
constexpr std::uint64_t kBundleEntriesMax = 200'000;
constexpr std::size_t kManifestBytesMax = 4U << 20;
constexpr std::size_t kItemsMax = 10'000;  // of any list in a manifest

struct Manifest {
  std::uint32_t version = 1;  // of this format; a reader refuses a newer one
  std::string name;           // for people
  std::string python;         // "3.11"; empty: any
  std::vector<std::string> wheels;
  std::vector<std::string> modules;
  std::map<std::string, std::vector<std::string>> builds;  // of extension modules: what each is built for (wheel_tag.h)
  std::map<std::string, std::vector<std::string>> libraries;  // by architecture
  std::map<std::string, std::string> variables;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.name, self.python, self.wheels, self.modules, self.builds, self.libraries, self.variables);
  }
};

// kCorrupt when it is no manifest, or names something outside of its bundle; kUnsupported for a newer format.
Result<Manifest> parse_manifest(std::string_view bytes);
Result<> check_manifest(const Manifest& manifest);

// What an agent must be to build and use it. The manifest has been checked.
std::vector<scheduler::Requirement> requirements_of(const Manifest& manifest);

// What the machine of an extension module or shared object of this name and first bytes is: "cp311-cp311-linux_x86_64".
// kInvalid when it is no ELF file.
Result<std::string> build_of(std::string_view file_name, std::string_view first_bytes);
constexpr std::size_t kElfHeaderBytes = 20;  // that build_of() needs

// A name that is one component of a path, and not hidden.
bool is_plain(std::string_view name);

}  // namespace shoal::environment
