// shoal logs: what a program printed, and what its tasks printed.
#include <fmt/format.h>
#include <poll.h>

#include <chrono>
#include <cstdio>

#include "protocol/base/number_set.h"
#include "tools/shoal/task_output.h"
#include "tools/shoal/view.h"

namespace shoal::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kFollowEveryMs = 200;
constexpr int kTasksEveryMs = 400;  // several agents are asked each time

// When following has to end.
Clock::time_point deadline_of(const Context& context) {
  if (!context.timeout || !context.has("follow")) return Clock::time_point::max();
  return Clock::now() + std::chrono::microseconds(context.timeout->us);
}

int logs_of_program(const Context& context, Client& client, const std::string& app) {
  const auto deadline = deadline_of(context);
  std::int64_t offset = 0;
  while (true) {
    auto result = client.request("app.logs", {{"app", app}, {"offset", offset}});
    if (!result) return report(result.error());
    if (const auto* parts = (*result)["parts"].as_array()) {
      for (const auto& part : *parts) {
        std::FILE* target = part.int_or("stream", 1) == 2 ? stderr : stdout;
        if (const Bytes* text = part["text"].as_bytes()) std::fwrite(text->data(), 1, text->size(), target);
        std::fflush(target);
      }
    }
    const std::int64_t next = result->int_or("offset", offset);
    const bool more = next > offset;
    offset = next;
    if (more) continue;
    if (!context.has("follow") || !result->bool_or("running", false)) return kOk;
    if (Clock::now() > deadline) return kTimedOut;
    ::poll(nullptr, 0, kFollowEveryMs);
  }
}

int logs_of_tasks(const Context& context, Client& client, const std::string& app, const std::string& tasks) {
  auto wanted = NumberSet::parse(tasks);
  if (!wanted) return report(wanted.error());
  const bool prefixed = context.has("tasks") || !wanted->is_single();
  TaskOutput output(app, tasks, prefixed ? TaskOutput::Prefix::kTaskAndAgent : TaskOutput::Prefix::kNone, context.look);
  const auto deadline = deadline_of(context);
  while (true) {
    auto next = output.poll(client);
    if (!next) return report(next.error());
    if (next->more) continue;
    if (!context.has("follow") || !next->running) break;
    if (Clock::now() > deadline) return kTimedOut;
    ::poll(nullptr, 0, kTasksEveryMs);
  }
  output.finish();
  return kOk;
}

}  // namespace

int run_logs(Context& context) {
  const bool tasks = context.has("tasks") || context.arguments.size() > 1;
  auto client = context.connect();
  if (!client) return report(client.error());
  client->set_timeout(seconds(30));
  auto found = client->request("app.find", {{"app", context.argument(0, "last")}});
  if (!found) return report(found.error());
  const std::string app = found->text_or("app", "");
  return tasks ? logs_of_tasks(context, *client, app, context.argument(1, "all"))
               : logs_of_program(context, *client, app);
}

}  // namespace shoal::cli
