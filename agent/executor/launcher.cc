#include "agent/executor/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <utility>

#include "protocol/base/check.h"

namespace shoal::executor {

namespace {

constexpr std::size_t kControlLineMax = 4096;

// Splits off the next word.
std::string_view next_word(std::string_view& line) {
  const auto space = line.find(' ');
  const std::string_view word = line.substr(0, space);
  line.remove_prefix(space == std::string_view::npos ? line.size() : space + 1);
  return word;
}

std::optional<int> number_of(std::string_view word) {
  int value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

}  // namespace

Launcher::Launcher(agent::Reactor& reactor, const ExecutorConfig& config, OutputLog& log, Recipe recipe, Events events)
    : reactor_(reactor), config_(config), log_(log), recipe_(std::move(recipe)), events_(std::move(events)) {
  report_timer_ = reactor_.add_timer([this] { report(); });
}

Launcher::~Launcher() {
  reactor_.remove_timer(report_timer_);
  for (auto& [token, child] : children_) {
    signal_group(token, SIGKILL);
    if (child.pid_fd.valid()) reactor_.remove(child.pid_fd.get());
    remove_fifos(child);
  }
  if (control_.valid()) reactor_.remove(control_.get());
}

void Launcher::start(const std::string& token) {
  SHOAL_CHECK(!stopping_, "no executor is started after stop()");
  if (!recipe_.zygote_command.empty() && !zygote_broken_) return start_forked(token);
  start_direct(token);
}

void Launcher::start_direct(const std::string& token) {
  Child& child = children_[token];
  auto out = make_pipe();
  auto err = make_pipe();
  SpawnSpec spec;
  spec.command = recipe_.command;
  spec.environment = recipe_.environment;
  spec.environment["SHOAL_EXECUTOR_TOKEN"] = token;
  spec.confinement = config_.confinement;
  if (!out || !err) return finish(token, Ending{0, out ? err.error().message : out.error().message});
  const auto owner = [this, token] { return events_.owner(token); };
  child.out = std::make_unique<OutputReader>(reactor_, log_, std::move(out->read), 1, owner);
  child.err = std::make_unique<OutputReader>(reactor_, log_, std::move(err->read), 2, owner);
  spec.stdout_fd = out->write.get();
  spec.stderr_fd = err->write.get();
  auto process = Process::spawn(reactor_, spec, [this, token](const Ending& ending) { finish(token, ending); });
  if (!process) return finish(token, Ending{0, process.error().message});
  child.pid = (*process)->pid();
  child.process = std::move(*process);
}

Result<> Launcher::open_zygote() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail(Code::kExhausted, fmt::format("no descriptors for a socket pair: {}", ::strerror(errno)));
  }
  Fd ours(ends[0]);
  const Fd theirs(ends[1]);
  ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
  auto out = make_pipe();
  auto err = make_pipe();
  if (!out || !err) return tl::unexpected<Error>(out ? err.error() : out.error());
  SpawnSpec spec;
  spec.command = recipe_.zygote_command;
  spec.environment = recipe_.environment;
  spec.confinement = config_.confinement;
  spec.stdout_fd = out->write.get();
  spec.stderr_fd = err->write.get();
  spec.control_fd = theirs.get();
  const auto nobody = [] { return OutputOwner{}; };
  zygote_out_ = std::make_unique<OutputReader>(reactor_, log_, std::move(out->read), 1, nobody);
  zygote_err_ = std::make_unique<OutputReader>(reactor_, log_, std::move(err->read), 2, nobody);
  auto process = Process::spawn(reactor_, spec, [this](const Ending& ending) { on_zygote_gone(ending); });
  if (!process) return tl::unexpected<Error>(process.error());
  zygote_ = std::move(*process);
  control_ = std::move(ours);
  control_input_.clear();
  zygote_ready_ = false;
  return reactor_.add(control_.get(), EPOLLIN, [this](std::uint32_t events) { on_control(events); });
}

