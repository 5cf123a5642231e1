#include "agent/daemon/app_runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "agent/executor/process.h"

namespace shoal::daemon {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr std::size_t kLogBytesMax = 64 << 20;

std::int64_t unix_ms_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

struct Pipe {
  int read_end = -1;
  int write_end = -1;
};

// The command by way of shoal-exec, so that it dies with this process even when that is killed. A name that is looked
// up in PATH goes without, so that a program that is not there is noticed at once.
std::vector<std::string> tied_to_this_process(const std::vector<std::string>& command) {
  const std::string helper = executor::find_exec_helper();
  if (helper.empty() || command[0].find('/') == std::string::npos || ::access(command[0].c_str(), X_OK) != 0)
    return command;
  std::vector<std::string> out{helper, "--parent", std::to_string(::getpid()), "--"};
  out.insert(out.end(), command.begin(), command.end());
  return out;
}

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return fail(Code::kExhausted, fmt::format("no pipe: {}", std::strerror(errno)));
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return Pipe{ends[0], ends[1]};
}

}  // namespace

struct AppRunner::Driver {
  struct Span {  // this many bytes of the log came from one stream
    int stream = 1;
    std::size_t bytes = 0;
  };

  AppState state;
  std::vector<Span> spans;
  int pid_fd = -1;
  int log_fd = -1;
  std::size_t log_bytes = 0;
  std::array<int, 3> streams{-1, -1, -1};  // by stream number; 0 is unused
  agent::Reactor::TimerId kill_timer = 0;
};

AppRunner::AppRunner(agent::Reactor& reactor, std::string logs_dir, OnOutput on_output, OnExit on_exit)
    : reactor_(reactor),
      logs_dir_(std::move(logs_dir)),
      on_output_(std::move(on_output)),
      on_exit_(std::move(on_exit)) {}

AppRunner::~AppRunner() {
  for (auto& [app, driver] : drivers_) {
    close_stream(*driver, 1);
    close_stream(*driver, 2);
    if (driver->log_fd >= 0) ::close(driver->log_fd);
    if (driver->kill_timer != 0) reactor_.remove_timer(driver->kill_timer);
    if (!driver->state.running) continue;
    ::kill(-driver->state.pid, SIGKILL);
    ::waitpid(driver->state.pid, nullptr, 0);
    reactor_.remove(driver->pid_fd);
    ::close(driver->pid_fd);
  }
}

Result<> AppRunner::start(const AppStart& start) {
  if (running() >= kRunningMax)
    return fail(Code::kExhausted, fmt::format("{} applications already run on this agent", kRunningMax));
  if (start.command.empty()) return fail(Code::kInvalid, "no program to run");
  std::error_code ignored;
  if (!std::filesystem::is_directory(start.working_dir, ignored)) {
    return fail(Code::kInvalid, fmt::format("the directory {} does not exist on this agent's host", start.working_dir));
  }
  auto driver = std::make_unique<Driver>();
  driver->state.app = start.app;
  driver->state.name = start.name;
  driver->state.log_path = log_path(start.app);
  driver->log_fd = ::open(driver->state.log_path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  auto out = make_pipe();
  auto err = make_pipe();
  if (!out || !err) return tl::unexpected<Error>(out ? err.error() : out.error());

  std::map<std::string, std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view pair(*entry);
    const auto equals = pair.find('=');
    if (equals != std::string_view::npos) environment[std::string(pair.substr(0, equals))] = pair.substr(equals + 1);
  }
  for (const auto& [name, value] : start.environment) environment[name] = value;
  std::vector<std::string> pairs;
  pairs.reserve(environment.size());
  for (const auto& [name, value] : environment) pairs.push_back(fmt::format("{}={}", name, value));
  std::vector<char*> envp;
  envp.reserve(pairs.size() + 1);
  for (auto& pair : pairs) envp.push_back(pair.data());
  envp.push_back(nullptr);
  std::vector<std::string> words = tied_to_this_process(start.command);
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out->write_end, 1);
  posix_spawn_file_actions_adddup2(&actions, err->write_end, 2);
  posix_spawn_file_actions_addchdir_np(&actions, start.working_dir.c_str());
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  ::close(out->write_end);
  ::close(err->write_end);
  if (failed != 0) {
    ::close(out->read_end);
    ::close(err->read_end);
    if (driver->log_fd >= 0) ::close(driver->log_fd);
    return fail(Code::kUnsupported, fmt::format("cannot run {}: {}", start.command[0], std::strerror(failed)));
  }
  driver->state.pid = pid;
  driver->state.running = true;
  driver->state.started_unix_ms = unix_ms_now();
  driver->streams = {-1, out->read_end, err->read_end};
  driver->pid_fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  Driver& kept = *driver;
  drivers_[start.app] = std::move(driver);
  for (int stream : {1, 2}) {
    (void)reactor_.add(kept.streams[static_cast<std::size_t>(stream)], EPOLLIN,
                       [this, &kept, stream](std::uint32_t) { read_output(kept, stream); });
  }
  return reactor_.add(kept.pid_fd, EPOLLIN, [this, app = start.app](std::uint32_t) { on_exited(app); });
}

