// agent/environment/description.h
//
// What a user says an environment is, before anything is packed. One of:
//
//   environment.toml            python = "3.11", requirements = ["numpy==2.1.0"], lock = "FILE", wheels = ["FILE or
//   DIR"],
//                               modules = ["PACKAGE, .py or .so"], libraries = { x86_64 = ["libfoo.so"] },
//                               variables = { NAME = "VALUE" }; paths are relative to the file
//   requirements.txt, *.lock    lines for pip, with or without hashes
//   *.whl, a directory of them  as they are
//   a directory with pyproject.toml, or that file    a wheel is made of it, with what it depends on
//   a package, *.py, *.so       modules as they are
#pragma once

#include <map>
#include <string>
#include <vector>

#include "protocol/base/result.h"

namespace shoal::environment {

struct Description {
  std::string name;                                           // for people
  std::string python;                                         // "3.11"; empty: that of whoever packs it
  std::vector<std::string> requirements;                      // as pip takes them
  std::vector<std::string> locks;                             // files with such
  std::vector<std::string> projects;                          // directories
  std::vector<std::string> wheels;                            // files
  std::vector<std::string> modules;                           // files and directories
  std::map<std::string, std::vector<std::string>> libraries;  // files, by architecture
  std::map<std::string, std::string> variables;
};

// kNotFound when there is no such file; kInvalid with what is accepted; kUnsupported for an image. All paths of the
// result are absolute and exist.
Result<Description> read_description(const std::string& path);

}  // namespace shoal::environment
