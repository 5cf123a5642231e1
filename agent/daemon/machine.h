// agent/daemon/machine.h
//
// What this host has: what the settings say of it, and what they leave open as the kernel tells it.
#pragma once

#include <optional>
#include <string>

#include "agent/settings/settings.h"
#include "scheduler/io.h"
#include "scheduler/wheel_tag.h"

namespace shoal::daemon {

std::string host_name();

// Units and memory of the settings, or all that this process may use. Facts are read once: operating_system_type,
// _distribution and _version, processor_name, processor_speed (GHz), storage_size (GB free where the home is). What
// cannot be found out is left out.
// With an interpreter also python_version and python_platform (scheduler/wheel_tag.h).
scheduler::Resources resources_of(const settings::Settings& settings, const std::string& python);

// What wheels can be chosen for; nullopt when no version of the interpreter can be found out.
std::optional<scheduler::Platform> python_platform(const std::string& python);

}  // namespace shoal::daemon
