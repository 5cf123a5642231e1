#include "agent/executor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
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

constexpr int kStatusFd = 4;

std::vector<std::string> confined_command(const SpawnSpec& spec) {
  if (spec.exec_helper.empty()) return spec.command;
  std::vector<std::string> out{spec.exec_helper, "--parent", std::to_string(::getpid()), "--status-fd",
                               std::to_string(kStatusFd)};
  if (!spec.working_dir.empty()) out.insert(out.end(), {"--cwd", spec.working_dir});
  if (spec.confinement.level >= 1) {
    out.insert(out.end(), {"--no-new-privs", "--limit", "core=0"});
    if (spec.confinement.memory_bytes_max > 0) {
      out.insert(out.end(), {"--limit", fmt::format("memory={}", spec.confinement.memory_bytes_max)});
    }
    if (spec.confinement.files_max > 0)
      out.insert(out.end(), {"--limit", fmt::format("files={}", spec.confinement.files_max)});
  }
  out.emplace_back("--");
  out.insert(out.end(), spec.command.begin(), spec.command.end());
  return out;
}

// The two C structures of posix_spawn, released whatever happens.
class SpawnPlan {
 public:
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);    // the agent blocks the signals it reads from a signalfd,
    ::posix_spawnattr_setsigdefault(&attributes, &all);  // and ignores others
    ::posix_spawnattr_setpgroup(&attributes, 0);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  void place(int from, int to) {
    if (from >= 0) {
      ::posix_spawn_file_actions_adddup2(&actions, from, to);
    } else {
      ::posix_spawn_file_actions_addopen(&actions, to, "/dev/null", to == 0 ? O_RDONLY : O_WRONLY, 0);
    }
  }

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

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
  const std::array<Fd, 5> sources{lifted(spec.stdin_fd), lifted(spec.stdout_fd), lifted(spec.stderr_fd),
                                  lifted(spec.control_fd), lifted(status->write.get())};
  if (!sources[kStatusFd].valid()) return fail(Code::kExhausted, "no descriptors left to start a process");
  SpawnPlan plan;
  for (int to = 0; to < 3; ++to) plan.place(sources[static_cast<std::size_t>(to)].get(), to);
  if (spec.control_fd >= 0) plan.place(sources[kControlFd].get(), kControlFd);
  if (!spec.exec_helper.empty()) {
    plan.place(sources[kStatusFd].get(), kStatusFd);
  } else if (!spec.working_dir.empty()) {
    ::posix_spawn_file_actions_addchdir_np(&plan.actions, spec.working_dir.c_str());
  }
  std::vector<std::string> words = confined_command(spec);
  std::vector<std::string> pairs = environment_with(spec.environment);
  const std::vector<char*> argv = pointers(words);
  const std::vector<char*> envp = pointers(pairs);

  auto process = std::unique_ptr<Process>(new Process(reactor));
  if (const int error =
          ::posix_spawnp(&process->pid_, argv[0], &plan.actions, &plan.attributes, argv.data(), envp.data());
      error != 0) {
    process->pid_ = -1;
    const Code code = error == ENOENT || error == EACCES ? Code::kNotFound : Code::kExhausted;
    return fail(code, fmt::format("'{}' cannot be started: {}", words[0], ::strerror(error)));
  }
  process->pid_fd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, process->pid_, 0)));
  process->status_ = std::move(status->read);
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

// Not yet reaped, its number cannot belong to another process: signals by number are safe until here.
Ending Process::reap() {
  Ending ending;
  ::kill(-pid_, SIGKILL);  // children it left behind
  while (::waitpid(pid_, &ending.wait_status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  std::array<char, 1024> text{};
  if (const ssize_t got = ::read(status_.get(), text.data(), text.size()); got > 0) {
    ending.not_started.assign(text.data(), static_cast<std::size_t>(got));
    while (ending.not_started.ends_with('\n')) ending.not_started.pop_back();
  }
  return ending;
}

void Process::on_exited() {
  reactor_.remove(pid_fd_.get());
  pid_fd_.reset();
  const Ending ending = reap();
  const OnEnd on_end = std::move(on_end_);
  on_end(ending);  // may have destroyed this object
}

std::string find_exec_helper() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const auto here = self.parent_path();
  for (const char* place : {"shoal-exec", "../libexec/shoal/shoal-exec", "../bin/shoal-exec", "../../bin/shoal-exec",
                            "../../../bin/shoal-exec"}) {
    const auto candidate = (here / place).lexically_normal();
    if (::access(candidate.c_str(), X_OK) == 0) return candidate.string();
  }
  return {};
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
