// Commands that run applications and look into them.
#include <fmt/format.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>

#include "agent/daemon/home.h"
#include "agent/settings/settings.h"
#include "protocol/base/number_set.h"
#include "scheduler/checkpoint_policy.h"
#include "scheduler/policy.h"
#include "tools/shoal/environments.h"
#include "tools/shoal/follow.h"
#include "tools/shoal/pictures.h"
#include "tools/shoal/task_output.h"
#include "tools/shoal/traces.h"
#include "tools/shoal/view.h"

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kTasksMax = 10'000;  // that an agent lists at a time
constexpr std::size_t kExplainedMax = 100;

// The file that `run` and `submit` mean: a path, or an executable of PATH. The exit code instead when there is none
// that can be run.
struct Program {
  fs::path path;
  int failed = 0;
};

Program find_program(const std::string& said, const std::map<std::string, std::string>& environment) {
  std::error_code error;
  const fs::path here = fs::absolute(said, error).lexically_normal();
  const bool is_python = said.ends_with(".py");
  if (fs::exists(here, error)) {
    if (fs::is_directory(here, error)) {
      complain(fmt::format("{} is a directory; name a Python file or an executable", said));
      return {here, kRunCannotExecute};
    }
    if (::access(here.c_str(), is_python ? R_OK : X_OK) == 0) return {here, 0};
    complain(fmt::format("{} cannot be {}: Permission denied; a Python program ends with .py, others need chmod +x",
                         said, is_python ? "read" : "run"));
    return {here, kRunCannotExecute};
  }
  const auto search = environment.find("PATH");
  std::string_view rest;
  if (search != environment.end() && said.find('/') == std::string::npos) rest = search->second;
  while (!rest.empty()) {
    const auto colon = std::min(rest.find(':'), rest.size());
    const fs::path candidate = fs::path(rest.substr(0, colon)) / said;
    if (fs::is_regular_file(candidate, error) && ::access(candidate.c_str(), X_OK) == 0) return {candidate, 0};
    rest.remove_prefix(std::min(colon + 1, rest.size()));
  }
  complain(fmt::format("there is no program {}; name a Python file or an executable", said));
  return {here, kRunNotFound};
}

// The program's SDK tells its agent.
Result<> add_checkpoint(const Context& context, wire::Dynamic::Map& environment) {
  const std::string folder = context.option("checkpoint");
  const std::string policy = context.option("checkpoint-policy");
  const std::string avoid = context.option("checkpoint-avoid");
  if (folder.empty() && (!policy.empty() || !avoid.empty()))
    return fail(Code::kInvalid, "when and what to save needs a place: add --checkpoint DIR");
  if (folder.empty()) return {};
  if (auto ok = scheduler::CheckpointPolicy::parse(policy); !ok) return tl::unexpected<Error>(ok.error());
  std::error_code error;
  environment["SHOAL_CHECKPOINT"] = fs::absolute(folder, error).lexically_normal().string();
  if (!policy.empty()) environment["SHOAL_CHECKPOINT_POLICY"] = policy;
  if (!avoid.empty()) environment["SHOAL_CHECKPOINT_AVOID"] = avoid;
  return {};
}

Result<wire::Dynamic::Map> start_params(const Context& context, const fs::path& program) {
  wire::Dynamic::Array arguments;
  for (const auto& word : context.rest) arguments.emplace_back(word);
  wire::Dynamic::Map environment;
  if (auto it = context.options.find("env"); it != context.options.end()) {
    for (const auto& pair : it->second) {
      const auto equals = pair.find('=');
      if (equals == std::string::npos || equals == 0)
        return fail(Code::kInvalid, fmt::format("--env takes KEY=VALUE, not \"{}\"", pair));
      environment[pair.substr(0, equals)] = pair.substr(equals + 1);
    }
  }
  if (auto checkpointed = add_checkpoint(context, environment); !checkpointed)
    return tl::unexpected<Error>(checkpointed.error());
  for (const char* passed : {"PATH", "VIRTUAL_ENV", "LANG"}) {
    const auto own = settings::process_environment();
    if (auto it = own.find(passed); it != own.end() && environment.count(passed) == 0) environment[passed] = it->second;
  }
  if (const std::string name = context.option("scheduler"); !name.empty()) {
    if (auto known = scheduler::parse_policy(name); !known) return tl::unexpected<Error>(known.error());
    environment["SHOAL_SCHEDULER"] = name;
  }
  wire::Dynamic::Map params{{"program", program.string()},
                            {"arguments", std::move(arguments)},
                            {"environment", std::move(environment)},
                            {"working_dir", fs::current_path().string()},
                            {"python", context.option("python")}};
  if (!context.agent.empty()) {
    // Another agent may be on another host: the program's text goes along.
    auto text = daemon::read_file(program.string());
    if (!text) return tl::unexpected<Error>(text.error());
    params["text"] = wire::Dynamic(Bytes(std::move(*text)));
  }
  return params;
}

