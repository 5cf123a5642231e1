#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>

#include "agent/elastic/provider.h"

namespace shoal::elastic {
namespace {

class CommandProvider : public Provider {
 public:
  CommandProvider(agent::Reactor& reactor, std::string program, std::string log_path, Duration time_max)
      : reactor_(reactor), program_(std::move(program)), log_path_(std::move(log_path)), time_max_(time_max) {
    timer_ = reactor_.add_timer([this] { on_timer(); });
  }
  ~CommandProvider() override { reactor_.remove_timer(timer_); }
  CommandProvider(const CommandProvider&) = delete;
  CommandProvider& operator=(const CommandProvider&) = delete;

  void create(const std::string& name, const std::string& token, Done done) override {
    run({program_, "create", name}, {{"SHOAL_TOKEN", token}}, std::move(done));
  }

  void destroy(const std::string& name, Done done) override { run({program_, "destroy", name}, {}, std::move(done)); }

  void abandon(const std::vector<std::string>& names) override {
    for (auto& [id, command] : running_) command.done = nullptr;
    for (const auto& name : names) run({program_, "destroy", name}, {}, nullptr);
    for (auto& [id, command] : running_) {
      if (command.process) command.process->detach();
    }
    running_.clear();
  }

  std::string describe() const override { return "command " + program_; }

 private:
  struct Command {
    std::unique_ptr<executor::Process> process;
    std::string what;
    Done done;
    Instant deadline;
    bool late = false;
  };

  void run(std::vector<std::string> words, std::map<std::string, std::string> environment, Done done) {
    const std::uint64_t id = ++last_id_;
    const executor::Fd log(::open(log_path_.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600));
    executor::SpawnSpec spec;
    spec.command = std::move(words);
    spec.environment = std::move(environment);
    spec.stdout_fd = spec.stderr_fd = log.get();
    spec.outlives = true;  // as does an agent that it started in the background
    spec.confinement.level = 0;
    Command command;
    command.what = fmt::format("{} {} {}", spec.command[0], spec.command[1], spec.command[2]);
    command.done = std::move(done);
    command.deadline = agent::Reactor::now() + time_max_;
    auto process = executor::Process::spawn(reactor_, spec, [this, id](const executor::Ending& e) { on_end(id, e); });
    if (!process) {
      if (command.done) {
        reactor_.post(
            [done = std::move(command.done), error = process.error()] { done(tl::unexpected<Error>(error)); });
      }
      return;
    }
    command.process = std::move(*process);
    running_[id] = std::move(command);
    arm();
  }

  void on_end(std::uint64_t id, const executor::Ending& ending) {
    auto ended = running_.extract(id);
    if (ended.empty()) return;
    const Command& command = ended.mapped();
    if (!command.done) return;
    if (ending.ok()) return command.done({});
    const std::string why = command.late ? "was killed because it took too long" : describe_ending(ending);
    command.done(fail(Code::kFailed, fmt::format("{} {}; what it wrote is in {}", command.what, why, log_path_)));
  }

  static std::string describe_ending(const executor::Ending& ending) { return executor::describe(ending); }

  void on_timer() {
    const Instant now = agent::Reactor::now();
    for (auto& [id, command] : running_) {
      if (command.deadline > now || command.late) continue;
      command.late = true;
      command.process->signal_group(SIGKILL);
    }
    arm();
  }

  void arm() {
    Instant next = Instant::never();
    for (const auto& [id, command] : running_) {
      if (!command.late) next = std::min(next, command.deadline);
    }
    reactor_.set_timer(timer_, next);
  }

  agent::Reactor& reactor_;
  const std::string program_;
  const std::string log_path_;
  const Duration time_max_;
  agent::Reactor::TimerId timer_ = 0;
  std::uint64_t last_id_ = 0;
  std::map<std::uint64_t, Command> running_;
};

}  // namespace

std::unique_ptr<Provider> make_command_provider(agent::Reactor& reactor, std::string program, std::string log_path,
                                                Duration command_time_max) {
  return std::make_unique<CommandProvider>(reactor, std::move(program), std::move(log_path), command_time_max);
}

}  // namespace shoal::elastic
