// The REST interface of COMPSs' agents: what its requests mean here. Membership is automatic, so resources are neither
// added nor taken away; what remains of those requests is whether this agent gives work to another one.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "agent/daemon/impl.h"
#include "agent/daemon/machine.h"
#include "protocol/identity/crypto.h"
#include "scheduler/state.h"

namespace shoal::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRestAppsMax = 2000;  // more can never be remembered than run and have just ended
constexpr std::size_t kExcludedMax = 5000;  // the scheduler holds twice that
constexpr char kSetting[] = "compss_rest";

// Standard output, where COMPSs' scripts look for it.
void say(std::string_view text) {
  (void)std::fwrite(text.data(), 1, text.size(), stdout);
  (void)std::fflush(stdout);
}

std::string short_host_name() {
  const std::string host = host_name();
  return host.substr(0, host.find('.'));
}

gateway::Access access_of(const std::string& setting) {
  if (setting == "anyone") return gateway::Access::kAnyone;
  if (setting == "host") return gateway::Access::kHost;
  return setting == "owner" ? gateway::Access::kOwner : gateway::Access::kNobody;
}

std::uint32_t units_of(const overlay::Member& member) {
  const auto load = scheduler::decode_state(member.state);
  return load ? load->resources.computing_units : 0;
}

}  // namespace

std::uint64_t app_number(AppId app) {
  constexpr std::size_t kDigits = 13;  // 52 bits
  return std::strtoull(app.hex().substr(0, kDigits).c_str(), nullptr, 16);
}

gateway::Control Daemon::Impl::compss_control() {
  gateway::Control control;
  control.rule.access = access_of(settings.text(kSetting));
  control.rule.setting = kSetting;
  control.rule.host_names = {host_name(), short_host_name(), name};
  control.handles = compss::Service::handles;
  control.serve = [service = compss::Service(compss_actions())](const http::Request& request) {
    return service.serve(request);
  };
  return control;
}

compss::Actions Daemon::Impl::compss_actions() {
  compss::Actions actions;
  actions.test = [] { say("test invoked\n"); };
  actions.resources = [this] { return compss_resources(); };
  actions.print = [](const std::string& table) { say(table); };
  actions.add_resources = [this](const compss::NodeRequest& request) { return add_resources(request); };
  actions.remove_resources = [this](const compss::NodeRequest& request) { return remove_resources(request); };
  actions.remove_node = [this](const compss::NodeRequest& request) { return remove_node(request); };
  actions.lost_node = [this](const compss::NodeRequest& request) { return lost_node(request); };
  actions.start_application = [this](const compss::StartApplication& request) { return start_over_rest(request); };
  actions.end_application = [](const compss::EndApplication& end) {
    // Work goes to other agents by other ways, so nobody waits for this; it is worth a line.
    spdlog::info("told over REST: application {} of another agent ended with {}", end.job, end.status);
  };
  actions.stop = [this] { reactor->post([this] { begin_stop("asked over REST"); }); };
  actions.unix_ms = [] { return wall_now().unix_ms; };
  return actions;
}

std::vector<compss::Resource> Daemon::Impl::compss_resources() const {
  std::map<AgentId, compss::Resource> rows;
  const auto& path = node->address().path;
  for (const auto scope : {overlay::Scope::kHome, overlay::Scope::kParent}) {
    for (const auto& [id, member] : node->overlay().members(scope)) {
      if (member.status != overlay::Status::kAlive || excluded.contains(id) || rows.contains(id)) continue;
      compss::Resource row;
      row.name = member.name;
      row.self = id == identity.id();
      row.other_region = scope == overlay::Scope::kHome && !path.empty() && member.home != path.back();
      if (row.other_region) {
        if (const auto behind = scheduler::decode_summary(member.state))
          row.computing_units = static_cast<std::uint32_t>(behind->total64 / scheduler::kUnit64);
      } else if (const auto load = scheduler::decode_state(member.state)) {
        row.architecture = load->resources.architecture;
        row.computing_units = load->resources.computing_units;
        row.memory_mb = load->resources.memory_mb;
      }
      rows[id] = std::move(row);
    }
  }
  std::vector<compss::Resource> out;
  out.reserve(rows.size());
  for (auto& [id, row] : rows) out.push_back(std::move(row));
  // COMPSs lists the agent itself first.
  std::stable_partition(out.begin(), out.end(), [](const compss::Resource& row) { return row.self; });
  return out;
}

