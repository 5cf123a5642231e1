// streams/broker/broker.h
//
// Everything an agent does about streams, for its local clients and for other agents: owns the logs of the streams
// created here, answers the streams.* requests (streams/README.md lists them), forwards what belongs to other owners,
// and keeps what it cannot deliver now in outboxes on disk. A driver: it touches files, but it never blocks on the
// network and owns no socket; the daemon carries out its outputs and calls it back. One thread uses it.
//
// Who does what: records reach a stream's owner (a log), or Kafka, through an outbox per stream; names of streams live
// in the federated store as records "stream/<name>", which the daemon bridges (GetRecord, SetRecord, ListRecords).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/wire/address.h"
#include "protocol/wire/dynamic.h"

namespace shoal::streams {

// The pseudo-client under which the agent's own sources (edge/) publish. Never a real connection.
constexpr ClientId kEdgeClient{~std::uint64_t{0}};

// Bounds of one agent's broker. Beyond a `_max` a request is refused with kExhausted.
struct BrokerLimits {
  std::size_t streams_max = 10'000;
  std::uint32_t partitions_max = 256;           // of one stream
  std::size_t groups_max = 1'000;               // of one stream; a broadcast consumer counts as one
  std::size_t writers_max = 10'000;             // of one stream
  std::size_t polls_max = 10'000;               // waiting at once
  std::size_t pending_max = 100'000;            // requests under way to other agents or waiting for a name
  std::size_t publish_bytes_max = 8U << 20;     // of one publish
  std::size_t poll_bytes_max = 2U << 20;        // of one answer to a poll; one record may exceed it
  std::uint64_t outbox_bytes_max = 256U << 20;  // of one stream, unless its policy says less
  std::uint64_t segment_bytes = 16U << 20;      // a log file is closed at this size
  Duration writer_lease = seconds(10);          // from the loss of its client to the end of a writer
  Duration agent_lease = seconds(120);          // from the death of its agent to the end of a remote writer
  Duration consumer_lease = seconds(30);        // from the last sign of life of a consumer to redelivery
  Duration request_timeout = seconds(5);        // of a request to another agent, on top of a poll's own wait
  Duration retry_first = milliseconds(200);     // of a forwarder whose owner does not answer; doubles
  Duration retry_max = seconds(5);
};

struct BrokerConfig {
  std::string dir;        // created if missing; one broker at a time uses it
  wire::Address address;  // of this agent
  BrokerLimits limits;
  // Milliseconds since the epoch, for stamps of records that have none and for retention by age. Empty: the clock.
  std::function<std::int64_t()> wall_ms;
};

// A name in the federated store, as the daemon bridges it from storage/model.
struct Registration {
  std::string name;
  Bytes value;
  Epoch epoch;
};

namespace out {
struct Reply {  // to on_request of the same client and request
  ClientId client;
  std::uint64_t request = 0;
  Result<wire::Dynamic> result;
};
struct Send {  // plane kStreams; if there is no way to the target now, call on_unreachable
  wire::Envelope envelope;
};
struct GetRecord {  // answered by on_record
  std::uint64_t id = 0;
  std::string name;
};
struct SetRecord {  // answered by on_record
  std::uint64_t id = 0;
  std::string name;
  Bytes value;
  bool must_be_new = false;
  std::optional<Epoch> expected;
  bool remove = false;
};
struct ListRecords {  // answered by on_records
  std::uint64_t id = 0;
  std::string prefix;
};
struct Trace {  // a change of state worth a line in the log
  std::string event;
};
}  // namespace out
using Output = std::variant<out::Reply, out::Send, out::GetRecord, out::SetRecord, out::ListRecords, out::Trace>;

// Totals since the start, for metrics.
struct BrokerCounters {
  std::uint64_t records_in = 0;   // accepted from clients of this agent
  std::uint64_t records_out = 0;  // returned to clients of this agent
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t records_forwarded = 0;  // acknowledged by another owner or by Kafka
  std::uint64_t duplicates = 0;         // rejected by sequence
  std::uint64_t records_dropped = 0;    // by when_full=drop_oldest; each also appears in a stream's gaps
  std::uint64_t redelivered = 0;
  std::uint64_t streams_owned = 0;
  std::uint64_t outbox_bytes = 0;  // not yet delivered
  std::uint64_t polls_waiting = 0;
};

class Broker {
 public:
  // Recovers every stream and outbox under config.dir. kUnavailable with the path when the directory cannot be used,
  // kDenied when another process uses it.
  static Result<std::unique_ptr<Broker>> open(BrokerConfig config);
  ~Broker();
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  // True for methods that on_request answers ("streams.*").
  static bool handles(const std::string& method);

  // A request of a local client. Exactly one Reply follows, now or later, unless the client goes away first.
  void on_request(Instant now, ClientId client, std::uint64_t request, const std::string& method,
                  const wire::Dynamic& params, std::vector<Output>& out);
  // A frame of plane kStreams for this agent. The source is authenticated by the links; its body is a claim.
  void on_frame(Instant now, const wire::Envelope& envelope, std::vector<Output>& out);
  // The connection of a client ended: its polls are dropped, its records go to other consumers, its writers get
  // `writer_lease` to come back.
  void on_client_gone(Instant now, ClientId client, std::vector<Output>& out);
  // The answer to GetRecord or SetRecord `id`.
  void on_record(Instant now, std::uint64_t id, const Result<Registration>& record, std::vector<Output>& out);
  // The answer to ListRecords `id`.
  void on_records(Instant now, std::uint64_t id, const std::vector<Registration>& records, std::vector<Output>& out);
  // There is no way to `agent` now; requests to it are retried or answered, records stay in the outbox.
  void on_unreachable(Instant now, AgentId agent, std::vector<Output>& out);
  // There is a way again: forwarders try at once instead of waiting for their back-off. Optional.
  void on_reachable(Instant now, AgentId agent, std::vector<Output>& out);
  // Membership declares `agent` dead or gone: its consumers lose their records now, its writers after `agent_lease`.
  void on_agent_dead(Instant now, AgentId agent, std::vector<Output>& out);
  // This agent's address changed (its regions did): registrations of its streams are renewed.
  void on_address(Instant now, const wire::Address& address, std::vector<Output>& out);
  // Call when next_deadline() has come or fd() is readable; also once after open().
  void on_wake(Instant now, std::vector<Output>& out);

  // When on_wake is wanted next; Instant::never() when nothing is due.
  Instant next_deadline() const;
  // Readable (epoll, poll) when a group commit or Kafka has news: call on_wake. Owned by the broker.
  int fd() const;

  BrokerCounters counters() const;
  // Aborts when the state contradicts itself. For tests.
  void check_invariants() const;

 private:
  class Impl;
  explicit Broker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::streams
