#include "edge/exec_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace shoal::edge {
namespace {

constexpr std::size_t kLineBytesMax = 1U << 20;

std::vector<std::string> command_of(const SourceConfig& config) {
  std::vector<std::string> command;
  if (const auto* items = config.options["command"].as_array()) {
    for (const auto& item : *items) {
      if (item.as_text() == nullptr) return {};
      command.push_back(*item.as_text());
    }
  }
  return command;
}

std::string describe(int status) {
  if (WIFSIGNALED(status)) return fmt::format("it was killed by signal {}", WTERMSIG(status));
  if (WEXITSTATUS(status) == 127) return "it could not be started: is the program installed?";
  return fmt::format("it ended with status {}", WEXITSTATUS(status));
}

}  // namespace

Result<> ExecSource::check(const SourceConfig& config) {
  if (command_of(config).empty()) {
    return fail(Code::kInvalid, "an exec source needs 'command', a list of texts: the program and its arguments");
  }
  return {};
}

Result<std::unique_ptr<Source>> ExecSource::start(const SourceConfig& config, HandOver& hand_over) {
  std::unique_ptr<ExecSource> source(new ExecSource(config, hand_over));
  if (::pipe2(source->stop_pipe_, O_CLOEXEC) != 0) return fail(Code::kExhausted, "no descriptors for an exec source");
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  source->thread_ = std::thread([self = source.get()] { self->run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return std::unique_ptr<Source>(std::move(source));
}

ExecSource::ExecSource(const SourceConfig& config, HandOver& hand_over)
    : hand_over_(hand_over), command_(command_of(config)), once_(config.options.bool_or("once", false)) {}

ExecSource::~ExecSource() {
  stopping_ = true;
  if (stop_pipe_[1] >= 0) ::close(stop_pipe_[1]);
  if (thread_.joinable()) thread_.join();
  if (stop_pipe_[0] >= 0) ::close(stop_pipe_[0]);
}

void ExecSource::run() {
  std::int64_t pause_ms = kPauseFirstMs;
  while (!stopping_) {
    hand_over_.report("running", true, "");
    const std::uint64_t before = hand_over_.status().appended;
    std::string end;
    if (!run_once(end)) return;
    if (once_) {
      if (!hand_over_.drain()) return;
      hand_over_.report("finished", true, "");
      hand_over_.finish();
      return;
    }
    hand_over_.report("pausing", false, fmt::format("{} is started again: {}", command_.front(), end));
    hand_over_.count_reconnect();
    // A command that brought something is not failing.
    pause_ms = hand_over_.status().appended > before ? kPauseFirstMs : std::min(pause_ms * 2, kPauseMaxMs);
    if (!hand_over_.sleep(pause_ms)) return;
  }
}

bool ExecSource::run_once(std::string& end) {
  int output[2];
  if (::pipe2(output, O_CLOEXEC) != 0) {
    end = std::strerror(errno);
    return true;
  }
  std::vector<char*> arguments;
  arguments.reserve(command_.size() + 1);
  for (std::string& argument : command_) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {  // only async-signal-safe calls from here
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    const int null = ::open("/dev/null", O_RDONLY);
    if (null >= 0) ::dup2(null, 0);
    ::dup2(output[1], 1);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(output[1]);
  bool going = child > 0;
  std::string buffer;
  while (going) {
    pollfd waits[2] = {{output[0], POLLIN, 0}, {stop_pipe_[0], POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0 && errno != EINTR) break;
    if (stopping_ || (waits[1].revents & (POLLIN | POLLHUP)) != 0) {
      going = false;
      break;
    }
    char bytes[16384];
    const ssize_t n = ::read(output[0], bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    buffer.append(bytes, static_cast<std::size_t>(n));
    for (std::size_t at = buffer.find('\n'); going && (at != std::string::npos || buffer.size() > kLineBytesMax);
         at = buffer.find('\n')) {
      Reading reading;
      reading.value = Bytes(buffer.substr(0, std::min(at, kLineBytesMax)));
      buffer.erase(0, at == std::string::npos ? kLineBytesMax : at + 1);
      going = hand_over_.push(std::move(reading), HandOver::Until::kAccepted);
    }
  }
  if (going && !buffer.empty()) {
    Reading reading;
    reading.value = Bytes(buffer);
    going = hand_over_.push(std::move(reading), HandOver::Until::kAccepted);
  }
  ::close(output[0]);
  if (child > 0) {
    if (!going) ::kill(child, SIGKILL);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    end = describe(status);
  } else {
    end = "no process could be started";
  }
  return going && !stopping_;
}

}  // namespace shoal::edge
