// agent/compss/messages.h
//
// What is said over the REST interface of COMPSs' agents: the requests, checked, and the call-back that ends an
// application. Each may be XML, as COMPSs writes it, or JSON with the same names. Errors are kInvalid (kUnsupported for
// what Shoal does not have) and meant for whoever sent the request.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/compss/values.h"
#include "protocol/base/result.h"

namespace shoal::compss {

// A request's body and what it says to be.
struct Body {
  std::string_view content_type;
  std::string_view text;
};

enum class Language : std::uint8_t { kPython, kNative };

// Whom to tell that an application has ended.
struct CallBack {
  std::string method;  // PUT or POST
  std::string url;     // http://host:port/path
};

struct StartApplication {
  Language language = Language::kPython;
  std::string program;   // a module or the path of a .py file; of a native program its path
  std::string function;  // Python: what to call
  Arguments arguments;
  bool has_result = false;
  std::optional<CallBack> orchestrator;
  bool stop = false;                    // this agent, when the application has ended,
  std::vector<std::string> forward_to;  // and those at these addresses
};

// An agent as somebody calls it, and what of it.
struct NodeRequest {
  std::string name;
  std::string port;                    // of the adaptor's properties; empty: not said
  std::optional<std::uint32_t> units;  // CPUs that the request names
};

struct EndApplication {
  std::string job;
  std::string status;  // OK, EXECUTION_FAILED, …
  std::vector<std::string> locations;
  std::map<std::string, std::int64_t> profile;  // Unix milliseconds of taskCreated, executionStart, …
};

Result<StartApplication> read_start(const Body& body);
Result<NodeRequest> read_new_resource(const Body& body);  // addResources
Result<NodeRequest> read_reduce_node(const Body& body);   // removeResources
// removeNode and lostNode: a root of any name with a workerName.
Result<NodeRequest> read_worker(const Body& body);
Result<EndApplication> read_end(const Body& body);

// The XML that an orchestrator gets.
std::string write_end(const EndApplication& end);

// Absolute URL of plain HTTP: "http://" in front of "host:port" when it is missing; nullopt for anything else.
std::optional<std::string> http_url(std::string_view address, std::string_view operation);

}  // namespace shoal::compss
