// agent/executor/child.h
//
// The steps between vfork and execve that posix_spawn cannot take: the child ties its life to the agent's, lowers its
// rights and its limits, and then becomes the program it is told. vfork copies nothing, so the cost does not grow with
// the agent; the agent's thread stands still until the program has started.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace shoal::executor {

// What executors and commands may not do (design: security levels). Level 0: they only die with the agent. Level 1: no
// new privileges, and these limits.
struct Confinement {
  std::uint8_t level = 1;
  std::uint64_t memory_bytes_max = 0;  // address space; 0: as the agent
  std::uint64_t files_max = 0;         // open descriptors; 0: as the agent
};

// Everything is made before the child is: it may allocate nothing.
struct ChildPlan {
  static constexpr int kDescriptors = 4;
  const char* program = nullptr;  // a path: nothing is looked up
  char* const* argv = nullptr;
  char* const* envp = nullptr;
  const char* working_dir = nullptr;                 // null: the agent's
  int descriptors[kDescriptors] = {-1, -1, -1, -1};  // become 0, 1, 2, 3; above 3, or -1: /dev/null, and no 3
  int status_fd = -1;                                // close-on-exec; gets a ChildFailure when the program cannot start
  Confinement confinement;
  bool outlives = false;  // it may go on when the agent has ended
};

struct ChildFailure {
  enum class Step : std::uint8_t { kDescriptors, kLimits, kDirectory, kProgram };
  Step step = Step::kProgram;
  int error = 0;  // errno
};

// Starts it as the leader of its own process group, with default signal handlers; unless it outlives the agent it gets
// SIGKILL when the calling thread ends. Its pid, or -1 with errno. A child that cannot become its program says why and
// exits with 127 when there is no such program, with 126 for any other reason, as shells do.
pid_t start_child(const ChildPlan& plan);

// The program's path: `name` itself when it has a slash, else what PATH (of the new process's environment, null: none)
// leads to; `name` when it leads nowhere.
std::string find_program(const std::string& name, const char* path);

// One line for people.
std::string describe(const ChildFailure& failure, const std::string& program, const std::string& working_dir);

}  // namespace shoal::executor
