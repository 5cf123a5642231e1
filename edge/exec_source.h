// edge/exec_source.h
//
// A command whose output lines are readings. It is started again, with a growing pause, when it ends, unless `once` is
// set; it dies with the agent. At most once: what it wrote before a crash of the agent and was not read is gone.
//
// Options: command (list of texts), once (false).
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "edge/source.h"

namespace shoal::edge {

class ExecSource final : public Source {
 public:
  static Result<> check(const SourceConfig& config);
  static Result<std::unique_ptr<Source>> start(const SourceConfig& config, HandOver& hand_over);
  ~ExecSource() override;
  ExecSource(const ExecSource&) = delete;
  ExecSource& operator=(const ExecSource&) = delete;

 private:
  ExecSource(const SourceConfig& config, HandOver& hand_over);
  void run();
  bool run_once(std::string& end);  // false when the hand-over was stopped

  HandOver& hand_over_;
  std::vector<std::string> command_;
  bool once_ = false;
  std::atomic<bool> stopping_ = false;
  int stop_pipe_[2] = {-1, -1};  // closing the write end interrupts a read
  std::thread thread_;
};

}  // namespace shoal::edge
