// Applications: starting their drivers, following and stopping them, looking at their tasks.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "agent/daemon/impl.h"
#include "agent/daemon/python_path.h"
#include "protocol/identity/crypto.h"

namespace shoal::daemon {
namespace {

constexpr Duration kStopGrace = seconds(3);
constexpr Duration kProgressEvery = milliseconds(500);
constexpr std::size_t kReplayBytes = 1 << 20;  // of one event

bool is_python(const std::string& program) {
  return program.ends_with(".py");
}

client::Event output_event(AppId app, int stream, std::string_view text) {
  return {"app.output",
          wire::Dynamic(wire::Dynamic::Map{{"app", app.hex()}, {"stream", stream}, {"text", Bytes(text)}})};
}

std::string state_of(const AppState& state) {
  if (state.running) return "running";
  return state.exit_code == 0 ? "done" : "failed";
}

}  // namespace

void Daemon::Impl::request_app_start(const Requester& from, const Params& params) {
  if (stopping) {
    reply(from, fail(Code::kUnavailable, "this agent is stopping; submit to another one"));
    return;
  }
  AppStart start;
  start.app = identity::random_id<AppId>();
  std::string program = params.text_or("program", "");
  start.name = std::filesystem::path(program).filename().string();
  start.working_dir = params.text_or("working_dir", home.dir());
  if (const Bytes* text = params["text"].as_bytes()) {
    // From another host: the program came along, and runs in a directory of its own.
    start.working_dir = home.at("work/" + start.app.hex());
    std::error_code error;
    std::filesystem::create_directories(start.working_dir, error);
    program = start.working_dir + "/" + start.name;
    if (auto written = replace_file(program, *text, 0700); !written) {
      reply(from, tl::unexpected<Error>(written.error()));
      return;
    }
  }
  const std::string interpreter = params.text_or("python", "").empty() ? python : params.text_or("python", "");
  if (is_python(program)) {
    if (interpreter.empty()) {
      reply(from, fail(Code::kUnsupported, no_python(settings.text("python"))));
      return;
    }
    start.command = {interpreter, program};
  } else {
    start.command = {program};
  }
  if (const auto* arguments = params["arguments"].as_array()) {
    for (const auto& argument : *arguments) {
      if (const auto* text = argument.as_text()) start.command.push_back(*text);
    }
  }
  if (const auto* environment = params["environment"].as_map()) {
    for (const auto& [key, value] : *environment) {
      if (const auto* text = value.as_text()) start.environment[key] = *text;
    }
  }
  start.environment["SHOAL_SOCKET"] = home.socket();
  start.environment["SHOAL_APP"] = start.app.hex();
  start.environment["PYTHONUNBUFFERED"] = "1";
  start.environment["PYTHONPATH"] = python_path(start.environment["PYTHONPATH"]);
  if (auto launched = apps->start(start); !launched) {
    reply(from, tl::unexpected<Error>(launched.error()));
    return;
  }
  spdlog::info("application {} ({}) started", start.app.brief(), start.name);
  reply(from, wire::Dynamic(wire::Dynamic::Map{{"app", start.app.hex()}, {"name", start.name}}));
}

// Ids by unique prefix, names of programs, or "last".
Result<AppId> Daemon::Impl::resolve_app(const std::string& text) const {
  const auto list = apps->list();
  std::vector<AppId> found;
  std::int64_t newest = -1;
  const bool last = text == "last" || text.empty();
  for (const auto& state : list) {
    if (last) {
      if (state.started_unix_ms >= newest) found = {state.app};
      newest = std::max(newest, state.started_unix_ms);
    } else if (state.app.hex().starts_with(text) || state.name == text) {
      found.push_back(state.app);
    }
  }
  for (const auto& [client, app] : app_of_driver) {
    const bool listed = std::find(found.begin(), found.end(), app) != found.end();
    if (!listed && (last ? found.empty() : app.hex().starts_with(text))) found.push_back(app);
  }
  if (auto exact = AppId::from_hex_text(text); exact && found.empty()) return *exact;
  if (found.empty())
    return fail(Code::kNotFound, fmt::format("no application \"{}\" here; `shoal apps` lists them", text));
  if (found.size() > 1)
    return fail(Code::kInvalid, fmt::format("\"{}\" fits {} applications; give more of the id", text, found.size()));
  return found.front();
}

void Daemon::Impl::request_app_find(const Requester& from, const Params& params) {
  auto app = resolve_app(params.text_or("app", "last"));
  reply(from,
        app ? Answer(wire::Dynamic(wire::Dynamic::Map{{"app", app->hex()}})) : tl::unexpected<Error>(app.error()));
}

void Daemon::Impl::request_app_attach(const Requester& from, const Params& params) {
  auto app = resolve_app(params.text_or("app", "last"));
  if (!app) {
    reply(from, tl::unexpected<Error>(app.error()));
    return;
  }
  const AppState* state = apps->find(*app);
  if (state == nullptr) {
    reply(from,
          fail(Code::kNotFound, "that application was not started through this agent, so its output is not here"));
    return;
  }
  reply(from, wire::Dynamic(wire::Dynamic::Map{{"app", app->hex()}}));
  // What it wrote before somebody watched comes first.
  std::size_t offset = 0;
  for (std::size_t before = 1; before != offset;) {
    before = offset;
    offset = apps->read(*app, offset, kReplayBytes,
                        [&](int stream, std::string_view text) { send_event(from, output_event(*app, stream, text)); });
  }
  if (!state->running) {
    send_event(from, {"app.exit", wire::Dynamic(wire::Dynamic::Map{{"app", app->hex()}, {"code", state->exit_code}})});
    return;
  }
  watchers[*app].push_back(from);
  reactor->set_timer(progress_timer, agent::Reactor::now() + kProgressEvery);
}

void Daemon::Impl::on_app_output(AppId app, int stream, std::string_view text) {
  auto it = watchers.find(app);
  if (it == watchers.end()) return;
  const client::Event event = output_event(app, stream, text);
  for (const auto& watcher : it->second) send_event(watcher, event);
}

void Daemon::Impl::on_app_exit(const AppState& state) {
  spdlog::info("application {} ({}) ended with code {}", state.app.brief(), state.name, state.exit_code);
  auto watching = watchers.extract(state.app);
  if (watching.empty()) return;
  const client::Event event{"app.exit",
                            wire::Dynamic(wire::Dynamic::Map{{"app", state.app.hex()}, {"code", state.exit_code}})};
  for (const auto& watcher : watching.mapped()) send_event(watcher, event);
}

// While somebody watches: counts of the app's tasks, twice a second.
void Daemon::Impl::tell_progress() {
  if (watchers.empty()) return;
  reactor->set_timer(progress_timer, agent::Reactor::now() + kProgressEvery);
  query_scheduler("apps", {}, [this](Answer answer) {
    if (!answer) return;
    const auto* rows = answer->as_array();
    if (rows == nullptr) return;
    for (const auto& row : *rows) {
      auto app = AppId::from_hex_text(row.text_or("app", ""));
      auto it = app ? watchers.find(*app) : watchers.end();
      if (it == watchers.end() || row.as_map() == nullptr) continue;
      for (const auto& watcher : it->second) send_event(watcher, {"app.progress", row});
    }
  });
}

void Daemon::Impl::query_scheduler(const std::string& method, wire::Dynamic::Map params,
                                   std::function<void(Answer)> done) {
  const std::uint64_t id = ++last_call;
  query_calls[id] = std::move(done);
  feed(node::in::Scheduler(scheduler::in::Query{id, method, wire::Dynamic(std::move(params))}));
}

void Daemon::Impl::request_app_list(const Requester& from, const Params& /*params*/) {
  query_scheduler("apps", {}, [this, from](Answer answer) {
    std::map<std::string, wire::Dynamic::Map> rows;
    for (const auto& state : apps->list()) {
      rows[state.app.hex()] = {{"app", state.app.hex()},
                               {"name", state.name},
                               {"state", state_of(state)},
                               {"exit_code", state.running ? wire::Dynamic() : wire::Dynamic(state.exit_code)},
                               {"started_unix_ms", state.started_unix_ms},
                               {"ended_unix_ms", state.running ? wire::Dynamic() : wire::Dynamic(state.ended_unix_ms)}};
    }
    if (answer) {
      if (const auto* known = answer->as_array()) {
        for (const auto& row : *known) {
          if (row.as_map() == nullptr) continue;
          auto& merged = rows[row.text_or("app", "")];
          for (const auto& [key, value] : *row.as_map()) merged.emplace(key, value);
          if (merged.find("state") == merged.end() || row.text_or("state", "").empty()) merged["state"] = "running";
        }
      }
    }
    wire::Dynamic::Array list;
    for (auto& [app, row] : rows) list.emplace_back(std::move(row));
    std::stable_sort(list.begin(), list.end(), [](const wire::Dynamic& a, const wire::Dynamic& b) {
      return a.int_or("started_unix_ms", 0) < b.int_or("started_unix_ms", 0);
    });
    reply(from, wire::Dynamic(wire::Dynamic::Map{{"apps", std::move(list)}}));
  });
}

void Daemon::Impl::request_app_query(const Requester& from, const Params& params) {
  auto app = resolve_app(params.text_or("app", "last"));
  if (!app) {
    reply(from, tl::unexpected<Error>(app.error()));
    return;
  }
  wire::Dynamic::Map onward = *params.as_map();
  onward["app"] = app->hex();
  const std::string query = params.text_or("query", "");
  query_scheduler(query, std::move(onward), [this, from, query, app = *app](Answer answer) {
    // A program that calls no task has none.
    if (!answer && answer.error().code == Code::kNotFound && query != "explain" && apps->find(app) != nullptr)
      answer = wire::Dynamic(wire::Dynamic::Array{});
    if (auto* rows = answer ? answer->as_array() : nullptr) {
      name_agents(std::move(*rows), [this, from](wire::Dynamic::Array named) {
        reply(from, wire::Dynamic(wire::Dynamic::Map{{"tasks", std::move(named)}}));
      });
      return;
    }
    reply(from, std::move(answer));
  });
}

void Daemon::Impl::request_app_cancel(const Requester& from, const Params& params) {
  auto app = resolve_app(params.text_or("app", "last"));
  if (!app) {
    reply(from, tl::unexpected<Error>(app.error()));
    return;
  }
  inputs.emplace_back(node::in::Scheduler(scheduler::in::CancelApp{*app}));
  auto driver_stopped = apps->stop(*app, kStopGrace);
  reply(from, wire::Dynamic(wire::Dynamic::Map{
                  {"app", app->hex()}, {"cancelled", true}, {"driver_stopped", driver_stopped.has_value()}}));
}

}  // namespace shoal::daemon
