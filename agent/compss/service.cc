#include "agent/compss/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

namespace shoal::compss {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kBase = "/COMPSs";
constexpr std::string_view kUnknown = "[unassigned]";  // as COMPSs says that it does not know

// Names of agents may be anything: what is not UTF-8 is replaced, not thrown about.
std::string text_of(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

unsigned status_of(Code code) {
  switch (code) {
    case Code::kInvalid:
      return 400;
    case Code::kDenied:
      return 403;
    case Code::kNotFound:
      return 404;
    case Code::kExists:
    case Code::kStale:
      return 409;
    case Code::kUnsupported:
      return 501;
    case Code::kExhausted:
    case Code::kUnavailable:
      return 503;
    default:
      return 500;
  }
}

http::Response refusal(unsigned status, const std::string& what) {
  return {status, "application/json", text_of({{"status", status}, {"error", what}}), {}};
}

http::Response refusal(const Error& error) {
  return refusal(status_of(error.code), error.message);
}

bool wants_json(const Body& body) {
  const auto form = form_of(body.content_type, body.text);
  return form && *form == Form::kJson;
}

http::Response done(const Body& body, const std::string& message) {
  if (wants_json(body)) return {200, "application/json", text_of({{"message", message}}), {}};
  return {200, "text/plain; charset=utf-8", message.empty() ? "" : message + "\n", {}};
}

Json description_of(const Resource& resource) {
  Json processor{{"name", "MainProcessor"},
                 {"architecture", resource.architecture.empty() ? kUnknown : resource.architecture},
                 {"units", resource.computing_units}};
  return {{"processors", Json::array({std::move(processor)})},
          {"memory_size", resource.memory_mb == 0 ? -1.0 : static_cast<double>(resource.memory_mb) / 1024},
          {"memory_type", kUnknown},
          {"storage_size", -1.0},
          {"storage_type", kUnknown},
          {"storage_bandwidth", -1}};
}

// The names of COMPSs' classes, because scripts compare them.
std::string_view adaptor_of(const Resource& resource) {
  if (resource.self) return "es.bsc.compss.types.COMPSsMaster";
  return "es.bsc.compss.agent.comm.CommAgentWorker";
}

template <class Read, class Act>
http::Response with(const Body& body, Read&& read, Act&& act) {
  auto request = read(body);
  if (!request) return refusal(request.error());
  auto message = act(*request);
  return message ? done(body, *message) : refusal(message.error());
}

}  // namespace

bool Service::handles(std::string_view path) {
  return path == kBase || path.starts_with(std::string(kBase) + "/");
}

http::Response Service::serve(const http::Request& request) const {
  struct Route {
    std::string_view path;
    std::string_view method;
    Handler handler;
  };
  static constexpr std::array kRoutes = {
      Route{"", "DELETE", &Service::stop},
      Route{"/test", "GET", &Service::test},
      Route{"/resources", "GET", &Service::resources},
      Route{"/printResources", "GET", &Service::print_resources},
      Route{"/addResources", "PUT", &Service::add_resources},
      Route{"/removeResources", "PUT", &Service::remove_resources},
      Route{"/removeNode", "PUT", &Service::remove_node},
      Route{"/lostNode", "PUT", &Service::lost_node},
      Route{"/startApplication", "PUT", &Service::start_application},
      Route{"/endApplication", "PUT", &Service::end_application},
  };
  std::string_view path(request.path);
  path.remove_prefix(std::min(kBase.size(), path.size()));
  while (path.ends_with('/')) path.remove_suffix(1);
  const auto route = std::find_if(kRoutes.begin(), kRoutes.end(), [&](const Route& r) { return r.path == path; });
  if (route == kRoutes.end()) {
    std::string known;
    for (const auto& each : kRoutes) known += fmt::format(" {} {}{},", each.method, kBase, each.path);
    known.pop_back();
    return refusal(404, fmt::format("there is nothing at {}; agents answer{}", request.path, known));
  }
  const bool head = request.method == "HEAD" && route->method == "GET";
  if (request.method != route->method && !head) {
    auto response = refusal(405, fmt::format("{} takes {}, not {}", request.path, route->method, request.method));
    response.headers.emplace_back("Allow", route->method);
    return response;
  }
  const auto type = request.headers.find("content-type");
  return (this->*route->handler)(
      {type == request.headers.end() ? std::string_view() : std::string_view(type->second), request.body});
}

http::Response Service::test(const Body& /*body*/) const {
  actions_.test();
  return {};
}

http::Response Service::resources(const Body& /*body*/) const {
  Json rows = Json::array();
  for (const auto& resource : actions_.resources()) {
    rows.push_back(
        {{"name", resource.name}, {"adaptor", adaptor_of(resource)}, {"description", description_of(resource)}});
  }
  return {200, "application/json", text_of({{"time", actions_.unix_ms()}, {"resources", std::move(rows)}}), {}};
}

http::Response Service::print_resources(const Body& /*body*/) const {
  std::string table = fmt::format("{:<24} {:>6} {:>10}  {}\n", "AGENT", "UNITS", "MEMORY MB", "ARCHITECTURE");
  for (const auto& resource : actions_.resources()) {
    table += fmt::format("{:<24} {:>6} {:>10}  {}{}\n", resource.name, resource.computing_units, resource.memory_mb,
                         resource.architecture, resource.other_region ? " (and the region behind it)" : "");
  }
  actions_.print(table);
  return {};
}

http::Response Service::start_application(const Body& body) const {
  auto request = read_start(body);
  if (!request) return refusal(request.error());
  auto started = actions_.start_application(*request);
  if (!started) return refusal(started.error());
  if (!wants_json(body)) return {200, "text/plain; charset=utf-8", std::to_string(started->id), {}};
  return {200, "application/json", text_of({{"id", started->id}, {"app", started->app}}), {}};
}

http::Response Service::end_application(const Body& body) const {
  auto end = read_end(body);
  if (!end) return refusal(end.error());
  actions_.end_application(*end);
  return done(body, "");
}

http::Response Service::stop(const Body& body) const {
  actions_.stop();
  return done(body, "");
}

http::Response Service::add_resources(const Body& body) const {
  return with(body, read_new_resource, actions_.add_resources);
}

http::Response Service::remove_resources(const Body& body) const {
  return with(body, read_reduce_node, actions_.remove_resources);
}

http::Response Service::remove_node(const Body& body) const {
  return with(body, read_worker, actions_.remove_node);
}

http::Response Service::lost_node(const Body& body) const {
  return with(body, read_worker, actions_.lost_node);
}

}  // namespace shoal::compss
