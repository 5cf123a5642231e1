#include "agent/executor/command_runner.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "agent/executor/file_area.h"
#include "protocol/wire/blob.h"

namespace shoal::executor {

namespace {

using client::AccessKind;
using client::AttemptResult;
using client::Outcome;

const client::Argument* find_kind(const std::vector<client::Argument>& arguments, AccessKind kind) {
  const auto found = std::find_if(arguments.begin(), arguments.end(), [kind](const auto& a) { return a.kind == kind; });
  return found == arguments.end() ? nullptr : &*found;
}

// The value of every argument that writes, depth first. `missing` gets the first output file that is not there.
void collect_outputs(const std::vector<client::Argument>& arguments, int exit_value, std::vector<client::Value>& out,
                     std::string& missing) {
  for (const client::Argument& argument : arguments) {
    if (argument.kind == AccessKind::kCollection) {
      collect_outputs(argument.items, exit_value, out, missing);
      continue;
    }
    if (!writes(argument.direction)) continue;
    if (const std::string& path = path_for(argument); !path.empty()) {
      const bool there = ::access(path.c_str(), F_OK) == 0;
      if (!there && missing.empty()) missing = path;
      out.push_back(there ? client::Value(client::FilePath{path}) : client::Value(client::Nothing{}));
    } else if (argument.name.starts_with("$")) {
      out.emplace_back(client::Inline{wire::to_blob(static_cast<std::int64_t>(exit_value))});
    } else {
      out.push_back(argument.value);  // an object a command cannot touch: as it was
    }
  }
}

}  // namespace

struct CommandRunner::Running {
  client::Attempt attempt;
  environment::Surroundings surroundings;
  std::unique_ptr<Process> process;
  std::unique_ptr<OutputReader> out;
  std::unique_ptr<OutputReader> err;
  Instant started;
  Instant act_at = Instant::never();  // time-out, or the SIGKILL after a SIGTERM
  bool terminated = false;            // SIGTERM sent
  std::optional<Outcome> killed;
};

CommandRunner::CommandRunner(agent::Reactor& reactor, const ExecutorConfig& config, OutputLog& log, Report report)
    : reactor_(reactor), config_(config), log_(log), report_(std::move(report)) {
  timer_ = reactor_.add_timer([this] { on_timer(); });
}

CommandRunner::~CommandRunner() {
  reactor_.remove_timer(timer_);
}

void CommandRunner::run(client::Attempt attempt, const environment::Surroundings& surroundings) {
  queue_.push_back({std::move(attempt), surroundings});
}

void CommandRunner::start_queued() {
  while (!queue_.empty() && running_.size() < std::max<std::size_t>(config_.computing_units, 1)) {
    Queued next = std::move(queue_.front());
    queue_.pop_front();
    start(std::move(next));
  }
}

Result<Fd> CommandRunner::open_stream(Running& running, AccessKind kind, std::uint8_t stream) {
  const client::Argument* argument = find_kind(running.attempt.arguments, kind);
  if (argument != nullptr && !path_for(*argument).empty()) {
    const std::string& path = path_for(*argument);
    const bool append = argument->direction == client::Direction::kInOut;
    const int flags = kind == AccessKind::kStdin ? O_RDONLY : O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC);
    Fd fd(::open(path.c_str(), flags | O_CLOEXEC, 0644));
    if (!fd.valid()) return fail(Code::kUnavailable, fmt::format("cannot open '{}': {}", path, ::strerror(errno)));
    return fd;
  }
  if (kind == AccessKind::kStdin) return Fd();
  auto pipe = make_pipe();
  if (!pipe) return tl::unexpected<Error>(pipe.error());
  auto& reader = stream == 1 ? running.out : running.err;
  reader = std::make_unique<OutputReader>(
      reactor_, log_, std::move(pipe->read), stream,
      [owner = OutputOwner{running.attempt.app, running.attempt.task}] { return owner; });
  return std::move(pipe->write);
}

Result<> CommandRunner::prepare(Running& running, SpawnSpec& spec) {
  auto command = fill_command(running.attempt);
  if (!command) return tl::unexpected<Error>(command.error());
  spec.command = std::move(*command);
  spec.environment = {{"SHOAL_SOCKET", config_.socket_path}};
  running.surroundings.add_all_to(spec.environment);
  spec.working_dir = running.attempt.working_dir.empty() ? config_.files_dir : running.attempt.working_dir;
  spec.confinement = config_.confinement;
  return copy_updated_files(running.attempt);
}

