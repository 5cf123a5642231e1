// streams/broker/broker_impl.h
//
// The inside of Broker: one object, whose methods lie in broker.cc (entry points, answers, timers), names.cc (finding,
// making and deleting streams), requests.cc (what is asked of a stream) and forwarding.cc (outboxes, other agents).
#pragma once

#include <deque>
#include <map>
#include <set>

#include "streams/broker/broker.h"
#include "streams/broker/kafka_sink.h"
#include "streams/broker/outbox.h"
#include "streams/broker/owned_stream.h"
#include "streams/kafka/kafka_engine.h"

namespace shoal::streams {

class Broker::Impl {
 public:
  explicit Impl(BrokerConfig config);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  Result<> start();

  // ---- entry points: see Broker ----
  void on_request(Instant now, ClientId client, std::uint64_t request, const std::string& method,
                  const wire::Dynamic& params);
  void on_frame(Instant now, const wire::Envelope& envelope);
  void on_client_gone(Instant now, ClientId client);
  void on_record(Instant now, std::uint64_t id, const Result<Registration>& record);
  void on_records(Instant now, std::uint64_t id, const std::vector<Registration>& records);
  void on_unreachable(Instant now, AgentId agent);
  void on_reachable(Instant now, AgentId agent);
  void on_agent_dead(Instant now, AgentId agent);
  void on_address(Instant now, const wire::Address& address);
  void on_wake(Instant now);
  Instant next_deadline() const;
  int fd() const { return wake_fd_; }
  // Delivers answers and moves timers: the end of every entry point.
  void finish(Instant now);
  BrokerCounters counters() const;
  void check_invariants() const;

  // Outputs of the entry point that is running.
  std::vector<Output> outputs;

 private:
  struct Request {
    Caller caller;
    std::string method;
    wire::Dynamic params;
    std::string name;    // of the stream
    bool again = false;  // the owner said that it is not its own: the registration was read anew
  };
  // Sending of an outbox: at most one message under way, again after a growing pause.
  struct Forwarder {
    bool in_flight = false;
    Offset next = 0;
    Instant answer_due;
    Instant not_before;
    Duration pause;
    bool reachable = true;
  };
  struct Stream {
    StreamInfo info;
    Epoch epoch;
    std::unique_ptr<OwnedStream> owned;
    std::unique_ptr<Outbox> outbox;
    std::unique_ptr<KafkaSink> sink;
    Forwarder forwarder;
    Instant check_at;                  // of an owned one: its registration is compared
    Instant timer = Instant::never();  // its place in timers_
  };
  enum class Registering : std::uint8_t { kNew, kReplace };
  struct Lookup {  // a name that is being found out about
    enum class Stage : std::uint8_t { kGetting, kProbing, kRegistering };
    Stage stage = Stage::kGetting;
    std::uint64_t id = 0;
    std::vector<Request> waiting;
    std::unique_ptr<OwnedStream> made;
    // kProbing: what is to be made once the Kafka cluster has answered.
    std::unique_ptr<KafkaProbe> probe;
    StreamInfo info;
    Registering registering = Registering::kNew;
  };
  enum class RecordUse : std::uint8_t { kLookup, kCheck, kRenew, kRemove };
  struct RecordQuery {
    RecordUse use = RecordUse::kLookup;
    std::string name;
    Caller caller;  // kRemove
  };
  struct Remote {  // a request under way to a stream's owner
    Request request;
    wire::Address owner;
    Instant client_due;  // when the client expects an answer of its own poll
    Instant give_up;
    Instant send_at;  // again
    bool sent = false;
  };
  struct Gather {  // streams.list, under composition
    Caller caller;
    std::map<std::string, wire::Dynamic> rows;
    std::size_t missing = 0;
  };
  struct LocalWriter {
    ClientId client;
    Instant lease_ends = Instant::never();
  };
  struct Client {
    std::map<std::string, std::int64_t> deliveries;  // "stream\ngroup\nconsumer" → last that arrived
    std::set<AgentId> owners;                        // that hold something of this client
  };
  struct Queued {  // an accepted publish that waits for the disk
    std::uint64_t ticket = 0;
    Answer answer;
  };

