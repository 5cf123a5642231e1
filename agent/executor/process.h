// agent/executor/process.h
//
// Child processes of the agent (never forked: the agent has threads and memory that must not be copied), each the
// leader of its own process group, watched through a pidfd, and reaped here. Nothing else in the process may reap
// children.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/executor/child.h"
#include "agent/reactor/reactor.h"
#include "protocol/base/result.h"

namespace shoal::executor {

// A descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

struct PipeEnds {
  Fd read;  // non-blocking
  Fd write;
};
Result<PipeEnds> make_pipe();

struct SpawnSpec {
  std::vector<std::string> command;                // program (looked up in PATH) and arguments
  std::map<std::string, std::string> environment;  // on top of the agent's own
  std::string working_dir;                         // empty: the agent's
  int stdin_fd = -1;                               // -1: /dev/null
  int stdout_fd = -1;
  int stderr_fd = -1;
  int control_fd = -1;  // becomes descriptor 3
  Confinement confinement;
  bool outlives = false;  // its life is not tied to the agent's, and what it leaves of its process group runs on
};
constexpr int kControlFd = 3;

// How a process ended.
struct Ending {
  int wait_status = 0;      // as waitpid() gives it
  std::string not_started;  // why the program could not even be started; empty when it was
  bool ok() const { return wait_status == 0 && not_started.empty(); }
};

// "exited with code 3", "was killed by signal 11 (Segmentation fault)", or why it did not start.
std::string describe(const Ending& ending);

// A running child. Destroying it kills its process group and reaps it.
class Process {
 public:
  using OnEnd = std::function<void(const Ending&)>;

  // Starts `spec`. `on_end` is called once, in a turn of the reactor, after the process ended and was reaped; what was
  // left of its process group is dead by then, unless it was to outlive the agent. It may destroy this object.
  // kExhausted: no descriptors, no processes; kUnsupported: the program cannot be started here.
  static Result<std::unique_ptr<Process>> spawn(agent::Reactor& reactor, const SpawnSpec& spec, OnEnd on_end);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  // To the process, or to its whole group.
  void signal(int number) const;
  void signal_group(int number) const;
  // Lets it run on when this object goes; nobody is told of its end.
  void detach();

 private:
  explicit Process(agent::Reactor& reactor) : reactor_(reactor) {}
  void on_exited();
  Ending reap();

  agent::Reactor& reactor_;
  OnEnd on_end_;
  pid_t pid_ = -1;
  bool outlives_ = false;
  Fd pid_fd_;
};

// 128 random bits in hexadecimal.
std::string random_token();

}  // namespace shoal::executor
