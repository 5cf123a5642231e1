#include "agent/executor/executor_pool.h"

#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "agent/executor/file_area.h"

namespace shoal::executor {

namespace {

ExecutorConfig checked(ExecutorConfig config) {
  for (const std::string& dir : {config.files_dir, config.log_dir}) {
    std::error_code error;
    std::filesystem::create_directories(dir, error);
    if (error) spdlog::error("cannot create the directory '{}': {}", dir, error.message());
  }
  return config;
}

}  // namespace

ExecutorPool::ExecutorPool(agent::Reactor& reactor, ClientServer& server, ExecutorConfig config, Events events)
    : reactor_(reactor),
      server_(server),
      config_(checked(std::move(config))),
      events_(std::move(events)),
      log_(config_.log_dir, config_.log_bytes_max, [this](const Output& output) {
        if (events_.output && !stopped_) events_.output(output);
      }) {
  commands_ = std::make_unique<CommandRunner>(reactor_, config_, log_, [this](client::AttemptResult&& result) {
    report(std::move(result));
    mark_changed();
  });
  deliver_timer_ = reactor_.add_timer([this] { deliver(); });
  hook_ = reactor_.before_wait([this] { end_turn(); });
}

ExecutorPool::~ExecutorPool() {
  stopped_ = true;
  reactor_.remove_hook(hook_);
  reactor_.remove_timer(deliver_timer_);
  commands_.reset();
  groups_.clear();
}

ExecutorGroup& ExecutorPool::group_for(const std::string& language, const std::string& program,
                                       const environment::Surroundings& surroundings) {
  auto& group = groups_[{language, program, surroundings.id}];
  if (!group) {
    group = std::make_unique<ExecutorGroup>(
        reactor_, server_, config_, log_, ExecutorGroup::Kind{language, program, surroundings},
        ExecutorGroup::Events{[this](client::AttemptResult&& result) { report(std::move(result)); },
                              [this](std::uint64_t attempt, bool blocked) {
                                mark_changed();
                                if (events_.blocked && !stopped_) events_.blocked({attempt, blocked});
                              },
                              [this] { mark_changed(); }});
  }
  return *group;
}

bool ExecutorPool::place(client::Attempt& attempt) {
  ++launched_;
  auto placed = place_files(attempt, config_.files_dir);
  if (!placed) report({attempt.attempt, client::Outcome::kException, placed.error().message, {}, {}, 0});
  return placed.has_value();
}

void ExecutorPool::launch(scheduler::out::Launch launch, const environment::Surroundings& surroundings) {
  if (stopped_) return;
  mark_changed();
  if (launch.language == "python" || launch.language == "c++") {
    const bool is_python = launch.language == "python";
    ExecutorGroup& group =
        group_for(launch.language, launch.python.empty() && is_python ? config_.python : launch.python, surroundings);
    for (client::Function& function : launch.functions) group.add_function(std::move(function));
    for (client::Attempt& attempt : launch.attempts) {
      if (place(attempt)) group.run(std::move(attempt));
    }
    return;
  }
  for (client::Attempt& attempt : launch.attempts) {
    if (launch.language != "command" || attempt.command.empty()) {
      ++launched_;
      report({attempt.attempt,
              client::Outcome::kException,
              launch.language == "command"
                  ? std::string("the command of the task is empty")
                  : fmt::format("this agent runs no tasks in the language '{}'", launch.language),
              {},
              {},
              0});
    } else if (place(attempt)) {
      commands_->run(std::move(attempt), surroundings);
    }
  }
}

void ExecutorPool::kill(const scheduler::out::Kill& kill) {
  if (stopped_) return;
  mark_changed();
  for (const std::uint64_t attempt : kill.attempts) {
    if (commands_->kill(attempt, kill.timed_out)) continue;
    for (const auto& [key, group] : groups_) {
      if (group->kill(attempt, kill.timed_out)) break;
    }
  }
}

bool ExecutorPool::take(ClientEvent& event) {
  if (auto* connected = std::get_if<ClientConnected>(&event)) {
    if (connected->hello.role != "executor") return false;
    mark_changed();
    for (const auto& [key, group] : groups_) {
      if (group->on_connected(connected->client, connected->hello.name)) return true;
    }
    server_.reject(connected->client, {Code::kDenied, "this agent did not start that executor"});
    return true;
  }
  if (const auto* gone = std::get_if<ClientGone>(&event)) {
    return std::any_of(groups_.begin(), groups_.end(),
                       [&](const auto& entry) { return entry.second->on_gone(gone->client, gone->reason); });
  }
  auto& frame = std::get<ClientFrame>(event);
  if (auto* done = std::get_if<client::Done>(&frame.message)) {
    mark_changed();
    for (const auto& [key, group] : groups_) {
      if (group->on_done(frame.client, std::move(*done))) return true;
    }
  } else if (const auto* blocked = std::get_if<client::Blocked>(&frame.message)) {
    for (const auto& [key, group] : groups_) {
      if (group->on_blocked(frame.client, *blocked)) return true;
    }
  } else {
    return false;
  }
  server_.reject(frame.client, {Code::kDenied, "only executors report attempts"});
  return true;
}

void ExecutorPool::report(client::AttemptResult&& result) {
  ++finished_;
  if (stopped_) return;
  if (results_.empty()) reactor_.set_timer(deliver_timer_, Instant{0});
  results_.push_back(std::move(result));
}

void ExecutorPool::deliver() {
  if (results_.empty() || stopped_) return;
  scheduler::in::AttemptsDone done;
  done.results.swap(results_);
  if (events_.done) events_.done(std::move(done));
}

void ExecutorPool::mark_changed() {
  changed_ = true;
}

void ExecutorPool::end_turn() {
  if (!changed_ || stopped_) return;
  changed_ = false;
  commands_->start_queued();
  for (const auto& [key, group] : groups_) group->dispatch();
  server_.flush();
}

void ExecutorPool::shutdown(Instant deadline) {
  stopped_ = true;
  results_.clear();
  commands_->stop(SIGTERM);
  for (const auto& [key, group] : groups_) group->stop(SIGTERM);
  while (processes_alive() > 0 && agent::Reactor::now() < deadline) reactor_.run_once(deadline);
  if (processes_alive() == 0) return;
  spdlog::warn("{} processes did not end when asked to; they are killed", processes_alive());
  commands_->stop(SIGKILL);
  for (const auto& [key, group] : groups_) group->stop(SIGKILL);
  const Instant last = agent::Reactor::now() + seconds(2);
  while (processes_alive() > 0 && agent::Reactor::now() < last) reactor_.run_once(last);
}

std::size_t ExecutorPool::processes_alive() const {
  std::size_t alive = commands_->running();
  for (const auto& [key, group] : groups_) alive += group->processes_alive();
  return alive;
}

ExecutorPool::Counters ExecutorPool::counters() const {
  Counters out;
  out.launched = launched_;
  out.finished = finished_;
  out.commands = commands_->running();
  out.queued = commands_->queued();
  for (const auto& [key, group] : groups_) {
    const ExecutorGroup::Counters& counted = group->counters();
    out.executors_started += counted.started;
    out.executors_failed += counted.start_failures;
    out.executors_lost += counted.lost;
    out.executors_killed += counted.killed;
    out.recalled += counted.recalled;
    out.executors += group->executors();
    out.queued += group->queued();
  }
  return out;
}

std::vector<EnvironmentId> ExecutorPool::environments_in_use() const {
  std::vector<EnvironmentId> out = commands_->environments_in_use();
  for (const auto& [key, group] : groups_) {
    const EnvironmentId id = std::get<EnvironmentId>(key);
    if (!id.is_zero() && (group->handed_over() > 0 || group->queued() > 0)) out.push_back(id);
  }
  return out;
}

std::uint8_t ExecutorPool::confinement_level() const {
  return config_.confinement.level;
}

std::string ExecutorPool::confinement() const {
  if (config_.confinement.level == 0) return "level 0: tasks have the rights of the agent's user";
  std::string out = "level 1: no new privileges, no core files";
  if (config_.confinement.memory_bytes_max > 0)
    out += fmt::format(", at most {} MiB of address space", config_.confinement.memory_bytes_max >> 20);
  if (config_.confinement.files_max > 0) out += fmt::format(", at most {} open files", config_.confinement.files_max);
  return out;
}

}  // namespace shoal::executor
