#include "agent/elastic/pool.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>

namespace shoal::elastic {
namespace {

// While something is under way. Joining and draining are seen, not told.
constexpr Duration kLookEvery = milliseconds(200);
// Work that was on its way when placement stopped has arrived by the second time.
constexpr std::uint32_t kIdleTimes = 2;

}  // namespace

Pool::Pool(agent::Reactor& reactor, PoolConfig config, Hooks hooks)
    : reactor_(reactor), config_(std::move(config)), hooks_(std::move(hooks)) {
  timer_ = reactor_.add_timer([this] { on_timer(); });
}

Pool::~Pool() {
  reactor_.remove_timer(timer_);
}

void Pool::open(std::unique_ptr<Provider> provider) {
  provider_ = std::move(provider);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(config_.directory, error)) {
    const std::string name = entry.path().filename().string();
    spdlog::info("elastic agent {} was left behind: it is ended", name);
    provider_->destroy(name, [this, name](const Result<>& gone) {
      if (!gone) {
        spdlog::warn("elastic agent {}: {}; this is tried again when this agent starts again", name,
                     gone.error().message);
      } else if (agents_.find(name) == agents_.end()) {
        std::error_code ignored;
        std::filesystem::remove_all(config_.directory + "/" + name, ignored);
      }
    });
  }
}

std::uint32_t Pool::request(AppId app, std::uint32_t count, Done done) {
  if (abandoned_) return 0;
  const std::uint32_t room = config_.agents_max > size() ? config_.agents_max - size() : 0;
  count = std::min(count, room);
  auto request = std::make_shared<Request>();
  request->left = count;
  request->done = std::move(done);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string name = fmt::format("{}{}", config_.prefix, ++last_number_);
    std::error_code ignored;
    std::filesystem::create_directories(config_.directory + "/" + name, ignored);
    Elastic& agent = agents_[name];
    agent.app = app;
    agent.number = last_number_;
    agent.deadline = agent::Reactor::now() + config_.join_time_max;
    agent.waiting = request;
    hooks_.token([this, name](Result<std::string> token) {
      auto it = agents_.find(name);
      if (it == agents_.end() || it->second.state != State::kCreating) return;
      if (!token) return fail_creation(name, token.error().message);
      provider_->create(name, *token, [this, name](const Result<>& created) {
        auto made = agents_.find(name);
        if (made == agents_.end() || made->second.state != State::kCreating) return;
        if (!created) return fail_creation(name, created.error().message);
        made->second.state = State::kJoining;
        arm();
      });
    });
  }
  arm();
  return count;
}

std::uint32_t Pool::free(AppId app, std::uint32_t count, Done done) {
  if (abandoned_) return 0;
  std::vector<std::pair<std::uint64_t, std::string>> mine;
  for (const auto& [name, agent] : agents_) {
    const bool free = agent.state != State::kDraining && agent.state != State::kEnding;
    if (agent.app == app && free) mine.emplace_back(agent.number, name);
  }
  std::sort(mine.rbegin(), mine.rend());
  if (mine.size() > count) mine.resize(count);
  auto request = std::make_shared<Request>();
  request->left = static_cast<std::uint32_t>(mine.size());
  request->done = std::move(done);
  for (const auto& [number, name] : mine) {
    Elastic& agent = agents_.at(name);
    const bool works = agent.state == State::kReady;
    if (!works) settle(agent, false, "it was freed before it was ready");
    agent.waiting = request;
    if (works) {
      agent.state = State::kDraining;
      hooks_.close(name);
    } else {
      end(name);
    }
  }
  arm();
  return request->left;
}

void Pool::app_ended(AppId app) {
  if (abandoned_) return;
  std::vector<std::string> mine;
  for (const auto& [name, agent] : agents_) {
    if (agent.app == app && agent.state != State::kEnding) mine.push_back(name);
  }
  for (const auto& name : mine) {
    agents_.at(name).waiting.reset();  // nobody is left to be told
    end(name);
  }
}

