// tools/sim/describe.h
//
// Inputs and effects as one line for people: what `--trace agent=N` prints.
#pragma once

#include <string>

#include "agent/node/io.h"

namespace shoal::sim {

std::string describe(const node::Input& input);
std::string describe(const node::Effect& effect);

}  // namespace shoal::sim
