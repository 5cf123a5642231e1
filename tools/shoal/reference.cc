#include "tools/shoal/reference.h"

#include <fmt/format.h>

#include <set>

#include "agent/settings/settings.h"

namespace shoal::cli {
namespace {

constexpr std::string_view kExitCodes =
    "0 done, 1 failed, 2 usage, 3 no agent answers, 4 not found, 5 denied, 6 cannot be placed, 7 timed out, 8 the "
    "application failed. `run` returns the program's own code, 128 plus the signal's number when one ended it, 127 "
    "when "
    "there is no such program, 126 when it cannot be run, and 125 when shoal itself failed; `attach` returns the "
    "program's own code once it is attached.";

std::string syntax_of(const Option& option) {
  std::string out = option.letter == 0 ? std::string("    ") : fmt::format("-{}, ", option.letter);
  out += fmt::format("--{}", option.name);
  return option.argument.empty() ? out : out + " " + std::string(option.argument);
}

std::string lines_of(const std::vector<Option>& options) {
  std::string out;
  for (const auto& option : options) out += fmt::format("  {:<26} {}\n", syntax_of(option), option.help);
  return out;
}

// `text` in lines of at most 100 columns.
std::string wrapped(std::string_view text) {
  std::string out;
  while (text.size() > 100) {
    const auto space = text.rfind(' ', 100);
    out += std::string(text.substr(0, space)) + "\n";
    text.remove_prefix(space + 1);
  }
  return out + std::string(text) + "\n";
}

std::string_view first_word(std::string_view name) {
  return name.substr(0, name.find(' '));
}

// "rm" of "objects rm"; empty for a command of one word.
std::string_view second_word(std::string_view name) {
  const auto space = name.find(' ');
  return space == std::string_view::npos ? std::string_view() : name.substr(space + 1);
}

std::vector<std::string> flags_of(const Command& command) {
  std::vector<std::string> out;
  for (const auto& option : options_of(command)) {
    out.push_back(fmt::format("--{}", option.name));
    if (option.letter != 0) out.push_back(fmt::format("-{}", option.letter));
  }
  return out;
}

std::set<std::string> first_words() {
  std::set<std::string> out;
  for (const auto& command : commands()) out.emplace(first_word(command.name));
  return out;
}

std::string children_of(std::string_view first) {
  std::string out;
  for (const auto& command : commands()) {
    if (first_word(command.name) == first && !second_word(command.name).empty())
      out += " " + std::string(second_word(command.name));
  }
  return out;
}

std::string bash_completion() {
  std::string out =
      "# bash completion of shoal: source it, or put it into /etc/bash_completion.d\n_shoal() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]}\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n";
  out += fmt::format(
      "    COMPREPLY=($(compgen -W \"{}\" -- \"$current\"))\n    return\n  fi\n  case \"${{COMP_WORDS[1]}} "
      "${{COMP_WORDS[2]}}\" in\n",
      fmt::join(first_words(), " "));
  // Commands of two words first: the pattern of one word takes anything that follows it.
  for (const bool two : {true, false}) {
    for (const auto& command : commands()) {
      if (second_word(command.name).empty() == two) continue;
      out += fmt::format("    \"{}\"*) COMPREPLY=($(compgen -f -W \"{}{}\" -- \"$current\")) ;;\n",
                         two ? std::string(command.name) : std::string(command.name) + " ",
                         fmt::join(flags_of(command), " "), two ? "" : children_of(command.name));
    }
  }
  for (const auto& first : first_words()) {
    if (!children_of(first).empty())
      out += fmt::format("    \"{} \"*) COMPREPLY=($(compgen -W \"{}\" -- \"$current\")) ;;\n", first,
                         children_of(first).substr(1));
  }
  return out + "  esac\n}\ncomplete -o default -F _shoal shoal\n";
}

std::string shell_quoted(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + out + "'";
}

std::string zsh_completion() {
  std::string out = "#compdef shoal\n_shoal() {\n  local -a commands\n  commands=(\n";
  std::set<std::string_view> seen;
  for (const auto& command : commands()) {
    if (seen.insert(first_word(command.name)).second)
      out += "    " + shell_quoted(fmt::format("{}:{}", first_word(command.name), command.summary)) + "\n";
  }
  out +=
      "  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
      "  case \"$words[2] $words[3]\" in\n";
  for (const bool two : {true, false}) {
    for (const auto& command : commands()) {
      if (second_word(command.name).empty() == two) continue;
      out += fmt::format("    \"{}\"*) compadd -- {}{} ;;\n",
                         two ? std::string(command.name) : std::string(command.name) + " ",
                         fmt::join(flags_of(command), " "), two ? "" : children_of(command.name));
    }
  }
  return out + "  esac\n  _files\n}\ncompdef _shoal shoal\n";
}

std::string fish_completion() {
  std::string out;
  for (const auto& command : commands()) {
    const auto first = first_word(command.name);
    const auto second = second_word(command.name);
    std::string when = fmt::format("__fish_seen_subcommand_from {}", first);
    if (second.empty()) {
      out +=
          fmt::format("complete -c shoal -n __fish_use_subcommand -a {} -d {}\n", first, shell_quoted(command.summary));
    } else {
      out += fmt::format("complete -c shoal -n {} -a {} -d {}\n", shell_quoted(when), second,
                         shell_quoted(command.summary));
      when += fmt::format("; and __fish_seen_subcommand_from {}", second);
    }
    for (const auto& option : options_of(command)) {
      out += fmt::format("complete -c shoal -n {} -l {}{}{} -d {}\n", shell_quoted(when), option.name,
                         option.letter == 0 ? "" : fmt::format(" -s {}", option.letter),
                         option.argument.empty() ? "" : " -r", shell_quoted(option.help));
    }
  }
  return out;
}

// Text of a manual page: no line may begin like a request, and hyphens of options are minus signs.
std::string roff(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      out += "\\e";
    } else if (text[i] == '-') {
      out += "\\-";
    } else if ((text[i] == '.' || text[i] == '\'') && i == 0) {
      out += std::string("\\&") + text[i];
    } else if (text.substr(i).starts_with("…")) {
      out += "...";
      i += std::string_view("…").size() - 1;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string roff_options(const std::vector<Option>& options) {
  std::string out;
  for (const auto& option : options) {
    std::string syntax = syntax_of(option);
    syntax.erase(0, syntax.find_first_not_of(' '));
    out += fmt::format(".TP\n.B {}\n{}\n", roff(syntax), roff(option.help));
  }
  return out;
}

}  // namespace

std::string help_of_all() {
  std::string out = "Usage: shoal [OPTIONS] COMMAND …\n\nCommands:\n";
  for (const auto& command : commands())
    out += fmt::format("  {:<34} {}\n", fmt::format("{} {}", command.name, command.arguments), command.summary);
  out += "\nOptions of every command, before or after it:\n" + lines_of(common_options());
  out += "\nOptions of commands that list something:\n" + lines_of(view_options());
  out += "\nOptions of commands that destroy something:\n" + lines_of(destruction_options());
  return out + "\nExit codes: " + wrapped(kExitCodes);
}

std::string help_of(const Command& command) {
  std::string out = fmt::format("Usage: shoal {} {}\n\n  {}\n\nOptions:\n{}", command.name, command.arguments,
                                command.summary, lines_of(options_of(command)));
  if (command.passes_settings) out += fmt::format("\nSettings of the agent:\n{}", settings::help_text());
  return out + fmt::format("\nExample:\n  {}\n", command.example);
}

std::string manual() {
  std::string out = fmt::format(
      ".TH SHOAL 1 \"\" \"shoal {}\" \"Shoal\"\n.SH NAME\nshoal \\- run, see and operate agents of the computing "
      "continuum\n.SH SYNOPSIS\n.B shoal\n[OPTIONS] COMMAND ...\n.SH COMMANDS\n",
      SHOAL_VERSION);
  for (const auto& command : commands()) {
    out += fmt::format(".SS {} {}\n{}.\n", roff(command.name), roff(command.arguments), roff(command.summary));
    out += roff_options(command.options);
    out += fmt::format(".PP\nExample:\n.B {}\n", roff(command.example));
  }
  out += ".SH OPTIONS\nOf every command, before or after it:\n" + roff_options(common_options());
  out += ".PP\nOf commands that list something:\n" + roff_options(view_options());
  out += ".PP\nOf commands that destroy something:\n" + roff_options(destruction_options());
  return out + ".SH EXIT STATUS\n" + roff(kExitCodes) + "\n.SH SEE ALSO\n.BR shoald (8)\n";
}

std::string completion(const std::string& shell) {
  if (shell == "bash") return bash_completion();
  if (shell == "zsh") return zsh_completion();
  return shell == "fish" ? fish_completion() : "";
}

wire::Dynamic command_table() {
  wire::Dynamic::Array rows;
  for (const auto& command : commands()) {
    wire::Dynamic::Array options;
    for (const auto& option : options_of(command)) {
      options.emplace_back(wire::Dynamic::Map{{"name", std::string(option.name)},
                                              {"letter", option.letter == 0 ? "" : std::string(1, option.letter)},
                                              {"argument", std::string(option.argument)},
                                              {"help", std::string(option.help)}});
    }
    rows.emplace_back(wire::Dynamic::Map{{"name", std::string(command.name)},
                                         {"arguments", std::string(command.arguments)},
                                         {"summary", std::string(command.summary)},
                                         {"example", std::string(command.example)},
                                         {"options", std::move(options)}});
  }
  return wire::Dynamic(wire::Dynamic::Map{{"commands", std::move(rows)}});
}

}  // namespace shoal::cli
