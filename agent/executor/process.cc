#include "agent/executor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "protocol/base/id.h"

namespace shoal::executor {

namespace {

std::vector<std::string> environment_with(const std::map<std::string, std::string>& extra) {
  std::map<std::string, std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view pair(*entry);
    const auto equals = pair.find('=');
    if (equals != std::string_view::npos) all.emplace(pair.substr(0, equals), pair.substr(equals + 1));
  }
  for (const auto& [name, value] : extra) all[name] = value;
  std::vector<std::string> out;
  out.reserve(all.size());
  for (const auto& [name, value] : all) out.push_back(fmt::format("{}={}", name, value));
  return out;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  out.reserve(words.size() + 1);
  for (std::string& word : words) out.push_back(word.data());
  out.push_back(nullptr);
  return out;
}

// A copy above every number that a child's descriptors are placed at, so that placing one never overwrites another.
Fd lifted(int fd) {
  return Fd(fd < 0 ? -1 : ::fcntl(fd, F_DUPFD_CLOEXEC, 16));
}

}  // namespace

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<PipeEnds> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return fail(Code::kExhausted, fmt::format("no descriptors for a pipe: {}", ::strerror(errno)));
  }
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return PipeEnds{Fd(ends[0]), Fd(ends[1])};
}

std::string describe(const Ending& ending) {
  if (!ending.not_started.empty()) return "could not be started: " + ending.not_started;
  if (WIFSIGNALED(ending.wait_status)) {
    const int number = WTERMSIG(ending.wait_status);
    return fmt::format("was killed by signal {} ({})", number, ::strsignal(number));
  }
  return fmt::format("exited with code {}", WEXITSTATUS(ending.wait_status));
}

Result<std::unique_ptr<Process>> Process::spawn(agent::Reactor& reactor, const SpawnSpec& spec, OnEnd on_end) {
  if (spec.command.empty()) return fail(Code::kInvalid, "there is no command to run");
  auto status = make_pipe();
  if (!status) return tl::unexpected<Error>(status.error());
  const std::array<Fd, ChildPlan::kDescriptors> sources{lifted(spec.stdin_fd), lifted(spec.stdout_fd),
                                                        lifted(spec.stderr_fd), lifted(spec.control_fd)};
  Fd told = lifted(status->write.get());
  const std::array<int, ChildPlan::kDescriptors> given{spec.stdin_fd, spec.stdout_fd, spec.stderr_fd, spec.control_fd};
  for (std::size_t i = 0; i < given.size(); ++i) {  // what could not be copied must not become /dev/null
    if (!told.valid() || (given[i] >= 0 && !sources[i].valid()))
      return fail(Code::kExhausted, "no descriptors left to start a process");
  }
  std::vector<std::string> words = spec.command;
  std::vector<std::string> pairs = environment_with(spec.environment);
  const auto path =
      std::find_if(pairs.begin(), pairs.end(), [](const auto& pair) { return pair.starts_with("PATH="); });
  const std::string program = find_program(words[0], path == pairs.end() ? nullptr : path->c_str() + 5);
  const std::vector<char*> argv = pointers(words);
  const std::vector<char*> envp = pointers(pairs);
  ChildPlan plan;
  plan.program = program.c_str();
  plan.argv = argv.data();
  plan.envp = envp.data();
  if (!spec.working_dir.empty()) plan.working_dir = spec.working_dir.c_str();
  for (std::size_t i = 0; i < sources.size(); ++i) plan.descriptors[i] = sources[i].get();
  plan.status_fd = told.get();
  plan.confinement = spec.confinement;
  plan.outlives = spec.outlives;

  auto process = std::unique_ptr<Process>(new Process(reactor));
  process->outlives_ = spec.outlives;
  process->pid_ = start_child(plan);
  if (process->pid_ < 0) {
    return fail(Code::kExhausted, fmt::format("'{}' cannot be started: {}", words[0], ::strerror(errno)));
  }
  // The end of the pipe comes when the child is its program. With vfork that was before start_child returned; a
  // sanitizer may have made a fork of it.
  told.reset();
  status->write.reset();
  pollfd ended{status->read.get(), POLLIN, 0};
  while (::poll(&ended, 1, -1) < 0 && errno == EINTR) {
  }
  ChildFailure failure;
  if (::read(status->read.get(), &failure, sizeof failure) == static_cast<ssize_t>(sizeof failure)) {
    return fail(Code::kUnsupported, executor::describe(failure, spec.command[0], spec.working_dir));
  }
  process->pid_fd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, process->pid_, 0)));
  process->on_end_ = std::move(on_end);
  auto watched =
      process->pid_fd_.valid()
          ? reactor.add(process->pid_fd_.get(), EPOLLIN, [p = process.get()](std::uint32_t) { p->on_exited(); })
          : fail(Code::kExhausted, fmt::format("cannot watch a process (pidfd_open): {}", ::strerror(errno)));
  if (!watched) return tl::unexpected<Error>(watched.error());  // the destructor kills it
  return process;
}

Process::~Process() {
  if (pid_fd_.valid()) reactor_.remove(pid_fd_.get());
  if (pid_ > 0) {
    ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);
    reap();
  }
}

void Process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

void Process::signal_group(int number) const {
  if (pid_ > 0) ::kill(-pid_, number);
}

void Process::detach() {
  if (pid_fd_.valid()) reactor_.remove(pid_fd_.get());
  pid_fd_.reset();
  pid_ = -1;
}

// Not yet reaped, its number cannot belong to another process: signals by number are safe until here.
Ending Process::reap() {
  Ending ending;
  if (!outlives_) ::kill(-pid_, SIGKILL);  // children it left behind
  while (::waitpid(pid_, &ending.wait_status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return ending;
}

void Process::on_exited() {
  reactor_.remove(pid_fd_.get());
  pid_fd_.reset();
  const Ending ending = reap();
  const OnEnd on_end = std::move(on_end_);
  on_end(ending);  // may have destroyed this object
}

std::string random_token() {
  std::array<char, 16> bytes{};
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t got = ::getrandom(bytes.data() + filled, bytes.size() - filled, 0);
    if (got > 0) filled += static_cast<std::size_t>(got);
  }
  return to_hex(std::string_view(bytes.data(), bytes.size()));
}

}  // namespace shoal::executor