Result<> Launcher::open_fifos(Child& child, const std::string& token) {
  const std::array<std::unique_ptr<OutputReader>*, 2> readers = {&child.out, &child.err};
  for (std::size_t i = 0; i < readers.size(); ++i) {
    const std::string path = fmt::format("{}/.{}.{}", config_.log_dir, token, i == 0 ? "out" : "err");
    if (::mkfifo(path.c_str(), 0600) != 0) {
      return fail(Code::kUnavailable,
                  fmt::format("cannot make a pipe for an executor's output at '{}': {}", path, ::strerror(errno)));
    }
    child.fifos[i] = path;
    Fd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!fd.valid()) return fail(Code::kUnavailable, fmt::format("cannot open '{}': {}", path, ::strerror(errno)));
    *readers[i] = std::make_unique<OutputReader>(reactor_, log_, std::move(fd), static_cast<std::uint8_t>(i + 1),
                                                 [this, token] { return events_.owner(token); });
  }
  return {};
}

void Launcher::start_forked(const std::string& token) {
  if (zygote_ && !control_.valid()) return start_direct(token);  // it is on its way out, for lack of work
  Child& child = children_[token];
  if (!zygote_) {
    if (auto opened = open_zygote(); !opened) return finish(token, Ending{0, opened.error().message});
  }
  if (auto opened = open_fifos(child, token); !opened) return finish(token, Ending{0, opened.error().message});
  const std::string line = fmt::format("fork {} {}\t{}\n", token, child.fifos[0], child.fifos[1]);
  forking_.push_back(token);
  // A dead zygote is noticed by its pidfd, which then takes care of everything in `forking_`.
  [[maybe_unused]] const auto sent = ::send(control_.get(), line.data(), line.size(), MSG_NOSIGNAL);
}

void Launcher::on_control(std::uint32_t /*events*/) {
  std::array<char, 4096> bytes;
  const ssize_t got = ::recv(control_.get(), bytes.data(), bytes.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    reactor_.remove(control_.get());  // the process is ending: its pidfd tells the rest
    return;
  }
  control_input_.append(bytes.data(), static_cast<std::size_t>(got));
  for (;;) {
    const auto end = control_input_.find('\n');
    if (end == std::string::npos) break;
    const std::string line = control_input_.substr(0, end);
    control_input_.erase(0, end + 1);
    take_line(line);
  }
  if (control_input_.size() > kControlLineMax) {
    spdlog::error("the zygote of Python executors talks nonsense and is stopped");
    control_input_.clear();
    zygote_->signal_group(SIGKILL);
  }
}

void Launcher::take_line(std::string_view line) {
  const std::string_view word = next_word(line);
  const auto pid = number_of(next_word(line));
  if (word == "ready") {
    zygote_ready_ = true;
  } else if (word == "pid" && pid && *pid > 0) {
    on_forked(*pid);
  } else if (word == "exit" && pid) {
    on_exited(*pid, number_of(next_word(line)).value_or(0));
  } else {
    spdlog::warn("the zygote of Python executors said '{}', which nobody understands", word);
  }
}

void Launcher::on_forked(pid_t pid) {
  if (forking_.empty()) return;
  const std::string token = forking_.front();
  forking_.pop_front();
  zygote_ready_ = true;
  const auto found = children_.find(token);
  if (found == children_.end()) return;
  found->second.pid = pid;
  found->second.pid_fd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));  // not there: its "exit" line follows
}

void Launcher::on_exited(pid_t pid, int wait_status) {
  for (auto& [token, child] : children_) {
    if (child.process || child.pid != pid) continue;
    if (child.leads_group) ::kill(-pid, SIGKILL);  // what its tasks left running
    return finish(token, Ending{wait_status, {}});
  }
}

