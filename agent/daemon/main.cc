// shoald: reads its settings, opens the agent, runs it.
#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "agent/daemon/daemon.h"
#include "agent/daemon/logging.h"
#include "agent/settings/settings.h"

namespace {

int run(const std::vector<std::string>& arguments) {
  const auto asked = [&](const char* flag) {
    return std::find(arguments.begin(), arguments.end(), flag) != arguments.end();
  };
  if (asked("--help") || asked("-h")) {
    fmt::print(
        "Usage: shoald [SETTINGS]\n\nRuns one agent until SIGTERM. Everything has a default; `shoal` talks "
        "to it.\n\n{}\n"
        "Each setting may also be an environment variable (SHOAL_LISTEN) or a line of <home>/config.toml.\n",
        shoal::settings::help_text());
    return 0;
  }
  if (asked("--version")) {
    fmt::print("shoald {}\n", SHOAL_VERSION);
    return 0;
  }
  auto settings = shoal::settings::Settings::load(arguments, shoal::settings::process_environment());
  if (!settings) {
    fmt::print(stderr, "shoald: {}\n", settings.error().message);
    return 2;
  }
  shoal::daemon::start_logging(*settings);
  auto daemon = shoal::daemon::Daemon::open(*settings);
  if (!daemon) {
    fmt::print(stderr, "shoald: {}\n", daemon.error().message);
    return 1;
  }
  return (*daemon)->run();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& e) {
    fmt::print(stderr, "shoald: {}\n", e.what());
    return 1;
  }
}
