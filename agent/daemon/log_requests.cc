// What programs and tasks wrote. A driver's output is at the agent that started it; that of a task is at the agent that
// ran it, so the agent that is asked collects it from there.
#include <algorithm>

#include "agent/daemon/impl.h"
#include "protocol/base/number_set.h"

namespace shoal::daemon {
namespace {

constexpr std::size_t kDriverPartBytes = 1 << 20;
constexpr std::size_t kTaskPartBytes = 256 << 10;  // of one agent in one answer
constexpr std::size_t kPlacesMax = 128;            // agents asked for one answer: their parts fit one frame
constexpr Duration kAskTimeout = seconds(3);

// Answers of several agents on their way to one client.
struct Gathering {
  wire::Dynamic::Map answer;
  wire::Dynamic::Array lines;
  wire::Dynamic::Array missing;
  wire::Dynamic::Map cursors;
  bool more = false;
  std::size_t left = 0;
};

wire::Address address_of(const wire::Dynamic& place) {
  wire::Address address;
  if (auto id = AgentId::from_hex_text(place.text_or("agent", ""))) address.agent = *id;
  if (const auto* path = place["path"].as_array()) {
    for (const auto& region : *path) {
      const auto* text = region.as_text();
      if (auto id = text == nullptr ? std::nullopt : RegionId::from_hex_text(*text)) address.path.push_back(*id);
    }
  }
  return address;
}

}  // namespace

void Daemon::Impl::request_app_logs(const Requester& from, const Params& params) {
  auto app = resolve_app(params.text_or("app", "last"));
  if (!app) {
    reply(from, tl::unexpected<Error>(app.error()));
    return;
  }
  const AppState* state = apps->find(*app);
  // Before reading: what comes later is asked for again.
  const bool running = (state != nullptr && state->running) || mirrors.contains(*app);
  const auto offset = static_cast<std::size_t>(std::max<std::int64_t>(0, params.int_or("offset", 0)));
  wire::Dynamic::Array parts;
  const std::size_t end = apps->read(
      *app, offset, kDriverPartBytes,
      [&](int stream, std::string_view text) {
        parts.emplace_back(wire::Dynamic::Map{{"stream", stream}, {"text", Bytes(text)}});
      },
      held_back(*app));
  reply(from, wire::Dynamic(wire::Dynamic::Map{
                  {"app", app->hex()}, {"parts", std::move(parts)}, {"offset", end}, {"running", running}}));
}

// The part of an application's output that this agent has.
Daemon::Impl::Answer Daemon::Impl::own_task_log(const Params& params) const {
  auto app = AppId::from_hex_text(params.text_or("app", ""));
  auto tasks = NumberSet::parse(params.text_or("tasks", "all"));
  if (!tasks) return tl::unexpected<Error>(tasks.error());
  if (!app) return fail(Code::kInvalid, "'app' is not an id");
  wire::Dynamic::Array lines;
  const auto part = executors->log().read_part(
      *app, params.text_or("cursor", ""), kTaskPartBytes, [&](const executor::OutputLog::Line& line) {
        if (!tasks->contains(line.task.value())) return;
        lines.emplace_back(
            wire::Dynamic::Map{{"task", line.task.value()}, {"stream", line.stream}, {"text", Bytes(line.text)}});
      });
  return wire::Dynamic(
      wire::Dynamic::Map{{"name", name}, {"lines", std::move(lines)}, {"cursor", part.cursor}, {"more", part.more}});
}

void Daemon::Impl::request_task_log(const Requester& from, const Params& params) {
  reply(from, own_task_log(params));
}

void Daemon::Impl::request_app_task_logs(const Requester& from, const Params& params) {
  auto app = resolve_app(params.text_or("app", "last"));
  auto tasks = NumberSet::parse(params.text_or("tasks", "all"));
  if (!app || !tasks) {
    reply(from, tl::unexpected<Error>(app ? tasks.error() : app.error()));
    return;
  }
  query_scheduler("places", {{"app", app->hex()}}, [this, from, params, app = *app](Answer places) {
    const AppState* state = apps->find(app);
    const bool running = state != nullptr && state->running;
    if (!places && (places.error().code != Code::kNotFound || state == nullptr)) {
      reply(from, std::move(places));
      return;
    }
    // A program that has not called a task yet, or never does.
    if (!places) places = wire::Dynamic(wire::Dynamic::Map{{"places", wire::Dynamic::Array{}}});
    gather_task_logs(from, params, app, *places, running);
  });
}

void Daemon::Impl::gather_task_logs(const Requester& from, const Params& params, AppId app, const wire::Dynamic& places,
                                    bool running) {
  std::string tasks = params.text_or("tasks", "all");
  if (tasks == "last") tasks = std::to_string(places.int_or("tasks", 0));
  auto all = std::make_shared<Gathering>();
  all->answer = {{"app", app.hex()}, {"running", running || places.bool_or("running", false)}};
  const auto* rows = places["places"].as_array();
  const std::size_t count = rows == nullptr ? 0 : std::min(rows->size(), kPlacesMax);
  all->left = count + 1;
  const auto one_less = [this, from, all] {
    if (--all->left > 0) return;
    all->answer["lines"] = std::move(all->lines);
    all->answer["missing"] = std::move(all->missing);
    all->answer["cursors"] = std::move(all->cursors);
    all->answer["more"] = all->more;
    reply(from, wire::Dynamic(std::move(all->answer)));
  };
  for (std::size_t i = 0; i < count; ++i) {
    const wire::Address address = address_of((*rows)[i]);
    const std::string agent = address.agent.hex();
    const std::string agent_label = agent_name(agent);
    const std::string cursor = params["cursors"].text_or(agent, "");
    const auto take = [this, all, one_less, id = address.agent, agent, agent_label, cursor](Answer part) {
      if (!part) {
        all->cursors[agent] = cursor;
        all->missing.emplace_back(
            wire::Dynamic::Map{{"agent", agent}, {"agent_name", agent_label}, {"error", part.error().message}});
        return one_less();
      }
      all->cursors[agent] = part->text_or("cursor", "");
      all->more = all->more || part->bool_or("more", false);
      const std::string told = part->text_or("name", agent_label);
      if (far_names.size() < kFarNamesMax) far_names[id] = told;
      if (auto* map = part->as_map(); auto* lines = map == nullptr ? nullptr : (*map)["lines"].as_array()) {
        for (auto& line : *lines) {
          if (line.as_map() == nullptr) continue;
          (*line.as_map())["agent"] = agent;
          (*line.as_map())["agent_name"] = told;
          all->lines.push_back(std::move(line));
        }
      }
      one_less();
    };
    wire::Dynamic::Map wanted{{"app", app.hex()}, {"tasks", tasks}, {"cursor", cursor}};
    if (address.agent == identity.id()) {
      take(own_task_log(wire::Dynamic(std::move(wanted))));
    } else {
      ask_agent(address, "agent.task_log", std::move(wanted), kAskTimeout, take);
    }
  }
  if (rows != nullptr && rows->size() > count) {
    all->missing.emplace_back(wire::Dynamic::Map{
        {"agent", ""}, {"agent_name", "others"}, {"error", "only the first 128 agents are asked at a time"}});
  }
  one_less();
}

}  // namespace shoal::daemon
