// shoal doctor: this machine, and what its agent knows of itself and of its neighbours.
#include <algorithm>

#include "agent/daemon/home.h"
#include "agent/settings/settings.h"
#include "tools/shoal/checks.h"
#include "tools/shoal/view.h"

namespace shoal::cli {
namespace {

std::string_view name_of(Status status) {
  if (status == Status::kOk) return "ok";
  return status == Status::kWarn ? "warn" : "fail";
}

Status status_of(const wire::Dynamic& row) {
  const std::string said = row.text_or("status", row.bool_or("ok", false) ? "ok" : "fail");
  if (said == "ok") return Status::kOk;
  return said == "warn" ? Status::kWarn : Status::kFail;
}

void add_agent_checks(const Context& context, std::vector<Check>& checks) {
  const std::string socket = daemon::Home(context.home).socket();
  auto client = context.connect();
  if (!client) {
    checks.push_back({"agent", Status::kWarn, "none runs in " + context.home, "shoal up"});
    return;
  }
  auto result = client->request("agent.doctor");
  if (!result) {
    checks.push_back({"agent", Status::kFail, result.error().message, "look at its log: " + context.home + "/logs"});
    return;
  }
  checks.push_back({"agent", Status::kOk, "answers at " + socket, ""});
  const auto* rows = (*result)["checks"].as_array();
  for (std::size_t i = 0; rows != nullptr && i < rows->size(); ++i) {
    const auto& row = (*rows)[i];
    std::string name = row.text_or("check", "?");
    // The agent may see another disk or other limits than this process does.
    const bool known = std::any_of(checks.begin(), checks.end(), [&](const Check& c) { return c.name == name; });
    checks.push_back(
        {known ? "agent: " + name : name, status_of(row), row.text_or("fact", ""), row.text_or("fix", "")});
  }
}

}  // namespace

int run_doctor(Context& context) {
  std::vector<std::string> flags;
  if (context.home_named) flags = {"--home", context.home};
  auto settings = settings::Settings::load(flags, settings::process_environment());
  auto checks = machine_checks(context.home, settings ? settings->text("python") : "");
  checks.push_back(settings ? Check{"settings", Status::kOk, "understood", ""}
                            : Check{"settings", Status::kFail, settings.error().message, "correct it"});
  add_agent_checks(context, checks);
  bool good = true;
  wire::Dynamic::Array rows;
  for (const auto& check : checks) {
    good = good && check.status != Status::kFail;
    rows.emplace_back(wire::Dynamic::Map{{"check", check.name},
                                         {"status", std::string(name_of(check.status))},
                                         {"ok", check.status != Status::kFail},
                                         {"fact", check.fact},
                                         {"fix", check.status == Status::kOk ? "" : check.fix}});
  }
  const Shape shape{
      "checks", {{"check", "check"}, {"status", "status", Show::kState}, {"fact", "fact"}, {"fix", "fix"}}, "check"};
  const int shown =
      show_known(context, shape, wire::Dynamic(wire::Dynamic::Map{{"checks", std::move(rows)}, {"ok", good}}));
  if (shown != kOk) return shown;
  return good ? kOk : kFailed;
}

}  // namespace shoal::cli