FollowOptions follow_options(const Context& context) {
  FollowOptions options;
  options.task_output = context.has("task-output");
  options.progress = !context.quiet;
  options.timeout = context.timeout;
  return options;
}

// Says how to come back to what goes on without us.
void tell_detached(const Context& context, const std::string& app) {
  const std::string home = context.home_named ? " --home " + context.home : "";
  complain(fmt::format("detached, the application goes on; `shoal{} attach {}` follows it again", home, app));
}

// The exit code of a command that stays with an application without owning it.
int detachable(const Context& context, const std::string& app, const FollowEnd& end) {
  switch (end.how) {
    case FollowEnd::How::kExited:
      return end.code;
    case FollowEnd::How::kSignal:
      tell_detached(context, app);
      return end.code;
    case FollowEnd::How::kTimedOut:
      tell_detached(context, app);
      return kTimedOut;
    case FollowEnd::How::kLost:
      return report(end.error);
  }
  return kFailed;
}

struct Started {
  Client client;
  wire::Dynamic answer;
};

// Starts the program of the command line; on failure the exit code, as `run` has it.
Result<Started> start(const Context& context, int* run_code) {
  *run_code = kRunFailed;
  const Program program = find_program(context.arguments[0], settings::process_environment());
  if (program.failed != 0) {
    *run_code = program.failed;
    return fail(program.failed == kRunNotFound ? Code::kNotFound : Code::kFailed, "");
  }
  auto params = start_params(context, program.path);
  if (!params) return tl::unexpected<Error>(params.error());
  auto environments = prepare_environments(context);
  if (!environments) return tl::unexpected<Error>(environments.error());
  wire::Dynamic::Map of_tasks;
  for (const auto& one : *environments) {
    if (one.name.empty()) {
      (*params)["bundle"] = one.id;
    } else {
      of_tasks[one.name] = one.id;
    }
  }
  if (!of_tasks.empty()) (*params)["task_bundles"] = std::move(of_tasks);
  auto client = context.connect();
  if (!client) return tl::unexpected<Error>(client.error());
  auto answer = client->request("app.start", std::move(*params));
  if (!answer) {
    if (answer.error().code == Code::kUnsupported) *run_code = kRunCannotExecute;
    return tl::unexpected<Error>(answer.error());
  }
  return Started{std::move(*client), std::move(*answer)};
}

Result<wire::Dynamic> trace_of(Context& context) {
  auto client = context.connect();
  if (!client) return tl::unexpected<Error>(client.error());
  return client->request("app.trace", {{"app", context.arguments[0]}});
}

int show_picture(Context& context, std::string (*draw)(const wire::Dynamic&)) {
  auto trace = trace_of(context);
  if (!trace) return report(trace.error());
  put(draw(*trace));
  return kOk;
}

// NAME.prv, NAME.pcf and NAME.row, as Paraver looks for them.
int write_paraver(Context& context, const std::string& name) {
  auto trace = trace_of(context);
  if (!trace) return report(trace.error());
  const ParaverTrace files = timeline_paraver(*trace, WallTime{std::int64_t{std::time(nullptr)} * 1000});
  for (const auto& [ending, text] : {std::pair(".prv", &files.prv), {".pcf", &files.pcf}, {".row", &files.row}}) {
    if (auto written = daemon::replace_file(name + ending, *text, 0644); !written) return report(written.error());
  }
  return kOk;
}

