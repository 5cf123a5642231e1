// agent/compss/service.h
//
// The paths of COMPSs' agents below /COMPSs: which request is which, and what answers it. Pure: a request in, a
// response out; whatever has to happen on the agent is asked of `Actions`. Who may ask at all is the gateway's
// business.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/compss/messages.h"
#include "protocol/base/result.h"
#include "protocol/http/server_connection.h"

namespace shoal::compss {

// An agent that tasks can be given to, as GET /COMPSs/resources lists it.
struct Resource {
  std::string name;
  bool self = false;
  bool other_region = false;  // stands for all agents of its region
  std::string architecture;
  std::uint32_t computing_units = 0;
  std::uint64_t memory_mb = 0;  // 0: not known
};

struct Started {
  std::uint64_t id = 0;  // what COMPSs calls it
  std::string app;       // what Shoal calls it
};

// What the agent does when asked. Texts are for whoever asked.
struct Actions {
  std::function<void()> test;
  std::function<std::vector<Resource>()> resources;
  std::function<void(const std::string& table)> print;  // on the agent's standard output
  std::function<Result<std::string>(const NodeRequest&)> add_resources;
  std::function<Result<std::string>(const NodeRequest&)> remove_resources;
  std::function<Result<std::string>(const NodeRequest&)> remove_node;
  std::function<Result<std::string>(const NodeRequest&)> lost_node;
  std::function<Result<Started>(const StartApplication&)> start_application;
  std::function<void(const EndApplication&)> end_application;
  std::function<void()> stop;  // after the answer is on its way
  std::function<std::int64_t()> unix_ms;
};

class Service {
 public:
  explicit Service(Actions actions) : actions_(std::move(actions)) {}

  static bool handles(std::string_view path);
  // Answers in JSON what came as JSON, in plain text anything else; errors are JSON objects with an "error".
  http::Response serve(const http::Request& request) const;

 private:
  using Handler = http::Response (Service::*)(const Body&) const;

  http::Response test(const Body&) const;
  http::Response resources(const Body&) const;
  http::Response print_resources(const Body&) const;
  http::Response start_application(const Body&) const;
  http::Response end_application(const Body&) const;
  http::Response stop(const Body&) const;
  http::Response add_resources(const Body&) const;
  http::Response remove_resources(const Body&) const;
  http::Response remove_node(const Body&) const;
  http::Response lost_node(const Body&) const;

  Actions actions_;
};

}  // namespace shoal::compss
