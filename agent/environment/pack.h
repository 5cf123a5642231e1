// agent/environment/pack.h
//
// From a description to a bundle, where the application is submitted: packages are resolved and brought here by pip
// with the user's index, once, so that agents need no network. Blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "agent/environment/description.h"
#include "agent/environment/manifest.h"

namespace shoal::environment {

struct PackOptions {
  std::string python;        // interpreter for pip; empty: none, then a description that needs pip is refused
  bool python_suits = true;  // it has the version that the description asks for: wheels may also be made here
  std::string scratch;       // an empty directory that the caller removes
  std::function<void(const std::string& line)> progress;  // what is being done, for people
};

struct Bundle {
  EnvironmentId id;
  std::string path;  // in `scratch`
  std::uint64_t bytes = 0;
  Manifest manifest;
};

// kInvalid for what cannot be packed as it is described; kFailed with pip's last lines.
Result<Bundle> pack(const Description& description, const PackOptions& options);

}  // namespace shoal::environment