void CommandRunner::start(Queued queued) {
  const std::uint64_t id = queued.attempt.attempt;
  auto running = std::make_unique<Running>();
  running->attempt = std::move(queued.attempt);
  running->surroundings = std::move(queued.surroundings);
  running->started = agent::Reactor::now();
  if (running->attempt.timeout_ms > 0) {
    running->act_at = running->started + milliseconds(static_cast<std::int64_t>(running->attempt.timeout_ms));
  }
  SpawnSpec spec;
  auto failed = [&](const Error& error) { report_(AttemptResult{id, Outcome::kException, error.message, {}, {}, 0}); };
  if (auto prepared = prepare(*running, spec); !prepared) return failed(prepared.error());
  auto in = open_stream(*running, AccessKind::kStdin, 0);
  if (!in) return failed(in.error());
  auto out = open_stream(*running, AccessKind::kStdout, 1);
  if (!out) return failed(out.error());
  auto err = open_stream(*running, AccessKind::kStderr, 2);
  if (!err) return failed(err.error());
  spec.stdin_fd = in->get();
  spec.stdout_fd = out->get();
  spec.stderr_fd = err->get();
  auto process = Process::spawn(reactor_, spec, [this, id](const Ending& ending) { on_end(id, ending); });
  if (!process) return failed(process.error());
  running->process = std::move(*process);
  running_.emplace(id, std::move(running));
  arm_timer();
}

void CommandRunner::on_end(std::uint64_t attempt, const Ending& ending) {
  const auto found = running_.find(attempt);
  if (found == running_.end()) return;
  const std::unique_ptr<Running> running = std::move(found->second);
  running_.erase(found);
  if (running->out) running->out->drain();
  if (running->err) running->err->drain();
  AttemptResult result;
  result.attempt = attempt;
  result.run_us = static_cast<std::uint64_t>((agent::Reactor::now() - running->started).us);
  const std::string& program = running->attempt.command.front();
  if (running->killed) {
    result.outcome = *running->killed;
    result.message = *running->killed == Outcome::kTimedOut
                         ? fmt::format("'{}' exceeded its time limit of {} ms", program, running->attempt.timeout_ms)
                         : fmt::format("'{}' was cancelled", program);
    report_(std::move(result));
    return;
  }
  const bool exited = WIFEXITED(ending.wait_status);
  const int exit_value = exited ? WEXITSTATUS(ending.wait_status) : -1;
  const bool good = exited && (exit_value == 0 || !running->attempt.fail_by_exit_value);
  std::string missing;
  collect_outputs(running->attempt.arguments, exit_value, result.outputs, missing);
  if (!good) {
    const std::string said = running->err ? last_line(running->err->tail()) : std::string();
    result.message = fmt::format("'{}' {}{}{}", program, describe(ending), said.empty() ? "" : ": ", said);
  } else if (!missing.empty()) {
    result.message = fmt::format("'{}' ended without writing its output file '{}'", program, missing);
  }
  result.outcome = result.message.empty() ? Outcome::kDone : Outcome::kException;
  report_(std::move(result));
}

std::vector<EnvironmentId> CommandRunner::environments_in_use() const {
  std::vector<EnvironmentId> out;
  const auto note = [&out](EnvironmentId id) {
    if (!id.is_zero()) out.push_back(id);
  };
  for (const auto& queued : queue_) note(queued.surroundings.id);
  for (const auto& [attempt, running] : running_) note(running->surroundings.id);
  return out;
}

bool CommandRunner::kill(std::uint64_t attempt, bool timed_out) {
  const Outcome outcome = timed_out ? Outcome::kTimedOut : Outcome::kCancelled;
  const auto queued = std::find_if(queue_.begin(), queue_.end(),
                                   [attempt](const Queued& one) { return one.attempt.attempt == attempt; });
  if (queued != queue_.end()) {
    queue_.erase(queued);
    report_(AttemptResult{attempt, outcome, "cancelled before it started", {}, {}, 0});
    return true;
  }
  const auto found = running_.find(attempt);
  if (found == running_.end()) return false;
  Running& running = *found->second;
  running.killed = outcome;
  if (!running.terminated) {
    running.terminated = true;
    running.process->signal_group(SIGTERM);
    running.act_at = agent::Reactor::now() + config_.kill_grace;
    arm_timer();
  }
  return true;
}

void CommandRunner::stop(int signal) {
  queue_.clear();
  for (auto& [id, running] : running_) {
    running->terminated = true;
    running->killed = Outcome::kCancelled;
    running->process->signal_group(signal);
  }
}

void CommandRunner::on_timer() {
  const Instant now = agent::Reactor::now();
  for (auto& [id, running] : running_) {
    if (running->act_at > now) continue;
    running->act_at = Instant::never();
    if (running->terminated) {
      running->process->signal_group(SIGKILL);
    } else {
      running->killed = Outcome::kTimedOut;
      running->terminated = true;
      running->process->signal_group(SIGTERM);
      running->act_at = now + config_.kill_grace;
    }
  }
  arm_timer();
}

void CommandRunner::arm_timer() {
  Instant next = Instant::never();
  for (const auto& [id, running] : running_) next = std::min(next, running->act_at);
  reactor_.set_timer(timer_, next);
}

}  // namespace shoal::executor
