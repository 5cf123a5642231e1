// The command line: finds the command in the table, parses its options, calls its handler.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "agent/settings/settings.h"
#include "tools/shoal/command.h"

namespace shoal::cli {
namespace {

std::size_t words_of(std::string_view name) {
  return static_cast<std::size_t>(std::count(name.begin(), name.end(), ' ')) + 1;
}

const Command* find_command(const std::vector<std::string>& words) {
  const Command* found = nullptr;
  for (const auto& command : commands()) {
    const std::size_t count = words_of(command.name);
    if (words.size() < count) continue;
    std::string said = words[0];
    for (std::size_t i = 1; i < count; ++i) said += " " + words[i];
    if (said == command.name && (found == nullptr || count > words_of(found->name))) found = &command;
  }
  return found;
}

void print_help() {
  fmt::print("Usage: shoal [--home DIR] [--agent NAME] [-o table|json|quiet] COMMAND …\n\nCommands:\n");
  for (const auto& command : commands()) {
    const std::string left = fmt::format("{} {}", command.name, command.arguments);
    fmt::print("  {:<34} {}\n", left, command.summary);
  }
  fmt::print(
      "\nOptions of every command:\n"
      "  --home DIR      the agent's directory (environment SHOAL_HOME; default ~/.local/state/shoal)\n"
      "  --agent NAME    ask another agent of the hierarchy, by name or id, through this one\n"
      "  -o FORMAT       table, json or quiet (environment SHOAL_OUTPUT)\n"
      "  --help          help of a command\n\n"
      "Exit codes: 0 done, 1 failed, 2 usage, 3 no agent answers, 4 not found, 5 denied, 6 cannot be placed, "
      "7 timed out,\n"
      "8 the application failed; `run` and `attach` return the program's own.\n");
}

void print_help(const Command& command) {
  fmt::print("Usage: shoal {} {}\n\n  {}\n", command.name, command.arguments, command.summary);
  if (!command.options.empty()) fmt::print("\nOptions:\n");
  for (const auto& option : command.options) {
    fmt::print("  {:<28} {}\n", fmt::format("--{} {}", option.name, option.argument), option.help);
  }
  if (command.passes_settings) fmt::print("\nSettings of the agent:\n{}", settings::help_text());
  fmt::print("\nExample:\n  {}\n", command.example);
}

int usage(const Command& command, const std::string& what) {
  complain(fmt::format("{}; `shoal {} --help` shows how", what, command.name));
  return kUsage;
}

struct Common {
  std::string home;
  std::string agent;
  std::string output;
};

// True when `word` is one of the options that every command takes; moves `i` past its value.
bool take_common(const std::vector<std::string>& words, std::size_t& i, Common& common) {
  const auto take = [&](std::string_view name, std::string& into) {
    const std::string with_equals = std::string(name) + "=";
    if (words[i] == name && i + 1 < words.size()) {
      into = words[++i];
      return true;
    }
    if (words[i].starts_with(with_equals)) {
      into = words[i].substr(with_equals.size());
      return true;
    }
    return false;
  };
  return take("--home", common.home) || take("--agent", common.agent) || take("-o", common.output) ||
         take("--output", common.output);
}

// Fills `context` from the words after the command; the error is a usage message.
Result<> parse(const Command& command, const std::vector<std::string>& words, Common& common, Context& context) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (take_common(words, i, common)) continue;
    const std::string& word = words[i];
    if (word == "--") {
      context.rest.insert(context.rest.end(), words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
      break;
    }
    if (!word.starts_with("--") || word.size() < 3) {
      context.arguments.push_back(word);
      if (command.takes_rest) {
        context.rest.assign(words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
        break;
      }
      continue;
    }
    const auto equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
    auto known =
        std::find_if(command.options.begin(), command.options.end(), [&](const Option& o) { return o.name == name; });
    if (known == command.options.end()) {
      if (!command.passes_settings) return fail(Code::kInvalid, fmt::format("there is no option --{}", name));
      context.rest.push_back(word);
      if (equals == std::string::npos && i + 1 < words.size() && !words[i + 1].starts_with("--"))
        context.rest.push_back(words[++i]);
      continue;
    }
    if (known->argument.empty()) {
      context.options[name].emplace_back();
    } else if (equals != std::string::npos) {
      context.options[name].push_back(word.substr(equals + 1));
    } else if (i + 1 < words.size()) {
      context.options[name].push_back(words[++i]);
    } else {
      return fail(Code::kInvalid, fmt::format("--{} needs {}", name, known->argument));
    }
  }
  return {};
}

int unknown_command(const std::vector<std::string>& words) {
  std::string message = fmt::format("there is no command \"{}\"", words[0]);
  for (const auto& command : commands()) {
    const auto first = command.name.substr(0, command.name.find(' '));
    if (!words[0].empty() &&
        (first.starts_with(words[0].substr(0, 3)) || std::string_view(words[0]).starts_with(first))) {
      message += fmt::format("; did you mean \"{}\"?", first);
      break;
    }
  }
  complain(message + " `shoal --help` lists them");
  return kUsage;
}

int run(std::vector<std::string> words) {
  Common common;
  if (const char* output = std::getenv("SHOAL_OUTPUT")) common.output = output;
  std::size_t start = 0;
  while (start < words.size() && words[start].starts_with("-")) {
    if (words[start] == "--help" || words[start] == "-h") {
      print_help();
      return kOk;
    }
    if (words[start] == "--version") {
      words = {"version"};
      start = 0;
      break;
    }
    if (!take_common(words, start, common)) {
      complain(fmt::format("there is no option {}; `shoal --help` lists them", words[start]));
      return kUsage;
    }
    ++start;
  }
  words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(start));
  if (words.empty() || words[0] == "help") {
    print_help();
    return words.empty() ? kUsage : kOk;
  }
  const Command* command = find_command(words);
  if (command == nullptr) return unknown_command(words);
  words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(words_of(command->name)));
  const auto stop = command->takes_rest && !words.empty() ? std::min<std::size_t>(1, words.size()) : words.size();
  if (std::find_if(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(stop), [](const std::string& w) {
        return w == "--help" || w == "-h";
      }) != words.begin() + static_cast<std::ptrdiff_t>(stop)) {
    print_help(*command);
    return kOk;
  }
  Context context;
  if (auto parsed = parse(*command, words, common, context); !parsed) return usage(*command, parsed.error().message);
  if (context.arguments.size() < command->least) return usage(*command, fmt::format("it needs {}", command->arguments));
  if (context.arguments.size() > command->most)
    return usage(*command, fmt::format("\"{}\" is one too many", context.arguments.back()));
  if (!common.output.empty()) {
    auto format = parse_format(common.output);
    if (!format) return usage(*command, fmt::format("-o takes table, json or quiet, not \"{}\"", common.output));
    context.format = *format;
  }
  const auto environment = settings::process_environment();
  auto from_environment = environment.find("SHOAL_HOME");
  context.home = !common.home.empty()                    ? common.home
                 : from_environment != environment.end() ? from_environment->second
                                                         : settings::default_home(environment);
  context.agent = common.agent;
  return command->run(context);
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
