// agent/daemon/app_runner.h
//
// Drivers: the processes that run the main programs of applications started through this agent. A driver dies
// with its agent. Its output is kept in a log file and passed on to whoever watches; its exit code is the
// application's. One thread uses it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/executor/process.h"
#include "agent/reactor/reactor.h"
#include "protocol/base/id.h"
#include "protocol/base/result.h"

namespace shoal::daemon {

struct AppStart {
  AppId app;
  std::string name;
  std::vector<std::string> command;  // program and arguments
  std::string working_dir;
  std::map<std::string, std::string> environment;  // on top of the agent's own
};

struct AppState {
  AppId app;
  std::string name;
  pid_t pid = -1;
  bool running = false;
  int exit_code = 0;  // 128 + signal when a signal ended it
  std::string log_path;
  std::int64_t started_unix_ms = 0;
  std::int64_t ended_unix_ms = 0;
};

class AppRunner {
 public:
  // `text` came from the driver's stdout (1) or stderr (2).
  using OnOutput = std::function<void(AppId, int stream, std::string_view text)>;
  using OnExit = std::function<void(const AppState&)>;
  static constexpr std::size_t kFinishedMax = 1000;  // remembered; older ones are forgotten, their logs removed
  static constexpr std::size_t kRunningMax = 1000;
  static constexpr std::size_t kSpansMax = 100'000;  // changes between stdout and stderr that are remembered by driver

  AppRunner(agent::Reactor& reactor, std::string logs_dir, OnOutput on_output, OnExit on_exit);
  ~AppRunner();  // kills what still runs
  AppRunner(const AppRunner&) = delete;
  AppRunner& operator=(const AppRunner&) = delete;

  // kUnsupported: the program cannot be run; kInvalid: no such directory; kExhausted: too many running.
  Result<> start(const AppStart& start);
  // SIGTERM to the driver's process group, SIGKILL after `grace`. kNotFound when it does not run.
  Result<> stop(AppId app, Duration grace);
  const AppState* find(AppId app) const;
  // What the driver has written so far but for the last `held` bytes, in order and by stream, from its log file: at
  // most `bytes_max` from `offset` on; returns where it stopped. All of an application that an earlier agent process
  // started counts as stdout.
  std::size_t read(AppId app, std::size_t offset, std::size_t bytes_max,
                   const std::function<void(int stream, std::string_view text)>& take, std::size_t held = 0) const;
  std::vector<AppState> list() const;
  std::size_t running() const;

 private:
  struct Driver;
  std::string log_path(AppId app) const;
  // False when there was nothing (more) to read.
  bool read_output(Driver& driver, int stream);
  void close_stream(Driver& driver, int stream);
  void on_ended(AppId app, const executor::Ending& ending);

  agent::Reactor& reactor_;
  std::string logs_dir_;
  OnOutput on_output_;
  OnExit on_exit_;
  std::map<AppId, std::unique_ptr<Driver>> drivers_;
  std::vector<AppId> finished_;  // oldest first
};

}  // namespace shoal::daemon
