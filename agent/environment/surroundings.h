// agent/environment/surroundings.h
//
// What the processes of an application that brings an environment get beyond what the agent gives all: directories of
// modules, programs and libraries, and variables.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "protocol/base/id.h"

namespace shoal::environment {

struct Surroundings {
  EnvironmentId id;                    // zero: none, and everything else is empty
  std::vector<std::string> modules;    // directories, for PYTHONPATH
  std::vector<std::string> programs;   // for PATH
  std::vector<std::string> libraries;  // for LD_LIBRARY_PATH
  std::map<std::string, std::string> variables;

  // Adds all but `modules` to `environment`: variables that are not set there, and the directories before those that
  // it, or this process, has. For processes of the SDK, which have directories of their own before `modules`.
  void add_to(std::map<std::string, std::string>& environment) const;
  // Adds `modules`, too, for any other program.
  void add_all_to(std::map<std::string, std::string>& environment) const;
};

// The variable that tells a process its environments: their ids in hexadecimal, that of the program first ("-" when it
// has none), the others as NAME=ID, separated by blanks.
constexpr const char* kVariable = "SHOAL_ENVIRONMENT";

}  // namespace shoal::environment
