#include "tools/shoal/task_output.h"

#include <fmt/format.h>

#include <cstdio>

namespace shoal::cli {
namespace {

std::string text_of(const wire::Dynamic& row) {
  const Bytes* text = row["text"].as_bytes();
  return text == nullptr ? std::string() : std::string(*text);
}

}  // namespace

Result<TaskOutput::Next> TaskOutput::poll(Client& client) {
  auto answer = client.request("app.task_logs", {{"app", app_}, {"tasks", tasks_}, {"cursors", cursors_}});
  if (!answer) return tl::unexpected<Error>(answer.error());
  if (const auto* lines = (*answer)["lines"].as_array()) {
    for (const auto& row : *lines) take(row);
    std::fflush(stdout);
  }
  if (const auto* cursors = (*answer)["cursors"].as_map()) {
    for (const auto& [agent, cursor] : *cursors) cursors_[agent] = cursor;
  }
  tell_missing(*answer);
  return Next{answer->bool_or("more", false), answer->bool_or("running", false)};
}

void TaskOutput::take(const wire::Dynamic& row) {
  switch (look_.format) {
    case Format::kJson:
    case Format::kYaml:
      kept_.push_back(row);
      return;
    case Format::kJsonl:
      fmt::print("{}\n", to_json(row, true));
      return;
    case Format::kCsv:
      fmt::print("{}", to_csv({{std::to_string(row.int_or("task", 0)), row.text_or("agent_name", ""),
                                std::to_string(row.int_or("stream", 1)), text_of(row)}}));
      return;
    case Format::kTable:
    case Format::kWide:
    case Format::kQuiet:
      break;
  }
  std::FILE* target = row.int_or("stream", 1) == 2 ? stderr : stdout;
  if (prefix_ == Prefix::kTaskAndAgent)
    fmt::print(target, "[{} {}] ", row.int_or("task", 0), row.text_or("agent_name", "?"));
  const std::string text = text_of(row) + "\n";
  std::fwrite(text.data(), 1, text.size(), target);
}

void TaskOutput::tell_missing(const wire::Dynamic& answer) {
  const auto* rows = answer["missing"].as_array();
  missing_ = answer["missing"];
  for (std::size_t i = 0; rows != nullptr && i < rows->size(); ++i) {
    const auto& row = (*rows)[i];
    if (!told_.insert(row.text_or("agent", "")).second) continue;
    complain(fmt::format("the output of tasks on {} is missing: {}", row.text_or("agent_name", "?"),
                         row.text_or("error", "it does not answer")));
  }
}

void TaskOutput::finish() const {
  if (look_.format != Format::kJson && look_.format != Format::kYaml) return;
  put(render(wire::Dynamic(wire::Dynamic::Map{{"app", app_}, {"lines", kept_}, {"missing", missing_}}),
             {"lines", {}, ""}, look_));
}

}  // namespace shoal::cli
