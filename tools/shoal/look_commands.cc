// Commands that look at agents: status, agents, topology, sources, settings.
#include <fmt/format.h>

#include "agent/settings/settings.h"
#include "tools/shoal/view.h"

namespace shoal::cli {
namespace {

std::string text_or_none(const std::string& text) {
  return text.empty() ? "none" : text;
}

std::string role_of(const wire::Dynamic& status) {
  const std::string region = status.text_or("region", "?");
  std::string out = status.bool_or("is_head", false)
                        ? fmt::format("head of {}", region)
                        : fmt::format("member of {}, head is {}", region, status.text_or("head_name", "not known yet"));
  const auto* path = status["path"].as_array();
  const bool below = path != nullptr && path->size() > 1;
  if (status.bool_or("is_head", false) && below)
    out += status.bool_or("attached", false) ? ", attached to the region above" : ", cut off from the region above";
  return out;
}

std::string health_of(const wire::Dynamic& status) {
  std::string out;
  const auto add = [&](bool bad, const std::string& what) {
    if (bad) out += (out.empty() ? "" : "; ") + what;
  };
  add(status.bool_or("isolated", false), "hears nobody of its region");
  add(status["head"].is_nil(), "its region has no head now");
  add(status.int_or("suspects", 0) > 0, fmt::format("{} agents do not answer", status.int_or("suspects", 0)));
  add(!status.text_or("join_error", "").empty(), status.text_or("join_error", ""));
  add(status.text_or("python", "").empty(), "no Python interpreter: tasks in Python run elsewhere");
  return out.empty() ? "ok" : out;
}

std::string status_text(const wire::Dynamic& status, const Look& look) {
  const auto* running = status["attempts_running"].as_array();
  std::string tasks = fmt::format("{} finished", status.int_or("attempts_finished", 0));
  if (running != nullptr && !running->empty()) tasks += ", now " + plain(status["attempts_running"]);
  wire::Dynamic::Map lines{
      {"name", fmt::format("{} ({})", status.text_or("name", "?"), status.text_or("agent", ""))},
      {"role", role_of(status)},
      {"health", health_of(status)},
      {"resources", fmt::format("{} of {} units free, {} memory, labels {}", plain(status["units_free"]),
                                plain(status["computing_units"]), human_bytes(status.int_or("memory_mb", 0) << 20),
                                plain(status["labels"]))},
      {"members", fmt::format("{} in its region, {} links", status.int_or("members", 0), status.int_or("links", 0))},
      {"apps", fmt::format("{} running", status.int_or("apps_running", 0))},
      {"tasks", tasks},
      {"objects", fmt::format("{}, {}", status.int_or("objects", 0), human_bytes(status.int_or("object_bytes", 0)))},
      {"streams", fmt::format("{} kept here", status.int_or("streams", 0))},
      {"address",
       fmt::format("{}, {}", text_or_none(status.text_or("endpoint", "")), text_or_none(status.text_or("http", "")))},
      {"uptime", fmt::format("{}, {} of memory, version {}", human_ms(status.int_or("uptime_ms", 0)),
                             human_bytes(status.int_or("rss_bytes", 0)), status.text_or("version", "?"))},
  };
  static const std::vector<Column> kOrder = {
      {"name", "name"},           {"role", "role"},       {"health", "health", Show::kState},
      {"resources", "resources"}, {"members", "members"}, {"apps", "apps"},
      {"tasks", "tasks"},         {"objects", "objects"}, {"streams", "streams"},
      {"address", "address"},     {"uptime", "uptime"}};
  std::string out = render(wire::Dynamic(std::move(lines)), {"", kOrder, ""}, {Format::kTable, look.color});
  if (look.format == Format::kWide) out += "\n" + render(status, {}, look);
  return out;
}

std::string agent_line(const wire::Dynamic& agent, const Look& look) {
  const std::string state = agent.text_or("status", "alive");
  std::string out =
      fmt::format("{} {}  {}", state == "alive" ? "●" : "○", agent.text_or("name", "?"),
                  look.format == Format::kWide ? agent.text_or("agent", "") : agent.text_or("agent", "").substr(0, 8));
  if (agent.bool_or("head", false)) out += "  head";
  if (!agent["units_free"].is_nil()) {
    out += fmt::format("  {}/{} units, {}", plain(agent["units_free"]), plain(agent["computing_units"]),
                       human_bytes(agent.int_or("memory_mb", 0) << 20));
  }
  if (const auto* labels = agent["labels"].as_map(); labels != nullptr && !labels->empty())
    out += "  " + plain(agent["labels"]);
  if (look.format == Format::kWide) out += "  " + plain(agent["endpoint"]);
  return state == "alive" ? out : out + "  " + state;
}

void draw_region(std::string& out, const wire::Dynamic& region, const std::string& indent, const Look& look) {
  const std::int64_t count = region.int_or("count", 0);
  const std::string title = fmt::format("{} ({} agent{})", region.text_or("region", "?"), count, count == 1 ? "" : "s");
  out += indent + (look.color ? "\x1b[1m" + title + "\x1b[0m" : title);
  const std::string error = region.text_or("error", "");
  out += error.empty() ? "\n" : "  cannot be seen: " + error + "\n";
  if (const auto* agents = region["agents"].as_array()) {
    for (const auto& agent : *agents) out += indent + "  " + agent_line(agent, look) + "\n";
  }
  if (const auto* children = region["children"].as_array()) {
    for (const auto& child : *children) draw_region(out, child, indent + "    ", look);
  }
}

std::string topology_text(const wire::Dynamic& tree, const Look& look) {
  std::string out;
  draw_region(out, tree, "", look);
  return out;
}

// Names of all agents of the tree, for kQuiet: the answer itself is nested.
void collect_agents(const wire::Dynamic& region, wire::Dynamic::Array& rows) {
  if (const auto* agents = region["agents"].as_array()) {
    for (const auto& agent : *agents) {
      wire::Dynamic row = agent;
      if (row.as_map() != nullptr) (*row.as_map())["region"] = region.text_or("region", "?");
      rows.push_back(std::move(row));
    }
  }
  if (const auto* children = region["children"].as_array()) {
    for (const auto& child : *children) collect_agents(child, rows);
  }
}

const std::vector<Column>& agent_columns() {
  static const std::vector<Column> kColumns = {{"name", "name"},
                                               {"agent", "agent", Show::kId},
                                               {"region", "region"},
                                               {"role", "role"},
                                               {"status", "state", Show::kState},
                                               {"units_free", "free units", Show::kUnits},
                                               {"memory_mb", "memory", Show::kMib},
                                               {"labels", "labels"},
                                               {"scope", "scope", Show::kPlain, true},
                                               {"computing_units", "units", Show::kPlain, true},
                                               {"queued", "queued", Show::kPlain, true},
                                               {"architecture", "architecture", Show::kPlain, true},
                                               {"endpoint", "endpoint", Show::kPlain, true}};
  return kColumns;
}

}  // namespace

int run_status(Context& context) {
  return show_request(context, {"", {}, "agent"}, "agent.status", {}, status_text);
}

int run_agents(Context& context) {
  return show_request(context, {"agents", agent_columns(), "agent"}, "agent.agents");
}

int run_topology(Context& context) {
  const Format format = context.look.format;
  if (format != Format::kCsv && format != Format::kQuiet && format != Format::kJsonl)
    return show_request(context, {}, "agent.topology", {}, topology_text);
  // Formats of rows: the tree as a list of agents.
  return show(context, {"agents", agent_columns(), "agent"}, [](Client& client) -> Result<wire::Dynamic> {
    auto tree = client.request("agent.topology");
    if (!tree) return tree;
    wire::Dynamic::Array rows;
    collect_agents(*tree, rows);
    return wire::Dynamic(wire::Dynamic::Map{{"agents", std::move(rows)}});
  });
}

int run_sources(Context& context) {
  return show_request(context,
                      {"sources",
                       {{"name", "name"},
                        {"type", "type"},
                        {"stream", "stream"},
                        {"state", "state", Show::kState},
                        {"records", "records"},
                        {"error", "error"},
                        {"url", "url", Show::kPlain, true},
                        {"waiting", "waiting", Show::kPlain, true},
                        {"reconnects", "reconnects", Show::kPlain, true}},
                       "name"},
                      "edge.sources");
}

int run_config_show(Context& context) {
  std::vector<std::string> flags = context.rest;
  if (context.home_named) flags.insert(flags.begin(), {"--home", context.home});
  auto settings = settings::Settings::load(flags, settings::process_environment());
  if (!settings) return report(settings.error());
  wire::Dynamic::Array rows;
  for (const auto& key : settings::keys()) {
    const auto& value = settings->all().at(std::string(key.name));
    rows.emplace_back(
        wire::Dynamic::Map{{"key", std::string(key.name)}, {"value", value.text}, {"origin", value.origin}});
  }
  Shape shape{"settings", {{"key", "key"}, {"value", "value"}, {"origin", "origin", Show::kPlain, true}}, "key"};
  shape.columns[2].wide = !context.has("origin");
  return show_known(context, shape, wire::Dynamic(wire::Dynamic::Map{{"settings", std::move(rows)}}));
}

}  // namespace shoal::cli
