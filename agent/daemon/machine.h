// agent/daemon/machine.h
//
// What this host has: what the settings say of it, and what they leave open as the kernel tells it.
#pragma once

#include "agent/settings/settings.h"
#include "scheduler/io.h"

namespace shoal::daemon {

std::string host_name();

// Units and memory of the settings, or all that this process may use. Facts are read once: operating_system_type,
// _distribution and _version, processor_name, processor_speed (GHz), storage_size (GB free where the home is). What
// cannot be found out is left out.
scheduler::Resources resources_of(const settings::Settings& settings, bool has_python);

}  // namespace shoal::daemon