void Launcher::on_zygote_gone(const Ending& ending) {
  const std::unique_ptr<Process> zygote = std::move(zygote_);
  if (reactor_.watches(control_.get())) {
    on_control(EPOLLIN);  // lines it said last
    if (control_.valid()) reactor_.remove(control_.get());
  }
  control_.reset();
  if (zygote_err_) zygote_err_->drain();
  const std::string said = zygote_err_ ? last_line(zygote_err_->tail()) : std::string();
  zygote_err_.reset();
  zygote_out_.reset();
  std::deque<std::string> unborn;
  unborn.swap(forking_);
  // Its children are told to die with it; make sure, and do not wait for "exit" lines that nobody will write.
  std::vector<std::string> orphans;
  for (const auto& [token, child] : children_) {
    if (!child.process && child.pid > 0) orphans.push_back(token);
  }
  for (const std::string& token : orphans) {
    signal_group(token, SIGKILL);
    finish(token, Ending{SIGKILL, {}});
  }
  if (zygote_ready_ || stopping_) {  // it worked until now: a new one will
    for (const std::string& token : unborn) finish(token, Ending{SIGKILL, {}});
    return;
  }
  if (!ending.not_started.empty()) {  // no such interpreter: starting it in another way cannot help
    for (const std::string& token : unborn) finish(token, ending);
    return;
  }
  zygote_broken_ = true;
  spdlog::warn(
      "the zygote of Python executors ({}) {}{}{}; executors are started one by one from now on, which takes longer",
      recipe_.zygote_command.front(), describe(ending), said.empty() ? "" : ": ", said);
  for (const std::string& token : unborn) {
    remove_fifos(children_[token]);
    children_.erase(token);
    start_direct(token);
  }
}

void Launcher::connected(const std::string& token) {
  const auto found = children_.find(token);
  if (found == children_.end()) return;
  Child& child = found->second;
  remove_fifos(child);
  child.leads_group = child.pid > 0 && ::getpgid(child.pid) == child.pid;
}

void Launcher::remove_fifos(Child& child) {
  for (auto& fifo : child.fifos) {
    if (!fifo.empty()) ::unlink(fifo.c_str());
    fifo.clear();
  }
}

void Launcher::signal(const std::string& token, int number) {
  const auto found = children_.find(token);
  if (found == children_.end()) return;
  const Child& child = found->second;
  if (child.process) return child.process->signal(number);
  if (child.pid_fd.valid()) ::syscall(SYS_pidfd_send_signal, child.pid_fd.get(), number, nullptr, 0);
}

void Launcher::signal_group(const std::string& token, int number) {
  const auto found = children_.find(token);
  if (found == children_.end()) return;
  const Child& child = found->second;
  if (child.process) return child.process->signal_group(number);
  if (child.pid > 0) {
    if (::getpgid(child.pid) == child.pid) ::kill(-child.pid, number);
    return signal(token, number);
  }
  // Not even forked: the zygote hangs. Its end starts the executor in the other way.
  if (number == SIGKILL && zygote_) {
    zygote_ready_ = false;
    zygote_->signal_group(SIGKILL);
  }
}

bool Launcher::drain_output(const std::string& token) {
  const auto found = children_.find(token);
  if (found == children_.end()) return false;
  bool some = false;
  if (found->second.out) some = found->second.out->drain();
  if (found->second.err) some = found->second.err->drain() || some;
  return some;
}

void Launcher::finish(const std::string& token, Ending ending) {
  const auto found = children_.find(token);
  if (found == children_.end()) return;
  drain_output(token);
  Child& child = found->second;
  ExecutorEnd end{token, std::move(ending), {}};
  if (child.err) end.said = last_line(child.err->tail());
  if (end.said.empty() && child.out) end.said = last_line(child.out->tail());
  remove_fifos(child);
  children_.erase(found);
  ends_.push_back(std::move(end));
  reactor_.set_timer(report_timer_, Instant{0});
}

void Launcher::report() {
  std::vector<ExecutorEnd> ends;
  ends.swap(ends_);
  for (const ExecutorEnd& end : ends) events_.ended(end);
}

void Launcher::rest() {
  if (!zygote_ || !children_.empty() || !forking_.empty()) return;
  if (control_.valid()) {
    reactor_.remove(control_.get());
    control_.reset();  // end of file: it exits
  }
}

void Launcher::stop(int number) {
  stopping_ = true;
  for (const auto& [token, child] : children_) signal_group(token, number);
  if (zygote_) zygote_->signal_group(number);
}

}  // namespace shoal::executor
