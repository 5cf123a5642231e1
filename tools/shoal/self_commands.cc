// Commands about this program: completion, man, version, help.
#include <fmt/format.h>

#include "tools/shoal/options.h"
#include "tools/shoal/reference.h"
#include "tools/shoal/view.h"

namespace shoal::cli {

int run_completion(Context& context) {
  const std::string text = completion(context.arguments[0]);
  if (text.empty()) {
    complain(fmt::format("completions are for bash, zsh or fish, not \"{}\"", context.arguments[0]));
    return kUsage;
  }
  put(text);
  return kOk;
}

int run_man(Context& /*context*/) {
  put(manual());
  return kOk;
}

int run_version(Context& context) {
  put(render(wire::Dynamic(wire::Dynamic::Map{{"shoal", SHOAL_VERSION},
                                              {"schema", kSchema},
                                              {"client_protocol", client::kProtocolVersion},
                                              {"wire_protocol", 1},
                                              {"compiler", __VERSION__}}),
             Shape{"", {}, "shoal"}, context.look));
  return kOk;
}

int run_help(Context& context) {
  if (!context.arguments.empty()) {
    std::vector<std::string> words = context.arguments;
    words.emplace_back("--help");
    const Command* command = nullptr;
    auto invocation = parse_command_line(words, {}, false, &command);
    if (!invocation) return report(invocation.error());
    put(help_of(*invocation->command));
    return kOk;
  }
  if (context.look.format == Format::kTable) {
    put(help_of_all());
    return kOk;
  }
  const Shape shape{"commands",
                    {{"name", "command"}, {"arguments", "arguments"}, {"summary", "summary"}, {"example", "example"}},
                    "name"};
  put(render(command_table(), shape, context.look));
  return kOk;
}

}  // namespace shoal::cli
