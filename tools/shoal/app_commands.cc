// Commands that run applications and look into them.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>

#include "agent/daemon/home.h"
#include "agent/settings/settings.h"
#include "tools/shoal/command.h"
#include "tools/shoal/pictures.h"

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;

// Set by the signal handler, read by the loop that follows an application.
volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int /*signal*/) {
  interrupted = 1;
}

Result<wire::Dynamic::Map> start_params(const Context& context) {
  std::error_code error;
  const fs::path program = fs::absolute(context.arguments[0], error);
  if (!fs::is_regular_file(program, error)) {
    return fail(Code::kNotFound,
                fmt::format("there is no program {}; name a Python file or an executable", context.arguments[0]));
  }
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
  for (const char* passed : {"PATH", "VIRTUAL_ENV", "LANG"}) {
    const auto own = settings::process_environment();
    if (auto it = own.find(passed); it != own.end() && environment.count(passed) == 0) environment[passed] = it->second;
  }
  wire::Dynamic::Map params{{"program", program.lexically_normal().string()},
                            {"arguments", std::move(arguments)},
                            {"environment", std::move(environment)},
                            {"working_dir", fs::current_path(error).string()},
                            {"python", context.option("python")}};
  if (!context.agent.empty()) {
    // Another agent may be on another host: the program's text goes along.
    auto text = daemon::read_file(program.string());
    if (!text) return tl::unexpected<Error>(text.error());
    params["text"] = wire::Dynamic(Bytes(std::move(*text)));
  }
  return params;
}

class ProgressLine {
 public:
  explicit ProgressLine(bool wanted) : shown_(wanted && isatty(STDERR_FILENO) != 0) {}
  void clear() {
    if (shown_ && drawn_) std::fputs("\r\x1b[K", stderr);
    drawn_ = false;
  }
  void draw(const wire::Dynamic& counts) {
    if (!shown_) return;
    const std::int64_t done = counts.int_or("done", 0);
    const std::int64_t total = counts.int_or("tasks", 0);
    if (total == 0) return;
    constexpr std::int64_t kWidth = 24;
    const auto full = static_cast<std::size_t>(done * kWidth / total);
    fmt::print(stderr, "\r\x1b[K[{}{}] {}/{} tasks, {} unfinished, {} failed", std::string(full, '#'),
               std::string(static_cast<std::size_t>(kWidth) - full, '.'), done, total, counts.int_or("unfinished", 0),
               counts.int_or("failed", 0));
    drawn_ = true;
  }

 private:
  bool shown_;
  bool drawn_ = false;
};

// Follows an application to its end; returns the program's exit code.
int follow(Context& context, Client& client, const std::string& app, bool cancel_on_interrupt) {
  if (auto attached = client.request("app.attach", {{"app", app}}); !attached) return report(attached.error());
  ProgressLine progress(!context.has("quiet"));
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  bool asked_to_stop = false;
  while (true) {
    if (interrupted != 0 && !asked_to_stop) {
      asked_to_stop = true;
      progress.clear();
      if (!cancel_on_interrupt) {
        complain(fmt::format("detached; `shoal attach {}` follows it again", app));
        return 130;
      }
      complain("cancelling the application");
      (void)client.request("app.cancel", {{"app", app}});
    }
    auto event = client.next_event(milliseconds(200));
    if (!event) {
      if (event.error().code == Code::kTimeout) continue;
      progress.clear();
      return report(event.error());
    }
    if (event->body.text_or("app", "") != app) continue;
    if (event->topic == "app.output") {
      progress.clear();
      const Bytes* text = event->body["text"].as_bytes();
      if (text != nullptr) {
        std::FILE* target = event->body.int_or("stream", 1) == 2 ? stderr : stdout;
        std::fwrite(text->data(), 1, text->size(), target);
        std::fflush(target);
      }
    } else if (event->topic == "app.progress") {
      progress.draw(event->body);
    } else if (event->topic == "app.exit") {
      progress.clear();
      return interrupted != 0 ? 130 : static_cast<int>(event->body.int_or("code", kFailed));
    }
  }
}

