// agent/executor/executor_config.h
//
// What the executor driver of an agent is told once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/executor/process.h"
#include "protocol/base/time.h"
#include "protocol/wire/client.h"

namespace shoal::executor {

struct ExecutorConfig {
  std::uint32_t computing_units = 1;     // executors of one language, and commands at a time
  std::uint32_t extras_max = 64;         // more executors of one language while others wait inside a task
  std::string socket_path;               // where executors connect
  client::Welcome welcome;               // what they are told; `client` is filled in
  std::string python = "python3";        // interpreter when an application names none
  std::vector<std::string> python_path;  // directories of the SDK
  std::string files_dir;                 // relative file names of attempts are below it
  std::string log_dir;
  std::uint64_t log_bytes_max = 8U << 20;  // of one file; twice that with the one before
  Confinement confinement;
  std::size_t functions_max = 1U << 16;          // known at a time
  Duration interrupt_grace = milliseconds(500);  // from asking an attempt to stop to SIGTERM
  Duration kill_grace = milliseconds(500);       // from SIGTERM to SIGKILL
  Duration timeout_grace = seconds(1);           // an executor has to report a time-out itself within this
  Duration start_grace = seconds(30);            // a started executor has to connect within this
  Duration idle_max = seconds(60);               // an executor without work ends after this
};

}  // namespace shoal::executor
