// agent/executor/client_server.h
//
// The agent's side of the client protocol (protocol/wire/client.h): a Unix socket, its connections, frames in and out.
// It decodes and encodes, and answers nothing but a broken conversation; what messages mean is its owner's business.
//
// A client that sends junk is told so and dropped. A client that does not read what it is sent is no longer read from
// (an executor excepted: its report may be what lets it read), and is dropped at a hard bound. Only processes of the
// agent's own user, or root's, are admitted.
//
// Thread-safety: none; everything happens in turns of the reactor, which must outlive this object.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "agent/reactor/reactor.h"
#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/wire/client.h"

namespace shoal::executor {

struct ClientServerLimits {
  std::size_t clients_max = 4096;
  std::size_t greeting_bytes_max = 1 << 20;  // of the first frame
  std::size_t output_pause_bytes = 8 << 20;  // unread output at which a client is no longer read from
  std::size_t output_bytes_max = 512 << 20;  // unread output at which it is dropped
  std::size_t read_bytes_per_turn = 256 << 10;
};

// Opens, closes or cancels the task group of that name.
struct GroupCall {
  client::Kind kind = client::Kind::kOpenGroup;
  std::string group;
};
using ClientMessage = std::variant<client::Register, client::Submit, client::PutData, client::Wait, client::Barrier,
                                   client::Release, client::Request, GroupCall, client::Done, client::Blocked>;

struct ClientConnected {  // the owner answers with a Welcome, or with reject()
  ClientId client;
  client::Hello hello;
  std::uint64_t peer_pid = 0;  // as the kernel knows it; 0 for an attached descriptor
};
struct ClientFrame {
  ClientId client;
  ClientMessage message;
};
struct ClientGone {  // exactly one for every ClientConnected, whoever closed
  ClientId client;
  std::string reason;
};
using ClientEvent = std::variant<ClientConnected, ClientFrame, ClientGone>;

// The kind that a message of one of these types travels under.
template <class T>
constexpr client::Kind kind_of();
template <>
constexpr client::Kind kind_of<client::Welcome>() {
  return client::Kind::kWelcome;
}
template <>
constexpr client::Kind kind_of<client::Reply>() {
  return client::Kind::kReply;
}
template <>
constexpr client::Kind kind_of<client::Values>() {
  return client::Kind::kValues;
}
template <>
constexpr client::Kind kind_of<client::Event>() {
  return client::Kind::kEvent;
}
template <>
constexpr client::Kind kind_of<client::Function>() {
  return client::Kind::kFunction;
}
template <>
constexpr client::Kind kind_of<client::Run>() {
  return client::Kind::kRun;
}
template <>
constexpr client::Kind kind_of<client::Cancel>() {
  return client::Kind::kCancel;
}

class ClientServer {
 public:
  using Sink = std::function<void(ClientEvent&&)>;
  struct Counters {
    std::uint64_t accepted = 0;
    std::uint64_t refused = 0;  // other user, too many, bad greeting
    std::uint64_t broken = 0;   // dropped for junk
    std::uint64_t slow = 0;     // dropped for not reading
    std::uint64_t frames_in = 0;
    std::uint64_t frames_out = 0;
    std::uint64_t bytes_in = 0;
    std::uint64_t bytes_out = 0;
  };

  // `sink` gets every event, inside a turn of the reactor; it may call any method here.
  ClientServer(agent::Reactor& reactor, Sink sink, ClientServerLimits limits = {});
  ~ClientServer();  // closes everything and removes the socket file
  ClientServer(const ClientServer&) = delete;
  ClientServer& operator=(const ClientServer&) = delete;

  // Listens on `path`, mode 0600. A socket file nobody listens on any more is replaced. kInvalid: the path is too long
  // for a socket or something else lies there; kExists: another process listens.
  Result<> listen(const std::string& path);

  // Adopts a connected stream socket as a client, which has yet to say Hello. Owns `fd` from here on.
  Result<ClientId> attach(int fd);

  // Queues a message; it is written at the end of the turn. False when the client is gone.
  template <class T>
  bool send(ClientId client, const T& message) {
    Connection* connection = find_open(client);
    if (connection == nullptr) return false;
    encoder_->clear();
    encoder_->array(2);
    encoder_->u64(static_cast<std::uint64_t>(kind_of<T>()));
    wire::put(*encoder_, message);
    enqueue(*connection);
    return true;
  }
  template <class... T>
  bool send(ClientId client, const std::variant<T...>& message) {
    return std::visit([&](const auto& alternative) { return send(client, alternative); }, message);
  }

  // Tells the client why (Reply with request 0), then closes.
  void reject(ClientId client, const Error& error);
  void close(ClientId client, std::string reason);
  // For a client whose process has ended: takes in what it sent before, then closes.
  void finish(ClientId client);
  // Writes what is queued now. The reactor's hook does this at the end of every turn.
  void flush();

  std::size_t clients() const { return connections_.size(); }
  std::size_t queued_bytes(ClientId client) const;
  const Counters& counters() const { return counters_; }

 private:
  struct Connection;

  void accept_clients();
  Result<ClientId> open(int fd, std::uint64_t peer_pid);
  Connection* find_open(ClientId client) const;
  void on_ready(ClientId client, std::uint32_t events);
  // False when there is nothing more to read now.
  bool read_from(Connection& connection);
  // Takes whole frames off the front of `bytes`; returns how many bytes they had.
  std::size_t take_frames(Connection& connection, std::string_view bytes);
  void take_frame(Connection& connection, std::string_view frame);
  void greet(Connection& connection, wire::Node message);
  void enqueue(Connection& connection);
  void write_to(Connection& connection);
  void update_interest(Connection& connection);
  void refuse(Connection& connection, Code code, const std::string& message);
  void drop(Connection& connection, std::string reason);
  void bury();  // tells of the dropped, and forgets them

  agent::Reactor& reactor_;
  Sink sink_;
  ClientServerLimits limits_;
  Counters counters_;
  int listen_fd_ = -1;
  std::string path_;
  std::uint64_t last_client_ = 0;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Connection>> dropped_;
  std::vector<ClientId> unflushed_;
  std::vector<char> scratch_;
  std::unique_ptr<wire::Encoder> encoder_;
  agent::Reactor::TimerId bury_timer_ = 0;
  agent::Reactor::TimerId accept_timer_ = 0;
  agent::Reactor::HookId flush_hook_ = 0;
};

}  // namespace shoal::executor
