// sdk/cpp/connection.h
//
// One connection to the agent, as frames. Sending is thread-safe; one thread at a time receives.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "protocol/wire/client.h"
#include "protocol/wire/codec.h"

namespace shoal::sdk {

// A received frame; `document` points into `bytes`.
struct Frame {
  std::string bytes;
  client::Kind kind{};
  std::optional<wire::Document> document;

  template <class T>
  T as() const {
    T out{};
    if (!wire::get(document->root().at(1), out)) malformed();
    return out;
  }

 private:
  [[noreturn]] static void malformed();
};

class Connection {
 public:
  // Throws Failure when nobody listens at `path`.
  explicit Connection(const std::string& path);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  template <class T>
  void send(client::Kind kind, const T& message) {
    wire::Encoder encoder;
    encoder.array(2);
    encoder.u64(static_cast<std::uint64_t>(kind));
    wire::put(encoder, message);
    send_frame(encoder.view());
  }
  // Blocks for the next frame. Throws Failure (kUnavailable) when the agent closed the connection.
  Frame receive();

 private:
  void send_frame(std::string_view frame);
  void read_exactly(char* to, std::size_t bytes);

  int fd_ = -1;
  std::mutex send_mutex_;
};

// Greets the agent; its Welcome, or the Failure it refused with.
client::Welcome greet(Connection& connection, const client::Hello& hello);

// The agent's socket, from SHOAL_SOCKET; empty when there is none.
std::string socket_path();

// This program's executable.
std::string own_program();

}  // namespace shoal::sdk
