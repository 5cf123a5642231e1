// Goal: no body that reaches the REST interface of COMPSs' agents crashes or hangs the agent, whatever it calls itself.
// Method: the bytes as every kind of message; what is accepted must hold what the readers promise.
#include "agent/compss/messages.h"
#include "tests/fuzz/fuzz.h"

using namespace shoal;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const std::string_view type : {std::string_view(), std::string_view("application/json")}) {
    const compss::Body body{type, fuzz::view(data, size)};
    const auto start = compss::read_start(body);
    if (start) fuzz::require(!start->program.empty() && start->arguments.json.starts_with('['));
    const auto end = compss::read_end(body);
    if (end) fuzz::require(compss::write_end(*end).find("<jobId>") != std::string::npos);
    static_cast<void>(compss::read_new_resource(body));
    static_cast<void>(compss::read_reduce_node(body));
    static_cast<void>(compss::read_worker(body));
  }
  return 0;
}
