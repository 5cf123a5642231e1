#include "agent/gateway/gateway.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace shoal::gateway {
namespace {

http::Response json_response(unsigned status, const nlohmann::json& body) {
  // Paths are echoed: bytes that are not UTF-8 are replaced, not thrown about.
  return {status, "application/json", body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n", {}};
}

http::Response error_response(unsigned status, const std::string& what) {
  return json_response(status, {{"status", status}, {"error", what}});
}

}  // namespace

Result<std::unique_ptr<Gateway>> Gateway::open(agent::Reactor& reactor, const std::string& address, Sources sources,
                                               Control control, ServerLimits limits) {
  std::unique_ptr<Gateway> gateway(new Gateway(std::move(sources), std::move(control)));
  auto server = HttpServer::listen(
      reactor, address,
      [raw = gateway.get()](const http::Request& request, const Peer& peer, const HttpServer::Answer& answer) {
        raw->on_request(request, peer, answer);
      },
      limits);
  if (!server) {
    return fail(
        server.error().code,
        server.error().message + "; choose another address with --http (port 0 takes a free one), or --http none");
  }
  gateway->server_ = std::move(*server);
  const bool open_to_all = gateway->control_.handles && gateway->control_.rule.access == Access::kAnyone;
  if (!gateway->server_->loopback_only()) {
    spdlog::warn(
        "the HTTP gateway at {} has no TLS and no users: whoever reaches it can read this agent's counts{}",
        gateway->server_->address(),
        open_to_all ? ", and start programs as its user (" + gateway->control_.rule.setting + " = anyone)" : "");
  }
  return gateway;
}

void Gateway::on_request(const http::Request& request, const Peer& peer, const HttpServer::Answer& answer) {
  if (control_.handles && control_.handles(request.path)) {
    auto allowed = check_access(control_.rule, request, peer);
    answer(allowed ? control_.serve(request) : error_response(403, allowed.error().message));
    return;
  }
  const bool known = request.path == "/metrics" || request.path == "/healthz" || request.path == "/readyz";
  if (!known) {
    answer(error_response(404, fmt::format("there is nothing at {}; try /metrics, /healthz or /readyz", request.path)));
    return;
  }
  if (request.method != "GET" && request.method != "HEAD") {
    auto response = error_response(405, fmt::format("{} takes GET and HEAD, not {}", request.path, request.method));
    response.headers.emplace_back("Allow", "GET, HEAD");
    answer(response);
    return;
  }
  if (request.path == "/metrics") {
    sources_.metrics(
        [answer](std::string text) { answer({200, "text/plain; version=0.0.4; charset=utf-8", std::move(text), {}}); });
    return;
  }
  const std::string why = request.path == "/readyz" ? sources_.not_ready() : "";
  answer(why.empty() ? json_response(200, {{"status", "ok"}})
                     : json_response(503, {{"status", "unavailable"}, {"error", why}}));
}

}  // namespace shoal::gateway
