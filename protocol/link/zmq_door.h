// protocol/link/zmq_door.h
//
// ZeroMQ's C interface as values that clean up after themselves. Only what the transport needs; no policy.
// Errors are errno values, as the library gives them. Internal to this folder.
#pragma once

#include <zmq.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/identity/keys.h"

namespace shoal::link {

class Context {
 public:
  explicit Context(int sockets_max);
  ~Context();  // waits for sockets that linger
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  void* get() const { return context_; }

 private:
  void* context_;
};

class Message {
 public:
  Message() { zmq_msg_init(&message_); }
  // One octet of `kind` and the body, copied.
  Message(std::uint8_t kind, std::string_view body);
  ~Message() { zmq_msg_close(&message_); }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  std::string_view view() const {
    auto* m = const_cast<zmq_msg_t*>(&message_);
    return {static_cast<const char*>(zmq_msg_data(m)), zmq_msg_size(m)};
  }
  bool more() const { return zmq_msg_more(&message_) != 0; }
  // What the authentication handler called the sender; empty when it was not asked.
  std::string_view user_id() const;
  // The descriptor of the connection it came over; -1 when unknown.
  int descriptor() const { return zmq_msg_get(&message_, ZMQ_SRCFD); }
  zmq_msg_t* get() { return &message_; }

 private:
  zmq_msg_t message_;
};

class Socket {
 public:
  Socket() = default;
  // Not open afterwards when descriptors, or the context's sockets, have run out.
  Socket(const Context& context, int type);
  ~Socket() { close(); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  Socket(Socket&& other) noexcept : socket_(std::exchange(other.socket_, nullptr)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(socket_, other.socket_);
    return *this;
  }

  bool is_open() const { return socket_ != nullptr; }
  void* get() const { return socket_; }
  // Options are ours, not a user's: a refused one is a programming error and stops the process.
  void set(int option, int value);
  void set(int option, std::int64_t value);
  void set(int option, std::string_view value);
  // 0 or errno.
  int bind(const std::string& endpoint);
  int connect(const std::string& endpoint);
  std::string last_endpoint() const;
  int fd() const;
  // True when a message waits. Also settles the edge-triggered fd(): without this (or a receive that finds
  // nothing) after a send, a message may wait while fd() is silent.
  bool readable() const;
  // Never block. 0, EAGAIN (full or nothing there), EHOSTUNREACH (ROUTER: no such connection) or another
  // errno.
  int send(Message& message, bool more = false);
  int send(std::string_view bytes, bool more = false);
  int receive(Message& message);
  void close();

 private:
  void* socket_ = nullptr;
};

// What a socket's connections go through.
struct MonitorEvent {
  std::uint16_t kind = 0;  // ZMQ_EVENT_…
  int value = 0;           // a descriptor or an errno, by kind
};

class Monitor {
 public:
  Monitor() = default;
  // Watches `socket`, which must outlive it and be neither bound nor connected yet. `name` is unique in the
  // context. Not open when descriptors have run out.
  Monitor(const Context& context, Socket& socket, const std::string& name);
  ~Monitor() { stop(); }
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;
  Monitor(Monitor&& other) noexcept
      : watched_(std::exchange(other.watched_, nullptr)), events_(std::move(other.events_)) {}
  Monitor& operator=(Monitor&& other) noexcept {
    std::swap(watched_, other.watched_);
    std::swap(events_, other.events_);
    return *this;
  }

  bool is_open() const { return events_.is_open(); }
  int fd() const { return events_.fd(); }
  std::optional<MonitorEvent> next();
  void stop();

 private:
  void* watched_ = nullptr;
  Socket events_;
};

// The name under which the authentication handler reports a CURVE key, and frames carry it: hexadecimal.
std::string user_id_of(std::string_view curve_key);

}  // namespace shoal::link
