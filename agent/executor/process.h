// agent/executor/process.h
//
// Child processes of the agent: started through shoal-exec (never by fork: the agent has threads and memory that must
// not be copied), each the leader of its own process group, watched through a pidfd, and reaped here. Nothing else
// in the process may reap children.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/reactor/reactor.h"
#include "protocol/base/result.h"

namespace shoal::executor {

// What executors and commands may not do (design: security levels). Level 0: they only die with the agent. Level 1: no
// new privileges, and these limits.
struct Confinement {
  std::uint8_t level = 1;
  std::uint64_t memory_bytes_max = 0;  // address space; 0: as the agent
  std::uint64_t files_max = 0;         // open descriptors; 0: as the agent
};

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
  int control_fd = -1;      // becomes descriptor 3
  std::string exec_helper;  // path of shoal-exec; empty: started without confinement
  Confinement confinement;
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
  // left of its process group is dead by then. It may destroy this object. Errors are those of this host (no
  // descriptors, no processes); a program that cannot be started ends with `not_started`.
  static Result<std::unique_ptr<Process>> spawn(agent::Reactor& reactor, const SpawnSpec& spec, OnEnd on_end);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  // To the process, or to its whole group.
  void signal(int number) const;
  void signal_group(int number) const;

 private:
  explicit Process(agent::Reactor& reactor) : reactor_(reactor) {}
  void on_exited();
  Ending reap();

  agent::Reactor& reactor_;
  OnEnd on_end_;
  pid_t pid_ = -1;
  Fd pid_fd_;
  Fd status_;  // shoal-exec says here why it could not start the program
};

// Where shoal-exec lies beside the running program (installed or in a build tree); empty when it is not there.
std::string find_exec_helper();

// 128 random bits in hexadecimal.
std::string random_token();

}  // namespace shoal::executor