// By name or id; with a port also as a script knows the agent: by its host and port, or by the name that
// compss_agent_start gives to an agent that it is told to run at "localhost".
Result<overlay::Member> Daemon::Impl::find_member(const compss::NodeRequest& request) const {
  std::vector<std::string> names = {request.name};
  std::vector<std::string> endpoints;
  if (!request.port.empty()) {
    names.push_back(fmt::format("{}-{}", request.name, request.port));
    names.push_back(fmt::format("{}-{}", short_host_name(), request.port));
    endpoints.push_back(fmt::format("tcp://{}:{}", request.name, request.port));
  }
  std::vector<overlay::Member> found;
  for (const auto scope : {overlay::Scope::kHome, overlay::Scope::kParent}) {
    for (const auto& [id, member] : node->overlay().members(scope)) {
      const bool named = std::find(names.begin(), names.end(), member.name) != names.end() ||
                         std::find(endpoints.begin(), endpoints.end(), member.endpoint) != endpoints.end() ||
                         (request.name.size() >= 4 && id.hex().starts_with(request.name));
      const AgentId agent = member.id;
      const bool known =
          std::any_of(found.begin(), found.end(), [&](const overlay::Member& other) { return other.id == agent; });
      if (named && !known) found.push_back(member);
    }
  }
  // A name that fits exactly counts more than the guesses.
  const auto exact = std::find_if(found.begin(), found.end(), [&](const auto& m) { return m.name == request.name; });
  if (exact != found.end() && request.port.empty()) return *exact;
  if (found.size() == 1) return found.front();
  if (found.size() > 1)
    return fail(Code::kInvalid, fmt::format("\"{}\" fits {} agents; name one of them", request.name, found.size()));
  return fail(Code::kNotFound,
              fmt::format("{}{} is no member of the region of agent {}: run `shoal token create` there, and `shoal "
                          "join TOKEN` on the new host; members share work by themselves",
                          request.name, request.port.empty() ? "" : " (port " + request.port + ")", name));
}

void Daemon::Impl::exclude(const overlay::Member& member, bool leave_out) {
  if (leave_out) {
    excluded.insert(member.id);
  } else {
    excluded.erase(member.id);
  }
  spdlog::info("agent {} {} tasks from here", member.name, leave_out ? "gets no more" : "gets");
  feed(node::in::Scheduler(scheduler::in::Exclude{member.id, leave_out}));
}

Result<std::string> Daemon::Impl::add_resources(const compss::NodeRequest& request) {
  auto member = find_member(request);
  if (!member) return tl::unexpected<Error>(member.error());
  if (member->id == identity.id()) return fmt::format("{} is this agent", member->name);
  const bool back = excluded.contains(member->id);
  if (back) exclude(*member, false);
  return fmt::format("{} {} with {} units", member->name,
                     back ? "is given tasks again," : "is in the region already and shares its work,",
                     units_of(*member));
}

Result<std::string> Daemon::Impl::remove_resources(const compss::NodeRequest& request) {
  auto member = find_member(request);
  if (!member) return tl::unexpected<Error>(member.error());
  const std::uint32_t has = units_of(*member);
  if (request.units && *request.units < has) {
    return fail(Code::kStale, fmt::format("agent {0} has {1} units, and says itself how many of them are free: all of "
                                          "them can be taken off ({1} or more), or fewer by restarting it with "
                                          "--computing-units",
                                          member->name, has));
  }
  return remove_node(request);
}

Result<std::string> Daemon::Impl::remove_node(const compss::NodeRequest& request) {
  auto member = find_member(request);
  if (!member) return tl::unexpected<Error>(member.error());
  if (member->id == identity.id()) {
    return fail(Code::kStale,
                "this agent cannot be taken away from itself: start it with --computing-units 0 to have "
                "all tasks run elsewhere, or stop it with DELETE /COMPSs");
  }
  if (excluded.size() >= kExcludedMax)
    return fail(Code::kExhausted, fmt::format("{} agents are taken off already; add some again first", kExcludedMax));
  if (!excluded.contains(member->id)) exclude(*member, true);
  return fmt::format("{} gets no more tasks from here; those it has are finished", member->name);
}

Result<std::string> Daemon::Impl::lost_node(const compss::NodeRequest& request) {
  auto member = find_member(request);
  // Who is forgotten already is as lost as can be.
  if (!member && member.error().code == Code::kNotFound) return fmt::format("{} is not in the region", request.name);
  if (!member) return tl::unexpected<Error>(member.error());
  auto removed = remove_node(request);
  if (!removed) return removed;
  const bool answers = member->status == overlay::Status::kAlive;
  return fmt::format(
      "{} gets no more tasks from here; {}", member->name,
      answers ? "it still answers, so what it runs counts until it stops answering" : "what it had is run elsewhere");
}

