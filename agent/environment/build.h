// agent/environment/build.h
//
// From a bundle to a directory that processes can use. Blocks: for a thread of its own.
#pragma once

#include <optional>
#include <string>

#include "agent/environment/manifest.h"
#include "agent/environment/surroundings.h"
#include "protocol/base/result.h"
#include "scheduler/wheel_tag.h"

namespace shoal::environment {

struct Machine {                                // the agent that builds
  std::string python;                           // its interpreter; empty: none
  std::optional<scheduler::Platform> platform;  // of the interpreter
  std::string architecture;
};

// The id that the file's content has. kUnavailable when it cannot be read, kExhausted beyond kBundleBytesMax.
Result<EnvironmentId> id_of_bundle(const std::string& bundle);

// The manifest in a bundle. kCorrupt when it is none.
Result<Manifest> manifest_of_bundle(const std::string& bundle);

// Whether this machine can use it; kUnsupported with what is missing and what is there.
Result<> check_machine(const Manifest& manifest, const Machine& machine);

// Builds the environment in `target`, which appears in one step once it is whole; `scratch` is a name beside it that
// nobody else uses. The error names the package at fault.
Result<> build(const std::string& bundle, const Manifest& manifest, const Machine& machine, const std::string& target,
               const std::string& scratch);

// How processes use what build() left in `target`.
Surroundings surroundings_of(EnvironmentId id, const Manifest& manifest, const std::string& target,
                             const std::string& architecture);

}  // namespace shoal::environment
