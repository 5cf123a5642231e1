#include "agent/executor/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

namespace shoal::executor {

namespace {

constexpr int kCannotStart = 126;
constexpr int kNotThere = 127;

// ---- in the child: shares the agent's memory, and may only call what is async-signal-safe ----

bool place_descriptors(const ChildPlan& plan) {
  for (int to = 0; to < ChildPlan::kDescriptors; ++to) {
    int from = plan.descriptors[to];
    if (from < 0 && to > 2) continue;
    if (from < 0) from = ::open("/dev/null", to == 0 ? O_RDONLY : O_WRONLY);
    // What was opened just now may be the right number already; all others lie above these.
    if (from < 0 || (from != to && ::dup2(from, to) < 0)) return false;
  }
  return true;
}

bool set_limit(__rlimit_resource resource, rlim_t wanted) {
  rlimit now{};
  if (::getrlimit(resource, &now) != 0) return false;
  const rlim_t bound = std::min(wanted, now.rlim_max);  // a limit is only ever lowered
  const rlimit next{bound, bound};
  return ::setrlimit(resource, &next) == 0;
}

bool confine(const Confinement& confinement) {
  if (confinement.level == 0) return true;
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && set_limit(RLIMIT_CORE, 0) &&
         (confinement.memory_bytes_max == 0 || set_limit(RLIMIT_AS, confinement.memory_bytes_max)) &&
         (confinement.files_max == 0 || set_limit(RLIMIT_NOFILE, confinement.files_max));
}

void reset_signals() {
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) {
    if (number != SIGKILL && number != SIGSTOP) ::sigaction(number, &standard, nullptr);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void become(const ChildPlan& plan, pid_t parent) {
  using Step = ChildFailure::Step;
  ::setpgid(0, 0);
  if (!plan.outlives) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!plan.outlives && ::getppid() != parent) ::_exit(kCannotStart);  // it died before we asked to be told
  Step step = Step::kDescriptors;
  if (place_descriptors(plan)) {
    step = Step::kLimits;
    if (confine(plan.confinement)) {
      step = Step::kDirectory;
      if (plan.working_dir == nullptr || ::chdir(plan.working_dir) == 0) {
        step = Step::kProgram;
        reset_signals();
        ::execve(plan.program, plan.argv, plan.envp);
      }
    }
  }
  const ChildFailure failure{step, errno};
  // A script whose interpreter is missing is there, too.
  const bool there = step != Step::kProgram || errno != ENOENT || ::access(plan.program, F_OK) == 0;
  [[maybe_unused]] const auto told = ::write(plan.status_fd, &failure, sizeof failure);
  ::_exit(there ? kCannotStart : kNotThere);
}

}  // namespace

pid_t start_child(const ChildPlan& plan) {
  // A handler that ran in the child would run in the agent's memory.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  const pid_t parent = ::getpid();
  const pid_t pid = ::vfork();
  if (pid == 0) become(plan, parent);
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return pid;
}

std::string find_program(const std::string& name, const char* path) {
  if (name.find('/') != std::string::npos || path == nullptr) return name;
  std::string_view rest(path);
  std::string unreadable;
  while (true) {
    const auto end = std::min(rest.find(':'), rest.size());
    const std::string directory(rest.substr(0, end));
    std::string candidate = directory.empty() ? name : directory + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    if (unreadable.empty() && ::access(candidate.c_str(), F_OK) == 0) unreadable = std::move(candidate);
    if (end == rest.size()) break;
    rest.remove_prefix(end + 1);
  }
  return unreadable.empty() ? name : unreadable;
}

std::string describe(const ChildFailure& failure, const std::string& program, const std::string& working_dir) {
  const std::string name = "'" + program + "'";
  switch (failure.step) {
    case ChildFailure::Step::kDescriptors:
      return name + " cannot be given its standard streams: " + ::strerror(failure.error);
    case ChildFailure::Step::kLimits:
      return name + " cannot be confined: " + ::strerror(failure.error);
    case ChildFailure::Step::kDirectory:
      return "cannot enter the working directory '" + working_dir + "': " + ::strerror(failure.error);
    case ChildFailure::Step::kProgram:
      break;
  }
  switch (failure.error) {
    case ENOENT:
      return name + " is not installed here (no such file, or its interpreter is missing)";
    case EACCES:
      return name + " may not be executed (permission denied)";
    case ENOEXEC:
      return name + " is not a program this machine can run";
    default:
      return name + " cannot be started: " + ::strerror(failure.error);
  }
}

}  // namespace shoal::executor
