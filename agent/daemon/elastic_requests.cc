// Agents that applications ask for: what the pool needs of this agent, and what applications are told.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "agent/daemon/impl.h"
#include "protocol/identity/crypto.h"
#include "scheduler/state.h"

namespace shoal::daemon {
namespace {

constexpr std::int64_t kTokenLifeMs = 15LL * 60 * 1000;
constexpr Duration kIdleAnswerTime = seconds(5);
constexpr std::size_t kGroupNameMax = 4096;

std::string program_beside_this_one(const char* name) {
  std::error_code ignored;
  return (std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path() / name).string();
}

}  // namespace

void Daemon::Impl::open_elastic() {
  elastic::PoolConfig config;
  config.agents_max = static_cast<std::uint32_t>(settings.integer("elastic_max"));
  config.directory = home.at("elastic");
  config.prefix = fmt::format("elastic-{}-", to_hex(identity::random_bytes(3)));
  elastic::Hooks hooks;
  hooks.token = [this](std::function<void(Result<std::string>)> done) {
    make_token("", kTokenLifeMs, [done = std::move(done)](const Result<identity::JoinToken>& token) {
      done(token ? Result<std::string>(token->text()) : tl::unexpected<Error>(token.error()));
    });
  };
  hooks.joined = [this](const std::string& agent) { return elastic_joined(agent); };
  hooks.close = [this](const std::string& agent) {
    const auto* member = elastic_member(agent);
    if (member == nullptr) return;
    elastic_closed[agent] = member->id;
    exclude(*member, true);
  };
  hooks.gone = [this](const std::string& agent) {
    auto closed = elastic_closed.extract(agent);
    if (closed.empty()) return;
    excluded.erase(closed.mapped());
    feed(node::in::Scheduler(scheduler::in::Exclude{closed.mapped(), false}));
  };
  hooks.idle = [this](const std::string& agent, std::function<void(bool)> done) {
    ask_whether_idle(agent, std::move(done));
  };
  elastic = std::make_unique<elastic::Pool>(*reactor, std::move(config), std::move(hooks));
  const std::string& program = settings.text("elastic_command");
  if (!program.empty()) {
    elastic->open(elastic::make_command_provider(*reactor, program, home.at("logs/elastic.log")));
    return;
  }
  elastic::LocalAgents local;
  local.directory = home.at("elastic");
  local.agent_program = program_beside_this_one("shoald");
  local.command_program = program_beside_this_one("shoal");
  local.settings = {"--computing-units", settings.text("elastic_units"), "--preset", settings.text("preset")};
  if (!settings.text("labels").empty())
    local.settings.insert(local.settings.end(), {"--labels", settings.text("labels")});
  if (!python.empty()) local.settings.insert(local.settings.end(), {"--python", python});
  elastic->open(elastic::make_local_provider(
      *reactor, std::move(local),
      [this](const std::string& agent, const std::string& why) { elastic->ended(agent, why); }));
}

const overlay::Member* Daemon::Impl::elastic_member(const std::string& agent) const {
  const auto& members = node->overlay().members(overlay::Scope::kHome);
  const auto found = std::find_if(members.begin(), members.end(), [&](const auto& entry) {
    return entry.second.name == agent && entry.second.status == overlay::Status::kAlive;
  });
  return found == members.end() ? nullptr : &found->second;
}

bool Daemon::Impl::elastic_joined(const std::string& agent) const {
  const auto* member = elastic_member(agent);
  return member != nullptr && scheduler::decode_state(member->state).has_value();
}

void Daemon::Impl::ask_whether_idle(const std::string& agent, std::function<void(bool)> done) {
  auto address = find_agent(agent);
  if (!address) {
    done(true);
    return;
  }
  ask_agent(*address, "agent.status", {}, kIdleAnswerTime, [this, agent, done = std::move(done)](Answer answer) {
    if (!answer) {
      done(elastic_member(agent) == nullptr);  // one that is gone has nothing to do
      return;
    }
    const auto* running = (*answer)["attempts_running"].as_array();
    done(running != nullptr && running->empty() && answer->int_or("queued", 0) == 0);
  });
}

// Only the driver of an application speaks for it.
Result<AppId> Daemon::Impl::app_asking(const Requester& from) const {
  const auto driver = from.remote ? app_of_driver.end() : app_of_driver.find(from.client);
  if (driver != app_of_driver.end()) return driver->second;
  return fail(Code::kDenied, "only the main program of an application may ask for agents, not its tasks or a tool");
}

// What both requests say, and their answer. `act` returns how many agents it made, or ended.
void Daemon::Impl::request_elastic(const Requester& from, const Params& params,
                                   const std::function<std::uint32_t(AppId, std::uint32_t, const std::string&)>& act) {
  const auto app = app_asking(from);
  const std::string group = params.text_or("group", "");
  if (!app || group.size() > kGroupNameMax) {
    reply(from, app ? fail(Code::kInvalid, "the group's name is too long") : tl::unexpected<Error>(app.error()));
    return;
  }
  const auto count = static_cast<std::uint32_t>(std::clamp<std::int64_t>(params.int_or("count", 0), 0, 1'000'000));
  const std::uint32_t granted = act(*app, count, group);
  reply(from, wire::Dynamic(wire::Dynamic::Map{
                  {"granted", granted}, {"max", elastic->agents_max()}, {"provider", elastic->describe()}}));
}

void Daemon::Impl::request_elastic_grow(const Requester& from, const Params& params) {
  request_elastic(from, params, [&](AppId app, std::uint32_t count, const std::string& group) {
    const std::uint32_t granted =
        stopping ? 0 : elastic->request(app, count, [this, app, client = from.client, group](const auto& outcome) {
          on_elastic_outcome(app, client, group, "made", outcome);
        });
    if (count == 0) on_elastic_outcome(app, from.client, group, "made", {});
    return granted;
  });
}

void Daemon::Impl::request_elastic_shrink(const Requester& from, const Params& params) {
  request_elastic(from, params, [&](AppId app, std::uint32_t count, const std::string& group) {
    const std::uint32_t granted =
        elastic->free(app, count, [this, app, client = from.client, group](const auto& outcome) {
          on_elastic_outcome(app, client, group, "ended", outcome);
        });
    if (granted == 0) on_elastic_outcome(app, from.client, group, "ended", {});
    return granted;
  });
}

// COMPSs cancels the group when the resources are there: its tasks watch for the change, or are to be submitted anew.
void Daemon::Impl::on_elastic_outcome(AppId app, ClientId client, const std::string& group, const char* what,
                                      const elastic::Outcome& outcome) {
  if (outcome.failed > 0) {
    const std::string text = fmt::format("shoal: {} of {} agents that were asked for were not {}: {}\n", outcome.failed,
                                         outcome.failed + outcome.done, what, outcome.why);
    spdlog::warn("application {}: {}", app.brief(), text.substr(0, text.size() - 1));
    show_output(app, 2, text);
  }
  const bool drives = app_of_driver.find(client) != app_of_driver.end();
  const bool all_failed = outcome.failed > 0 && outcome.done == 0;
  if (group.empty() || !drives || all_failed) return;
  feed(node::in::Scheduler(scheduler::in::GroupMessage{client, client::Kind::kCancelGroup, group}));
}

}  // namespace shoal::daemon