std::int64_t last_task(const wire::Dynamic& tasks) {
  std::int64_t last = 0;
  if (const auto* rows = tasks["tasks"].as_array()) {
    for (const auto& row : *rows) last = std::max(last, row.int_or("task", 0));
  }
  return last;
}

// The tasks of an application that `wanted` selects.
Result<wire::Dynamic> tasks_of(Client& client, const std::string& app, NumberSet wanted, const std::string& state,
                               std::int64_t limit) {
  auto tasks = client.request("app.tasks", {{"app", app}, {"state", state}, {"limit", limit}});
  if (!tasks) return tasks;
  wanted.set_last(static_cast<std::uint64_t>(last_task(*tasks)));
  if (tasks->as_map() == nullptr) return tasks;
  if (auto* rows = (*tasks->as_map())["tasks"].as_array()) {
    std::erase_if(*rows, [&](const wire::Dynamic& row) {
      return !wanted.contains(static_cast<std::uint64_t>(row.int_or("task", 0)));
    });
  }
  return tasks;
}

}  // namespace

int run_run(Context& context) {
  int failed = 0;
  auto started = start(context, &failed);
  if (!started) {
    if (!started.error().message.empty()) complain(started.error().message);
    return failed;
  }
  const std::string app = started->answer.text_or("app", "");
  FollowOptions options = follow_options(context);
  options.cancels = true;
  started->client.set_timeout(seconds(30));  // --timeout is the program's
  const FollowEnd end = follow(started->client, app, options);
  switch (end.how) {
    case FollowEnd::How::kExited:
    case FollowEnd::How::kSignal:
      return end.code;
    case FollowEnd::How::kTimedOut:
      break;
    case FollowEnd::How::kLost:
      complain(end.error.message);
      break;
  }
  return kRunFailed;
}

int run_submit(Context& context) {
  int run_code = 0;
  auto started = start(context, &run_code);
  if (!started) {
    if (!started.error().message.empty()) return report(started.error());
    return exit_code(started.error());
  }
  const std::string app = started->answer.text_or("app", "");
  const bool people = context.look.format == Format::kTable || context.look.format == Format::kWide;
  put(people ? app + "\n" : render(started->answer, Shape{"", {}, "app"}, context.look));
  if (!context.has("wait") && !context.has("follow")) return kOk;
  FollowOptions options = follow_options(context);
  options.output = context.has("follow");
  started->client.set_timeout(seconds(30));
  const FollowEnd end = follow(started->client, app, options);
  if (end.how != FollowEnd::How::kExited) return detachable(context, app, end);
  return end.code == 0 ? kOk : kAppFailed;
}

int run_attach(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  client->set_timeout(seconds(30));
  auto found = client->request("app.find", {{"app", context.arguments[0]}});
  if (!found) return report(found.error());
  const std::string app = found->text_or("app", "");
  return detachable(context, app, follow(*client, app, follow_options(context)));
}

int run_apps(Context& context) {
  return show_request(context,
                      {"apps",
                       {{"app", "app", Show::kId},
                        {"name", "name"},
                        {"state", "state", Show::kState},
                        {"tasks", "tasks"},
                        {"unfinished", "unfinished"},
                        {"done", "done"},
                        {"failed", "failed"},
                        {"exit_code", "exit"},
                        {"started_unix_ms", "started", Show::kTime},
                        {"ended_unix_ms", "ended", Show::kTime, true},
                        {"cancelled", "cancelled", Show::kPlain, true},
                        {"retried", "retried", Show::kPlain, true},
                        {"lost_attempts", "lost", Show::kPlain, true},
                        {"recomputed", "recomputed", Show::kPlain, true},
                        {"replayed", "replayed", Show::kPlain, true},
                        {"error", "error", Show::kPlain, true}},
                       "app"},
                      "app.list");
}

