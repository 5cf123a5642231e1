// shoald: reads its settings, opens the agent, runs it.
#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>

#include "agent/daemon/daemon.h"
#include "agent/settings/settings.h"

namespace {

// The message of a line as a JSON string: what users and peers said ends up in logs.
class JsonMessage : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm& /*time*/, spdlog::memory_buf_t& out) override {
    out.push_back('"');
    for (const char c : message.payload) {
      if (c == '"' || c == '\\') {
        out.push_back('\\');
        out.push_back(c);
      } else if (static_cast<unsigned char>(c) < 0x20) {
        fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
      } else {
        out.push_back(c);
      }
    }
    out.push_back('"');
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<JsonMessage>(); }
};

void start_logging(const shoal::settings::Settings& settings) {
  auto logger = std::make_shared<spdlog::logger>("shoald", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  spdlog::set_default_logger(logger);
  if (settings.text("log_format") == "json") {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<JsonMessage>('*').set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%*})");
    spdlog::set_formatter(std::move(formatter));
  } else {
    spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e %L %v");
  }
  spdlog::set_level(spdlog::level::from_str(settings.text("log_level")));
  spdlog::flush_on(spdlog::level::info);
}

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
  start_logging(*settings);
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
