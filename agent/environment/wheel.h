// agent/environment/wheel.h
//
// Wheels: what their file names say (PEP 427), which of several a machine uses, and unpacking one as an installer does.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/result.h"
#include "scheduler/wheel_tag.h"

namespace shoal::environment {

struct WheelName {
  std::string file;
  std::string distribution;  // normalised (PEP 503): "my-package"
  std::string version;
  std::string tag;  // "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"
};

// kInvalid when it is not the name of a wheel's file.
Result<WheelName> parse_wheel_name(std::string_view file);

// The wheels among `files` by distribution. kInvalid for a name that is none, and for two versions of a distribution.
Result<std::map<std::string, std::vector<WheelName>>> by_distribution(const std::vector<std::string>& files);

// Of every distribution the wheel that suits the platform best. kUnsupported names the first that has none, and what
// it is built for.
Result<std::vector<WheelName>> choose_wheels(const std::vector<std::string>& files,
                                             const scheduler::Platform& platform);

struct InstallPlaces {
  std::string site;     // importable
  std::string scripts;  // of the wheel's data; its interpreter lines become `python`
  std::string python;
};

// Unpacks the wheel at `path` into `site`; what lies under "<name>.data" goes where it belongs. `bytes_left` is what
// may be written and is reduced by it. kCorrupt when it is no wheel. Blocks.
Result<> install_wheel(const std::string& path, const InstallPlaces& places, std::uint64_t& bytes_left);

}  // namespace shoal::environment
