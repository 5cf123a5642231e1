// The guardian's side of app_guard.h: journals of others' applications, and going on with them.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "agent/daemon/impl.h"
#include "protocol/wire/codec.h"

namespace shoal::daemon {
namespace {

constexpr std::size_t kGuardedMax = 1000;
constexpr std::size_t kReceivedMax = 128U << 20;  // of one application: twice what a master sends, for what comes again
constexpr Duration kDoubt = seconds(4);           // a master that is only silent has given up its leases after this

Result<AppId> app_in(const wire::Dynamic& params) {
  if (auto app = AppId::from_hex_text(params.text_or("app", ""))) return *app;
  return fail(Code::kInvalid, "'app' is not an id");
}

}  // namespace

void Daemon::Impl::request_guard_open(const Requester& from, const Params& params) {
  auto app = app_in(params);
  const Bytes* bytes = params["spec"].as_bytes();
  auto spec =
      bytes == nullptr ? Result<AppSpec>(fail(Code::kInvalid, "'spec' is missing")) : wire::decode<AppSpec>(*bytes);
  if (!app || !spec || !from.remote) {
    reply(from, fail(Code::kInvalid, "only agents ask others to guard an application"));
    return;
  }
  if (const AppState* state = apps->find(*app); state != nullptr && state->running) {
    reply(from, fail(Code::kStale, "it was taken over by agent " + name));
    return;
  }
  if (guarded.size() >= kGuardedMax && !guarded.contains(*app)) {
    reply(from, fail(Code::kExhausted, fmt::format("this agent guards {} applications already", kGuardedMax)));
    return;
  }
  // Had ready, so that taking over does not wait for it. That it cannot be had here is said when it is needed.
  with_environments(*spec, {*from.remote}, [](const Result<environment::Surroundings>&) {});
  guarded[*app] = Guarded{from.remote->agent, std::move(*spec), {}, 0};
  reply(from, wire::Dynamic(wire::Dynamic::Map{{"socket", home.socket()}}));
}

void Daemon::Impl::request_guard_append(const Requester& from, const Params& params) {
  auto app = app_in(params);
  const Bytes* bytes = params["entries"].as_bytes();
  auto it = app ? guarded.find(*app) : guarded.end();
  if (it == guarded.end() || bytes == nullptr || !from.remote || it->second.master != from.remote->agent) {
    const bool taken = app && apps->find(*app) != nullptr;
    reply(from, taken ? fail(Code::kStale, "it was taken over by agent " + name)
                      : fail(Code::kNotFound, "agent " + name + " does not guard this application"));
    return;
  }
  auto batch = wire::decode<JournalBatch>(*bytes);
  const auto first = static_cast<std::size_t>(std::max<std::int64_t>(0, params.int_or("first", 0)));
  Guarded& app_guarded = it->second;
  app_guarded.received += bytes->size();
  if (!batch || first > app_guarded.entries.size() || app_guarded.received > kReceivedMax) {
    reply(from, fail(Code::kInvalid, "the journal does not go on where it stopped, or is too large"));
    return;
  }
  app_guarded.entries.resize(first);  // a batch that was sent twice
  std::move(batch->entries.begin(), batch->entries.end(), std::back_inserter(app_guarded.entries));
  reply(from, wire::Dynamic(wire::Dynamic::Map{}));
}

void Daemon::Impl::request_guard_close(const Requester& from, const Params& params) {
  auto app = app_in(params);
  auto it = app ? guarded.find(*app) : guarded.end();
  if (it != guarded.end() && from.remote && it->second.master == from.remote->agent) guarded.erase(it);
  reply(from, wire::Dynamic(wire::Dynamic::Map{}));
}

void Daemon::Impl::on_master_gone(AgentId agent, bool proven) {
  const bool any =
      std::any_of(guarded.begin(), guarded.end(), [&](const auto& entry) { return entry.second.master == agent; });
  if (!any) return;
  if (proven) {
    take_over_from(agent);
  } else {
    doubted_masters[agent] = agent::Reactor::now() + kDoubt;
    reactor->set_timer(guard_timer, agent::Reactor::now() + kDoubt);
  }
}

void Daemon::Impl::on_guard_timer() {
  const Instant now = agent::Reactor::now();
  const auto& members = node->overlay().members(overlay::Scope::kHome);
  const bool isolated = node->overlay().isolated();  // then it may be the master's side that goes on
  std::vector<AgentId> lost;
  for (auto it = doubted_masters.begin(); it != doubted_masters.end();) {
    auto member = members.find(it->first);
    const bool back = member != members.end() && member->second.status == overlay::Status::kAlive;
    if (back) {
      it = doubted_masters.erase(it);
    } else if (it->second > now || isolated) {
      ++it;
    } else {
      lost.push_back(it->first);
      it = doubted_masters.erase(it);
    }
  }
  for (const AgentId agent : lost) take_over_from(agent);
  if (!doubted_masters.empty()) reactor->set_timer(guard_timer, now + seconds(1));
}

void Daemon::Impl::take_over_from(AgentId agent) {
  if (stopping) return;
  std::vector<AppId> orphans;
  for (const auto& [app, app_guarded] : guarded) {
    if (app_guarded.master == agent) orphans.push_back(app);
  }
  for (const AppId app : orphans) {
    auto taken = guarded.extract(app);
    Guarded& orphan = taken.mapped();
    spdlog::warn("agent {} is lost: application {} ({}) goes on here, with {} finished tasks", agent_name(agent.hex()),
                 app.brief(), orphan.spec.name, orphan.entries.size());
    // Whoever ran its tasks has its environment, too, and the master has not any more.
    auto kept = std::make_shared<Guarded>(std::move(orphan));
    with_environments(kept->spec, other_members(),
                      [this, app, kept](const Result<environment::Surroundings>& surroundings) {
                        go_on_with(app, std::move(*kept), surroundings);
                        drain();
                      });
  }
}

void Daemon::Impl::go_on_with(AppId app, Guarded orphan, const Result<environment::Surroundings>& surroundings) {
  if (stopping) return;
  auto start = surroundings ? prepare_start(app, orphan.spec, *surroundings)
                            : Result<AppStart>(tl::unexpected<Error>(surroundings.error()));
  auto launched = start ? apps->start(*start) : Result<>(tl::unexpected<Error>(start.error()));
  if (!launched) {
    spdlog::error("application {} cannot go on here: {}", app.brief(), launched.error().message);
    return;
  }
  for (const EnvironmentId id : orphan.spec.bundles()) app_environments[app].insert(id);
  replays[app] = std::move(orphan.entries);
  if (!orphan.spec.tell_end.empty()) rest_apps[app] = {orphan.spec.tell_end, false, {}};
  start_mirror(app, std::move(orphan.spec));
}

}  // namespace shoal::daemon
