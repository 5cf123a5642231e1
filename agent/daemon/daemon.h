// agent/daemon/daemon.h
//
// One running agent: the core (agent/node) with its real drivers around one loop. Inputs come from links,
// clients, executors, the disk and the clock; effects are carried out in order. It owns no decision that
// could be tested without a process.
#pragma once

#include <memory>

#include "agent/settings/settings.h"
#include "protocol/base/result.h"

namespace shoal::daemon {

class Daemon {
 public:
  // Opens everything and starts listening; the agent answers requests once this returns. kInvalid: a setting;
  // kUnavailable: the home or a port is taken; kDenied: the certificate; each with what to do.
  static Result<std::unique_ptr<Daemon>> open(const settings::Settings& settings);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Runs until SIGTERM, SIGINT or a request to stop; returns the process's exit code.
  int run();

 private:
  struct Impl;
  explicit Daemon(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::daemon
