// tools/shoal/reference.h
//
// What is written from the command table: help, manual page, completions, and the table itself as data. Pure.
#pragma once

#include <string>

#include "tools/shoal/command.h"

namespace shoal::cli {

std::string help_of_all();
std::string help_of(const Command& command);
std::string manual();  // roff
// Empty for a shell that is not bash, zsh or fish.
std::string completion(const std::string& shell);
wire::Dynamic command_table();

}  // namespace shoal::cli
