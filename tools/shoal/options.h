// tools/shoal/options.h
//
// From the words of a command line to a command and its Context. Options may stand before or after the command, with
// "=" or a space before their value, one-letter ones together ("-fq") or with their value ("-ojson"). Pure: the
// environment is an argument.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tools/shoal/command.h"

namespace shoal::cli {

struct Invocation {
  const Command* command = nullptr;  // none: help or version was asked for, or nothing was said
  Context context;
  bool help = false;
  bool version = false;
};

// What was meant, or what is wrong with it: kInvalid, with the nearest command or option. `failed` is set to the
// command whose words they are when it is known, also on an error.
Result<Invocation> parse_command_line(const std::vector<std::string>& words,
                                      const std::map<std::string, std::string>& environment, bool stdout_is_terminal,
                                      const Command** failed);

}  // namespace shoal::cli
