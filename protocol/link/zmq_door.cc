#include "protocol/link/zmq_door.h"

#include <cerrno>
#include <cstring>

#include "protocol/base/check.h"
#include "protocol/base/id.h"

namespace shoal::link {
namespace {

int outcome(int result) {
  return result >= 0 ? 0 : zmq_errno();
}

}  // namespace

Context::Context(int sockets_max) : context_(zmq_ctx_new()) {
  SHOAL_CHECK(context_ != nullptr, "a ZeroMQ context needs only memory");
  zmq_ctx_set(context_, ZMQ_IO_THREADS, 1);
  zmq_ctx_set(context_, ZMQ_MAX_SOCKETS, sockets_max);
  zmq_ctx_set(context_, ZMQ_IPV6, 0);
}

Context::~Context() {
  while (zmq_ctx_term(context_) != 0 && zmq_errno() == EINTR) {
  }
}

Message::Message(std::uint8_t kind, std::string_view body) {
  SHOAL_CHECK(zmq_msg_init_size(&message_, body.size() + 1) == 0, "there must be memory for a message");
  auto* data = static_cast<char*>(zmq_msg_data(&message_));
  data[0] = static_cast<char>(kind);
  if (!body.empty()) std::memcpy(data + 1, body.data(), body.size());
}

std::string_view Message::user_id() const {
  const char* id = zmq_msg_gets(&message_, "User-Id");
  return id == nullptr ? std::string_view() : std::string_view(id);
}

Socket::Socket(const Context& context, int type) : socket_(zmq_socket(context.get(), type)) {
  if (socket_ != nullptr) set(ZMQ_LINGER, 0);
}

void Socket::set(int option, int value) {
  SHOAL_CHECK(zmq_setsockopt(socket_, option, &value, sizeof value) == 0, "a socket option must be accepted");
}
void Socket::set(int option, std::int64_t value) {
  SHOAL_CHECK(zmq_setsockopt(socket_, option, &value, sizeof value) == 0, "a socket option must be accepted");
}
void Socket::set(int option, std::string_view value) {
  SHOAL_CHECK(zmq_setsockopt(socket_, option, value.data(), value.size()) == 0, "a socket option must be accepted");
}

int Socket::bind(const std::string& endpoint) {
  return outcome(zmq_bind(socket_, endpoint.c_str()));
}
int Socket::connect(const std::string& endpoint) {
  return outcome(zmq_connect(socket_, endpoint.c_str()));
}

std::string Socket::last_endpoint() const {
  char buffer[256];
  std::size_t size = sizeof buffer;
  if (zmq_getsockopt(socket_, ZMQ_LAST_ENDPOINT, buffer, &size) != 0) return {};
  return std::string(buffer);
}

int Socket::fd() const {
  int fd = -1;
  std::size_t size = sizeof fd;
  SHOAL_CHECK(zmq_getsockopt(socket_, ZMQ_FD, &fd, &size) == 0, "every socket has a descriptor");
  return fd;
}

bool Socket::readable() const {
  int events = 0;
  std::size_t size = sizeof events;
  return zmq_getsockopt(socket_, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN) != 0;
}

int Socket::send(Message& message, bool more) {
  return outcome(zmq_msg_send(message.get(), socket_, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)));
}
int Socket::send(std::string_view bytes, bool more) {
  return outcome(zmq_send(socket_, bytes.data(), bytes.size(), ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)));
}
int Socket::receive(Message& message) {
  return outcome(zmq_msg_recv(message.get(), socket_, ZMQ_DONTWAIT));
}

void Socket::close() {
  if (socket_ != nullptr) zmq_close(std::exchange(socket_, nullptr));
}

Monitor::Monitor(const Context& context, Socket& socket, const std::string& name) : watched_(socket.get()) {
  const std::string endpoint = "inproc://monitor-" + name;
  constexpr int kEvents = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED |
                          ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                          ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
  if (zmq_socket_monitor(watched_, endpoint.c_str(), kEvents) != 0) return;
  Socket events(context, ZMQ_PAIR);
  // ZeroMQ's thread blocks when this queue is full, so it is made too long for that.
  if (events.is_open()) events.set(ZMQ_RCVHWM, 1 << 20);
  if (!events.is_open() || events.connect(endpoint) != 0) return;
  // A reader that has never found its pipe empty counts as awake and is not signalled, so look once now.
  Message none;
  events.receive(none);
  events_ = std::move(events);
}

std::optional<MonitorEvent> Monitor::next() {
  Message head;
  if (!events_.is_open() || events_.receive(head) != 0) return std::nullopt;
  Message address;
  if (head.more()) events_.receive(address);
  const std::string_view bytes = head.view();
  MonitorEvent event;
  if (bytes.size() >= 6) {
    std::memcpy(&event.kind, bytes.data(), 2);
    std::memcpy(&event.value, bytes.data() + 2, 4);
  }
  return event;
}

void Monitor::stop() {
  if (watched_ != nullptr) zmq_socket_monitor(std::exchange(watched_, nullptr), nullptr, 0);
  events_.close();
}

std::string user_id_of(std::string_view curve_key) {
  return to_hex(curve_key);
}

}  // namespace shoal::link
