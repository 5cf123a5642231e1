// Commands that work on environments of applications.
#include <fmt/format.h>

#include "tools/shoal/environments.h"
#include "tools/shoal/view.h"

namespace shoal::cli {
namespace {

// The environment that `text` means: an id, the beginning of one, or a name that only one has.
Result<wire::Dynamic> pick_environment(const wire::Dynamic& listed, const std::string& text) {
  std::vector<wire::Dynamic> found;
  if (const auto* rows = listed["environments"].as_array()) {
    for (const auto& row : *rows) {
      const bool match = row.text_or("environment", "").starts_with(text) || row.text_or("name", "") == text;
      if (match) found.push_back(row);
    }
  }
  if (found.empty())
    return fail(Code::kNotFound,
                fmt::format("the agent has no environment \"{}\"; `shoal environments` lists them", text));
  if (found.size() > 1)
    return fail(Code::kInvalid, fmt::format("\"{}\" fits {} environments; give more of the id", text, found.size()));
  return found.front();
}

}  // namespace

int run_environments(Context& context) {
  return show_request(context,
                      {"environments",
                       {{"environment", "environment", Show::kId},
                        {"name", "name"},
                        {"state", "state", Show::kState},
                        {"bytes", "size", Show::kBytes},
                        {"in_use", "in use"},
                        {"used_unix_ms", "used", Show::kTime},
                        {"problem", "problem", Show::kPlain, true}},
                       "environment"},
                      "environment.list");
}

int run_environments_build(Context& context) {
  auto prepared = prepare_environment(context, context.arguments[0], true);
  if (!prepared) return report(prepared.error());
  const wire::Dynamic answer(wire::Dynamic::Map{{"environment", prepared->id}, {"state", "ready"}});
  const bool people = context.look.format == Format::kTable || context.look.format == Format::kWide;
  put(people ? prepared->id + "\n" : render(answer, Shape{"", {}, "environment"}, context.look));
  return kOk;
}

int run_environments_rm(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto listed = client->request("environment.list");
  if (!listed) return report(listed.error());
  std::vector<std::string> ids;
  std::vector<Step> plan;
  for (const auto& text : context.arguments) {
    auto one = pick_environment(*listed, text);
    if (!one) return report(one.error());
    ids.push_back(one->text_or("environment", ""));
    plan.push_back({"remove environment", ids.back(),
                    fmt::format("{}, {}", one->text_or("name", "?"), human_bytes(one->int_or("bytes", 0)))});
  }
  return carefully(context, plan, [&] {
    wire::Dynamic::Array rows;
    for (const auto& id : ids) {
      auto removed = client->request("environment.remove", {{"environment", id}});
      if (!removed) return report(removed.error());
      rows.push_back(std::move(*removed));
    }
    return show_known(context,
                      {"environments", {{"environment", "environment"}, {"removed", "removed"}}, "environment"},
                      wire::Dynamic(wire::Dynamic::Map{{"environments", std::move(rows)}}));
  });
}

}  // namespace shoal::cli
