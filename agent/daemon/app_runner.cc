#include "agent/daemon/app_runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

namespace shoal::daemon {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr std::size_t kLogBytesMax = 64 << 20;

std::int64_t unix_ms_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

struct AppRunner::Driver {
  struct Span {  // this many bytes of the log came from one stream
    int stream = 1;
    std::size_t bytes = 0;
  };

  AppState state;
  std::vector<Span> spans;
  std::unique_ptr<executor::Process> process;  // while it runs
  executor::Fd log;
  std::size_t log_bytes = 0;
  std::array<executor::Fd, 3> streams;  // by stream number; 0 is unused
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
    if (driver->kill_timer != 0) reactor_.remove_timer(driver->kill_timer);
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
  driver->log =
      executor::Fd(::open(driver->state.log_path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0600));
  auto out = executor::make_pipe();
  auto err = executor::make_pipe();
  if (!out || !err) return tl::unexpected<Error>(out ? err.error() : out.error());
  executor::SpawnSpec spec;
  spec.command = start.command;
  spec.environment = start.environment;
  spec.working_dir = start.working_dir;
  spec.stdout_fd = out->write.get();
  spec.stderr_fd = err->write.get();
  spec.confinement.level = 0;  // it is the user's own program, as at a shell
  auto process = executor::Process::spawn(
      reactor_, spec, [this, app = start.app](const executor::Ending& ending) { on_ended(app, ending); });
  if (!process) return tl::unexpected<Error>(process.error());
  driver->process = std::move(*process);
  driver->state.pid = driver->process->pid();
  driver->state.running = true;
  driver->state.started_unix_ms = unix_ms_now();
  driver->streams[1] = std::move(out->read);
  driver->streams[2] = std::move(err->read);
  Driver& kept = *driver;
  drivers_[start.app] = std::move(driver);
  for (int stream : {1, 2}) {
    auto watched = reactor_.add(kept.streams[static_cast<std::size_t>(stream)].get(), EPOLLIN,
                                [this, &kept, stream](std::uint32_t) { read_output(kept, stream); });
    if (!watched) {
      drivers_.erase(start.app);
      return watched;
    }
  }
  return {};
}

bool AppRunner::read_output(Driver& driver, int stream) {
  std::array<char, kReadBytes> buffer{};
  const ssize_t n = ::read(driver.streams[static_cast<std::size_t>(stream)].get(), buffer.data(), buffer.size());
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n <= 0) {
    close_stream(driver, stream);
    return false;
  }
  const std::string_view text(buffer.data(), static_cast<std::size_t>(n));
  if (driver.log.valid() && driver.log_bytes < kLogBytesMax) {
    driver.log_bytes += text.size();
    const ssize_t written = ::write(driver.log.get(), text.data(), text.size());
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
  executor::Fd& fd = driver.streams[static_cast<std::size_t>(stream)];
  if (!fd.valid()) return;
  reactor_.remove(fd.get());
  fd.reset();
}

void AppRunner::on_ended(AppId app, const executor::Ending& ending) {
  auto it = drivers_.find(app);
  if (it == drivers_.end()) return;
  Driver& driver = *it->second;
  // What it wrote before it ended is still in the pipes. Children that outlive it may hold them open for
  // ever.
  for (int stream : {1, 2}) {
    while (driver.streams[static_cast<std::size_t>(stream)].valid()) {
      if (!read_output(driver, stream)) break;
    }
    close_stream(driver, stream);
  }
  if (driver.kill_timer != 0) reactor_.remove_timer(driver.kill_timer);
  driver.kill_timer = 0;
  driver.log.reset();
  driver.process.reset();
  driver.state.running = false;
  driver.state.ended_unix_ms = unix_ms_now();
  driver.state.exit_code =
      WIFSIGNALED(ending.wait_status) ? 128 + WTERMSIG(ending.wait_status) : WEXITSTATUS(ending.wait_status);
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
  driver.process->signal_group(SIGTERM);
  if (driver.kill_timer == 0) {
    driver.kill_timer = reactor_.add_timer([process = driver.process.get()] { process->signal_group(SIGKILL); });
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
