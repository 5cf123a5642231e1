// protocol/link/transport_impl.h
//
// The state behind Transport, shared by the files that work on it: transport.cc (the public face, sockets),
// loop.cc (what poll() does), greeting.cc (who is let in) and links.cc (what passes over a link, and its
// end). Internal to this folder.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "protocol/link/flow.h"
#include "protocol/link/frames.h"
#include "protocol/link/tcp.h"
#include "protocol/link/transport.h"
#include "protocol/link/wait_set.h"
#include "protocol/link/zap.h"
#include "protocol/link/zmq_door.h"

namespace shoal::link {

enum class Stage : std::uint8_t {
  kGreeting,  // dialled: waiting for the welcome; accepted: waiting for the first frame
  kWaiting,   // dialled: given up because the other side's link of this pair is to stay; waiting for it
  kJoining,   // accepted: a newcomer waiting for the caller's answer
  kLinked,
  kEnding,  // accepted: told that it is over; cut if the other side does not close
};

// One connection, in either direction. An accepted one is a route of the ROUTER socket; a dialled one has a
// socket.
struct Connection {
  std::uint64_t id = 0;
  bool dialled = false;
  Stage stage = Stage::kGreeting;
  bool dirty = false;  // sent on since it was last found empty
  AgentId agent;       // dialled: whom we expect; accepted: from the greeting on

  std::string route;    // accepted: ZeroMQ's name for it. A claim, never proof
  std::string user_id;  // accepted: the key that encrypts it, as authenticated
  int descriptor = -1;
  std::optional<TcpAddress> peer;

  Socket socket;  // dialled
  Monitor monitor;
  std::string target;  // endpoint that was dialled
  Bytes curve_key;     // that its certificate must have

  std::string announced;  // endpoint where it says it can be dialled
  identity::Certificate certificate;
  std::uint64_t process = 0;  // of its latest greeting or welcome
  std::uint64_t sequence = 0;
  Flow flow;
  Instant deadline = Instant::never();
};

// Tags of descriptors in the wait set. A connection's (or a probe's) are twice its id, and one more for its
// monitor.
constexpr std::uint64_t kRouterTag = 2;
constexpr std::uint64_t kRouterMonitorTag = 4;
constexpr std::uint64_t kZapTag = 6;
constexpr std::uint64_t kFirstId = 16;

// Options of every socket that carries frames.
void set_common(Socket& socket, const Limits& limits);

class Transport::Impl {
 public:
  explicit Impl(TransportConfig config);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // transport.cc
  Result<> start();
  Result<> check_own_chain(const identity::CertificateChain& chain) const;
  void close(Duration linger);

  // loop.cc
  void poll(std::vector<Event>& out, Instant now);
  Instant next_deadline() const;

  // greeting.cc
  void dial(AgentId neighbour, const std::string& endpoint, const Bytes& curve_key);
  void answer_join(JoinHandle handle, const Result<identity::JoinGrant>& answer);

  // links.cc
  Result<> send(AgentId neighbour, FrameKind kind, std::string_view body, std::uint64_t frames, std::uint64_t bytes);
  Result<> send_control(AgentId neighbour, FrameKind kind, std::string_view body);
  void hang_up(AgentId neighbour);
  Result<> update_identity(const identity::CertificateChain& chain);

  TransportConfig config_;
  Counters counters_;
  std::string endpoint_;
  WaitSet wait_set_;
  std::map<AgentId, std::uint64_t> links_;  // greeted neighbours and their connection

 private:
  struct PendingDown {  // a LinkDown that waits for its probe
    AgentId agent;
    std::string reason;
    Probe probe;
    Instant deadline;
  };
  struct Accepted {  // a TCP connection that has not said who it is
    TcpAddress peer;
    Instant deadline;
  };

  // loop.cc
  void serve_router();
  void serve_router_message(std::string_view route, Message& message);
  void serve_router_monitor();
  void serve_dialled(std::uint64_t id);
  void serve_dialled_monitor(std::uint64_t id);
  void serve_ready(std::uint64_t tag);
  void run_deadlines();
  void expire(Connection& connection);
  void audit_certificates();
  void settle();
  void handle(Connection& connection, std::string_view message);

  // transport.cc
  void drop_frame() { ++counters_.frames_dropped; }
  Connection* find(std::uint64_t id);
  int transmit(Connection& connection, FrameKind kind, std::string_view body);
  void touch(Connection* connection);
  void arm(Connection& connection, Duration after);
  void disarm(Connection& connection);
  void close_dialled(Connection& connection, Duration linger);
  void erase(Connection& connection, Duration linger = {});
  void queue(Event event);
  WallTime wall_now() const { return config_.wall_clock(); }
  std::size_t accepted_connections() const { return connections_.size() - dials_; }

  // greeting.cc
  Connection* accept(std::string_view route, const Message& message);
  bool open_dialled(Connection& connection, const std::string& endpoint);
  Bytes own_greeting();
  void handle_first(Connection& connection, FrameKind kind, std::string_view body);
  void handle_greeting(Connection& connection, std::string_view body);
  void handle_join_ask(Connection& connection, std::string_view body);
  void handle_answer(Connection& connection, FrameKind kind, std::string_view body);
  Result<identity::Certificate> check_greeting(const Greeting& greeting, std::string_view user_id) const;
  bool stays(const Greeting& greeting, AgentId agent);
  void refuse(Connection& connection, Refusal refusal);
  void establish(Connection& connection, identity::Certificate certificate, const Greeting& greeting);
  void end(Connection& connection, FrameKind kind, std::string_view body);
  Connection* dialling(AgentId agent);

  // links.cc
  void handle_linked(Connection& connection, FrameKind kind, std::string_view body);
  void deliver(Connection& connection, FrameKind kind, std::string_view body);
  void handle_identity(Connection& connection, std::string_view body);
  void lost(Connection& connection, std::string reason, bool probe);
  void report_down(AgentId agent, std::string reason, std::optional<TcpAddress> probe_at);
  void finish_down(std::uint64_t id, bool refused);
  void finish_downs_of(AgentId agent);
  std::optional<TcpAddress> probe_address(const Connection& connection) const;

  AgentId self_;
  Context context_;
  std::optional<ZapHandler> zap_;
  Socket router_;
  Monitor router_monitor_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::unordered_map<std::string, std::uint64_t> routes_;
  std::map<AgentId, std::uint64_t> dialling_;  // dialled, not linked yet
  std::map<int, Accepted> accepted_;           // by descriptor
  std::map<std::uint64_t, PendingDown> downs_;
  std::set<std::pair<Instant, std::uint64_t>> deadlines_;
  std::vector<std::pair<std::uint64_t, Duration>> unarmed_;  // deadlines set outside poll(), where no time is known
  std::vector<std::uint64_t> dirty_;
  std::vector<std::uint64_t> ready_;
  std::vector<std::string_view> batch_;
  std::vector<Event> queued_;
  std::uint64_t next_id_ = kFirstId;
  std::uint64_t process_ = 0;
  std::uint64_t sequence_ = 0;
  std::size_t dials_ = 0;  // dialled ones among connections_
  std::uint32_t budget_ = 0;
  Instant now_;
  Instant audit_at_ = Instant::never();
  bool in_poll_ = false;
  bool router_dirty_ = false;
};

}  // namespace shoal::link
