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

// "bundle" and "task_bundles" of a request, into the spec.
Result<> read_bundles(const wire::Dynamic& params, AppSpec& spec) {
  const auto read = [](const std::string& text) -> Result<EnvironmentId> {
    if (auto id = EnvironmentId::from_hex_text(text)) return *id;
    return fail(Code::kInvalid,
                fmt::format("\"{}\" is not an environment's id; `shoal environments` lists them", text));
  };
  if (const std::string text = params.text_or("bundle", ""); !text.empty()) {
    auto id = read(text);
    if (!id) return tl::unexpected<Error>(id.error());
    spec.bundle = *id;
  }
  if (const auto* named = params["task_bundles"].as_map()) {
    for (const auto& [name, value] : *named) {
      auto id = read(value.as_text() != nullptr ? *value.as_text() : "");
      if (!id) return tl::unexpected<Error>(id.error());
      if (name.empty() || name.find_first_of(" =\t\n") != std::string::npos)
        return fail(Code::kInvalid, fmt::format("\"{}\" is no name for an environment of tasks", name));
      spec.task_bundles[name] = *id;
    }
  }
  if (!spec.bundle.is_zero() && !spec.python.empty()) {
    return fail(Code::kUnsupported,
                "--python and --environment exclude each other: packages are chosen for the interpreter of each agent "
                "(its setting \"python\"), so that is the one that runs the program");
  }
  return {};
}

// What tells the program its environments (environment::kVariable).
std::string environment_variable(const AppSpec& spec) {
  if (spec.bundles().empty()) return {};
  std::string text = spec.bundle.is_zero() ? "-" : spec.bundle.hex();
  for (const auto& [name, id] : spec.task_bundles) text += " " + name + "=" + id.hex();
  return text;
}

}  // namespace

void Daemon::Impl::request_app_start(const Requester& from, const Params& params) {
  if (stopping) {
    reply(from, fail(Code::kUnavailable, "this agent is stopping; submit to another one"));
    return;
  }
  AppSpec spec;
  spec.program = params.text_or("program", "");
  spec.name = std::filesystem::path(spec.program).filename().string();
  spec.working_dir = params.text_or("working_dir", home.dir());
  spec.python = params.text_or("python", "");
  if (const Bytes* text = params["text"].as_bytes()) {
    spec.text = *text;
    spec.travelled = true;
  }
  if (const auto* arguments = params["arguments"].as_array()) {
    for (const auto& argument : *arguments) {
      if (const auto* text = argument.as_text()) spec.arguments.push_back(*text);
    }
  }
  if (const auto* environment = params["environment"].as_map()) {
    for (const auto& [key, value] : *environment) {
      if (const auto* text = value.as_text()) spec.environment[key] = *text;
    }
  }
  if (auto named = read_bundles(params, spec); !named) {
    reply(from, tl::unexpected<Error>(named.error()));
    return;
  }
  const auto holders = from.remote ? std::vector<wire::Address>{*from.remote} : std::vector<wire::Address>();
  with_environments(spec, holders, [this, from, spec](Result<environment::Surroundings> surroundings) {
    if (surroundings) {
      start_app(from, spec, *surroundings);
    } else {
      reply(from, tl::unexpected<Error>(surroundings.error()));
    }
    drain();
  });
}

void Daemon::Impl::start_app(const Requester& from, AppSpec spec, const environment::Surroundings& surroundings) {
  const auto app = identity::random_id<AppId>();
  auto launched = launch_app(app, std::move(spec), surroundings);
  if (!launched) {
    reply(from, tl::unexpected<Error>(launched.error()));
    return;
  }
  reply(from, wire::Dynamic(wire::Dynamic::Map{{"app", app.hex()}, {"name", *launched}}));
}

// Starts the driver and the mirror; its name for people.
Result<std::string> Daemon::Impl::launch_app(AppId app, AppSpec spec, const environment::Surroundings& surroundings) {
  auto start = prepare_start(app, spec, surroundings);
  auto launched = start ? apps->start(*start) : Result<>(tl::unexpected<Error>(start.error()));
  if (!launched) return tl::unexpected<Error>(launched.error());
  for (const EnvironmentId id : spec.bundles()) app_environments[app].insert(id);
  start_mirror(app, std::move(spec));
  spdlog::info("application {} ({}) started", app.brief(), start->name);
  return start->name;
}