bool AppRunner::read_output(Driver& driver, int stream) {
  std::array<char, kReadBytes> buffer{};
  const int fd = driver.streams[static_cast<std::size_t>(stream)];
  const ssize_t n = ::read(fd, buffer.data(), buffer.size());
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n <= 0) {
    close_stream(driver, stream);
    return false;
  }
  const std::string_view text(buffer.data(), static_cast<std::size_t>(n));
  if (driver.log_fd >= 0 && driver.log_bytes < kLogBytesMax) {
    driver.log_bytes += text.size();
    const ssize_t written = ::write(driver.log_fd, text.data(), text.size());
    if (written < 0) {
      driver.log_bytes = kLogBytesMax;  // full disk: keep running
    } else if (!driver.spans.empty() && (driver.spans.back().stream == stream || driver.spans.size() >= kSpansMax)) {
      driver.spans.back().bytes += static_cast<std::size_t>(written);
    } else {
      driver.spans.push_back({stream, static_cast<std::size_t>(written)});
    }
  }
  on_output_(driver.state.app, stream, text);
  return true;
}

void AppRunner::close_stream(Driver& driver, int stream) {
  int& fd = driver.streams[static_cast<std::size_t>(stream)];
  if (fd < 0) return;
  reactor_.remove(fd);
  ::close(fd);
  fd = -1;
}

void AppRunner::on_exited(AppId app) {
  auto it = drivers_.find(app);
  if (it == drivers_.end()) return;
  Driver& driver = *it->second;
  int status = 0;
  if (::waitpid(driver.state.pid, &status, WNOHANG) != driver.state.pid) return;
  reactor_.remove(driver.pid_fd);
  ::close(driver.pid_fd);
  // What it wrote before it ended is still in the pipes. Children that outlive it may hold them open for
  // ever.
  for (int stream : {1, 2}) {
    while (driver.streams[static_cast<std::size_t>(stream)] >= 0) {
      if (!read_output(driver, stream)) break;
    }
    close_stream(driver, stream);
  }
  ::kill(-driver.state.pid, SIGKILL);
  if (driver.kill_timer != 0) reactor_.remove_timer(driver.kill_timer);
  driver.kill_timer = 0;
  if (driver.log_fd >= 0) ::close(driver.log_fd);
  driver.log_fd = -1;
  driver.state.running = false;
  driver.state.ended_unix_ms = unix_ms_now();
  driver.state.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  finished_.push_back(app);
  on_exit_(driver.state);
  while (finished_.size() > kFinishedMax) {
    auto oldest = drivers_.find(finished_.front());
    if (oldest != drivers_.end()) {
      ::unlink(oldest->second->state.log_path.c_str());
      drivers_.erase(oldest);
    }
    finished_.erase(finished_.begin());
  }
}

Result<> AppRunner::stop(AppId app, Duration grace) {
  auto it = drivers_.find(app);
  if (it == drivers_.end() || !it->second->state.running) {
    return fail(Code::kNotFound, fmt::format("no driver of application {} runs here", app.brief()));
  }
  Driver& driver = *it->second;
  ::kill(-driver.state.pid, SIGTERM);
  if (driver.kill_timer == 0) {
    driver.kill_timer = reactor_.add_timer([pid = driver.state.pid] { ::kill(-pid, SIGKILL); });
    reactor_.set_timer(driver.kill_timer, agent::Reactor::now() + grace);
  }
  return {};
}

const AppState* AppRunner::find(AppId app) const {
  auto it = drivers_.find(app);
  return it == drivers_.end() ? nullptr : &it->second->state;
}

std::string AppRunner::log_path(AppId app) const {
  return fmt::format("{}/{}.driver.log", logs_dir_, app.hex());
}

std::size_t AppRunner::read(AppId app, std::size_t offset, std::size_t bytes_max,
                            const std::function<void(int stream, std::string_view text)>& take,
                            std::size_t held) const {
  std::string text;
  const int fd = ::open(log_path(app).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return offset;
  struct stat info{};
  if (::fstat(fd, &info) == 0 && static_cast<std::size_t>(info.st_size) > offset + held)
    text.resize(std::min(bytes_max, static_cast<std::size_t>(info.st_size) - offset - held));
  const ssize_t got = ::pread(fd, text.data(), text.size(), static_cast<off_t>(offset));
  ::close(fd);
  std::string_view rest(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  const std::size_t end = offset + rest.size();
  auto it = drivers_.find(app);
  if (it == drivers_.end()) {
    if (!rest.empty()) take(1, rest);
    return end;
  }
  std::size_t begin = 0;  // of the span in the log
  for (const auto& span : it->second->spans) {
    if (rest.empty()) break;
    begin += span.bytes;
    if (begin <= offset) continue;
    const std::string_view part = rest.substr(0, begin - offset);
    take(span.stream, part);
    rest.remove_prefix(part.size());
    offset += part.size();
  }
  return end;
}

std::vector<AppState> AppRunner::list() const {
  std::vector<AppState> out;
  out.reserve(drivers_.size());
  for (const auto& [app, driver] : drivers_) out.push_back(driver->state);
  return out;
}

std::size_t AppRunner::running() const {
  std::size_t count = 0;
  for (const auto& [app, driver] : drivers_) count += driver->state.running ? 1 : 0;
  return count;
}

}  // namespace shoal::daemon
