// The command line: parses, then calls the command's handler.
#include <fmt/format.h>
#include <unistd.h>

#include <exception>

#include "agent/settings/settings.h"
#include "tools/shoal/options.h"
#include "tools/shoal/reference.h"

namespace shoal::cli {
namespace {

int run(const std::vector<std::string>& words) {
  const Command* command = nullptr;
  auto invocation = parse_command_line(words, settings::process_environment(), isatty(STDOUT_FILENO) != 0, &command);
  if (!invocation) {
    const std::string& message = invocation.error().message;
    const bool hint = command != nullptr && !message.ends_with('?');
    complain(hint ? fmt::format("{}; `shoal {} --help` shows how", message, command->name) : message);
    return command != nullptr && command->own_codes ? kRunFailed : kUsage;
  }
  if (invocation->version) {
    put(fmt::format("shoal {}\n", SHOAL_VERSION));
    return kOk;
  }
  if (invocation->command == nullptr) {
    put(help_of_all());
    return invocation->help ? kOk : kUsage;
  }
  if (invocation->help) {
    put(help_of(*invocation->command));
    return kOk;
  }
  return invocation->command->run(invocation->context);
}

}  // namespace
}  // namespace shoal::cli

int main(int argc, char** argv) {
  try {
    return shoal::cli::run({argv + 1, argv + argc});
  } catch (const std::exception& e) {
    shoal::cli::complain(e.what());
    return shoal::cli::kFailed;
  }
}