// Runs where it was submitted if that is on this host; elsewhere what came along, in a directory of its own.
Result<AppStart> Daemon::Impl::prepare_start(AppId app, const AppSpec& spec,
                                             const environment::Surroundings& surroundings) {
  AppStart start;
  start.app = app;
  start.name = spec.name;
  start.working_dir = spec.working_dir;
  start.environment = spec.environment;
  std::string program = spec.program;
  std::error_code error;
  const bool here = !spec.travelled && std::filesystem::exists(program, error) &&
                    std::filesystem::is_directory(spec.working_dir, error);
  if (!here && (spec.travelled || !spec.text.empty())) {
    start.working_dir = home.at("work/" + app.hex());
    std::filesystem::create_directories(start.working_dir, error);
    program = start.working_dir + "/" + start.name;
    if (auto written = replace_file(program, spec.text, 0700); !written) return tl::unexpected<Error>(written.error());
  }
  const std::string interpreter = spec.python.empty() ? python : spec.python;
  if (is_python(program)) {
    if (interpreter.empty()) return fail(Code::kUnsupported, no_python(settings.text("python")));
    start.command = {interpreter, program};
  } else {
    start.command = {program};
  }
  start.command.insert(start.command.end(), spec.arguments.begin(), spec.arguments.end());
  start.environment["SHOAL_SOCKET"] = home.socket();
  start.environment["SHOAL_APP"] = app.hex();
  start.environment["PYTHONUNBUFFERED"] = "1";
  start.environment.emplace("PYTHONHASHSEED",
                            "0");  // a program that runs again must go through its sets in the same order
  surroundings.add_to(start.environment);
  std::string modules;
  for (const auto& directory : surroundings.modules) modules += directory + ":";
  start.environment["PYTHONPATH"] = python_path(modules + start.environment["PYTHONPATH"]);
  if (const std::string ids = environment_variable(spec); !ids.empty()) start.environment[environment::kVariable] = ids;
  return start;
}

// Ids by unique prefix, names of programs, "last", or the number that COMPSs' interface gave.
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
  if (found.empty()) {
    for (const auto& state : list) {
      if (std::to_string(app_number(state.app)) == text) found.push_back(state.app);
    }
  }
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
  Watcher watcher{from, {}};
  for (const int stream : {1, 2}) {
    const std::int64_t seen = params.int_or(stream == 1 ? "stdout_seen" : "stderr_seen", 0);
    watcher.skip[static_cast<std::size_t>(stream)] = static_cast<std::size_t>(std::max<std::int64_t>(0, seen));
  }
  // What it wrote before somebody watched comes first; what is held back for the guardian comes when it is released.
  auto mirror = mirrors.find(*app);
  const std::size_t unsafe = held_back(*app);
  std::size_t offset = 0;
  for (std::size_t before = 1; before != offset;) {
    before = offset;
    offset = apps->read(
        *app, offset, kReplayBytes, [&](int stream, std::string_view text) { show_to(watcher, *app, stream, text); },
        unsafe);
  }
  const bool ends = mirror != mirrors.end() && mirror->second.ended.has_value();
  if (!state->running && !ends) {
    send_event(from, {"app.exit", wire::Dynamic(wire::Dynamic::Map{{"app", app->hex()}, {"code", state->exit_code}})});
    return;
  }
  watchers[*app].push_back(watcher);
  if (mirror != mirrors.end() && mirror->second.open) send_event(from, guardian_event(*app, mirror->second, false));
  reactor->set_timer(progress_timer, agent::Reactor::now() + kProgressEvery);
}

void Daemon::Impl::show_to(Watcher& watcher, AppId app, int stream, std::string_view text) {
  std::size_t& skip = watcher.skip[static_cast<std::size_t>(stream)];
  const std::size_t seen = std::min(skip, text.size());
  skip -= seen;
  text.remove_prefix(seen);
  if (!text.empty()) send_event(watcher.to, output_event(app, stream, text));
}

// With a guardian, the program's output waits for the journal: it may depend on every result known here.
void Daemon::Impl::on_app_output(AppId app, int stream, std::string_view text) {
  auto it = mirrors.find(app);
  if (it == mirrors.end()) return show_output(app, stream, text);
  it->second.held.push_back({it->second.entries.size(), stream, std::string(text)});
  pump_mirror(app);
}

void Daemon::Impl::show_output(AppId app, int stream, std::string_view text) {
  auto it = watchers.find(app);
  if (it == watchers.end()) return;
  for (auto& watcher : it->second) show_to(watcher, app, stream, text);
}

void Daemon::Impl::on_app_exit(const AppState& state) {
  spdlog::info("application {} ({}) ended with code {}", state.app.brief(), state.name, state.exit_code);
  replays.erase(state.app);
  end_checkpoint(state.app);
  app_environments.erase(state.app);
  auto it = mirrors.find(state.app);
  if (it == mirrors.end()) return show_exit(state);
  if (stopping && it->second.open) return move_watchers(state.app);  // its guardian goes on when this agent has left
  it->second.ended = state;
  pump_mirror(state.app);
}

void Daemon::Impl::show_exit(const AppState& state) {
  if (auto it = checkpoints.find(state.app); it != checkpoints.end()) {
    it->second.exit = state;  // who sees the end may start it again: everything is in the folder then
    return;
  }
  on_rest_app_end(state);
  auto watching = watchers.extract(state.app);
  if (watching.empty()) return;
  const client::Event event{"app.exit",
                            wire::Dynamic(wire::Dynamic::Map{{"app", state.app.hex()}, {"code", state.exit_code}})};
  for (const auto& watcher : watching.mapped()) send_event(watcher.to, event);
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
      for (const auto& watcher : it->second) send_event(watcher.to, {"app.progress", row});
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
