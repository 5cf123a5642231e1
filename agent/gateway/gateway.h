// agent/gateway/gateway.h
//
// What an agent says over HTTP: its routes. README.md lists them. It knows nothing of agents: the daemon gives it what
// to answer with.
//
// Thread-safety: none; works in turns of the reactor, which must outlive it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/gateway/http_server.h"
#include "agent/reactor/reactor.h"
#include "protocol/base/result.h"

namespace shoal::gateway {

// What the daemon tells when asked.
struct Sources {
  // Calls back once with the exposition, at once or later.
  std::function<void(std::function<void(std::string text)>)> metrics;
  // Why the agent takes no work now; empty when it does.
  std::function<std::string()> not_ready;
};

// Paths that have the agent do something, served to those that `rule` lets.
struct Control {
  AccessRule rule;
  std::function<bool(std::string_view path)> handles;
  std::function<http::Response(const http::Request&)> serve;
};

class Gateway {
 public:
  // Serves at `address` ("127.0.0.1:0"). Errors as HttpServer::listen, naming the setting.
  static Result<std::unique_ptr<Gateway>> open(agent::Reactor& reactor, const std::string& address, Sources sources,
                                               Control control = {}, ServerLimits limits = {});
  std::string url() const { return "http://" + server_->address(); }
  HttpServer::Counters counters() const { return server_->counters(); }

 private:
  Gateway(Sources sources, Control control) : sources_(std::move(sources)), control_(std::move(control)) {}
  void on_request(const http::Request& request, const Peer& peer, const HttpServer::Answer& answer);

  Sources sources_;
  Control control_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace shoal::gateway