void Pool::ended(const std::string& name, const std::string& why) {
  auto it = agents_.find(name);
  if (abandoned_ || it == agents_.end() || it->second.state == State::kEnding) return;
  if (it->second.state == State::kCreating || it->second.state == State::kJoining) return fail_creation(name, why);
  spdlog::warn("elastic agent {} is gone: {}", name, why);
  const bool draining = it->second.state == State::kDraining;
  if (!draining) settle(it->second, false, why);
  end(name);
}

void Pool::fail_creation(const std::string& name, const std::string& why) {
  spdlog::warn("elastic agent {} was not made: {}", name, why);
  settle(agents_.at(name), false, why);
  end(name);
}

// Has the provider end it, whatever it is doing.
void Pool::end(const std::string& name) {
  Elastic& agent = agents_.at(name);
  if (agent.state == State::kEnding) return;
  agent.state = State::kEnding;
  agent.deadline = Instant::never();
  provider_->destroy(name, [this, name](const Result<>& gone) {
    auto it = agents_.find(name);
    if (it == agents_.end()) return;
    if (!gone) spdlog::warn("elastic agent {}: {}", name, gone.error().message);
    settle(it->second, gone.has_value(), gone ? "" : gone.error().message);
    if (gone) {
      std::error_code ignored;
      std::filesystem::remove_all(config_.directory + "/" + name, ignored);
    }
    agents_.erase(name);
    hooks_.gone(name);
  });
}

void Pool::settle(Elastic& agent, bool ok, const std::string& why) {
  const auto request = std::move(agent.waiting);
  agent.waiting.reset();
  if (!request) return;
  (ok ? request->outcome.done : request->outcome.failed) += 1;
  if (!ok) request->outcome.why = why;
  if (--request->left == 0 && request->done) reactor_.post([request] { request->done(request->outcome); });
}

void Pool::on_timer() {
  const Instant now = agent::Reactor::now();
  std::vector<std::string> late;
  for (auto& [name, agent] : agents_) {
    if (agent.state == State::kJoining && hooks_.joined(name)) {
      spdlog::info("elastic agent {} is ready", name);
      agent.state = State::kReady;
      agent.deadline = Instant::never();
      settle(agent, true, "");
    } else if (agent.state == State::kDraining && !agent.asking) {
      look_at_drained(name);
    } else if (agent.deadline <= now) {
      late.push_back(name);
    }
  }
  for (const auto& name : late) {
    fail_creation(name, fmt::format("it did not join within {} s", config_.join_time_max.us / 1'000'000));
  }
  arm();
}

void Pool::look_at_drained(const std::string& name) {
  agents_.at(name).asking = true;
  hooks_.idle(name, [this, name](bool idle) {
    auto it = agents_.find(name);
    if (it == agents_.end() || it->second.state != State::kDraining) return;
    Elastic& agent = it->second;
    agent.asking = false;
    agent.idle_seen = idle ? agent.idle_seen + 1 : 0;
    if (agent.idle_seen < kIdleTimes) return;
    spdlog::info("elastic agent {} has nothing to do any more: it is ended", name);
    end(name);
  });
}

void Pool::arm() {
  const bool busy = std::any_of(agents_.begin(), agents_.end(), [](const auto& entry) {
    return entry.second.state != State::kReady && entry.second.state != State::kEnding;
  });
  reactor_.set_timer(timer_, busy ? agent::Reactor::now() + kLookEvery : Instant::never());
}

void Pool::abandon() {
  if (!provider_ || abandoned_) return;
  abandoned_ = true;
  std::vector<std::string> names;
  for (auto& [name, agent] : agents_) {
    agent.waiting.reset();
    names.push_back(name);
  }
  reactor_.set_timer(timer_, Instant::never());
  provider_->abandon(names);
}

std::uint32_t Pool::ready() const {
  return static_cast<std::uint32_t>(std::count_if(
      agents_.begin(), agents_.end(), [](const auto& entry) { return entry.second.state == State::kReady; }));
}

std::string Pool::describe() const {
  if (config_.agents_max == 0) return "none (elastic_max = 0)";
  return fmt::format("{}, {} of at most {} agents ready", provider_ ? provider_->describe() : "none", ready(),
                     config_.agents_max);
}

}  // namespace shoal::elastic
