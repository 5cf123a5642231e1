// agent/environment/pip.h
//
// Runs pip for pack().
#pragma once

#include <string>

#include "agent/environment/pack.h"
#include "protocol/base/result.h"

namespace shoal::environment {

// Puts wheels of everything that the description requires into `directory`, with what that depends on. Blocks.
Result<> collect_wheels(const Description& description, const PackOptions& options, const std::string& directory);

}  // namespace shoal::environment
