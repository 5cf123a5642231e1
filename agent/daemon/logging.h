// agent/daemon/logging.h
//
// Log lines of the process, to stderr: how they look and which are written.
#pragma once

#include "agent/settings/settings.h"

namespace shoal::daemon {

// Once, before other threads start.
void start_logging(const settings::Settings& settings);
// As `log_level` and `log_format` say now, also while other threads log.
void adjust_logging(const settings::Settings& settings);

}  // namespace shoal::daemon
