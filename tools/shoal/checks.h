// tools/shoal/checks.h
//
// What can be found out about this machine and a home directory without an agent. Each check is a status, a fact and,
// unless all is well, what mends it.
#pragma once

#include <string>
#include <vector>

namespace shoal::cli {

enum class Status : std::uint8_t {
  kOk,
  kWarn,  // works, but less well, or not for long
  kFail,
};

struct Check {
  std::string name;
  Status status = Status::kOk;
  std::string fact;
  std::string fix;  // empty with kOk
};

// Takes some tenths of a second: it writes to the disk and starts an interpreter.
std::vector<Check> machine_checks(const std::string& home, const std::string& python);

}  // namespace shoal::cli
