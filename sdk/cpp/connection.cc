#include "sdk/cpp/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <climits>

#include "shoal/shoal.hpp"

namespace shoal::sdk {

void Frame::malformed() {
  throw Failure(Code::kInvalid, "the agent sent a message that this version of the library does not understand");
}

Connection::Connection(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (fd_ < 0 || path.size() >= sizeof address.sun_path)
    throw Failure(Code::kInvalid, "'" + path + "' cannot be an agent's socket");
  path.copy(address.sun_path, path.size());
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int why = errno;
    ::close(fd_);
    throw Failure(Code::kUnavailable,
                  "no agent answers at '" + path + "' (" + ::strerror(why) + "): start one with `shoal up`");
  }
}

Connection::~Connection() {
  ::close(fd_);
}

void Connection::send_frame(std::string_view frame) {
  if (frame.size() > client::kFrameMax) {
    throw Failure(Code::kInvalid, "a message of " + std::to_string(frame.size()) + " bytes is too large for the agent");
  }
  std::string bytes;
  bytes.reserve(frame.size() + 4);
  for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(frame.size() >> shift & 0xff));
  bytes.append(frame);
  const std::lock_guard lock(send_mutex_);
  std::string_view rest(bytes);
  while (!rest.empty()) {
    const ssize_t sent = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) throw Failure(Code::kUnavailable, std::string("the agent is gone: ") + ::strerror(errno));
    rest.remove_prefix(static_cast<std::size_t>(sent));
  }
}

void Connection::read_exactly(char* to, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = ::recv(fd_, to, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw Failure(Code::kUnavailable, "the agent closed the connection");
    to += got;
    bytes -= static_cast<std::size_t>(got);
  }
}

Frame Connection::receive() {
  std::array<unsigned char, 4> header{};
  read_exactly(reinterpret_cast<char*>(header.data()), header.size());
  const std::size_t length = header[0] | header[1] << 8 | header[2] << 16 | static_cast<std::size_t>(header[3]) << 24;
  if (length > client::kFrameMax) throw Failure(Code::kInvalid, "the agent sent a message that is too large");
  Frame frame;
  frame.bytes.resize(length);
  read_exactly(frame.bytes.data(), length);
  auto document = wire::Document::parse(frame.bytes, value_limits(length));
  std::uint8_t kind = 0;
  if (!document || document->root().size() < 2 || !wire::get(document->root().at(0), kind)) {
    throw Failure(Code::kInvalid, "the agent sent a message that is not one");
  }
  frame.kind = static_cast<client::Kind>(kind);
  frame.document.emplace(std::move(*document));
  return frame;
}

client::Welcome greet(Connection& connection, const client::Hello& hello) {
  connection.send(client::Kind::kHello, hello);
  const Frame frame = connection.receive();
  if (frame.kind == client::Kind::kWelcome) return frame.as<client::Welcome>();
  if (frame.kind == client::Kind::kReply) {
    const auto reply = frame.as<client::Reply>();
    throw Failure(static_cast<Code>(reply.code), reply.message);
  }
  throw Failure(Code::kInvalid, "the agent did not answer the greeting");
}

std::string socket_path() {
  const char* path = ::getenv("SHOAL_SOCKET");
  return path == nullptr ? std::string() : std::string(path);
}

std::string own_program() {
  std::array<char, PATH_MAX> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : std::string();
}

}  // namespace shoal::sdk
