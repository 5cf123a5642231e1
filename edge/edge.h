// edge/edge.h
//
// The sources of an agent: what brings records from sensors into streams. Answers edge.sources, edge.add_source and
// edge.remove_source, keeps the list of sources on disk, and publishes what they bring. Sources have threads of their
// own; this class is used by the agent's loop thread only and meets them at a bounded hand-over.
//
// Records leave as `Publish` outputs: streams.* requests that the daemon gives to the broker under
// streams::kEdgeClient, whose replies it brings back with on_reply.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/wire/dynamic.h"

namespace shoal::edge {

struct EdgeConfig {
  std::string dir;        // keeps sources.msgpack here; created if missing
  std::string client_id;  // default MQTT client id prefix, e.g. the agent's name
  std::size_t sources_max = 256;
  std::size_t handover_records_max = 10'000;  // per source, waiting for the loop thread
  Duration publish_retry = milliseconds(250);
};

namespace out {
struct Reply {  // to on_request of the same client and request
  ClientId client;
  std::uint64_t request = 0;
  Result<wire::Dynamic> result;
};
struct Publish {  // a request for the broker; its reply comes back by on_reply with this id
  std::uint64_t id = 0;
  std::string method;  // "streams.open", "streams.add_writer", "streams.publish", "streams.close"
  wire::Dynamic params;
};
struct Trace {
  std::string event;
};
}  // namespace out
using Output = std::variant<out::Reply, out::Publish, out::Trace>;

struct EdgeCounters {
  std::uint64_t sources = 0;
  std::uint64_t connected = 0;
  std::uint64_t records = 0;  // appended to streams
  std::uint64_t refused = 0;  // publishes the broker refused; each is tried again
};

class Edge {
 public:
  // Starts the sources that were added in earlier lives. kUnavailable when the directory cannot be used.
  static Result<std::unique_ptr<Edge>> open(EdgeConfig config);
  ~Edge();  // stops all sources; records not acknowledged stay with the sender
  Edge(const Edge&) = delete;
  Edge& operator=(const Edge&) = delete;

  // True for methods that on_request answers ("edge.*").
  static bool handles(const std::string& method);

  void on_request(Instant now, ClientId client, std::uint64_t request, const std::string& method,
                  const wire::Dynamic& params, std::vector<Output>& out);
  // What the broker replied to Publish `id`.
  void on_reply(Instant now, std::uint64_t id, const Result<wire::Dynamic>& result, std::vector<Output>& out);
  // Call when next_deadline() has come or fd() is readable; also once after open().
  void on_wake(Instant now, std::vector<Output>& out);

  Instant next_deadline() const;
  int fd() const;  // readable when a source has records or news; owned by Edge
  EdgeCounters counters() const;

 private:
  class Impl;
  explicit Edge(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::edge
