// agent/executor/shoal_exec.cc
//
// shoal-exec: the few steps between posix_spawn and execvp that posix_spawn cannot take. The agent never forks itself;
// it spawns this program, which ties its life to the agent's, lowers its rights and becomes the program it is told.
//
//   shoal-exec [options] -- PROGRAM [ARGUMENTS]
//     --parent PID       die (SIGKILL) when that process, which must be the parent, dies
//     --status-fd N      say there, in one line, why PROGRAM could not be started; closed without a word when it was
//     --cwd DIR          start in DIR
//     --no-new-privs     no setuid programs, no file capabilities
//     --limit NAME=N     resource limit: core, memory (address space, bytes), files, processes, cpu (seconds)
//
// Exits with 127 when there is no PROGRAM, with 126 when it could not be started, as shells do.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace {

constexpr int kCannotStart = 126;
constexpr int kNotThere = 127;

struct Options {
  pid_t parent = 0;
  int status_fd = -1;
  const char* cwd = nullptr;
  bool no_new_privs = false;
};

[[noreturn]] void give_up(const Options& options, const std::string& why, int code = kCannotStart) {
  const std::string line = why + "\n";
  const int fd = options.status_fd >= 0 ? options.status_fd : STDERR_FILENO;
  [[maybe_unused]] const auto written = ::write(fd, line.data(), line.size());
  ::_exit(code);
}

void set_limit(const Options& options, std::string_view spec) {
  struct Name {
    std::string_view name;
    int resource;
  };
  static constexpr Name kNames[] = {{"core", RLIMIT_CORE},
                                    {"memory", RLIMIT_AS},
                                    {"files", RLIMIT_NOFILE},
                                    {"processes", RLIMIT_NPROC},
                                    {"cpu", RLIMIT_CPU}};
  const auto equals = spec.find('=');
  for (const Name& known : kNames) {
    if (equals == std::string_view::npos || spec.substr(0, equals) != known.name) continue;
    rlimit now{};
    ::getrlimit(static_cast<__rlimit_resource_t>(known.resource), &now);
    const rlim_t wanted = ::strtoull(std::string(spec.substr(equals + 1)).c_str(), nullptr, 10);
    const rlim_t bound = std::min(wanted, now.rlim_max);  // a limit is only ever lowered
    const rlimit next{bound, bound};
    if (::setrlimit(static_cast<__rlimit_resource_t>(known.resource), &next) != 0) {
      give_up(options, "cannot set the limit " + std::string(spec) + ": " + ::strerror(errno));
    }
    return;
  }
  give_up(options, "shoal-exec does not know the limit '" + std::string(spec) + "'");
}

// Returns the index of PROGRAM.
int read_options(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--") return i + 1;
    if (word == "--no-new-privs") {
      options.no_new_privs = true;
      continue;
    }
    if (i + 1 >= argc) give_up(options, "shoal-exec: '" + std::string(word) + "' needs a value");
    const char* value = argv[++i];
    if (word == "--parent") {
      options.parent = ::atoi(value);
    } else if (word == "--status-fd") {
      options.status_fd = ::atoi(value);
      ::fcntl(options.status_fd, F_SETFD, FD_CLOEXEC);
    } else if (word == "--cwd") {
      options.cwd = value;
    } else if (word == "--limit") {
      set_limit(options, value);
    } else {
      give_up(options, "shoal-exec does not know '" + std::string(word) + "'");
    }
  }
  return argc;
}

std::string why_not_started(const char* program, int error) {
  const std::string name = std::string("'") + program + "'";
  switch (error) {
    case ENOENT:
      return name + " is not installed here (no such file, or its interpreter is missing)";
    case EACCES:
      return name + " may not be executed (permission denied)";
    case ENOEXEC:
      return name + " is not a program this machine can run";
    default:
      return name + " cannot be started: " + ::strerror(error);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  const int program = read_options(argc, argv, options);
  if (program >= argc) give_up(options, "shoal-exec: no program to run");
  if (options.parent != 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != options.parent) ::_exit(kCannotStart);  // it died before we asked to be told
  }
  if (options.no_new_privs && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    give_up(options, std::string("cannot give up privileges: ") + ::strerror(errno));
  }
  if (options.cwd != nullptr && ::chdir(options.cwd) != 0) {
    give_up(options, std::string("cannot enter the working directory '") + options.cwd + "': " + ::strerror(errno));
  }
  // A path is run as it is; execvp would give what is no program to a shell.
  if (std::string_view(argv[program]).find('/') != std::string_view::npos) {
    ::execv(argv[program], argv + program);
  } else {
    ::execvp(argv[program], argv + program);
  }
  const int error = errno;
  const bool there = error != ENOENT || ::access(argv[program], F_OK) == 0;  // a script whose interpreter is missing is
  give_up(options, why_not_started(argv[program], error), there ? kCannotStart : kNotThere);
}