  // ---- broker.cc ----
  void reply(Caller caller, Result<wire::Dynamic> result) {
    answers_.push_back({std::move(caller), std::move(result)});
  }

  void deliver(Instant now, Answer answer);
  void touch(const std::string& name) { touched_.insert(name); }
  Instant deadline_of(const Stream& stream) const;
  void load_streams();
  void load_outboxes();
  void trace(std::string event) { outputs.emplace_back(out::Trace{std::move(event)}); }
  Services services();
  Result<KafkaOptions> kafka_options(const StreamInfo& info) const;
  OwnedStream::KafkaFactory kafka_factory();
  void on_news(Instant now);
  void end_leases(Instant now);

  // ---- names.cc ----
  void find(Instant now, Request request);
  void look_up(Request request);
  void resolved(Instant now, const std::string& name);
  void not_found(Instant now, const std::string& name, Registering registering);
  void create(const std::string& name, Request request, Registering registering);
  void make(const std::string& name, StreamInfo info, std::vector<Request> waiting, Registering registering);
  void probed();
  void registered(Instant now, const std::string& name, const Result<Registration>& record);
  void remember(const StreamInfo& info, Epoch epoch);
  void checked(Instant now, const std::string& name, const Result<Registration>& record);
  void demote(Instant now, Stream& stream, const StreamInfo& winner, Epoch epoch);
  void remove(Request request, Stream& stream);
  void list(Caller caller);
  void gathered(std::uint64_t id, Result<wire::Dynamic> row);
  std::string stream_directory(const std::string& name) const;
  std::string outbox_directory(const std::string& name) const;

  // ---- requests.cc ----
  void handle(Instant now, Request request, Stream& stream);
  void handle_owned(Instant now, Request request, Stream& stream);
  void handle_elsewhere(Instant now, Request request, Stream& stream);
  void publish_queued(Instant now, Request request, Stream& stream);
  void close_queued(Instant now, Request request, Stream& stream);
  void add_writer_owned(Request request, Stream& stream);
  wire::Dynamic row(Instant now, const Stream& stream) const;
  wire::Dynamic opened(const Stream& stream, bool created) const;
  void add_outbox(wire::Dynamic::Map& row, const Stream& stream) const;
  void writer_added(const Request& request, Stream& stream);
  Result<Outbox*> outbox_of(Stream& stream);

  // ---- forwarding.cc ----
  void pump(Instant now, Stream& stream);
  void pump_kafka(Instant now, Stream& stream, ForwardMessage message);
  void forwarded(Instant now, const std::string& name, const Result<Offset>& next);
  void send_request(Instant now, Request request, const Stream& stream);
  void transmit(Instant now, std::uint64_t id, Remote& remote);
  void remote_reply(std::uint64_t id, Result<wire::Dynamic> result);
  void remote_failed(Instant now, Remote remote);
  void note_delivery(const Request& request, const wire::Dynamic& result);
  void heard_from(AgentId agent);
  void send_alive(Instant now);
  template <class Message>
  void send(const wire::Address& target, std::uint16_t kind, const Message& message);
  static std::string delivery_key(const Request& request);

  BrokerConfig config_;
  int wake_fd_ = -1;
  int lock_fd_ = -1;
  std::unique_ptr<GroupCommit> commits_;
  mutable BrokerCounters counters_;

  std::map<std::string, Stream> streams_;
  std::set<std::pair<Instant, std::string>> timers_;
  std::set<std::string> touched_;
  std::map<std::string, Lookup> lookups_;
  std::map<std::uint64_t, RecordQuery> record_queries_;
  std::map<std::uint64_t, Caller> lists_;
  std::map<std::uint64_t, Gather> gathers_;
  std::map<std::uint64_t, Remote> remotes_;
  std::map<std::uint64_t, std::string> own_forwards_;                         // to a stream of this agent itself
  std::map<std::pair<std::string, std::string>, LocalWriter> local_writers_;  // by stream and writer
  std::map<ClientId, Client> clients_;
  std::map<AgentId, Instant> agent_leases_;  // of agents that seem dead: when their writers end
  std::deque<Queued> queued_;
  std::vector<Answer> answers_;
  std::uint64_t next_id_ = 1;
  Instant alive_at_ = Instant::never();
  bool started_ = false;
};

}  // namespace shoal::streams