int start(Context& context, bool attached) {
  auto params = start_params(context);
  if (!params) return report(params.error());
  auto client = context.connect();
  if (!client) return report(client.error());
  auto started = client->request("app.start", std::move(*params));
  if (!started) return report(started.error());
  const std::string app = started->text_or("app", "");
  if (attached) return follow(context, *client, app, true);
  print(context.format == Format::kTable ? wire::Dynamic(app) : *started, context.format);
  if (!context.has("wait")) return kOk;
  const int code = follow(context, *client, app, false);
  return code == 0 ? kOk : kAppFailed;
}

int show_list(Context& context, const std::string& method, wire::Dynamic::Map params, const std::string& list,
              const std::vector<Column>& columns) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto result = client->request(method, std::move(params));
  if (!result) return report(result.error());
  print(context.format == Format::kJson ? *result : (*result)[list], context.format, columns);
  return kOk;
}

int show_picture(Context& context, std::string (*draw)(const wire::Dynamic&)) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto trace = client->request("app.trace", {{"app", context.arguments[0]}});
  if (!trace) return report(trace.error());
  fmt::print("{}", draw(*trace));
  return kOk;
}

std::string app_argument(const Context& context) {
  return context.arguments.empty() ? "last" : context.arguments[0];
}

}  // namespace

int run_run(Context& context) {
  return start(context, true);
}
int run_submit(Context& context) {
  return start(context, false);
}

int run_attach(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto found = client->request("app.find", {{"app", context.arguments[0]}});
  if (!found) return report(found.error());
  return follow(context, *client, found->text_or("app", ""), false);
}

int run_apps(Context& context) {
  return show_list(context, "app.list", {}, "apps",
                   {{"app", "APP"},
                    {"name", "NAME"},
                    {"state", "STATE"},
                    {"tasks", "TASKS"},
                    {"unfinished", "UNFINISHED"},
                    {"done", "DONE"},
                    {"failed", "FAILED"},
                    {"exit_code", "EXIT"}});
}

int run_tasks(Context& context) {
  return show_list(context, "app.tasks",
                   {{"app", app_argument(context)},
                    {"state", context.option("state")},
                    {"limit", std::strtoll(context.option("limit", "100").c_str(), nullptr, 10)}},
                   "tasks",
                   {{"task", "TASK"},
                    {"function", "FUNCTION"},
                    {"state", "STATE"},
                    {"agent_name", "AGENT"},
                    {"attempts", "ATTEMPTS"},
                    {"why", "WHY"}});
}

int run_explain(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto result = client->request("app.explain", {{"app", context.arguments[0]},
                                                {"task", std::strtoll(context.arguments[1].c_str(), nullptr, 10)}});
  if (!result) return report(result.error());
  print(*result, context.format);
  return kOk;
}

int run_logs(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  std::int64_t offset = 0;
  while (true) {
    auto result = client->request("app.logs", {{"app", app_argument(context)}, {"offset", offset}});
    if (!result) return report(result.error());
    if (const Bytes* text = (*result)["text"].as_bytes()) std::fwrite(text->data(), 1, text->size(), stdout);
    std::fflush(stdout);
    const std::int64_t next = result->int_or("offset", offset);
    const bool more = next > offset;
    offset = next;
    if (more) continue;
    if (!context.has("follow") || !result->bool_or("running", false)) return kOk;
    ::usleep(200'000);
  }
}

int run_cancel(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto result = client->request("app.cancel", {{"app", context.arguments[0]}});
  if (!result) return report(result.error());
  print(*result, context.format);
  return kOk;
}

int run_graph(Context& context) {
  return show_picture(context, context.has("dot") ? graph_dot : graph_svg);
}
int run_timeline(Context& context) {
  return show_picture(context, context.has("perfetto") ? timeline_perfetto : timeline_svg);
}

}  // namespace shoal::cli