int run_tasks(Context& context) {
  auto wanted = NumberSet::parse(context.argument(1));
  if (!wanted) return report(wanted.error());
  auto limit = context.number("limit", wanted->is_all() ? 100 : kTasksMax, 1);
  if (!limit) return report(limit.error());
  const Shape shape{"tasks",
                    {{"task", "task"},
                     {"function", "function"},
                     {"state", "state", Show::kState},
                     {"agent_name", "agent"},
                     {"run_us", "time", Show::kMicros},
                     {"attempts", "attempts"},
                     {"why", "why"},
                     {"agent", "agent id", Show::kPlain, true}},
                    "task"};
  return show(context, shape, [&](Client& client) {
    return tasks_of(client, context.argument(0, "last"), *wanted, context.option("state"), *limit);
  });
}

int run_explain(Context& context) {
  auto wanted = NumberSet::parse(context.arguments[1]);
  if (!wanted) return report(wanted.error());
  auto client = context.connect();
  if (!client) return report(client.error());
  const std::string& app = context.arguments[0];
  std::vector<std::int64_t> tasks;
  if (wanted->is_single() && !wanted->wants_last()) {
    tasks.push_back(std::strtoll(context.arguments[1].c_str(), nullptr, 10));
  } else {
    auto listed = tasks_of(*client, app, *wanted, "", kTasksMax);
    if (!listed) return report(listed.error());
    for (const auto& row : *(*listed)["tasks"].as_array()) tasks.push_back(row.int_or("task", 0));
  }
  if (tasks.empty()) return report(Error{Code::kNotFound, "no task of the application is selected"});
  if (tasks.size() > kExplainedMax) tasks.resize(kExplainedMax);
  wire::Dynamic::Array rows;
  bool placeable = true;
  for (const std::int64_t task : tasks) {
    auto result = client->request("app.explain", {{"app", app}, {"task", task}});
    if (!result) return report(result.error());
    placeable = placeable && result->bool_or("placeable", true);
    rows.push_back(std::move(*result));
  }
  if (tasks.size() == 1) {
    put(render(rows[0], Shape{"", {}, "task"}, context.look));
  } else {
    const Shape shape{"tasks", {{"task", "task"}, {"state", "state", Show::kState}, {"why", "why"}}, "task"};
    put(render(wire::Dynamic(wire::Dynamic::Map{{"tasks", std::move(rows)}}), shape, context.look));
  }
  return placeable ? kOk : kCannotPlace;
}

int run_cancel(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto listed = client->request("app.list");
  if (!listed) return report(listed.error());
  const auto* known = (*listed)["apps"].as_array();
  std::vector<std::string> apps;
  for (const auto& text : context.arguments) {
    if (text == "all") {
      for (std::size_t i = 0; known != nullptr && i < known->size(); ++i) {
        if ((*known)[i].text_or("state", "") == "running") apps.push_back((*known)[i].text_or("app", ""));
      }
      continue;
    }
    auto found = client->request("app.find", {{"app", text}});
    if (!found) return report(found.error());
    apps.push_back(found->text_or("app", ""));
  }
  std::vector<Step> plan;
  for (const auto& app : apps) {
    Step step{"cancel", app, ""};
    for (std::size_t i = 0; known != nullptr && i < known->size(); ++i) {
      const auto& row = (*known)[i];
      if (row.text_or("app", "") != app) continue;
      step.detail = fmt::format("{}, {}, {} tasks unfinished", row.text_or("name", "?"), row.text_or("state", "?"),
                                row.int_or("unfinished", 0));
    }
    plan.push_back(std::move(step));
  }
  return carefully(context, plan, [&] {
    wire::Dynamic::Array rows;
    for (const auto& app : apps) {
      auto result = client->request("app.cancel", {{"app", app}});
      if (!result) return report(result.error());
      rows.push_back(std::move(*result));
    }
    return show_known(
        context, {"apps", {{"app", "app"}, {"cancelled", "cancelled"}, {"driver_stopped", "driver stopped"}}, "app"},
        wire::Dynamic(wire::Dynamic::Map{{"apps", std::move(rows)}}));
  });
}

int run_graph(Context& context) {
  return show_picture(context, context.has("dot") ? graph_dot : graph_svg);
}
int run_timeline(Context& context) {
  if (context.has("paraver")) return write_paraver(context, context.option("paraver"));
  return show_picture(context, context.has("perfetto") ? timeline_perfetto : timeline_svg);
}

}  // namespace shoal::cli
