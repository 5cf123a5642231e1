#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>

#include <filesystem>

#include "agent/elastic/provider.h"

namespace shoal::elastic {
namespace {

constexpr Duration kStopTime = seconds(15);  // from SIGTERM to SIGKILL

class LocalProvider : public Provider {
 public:
  LocalProvider(agent::Reactor& reactor, LocalAgents config,
                std::function<void(const std::string& name, std::string why)> ended)
      : reactor_(reactor), config_(std::move(config)), ended_(std::move(ended)) {
    timer_ = reactor_.add_timer([this] { on_timer(); });
  }
  ~LocalProvider() override { reactor_.remove_timer(timer_); }
  LocalProvider(const LocalProvider&) = delete;
  LocalProvider& operator=(const LocalProvider&) = delete;

  void create(const std::string& name, const std::string& token, Done done) override {
    std::error_code error;
    std::filesystem::create_directories(home_of(name), error);
    Local& local = agents_[name];
    local.started = std::move(done);
    auto joining = spawn(name, {config_.command_program, "--home", home_of(name), "join", token, "--name", name},
                         [this, name](const executor::Ending& ending) { on_joined(name, ending); });
    if (!joining) return refuse(name, joining.error());
    local.process = std::move(*joining);
  }

  void destroy(const std::string& name, Done done) override {
    auto it = agents_.find(name);
    if (it == agents_.end()) {
      std::error_code ignored;
      std::filesystem::remove_all(home_of(name), ignored);
      reactor_.post([done = std::move(done)] { done({}); });
      return;
    }
    it->second.stopped = std::move(done);
    it->second.deadline = agent::Reactor::now() + kStopTime;
    if (it->second.process) {
      it->second.process->signal(SIGTERM);
      arm();
    } else {
      reactor_.post([this, name] { forget(name); });
    }
  }

  void abandon(const std::vector<std::string>& /*names*/) override {
    for (auto& [name, local] : agents_) {
      local.started = local.stopped = nullptr;
      local.abandoned = true;
      if (local.process) local.process->signal(SIGTERM);
    }
  }

  std::string describe() const override { return "local"; }

 private:
  struct Local {
    std::unique_ptr<executor::Process> process;  // first the one that joins, then the agent
    Done started;
    Done stopped;
    Instant deadline = Instant::never();
    bool abandoned = false;
  };

  std::string home_of(const std::string& name) const { return config_.directory + "/" + name; }
  std::string log_of(const std::string& name) const { return home_of(name) + "/shoald.log"; }

  Result<std::unique_ptr<executor::Process>> spawn(const std::string& name, std::vector<std::string> command,
                                                   executor::Process::OnEnd on_end) {
    const executor::Fd log(::open(log_of(name).c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600));
    executor::SpawnSpec spec;
    spec.command = std::move(command);
    spec.stdout_fd = spec.stderr_fd = log.get();
    // What this agent was told about itself is not for the other one.
    for (const char* mine : {"SHOAL_CONFIG", "SHOAL_ADVERTISE"}) spec.environment[mine] = "";
    spec.environment["SHOAL_ELASTIC_MAX"] = "0";
    spec.confinement.level = 0;
    return executor::Process::spawn(reactor_, spec, std::move(on_end));
  }

  void on_joined(const std::string& name, const executor::Ending& ending) {
    auto it = agents_.find(name);
    if (it == agents_.end()) return;
    Local& local = it->second;
    local.process.reset();
    if (local.stopped) return forget(name);
    if (local.abandoned) return;
    if (!ending.ok()) {
      return refuse(name, {Code::kFailed, fmt::format("{} could not join: it {}; {} says why", name,
                                                      executor::describe(ending), log_of(name))});
    }
    std::vector<std::string> command = {config_.agent_program, "--home", home_of(name), "--name", name, "--listen",
                                        "127.0.0.1:0",         "--http", "none"};
    command.insert(command.end(), config_.settings.begin(), config_.settings.end());
    auto process =
        spawn(name, std::move(command), [this, name](const executor::Ending& end) { on_agent_ended(name, end); });
    if (!process) return refuse(name, process.error());
    local.process = std::move(*process);
    if (auto started = std::exchange(local.started, nullptr)) started({});
  }

  void on_agent_ended(const std::string& name, const executor::Ending& ending) {
    auto it = agents_.find(name);
    if (it == agents_.end()) return;
    it->second.process.reset();
    if (it->second.stopped || it->second.abandoned) return forget(name);
    ended_(name, fmt::format("it {}; {} says why", executor::describe(ending), log_of(name)));
  }

  void refuse(const std::string& name, Error error) {
    reactor_.post([this, name, error = std::move(error)] {
      auto it = agents_.find(name);
      if (it == agents_.end()) return;
      if (auto started = std::exchange(it->second.started, nullptr)) started(tl::unexpected<Error>(error));
    });
  }

  void forget(const std::string& name) {
    auto gone = agents_.extract(name);
    if (gone.empty()) return;
    std::error_code ignored;
    std::filesystem::remove_all(home_of(name), ignored);
    if (gone.mapped().stopped) gone.mapped().stopped({});
  }

  void on_timer() {
    const Instant now = agent::Reactor::now();
    for (auto& [name, local] : agents_) {
      if (local.deadline > now) continue;
      local.deadline = Instant::never();
      if (local.process) local.process->signal_group(SIGKILL);
    }
    arm();
  }

  void arm() {
    Instant next = Instant::never();
    for (const auto& [name, local] : agents_) next = std::min(next, local.deadline);
    reactor_.set_timer(timer_, next);
  }

  agent::Reactor& reactor_;
  const LocalAgents config_;
  const std::function<void(const std::string& name, std::string why)> ended_;
  agent::Reactor::TimerId timer_ = 0;
  std::map<std::string, Local> agents_;
};

}  // namespace

std::unique_ptr<Provider> make_local_provider(agent::Reactor& reactor, LocalAgents config,
                                              std::function<void(const std::string& name, std::string why)> ended) {
  return std::make_unique<LocalProvider>(reactor, std::move(config), std::move(ended));
}

}  // namespace shoal::elastic