Result<compss::Started> Daemon::Impl::start_over_rest(const compss::StartApplication& request) {
  if (stopping) return fail(Code::kUnavailable, "this agent is stopping; submit to another one");
  if (rest_apps.size() >= kRestAppsMax)
    return fail(Code::kExhausted, fmt::format("{} applications started over REST are running", kRestAppsMax));
  const auto app = identity::random_id<AppId>();
  auto spec = rest_spec(app, request);
  if (!spec) return tl::unexpected<Error>(spec.error());
  RestApp end{spec->tell_end, request.stop, request.forward_to};
  auto launched = launch_app(app, std::move(*spec), {});
  if (!launched) return tl::unexpected<Error>(launched.error());
  rest_apps[app] = std::move(end);
  return compss::Started{app_number(app), app.hex()};
}

// A Python application is a program of its own that calls the function, so that it can be run again elsewhere.
Result<AppSpec> Daemon::Impl::rest_spec(AppId app, const compss::StartApplication& request) const {
  AppSpec spec;
  std::error_code error;
  spec.working_dir = fs::current_path(error).string();
  if (error) spec.working_dir = home.dir();
  if (request.orchestrator) spec.tell_end = request.orchestrator->method + " " + request.orchestrator->url;
  if (request.language == compss::Language::kNative) {
    spec.program = request.program;
    spec.name = fs::path(request.program).filename().string();
    spec.arguments = request.arguments.words;
    return spec;
  }
  const std::string directory = home.at("work/" + app.hex());
  nlohmann::json call{{"program", request.program},
                      {"function", request.function},
                      {"arguments", nlohmann::json::parse(request.arguments.json)}};
  if (request.has_result) call["result"] = directory + "/result";
  // A JSON text in ASCII, written as a JSON string, is a Python literal of the same text.
  const std::string literal = nlohmann::json(call.dump(-1, ' ', true)).dump();
  spec.text =
      Bytes(fmt::format("# An application that was started over COMPSs' REST interface.\n"
                        "from pycompss._doors.call import run_request\n\nrun_request({})\n",
                        literal));
  const bool file = request.program.front() == '/';
  spec.name =
      fmt::format("{}.{}.py", file ? fs::path(request.program).stem().string() : request.program, request.function);
  spec.program = directory + "/" + spec.name;
  if (const char* inherited = std::getenv("PYTHONPATH")) spec.environment["PYTHONPATH"] = inherited;
  fs::create_directories(directory, error);
  if (auto written = replace_file(spec.program, spec.text, 0600); !written)
    return tl::unexpected<Error>(written.error());
  return spec;
}

void Daemon::Impl::on_rest_app_end(const AppState& state) {
  auto ended = rest_apps.extract(state.app);
  if (ended.empty()) return;
  const RestApp& rest = ended.mapped();
  if (!rest.tell.empty()) {
    compss::EndApplication end;
    end.job = std::to_string(app_number(state.app));
    end.status = state.exit_code == 0 ? "OK" : "EXECUTION_FAILED";
    end.profile = {{"taskCreated", state.started_unix_ms},
                   {"executionStart", state.started_unix_ms},
                   {"executionEnd", state.ended_unix_ms},
                   {"taskEnd", state.ended_unix_ms}};
    std::error_code ignored;
    const std::string result = home.at("work/" + state.app.hex() + "/result");
    if (state.exit_code == 0 && fs::exists(result, ignored))
      end.locations.push_back(fmt::format("file://{}{}", host_name(), result));
    const auto space = rest.tell.find(' ');
    gateway::Call call{rest.tell.substr(0, space), rest.tell.substr(space + 1), "application/xml",
                       compss::write_end(end)};
    auto told = caller->call(std::move(call), [app = state.app](Result<unsigned> status) {
      if (!status) {
        spdlog::warn("application {}: its orchestrator was not told of its end: {}", app.brief(),
                     status.error().message);
      } else if (*status != 200) {
        spdlog::warn("application {}: its orchestrator answered {} when told of its end", app.brief(), *status);
      }
    });
    if (!told) spdlog::warn("application {}: {}", state.app.brief(), told.error().message);
  }
  if (rest.stop) stop_with_others(rest.forward_to);
}

// The others first: this agent has to be there to tell them.
void Daemon::Impl::stop_with_others(const std::vector<std::string>& forward_to) {
  auto left = std::make_shared<std::size_t>(forward_to.size());
  const auto one_less = [this, left] {
    if (--*left == 0) begin_stop("its application has ended");
  };
  if (forward_to.empty()) {
    reactor->post([this] { begin_stop("its application has ended"); });
    return;
  }
  for (const auto& agent : forward_to) {
    const auto url = compss::http_url(agent, "COMPSs/");
    auto told = caller->call({"DELETE", url.value_or(""), "", ""}, [agent, one_less](Result<unsigned> status) {
      if (!status || *status != 200) {
        spdlog::warn("{} was not stopped: {}", agent,
                     status ? fmt::format("it answered {}", *status) : status.error().message);
      }
      one_less();
    });
    if (!told) reactor->post(one_less);
  }
}

}  // namespace shoal::daemon
