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

class Gateway {
 public:
  // Serves at `address` ("127.0.0.1:0"). Errors as HttpServer::listen, naming the setting.
  static Result<std::unique_ptr<Gateway>> open(agent::Reactor& reactor, const std::string& address, Sources sources,
                                               ServerLimits limits = {});
  std::string url() const { return "http://" + server_->address(); }
  HttpServer::Counters counters() const { return server_->counters(); }

 private:
  explicit Gateway(Sources sources) : sources_(std::move(sources)) {}
  void on_request(const http::Request& request, const HttpServer::Answer& answer);

  Sources sources_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace shoal::gateway
