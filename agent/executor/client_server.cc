#include "agent/executor/client_server.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace shoal::executor {

namespace {

using client::Kind;

constexpr std::size_t kHeaderBytes = 4;
constexpr std::size_t kKeptBytesMax = 1 << 20;  // memory that an idle connection may hold on to
constexpr int kBacklog = 256;

std::uint32_t read_length(const char* bytes) {
  const auto* b = reinterpret_cast<const unsigned char*>(bytes);
  return static_cast<std::uint32_t>(b[0]) | static_cast<std::uint32_t>(b[1]) << 8 |
         static_cast<std::uint32_t>(b[2]) << 16 | static_cast<std::uint32_t>(b[3]) << 24;
}

void append_length(std::string& out, std::size_t length) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(length >> shift & 0xff));
}

// Items cannot outnumber the bytes of their frame, so a small frame cannot claim a large array.
wire::Limits limits_for(std::string_view frame) {
  wire::Limits limits;
  limits.frame_bytes_max = client::kFrameMax;
  limits.string_bytes_max = client::kFrameMax;
  limits.items_max = static_cast<std::uint32_t>(std::min<std::size_t>(frame.size(), 4U << 20));
  limits.depth_max = 64;
  return limits;
}

template <class T>
bool read_as(wire::Node node, ClientMessage& out) {
  return wire::get(node, out.emplace<T>());
}

bool read_group(Kind kind, wire::Node node, ClientMessage& out) {
  client::Group group;
  if (!wire::get(node, group)) return false;
  out = GroupCall{kind, std::move(group.name)};
  return true;
}

enum class Fit : std::uint8_t { kYes, kNo, kUnknown };

Fit read_message(Kind kind, wire::Node node, ClientMessage& out) {
  bool ok = false;
  switch (kind) {
    case Kind::kRegister:
      ok = read_as<client::Register>(node, out);
      break;
    case Kind::kSubmit:
      ok = read_as<client::Submit>(node, out);
      break;
    case Kind::kPutData:
      ok = read_as<client::PutData>(node, out);
      break;
    case Kind::kWait:
      ok = read_as<client::Wait>(node, out);
      break;
    case Kind::kBarrier:
      ok = read_as<client::Barrier>(node, out);
      break;
    case Kind::kRelease:
      ok = read_as<client::Release>(node, out);
      break;
    case Kind::kRequest:
      ok = read_as<client::Request>(node, out);
      break;
    case Kind::kOpenGroup:
    case Kind::kCloseGroup:
    case Kind::kCancelGroup:
      ok = read_group(kind, node, out);
      break;
    case Kind::kDone:
      ok = read_as<client::Done>(node, out);
      break;
    case Kind::kBlocked:
      ok = read_as<client::Blocked>(node, out);
      break;
    default:
      return Fit::kUnknown;
  }
  return ok ? Fit::kYes : Fit::kNo;
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Code::kInvalid,
                fmt::format("the socket path '{}' has {} bytes, and a Unix socket takes at most {}: choose "
                            "a shorter home directory",
                            path, path.size(), sizeof address.sun_path - 1));
  }
  path.copy(address.sun_path, path.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// Removes a socket file that no process listens on.
Result<> clear_stale(const std::string& path, const sockaddr_un& address) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return {};
  if (!S_ISSOCK(info.st_mode)) {
    return fail(Code::kInvalid,
                fmt::format("'{}' exists and is not a socket: move it away or choose another path", path));
  }
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return fail(Code::kExhausted, fmt::format("no descriptor for a socket: {}", ::strerror(errno)));
  const bool answered = ::connect(probe, generic(address), sizeof address) == 0 || errno == EAGAIN;
  const int why = errno;
  ::close(probe);
  if (answered) {
    return fail(Code::kExists,
                fmt::format("another agent listens on '{}': stop it, or give this one a home of its own", path));
  }
  if (why != ECONNREFUSED) {
    return fail(Code::kDenied, fmt::format("cannot tell whether '{}' is in use: {}", path, ::strerror(why)));
  }
  ::unlink(path.c_str());
  return {};
}

}  // namespace

struct ClientServer::Connection {
  ClientId id;
  int fd = -1;
  std::uint64_t peer_pid = 0;
  bool greeted = false;
  bool is_executor = false;
  bool in_unflushed = false;
  std::uint32_t interest = EPOLLIN;
  std::string input;   // the part of a frame that has arrived
  std::string output;  // frames; the first `written` bytes are gone
  std::size_t written = 0;
  std::string gone_reason;  // set once dropped

  bool is_open() const { return fd >= 0; }
  std::size_t unsent() const { return output.size() - written; }
};

ClientServer::ClientServer(agent::Reactor& reactor, Sink sink, ClientServerLimits limits)
    : reactor_(reactor),
      sink_(std::move(sink)),
      limits_(limits),
      scratch_(limits.read_bytes_per_turn),
      encoder_(std::make_unique<wire::Encoder>()) {
  bury_timer_ = reactor_.add_timer([this] { bury(); });
  accept_timer_ = reactor_.add_timer([this] { std::ignore = reactor_.modify(listen_fd_, EPOLLIN); });
  flush_hook_ = reactor_.before_wait([this] { flush(); });
}

ClientServer::~ClientServer() {
  reactor_.remove_timer(bury_timer_);
  reactor_.remove_timer(accept_timer_);
  reactor_.remove_hook(flush_hook_);
  for (auto& [id, connection] : connections_) {
    reactor_.remove(connection->fd);
    ::close(connection->fd);
  }
  if (listen_fd_ >= 0) {
    reactor_.remove(listen_fd_);
    ::close(listen_fd_);
    ::unlink(path_.c_str());
  }
}

Result<> ClientServer::listen(const std::string& path) {
  if (listen_fd_ >= 0) return fail(Code::kExists, "this server listens already on '" + path_ + "'");
  auto address = address_of(path);
  if (!address) return tl::unexpected<Error>(address.error());
  if (auto cleared = clear_stale(path, *address); !cleared) return cleared;
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fail(Code::kExhausted, fmt::format("no descriptor for a socket: {}", ::strerror(errno)));
  // The mode of the socket becomes that of its file: nobody else can connect between bind and chmod.
  ::fchmod(fd, 0600);
  if (::bind(fd, generic(*address), sizeof *address) != 0 || ::listen(fd, kBacklog) != 0) {
    const int why = errno;
    ::close(fd);
    const Code code = why == EADDRINUSE               ? Code::kExists
                      : why == EACCES || why == EROFS ? Code::kDenied
                                                      : Code::kUnavailable;
    return fail(code, fmt::format("cannot listen on '{}': {}", path, ::strerror(why)));
  }
  ::chmod(path.c_str(), 0600);
  listen_fd_ = fd;
  path_ = path;
  return reactor_.add(fd, EPOLLIN, [this](std::uint32_t) { accept_clients(); });
}

void ClientServer::accept_clients() {
  for (int i = 0; i < kBacklog; ++i) {
    const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN) return;
      // No descriptors left. The listener would be ready for ever: look again in a while.
      spdlog::warn("cannot accept a client: {}; trying again in 100 ms", ::strerror(errno));
      std::ignore = reactor_.modify(listen_fd_, 0);
      reactor_.set_timer(accept_timer_, agent::Reactor::now() + milliseconds(100));
      return;
    }
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || (peer.uid != ::geteuid() && peer.uid != 0)) {
      ++counters_.refused;
      spdlog::warn("refused a client: process {} belongs to user {}, this agent serves user {}", peer.pid, peer.uid,
                   ::geteuid());
      ::close(fd);
      continue;
    }
    if (auto opened = open(fd, static_cast<std::uint64_t>(peer.pid)); !opened) {
      spdlog::warn("refused a client: {}", opened.error().message);
    }
  }
}

Result<ClientId> ClientServer::attach(int fd) {
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return open(fd, 0);
}

Result<ClientId> ClientServer::open(int fd, std::uint64_t peer_pid) {
  if (connections_.size() >= limits_.clients_max) {
    ++counters_.refused;
    ::close(fd);
    return fail(Code::kExhausted, fmt::format("{} clients are connected already", connections_.size()));
  }
  const ClientId id(++last_client_);
  if (auto added = reactor_.add(fd, EPOLLIN, [this, id](std::uint32_t events) { on_ready(id, events); }); !added) {
    ++counters_.refused;
    ::close(fd);
    return tl::unexpected<Error>(added.error());
  }
  auto connection = std::make_unique<Connection>();
  connection->id = id;
  connection->fd = fd;
  connection->peer_pid = peer_pid;
  connections_.emplace(id.value(), std::move(connection));
  ++counters_.accepted;
  return id;
}

ClientServer::Connection* ClientServer::find_open(ClientId client) const {
  const auto found = connections_.find(client.value());
  return found == connections_.end() ? nullptr : found->second.get();
}

void ClientServer::on_ready(ClientId client, std::uint32_t events) {
  Connection* connection = find_open(client);
  if (connection == nullptr) return;
  if ((events & EPOLLOUT) != 0) write_to(*connection);
  if (!connection->is_open()) return;
  if ((events & EPOLLIN) != 0) {
    read_from(*connection);
    return;
  }
  // Not reading from it now, but it hung up: nothing it could still be told will be read.
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) drop(*connection, "disconnected");
}

bool ClientServer::read_from(Connection& connection) {
  const ssize_t got = ::recv(connection.fd, scratch_.data(), scratch_.size(), 0);
  if (got < 0) {
    if (errno != EAGAIN && errno != EINTR) drop(connection, fmt::format("disconnected: {}", ::strerror(errno)));
    return errno == EINTR;
  }
  if (got == 0) {
    drop(connection, connection.input.empty() ? "disconnected" : "disconnected in the middle of a message");
    return false;
  }
  counters_.bytes_in += static_cast<std::uint64_t>(got);
  const std::string_view fresh(scratch_.data(), static_cast<std::size_t>(got));
  if (connection.input.empty()) {
    // The common case: whole frames, decoded where they were received.
    const std::size_t taken = take_frames(connection, fresh);
    if (connection.is_open()) connection.input.assign(fresh.substr(taken));
    return connection.is_open();
  }
  connection.input.append(fresh);
  const std::size_t taken = take_frames(connection, connection.input);
  if (!connection.is_open()) return false;
  connection.input.erase(0, taken);
  if (connection.input.empty() && connection.input.capacity() > kKeptBytesMax) std::string().swap(connection.input);
  return true;
}

std::size_t ClientServer::take_frames(Connection& connection, std::string_view bytes) {
  std::size_t taken = 0;
  while (bytes.size() - taken >= kHeaderBytes) {
    const std::size_t length = read_length(bytes.data() + taken);
    const std::size_t length_max = connection.greeted ? client::kFrameMax : limits_.greeting_bytes_max;
    if (length == 0 || length > length_max) {
      refuse(connection, Code::kInvalid,
             fmt::format("a message claims {} bytes, and between 1 and {} are accepted here: is this a Shoal program?",
                         length, length_max));
      return taken;
    }
    if (bytes.size() - taken - kHeaderBytes < length) break;
    take_frame(connection, bytes.substr(taken + kHeaderBytes, length));
    if (!connection.is_open()) return taken;
    taken += kHeaderBytes + length;
  }
  return taken;
}

void ClientServer::take_frame(Connection& connection, std::string_view frame) {
  ++counters_.frames_in;
  auto document = wire::Document::parse(frame, limits_for(frame));
  if (!document) return refuse(connection, Code::kInvalid, document.error().message);
  const wire::Node root = document->root();
  std::uint8_t raw_kind = 0;
  if (root.kind() != wire::Node::Kind::kArray || root.size() < 2 || !wire::get(root.at(0), raw_kind)) {
    return refuse(connection, Code::kInvalid, "a message is not an array of its kind and its fields");
  }
  const auto kind = static_cast<Kind>(raw_kind);
  if (!connection.greeted) {
    if (kind != Kind::kHello) {
      return refuse(connection, Code::kInvalid, fmt::format("the first message must be Hello, not kind {}", raw_kind));
    }
    return greet(connection, root.at(1));
  }
  ClientFrame event{connection.id, {}};
  switch (read_message(kind, root.at(1), event.message)) {
    case Fit::kYes:
      return sink_(std::move(event));
    case Fit::kNo:
      return refuse(connection, Code::kInvalid,
                    fmt::format("a message of kind {} does not have the fields of its kind", raw_kind));
    case Fit::kUnknown:
      return refuse(connection, Code::kUnsupported, fmt::format("no client sends messages of kind {}", raw_kind));
  }
}

void ClientServer::greet(Connection& connection, wire::Node message) {
  ClientConnected event{connection.id, {}, connection.peer_pid};
  if (!wire::get(message, event.hello))
    return refuse(connection, Code::kInvalid, "Hello does not have the expected fields");
  if (event.hello.version != client::kProtocolVersion) {
    return refuse(
        connection, Code::kUnsupported,
        fmt::format("the program speaks version {} of the client protocol, this agent version {}: install the "
                    "SDK that belongs to this agent",
                    event.hello.version, client::kProtocolVersion));
  }
  connection.greeted = true;
  connection.is_executor = event.hello.role == "executor";
  sink_(std::move(event));
}

void ClientServer::enqueue(Connection& connection) {
  const std::string_view frame = encoder_->view();
  if (frame.size() > client::kFrameMax) {
    return drop(connection, fmt::format("a message of {} bytes was due to it, and {} are the most", frame.size(),
                                        client::kFrameMax));
  }
  append_length(connection.output, frame.size());
  connection.output.append(frame);
  if (frame.size() > kKeptBytesMax) encoder_ = std::make_unique<wire::Encoder>();
  ++counters_.frames_out;
  if (connection.unsent() > limits_.output_bytes_max) {
    ++counters_.slow;
    spdlog::warn("dropped client {}: it left {} bytes unread", connection.id.value(), connection.unsent());
    return drop(connection, "it does not read what it is sent");
  }
  if (!connection.in_unflushed) {
    connection.in_unflushed = true;
    unflushed_.push_back(connection.id);
  }
}

void ClientServer::flush() {
  std::vector<ClientId> due;
  due.swap(unflushed_);
  for (const ClientId client : due) {
    Connection* connection = find_open(client);
    if (connection == nullptr) continue;
    connection->in_unflushed = false;
    // Already known to be full: EPOLLOUT continues.
    if ((connection->interest & EPOLLOUT) == 0) write_to(*connection);
  }
  due.clear();
  if (unflushed_.empty()) unflushed_.swap(due);
}

void ClientServer::write_to(Connection& connection) {
  while (connection.unsent() > 0) {
    const ssize_t sent =
        ::send(connection.fd, connection.output.data() + connection.written, connection.unsent(), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      // What it sent before it went is still to be read: the end of file tells.
      connection.output.clear();
      connection.written = 0;
      break;
    }
    counters_.bytes_out += static_cast<std::uint64_t>(sent);
    connection.written += static_cast<std::size_t>(sent);
  }
  if (connection.unsent() == 0) {
    connection.output.clear();
    connection.written = 0;
    if (connection.output.capacity() > kKeptBytesMax) std::string().swap(connection.output);
  } else if (connection.written > connection.output.size() / 2) {
    connection.output.erase(0, connection.written);
    connection.written = 0;
  }
  update_interest(connection);
}

void ClientServer::update_interest(Connection& connection) {
  std::uint32_t interest = 0;
  if (connection.unsent() > 0) interest |= EPOLLOUT;
  if (connection.is_executor || connection.unsent() < limits_.output_pause_bytes) interest |= EPOLLIN;
  if (interest == connection.interest) return;
  connection.interest = interest;
  std::ignore = reactor_.modify(connection.fd, interest);
}

void ClientServer::reject(ClientId client, const Error& error) {
  if (Connection* connection = find_open(client); connection != nullptr) {
    ++counters_.refused;
    send(client, client::Reply{0, static_cast<std::uint8_t>(error.code), error.message, {}, {}});
    if (!connection->is_open()) return;
    write_to(*connection);
    drop(*connection, error.message);
  }
}

void ClientServer::refuse(Connection& connection, Code code, const std::string& message) {
  ++counters_.broken;
  spdlog::warn("dropped client {} (process {}): {}", connection.id.value(), connection.peer_pid, message);
  send(connection.id, client::Reply{0, static_cast<std::uint8_t>(code), message, {}, {}});
  if (!connection.is_open()) return;
  write_to(connection);
  drop(connection, message);
}

void ClientServer::close(ClientId client, std::string reason) {
  Connection* connection = find_open(client);
  if (connection == nullptr) return;
  write_to(*connection);
  drop(*connection, std::move(reason));
}

void ClientServer::finish(ClientId client) {
  Connection* connection = find_open(client);
  if (connection == nullptr) return;
  while (connection->is_open() && read_from(*connection)) {
  }
  drop(*connection, "its process ended");
}

// The connection's memory stays until bury(): a caller further up the stack may be reading from it.
void ClientServer::drop(Connection& connection, std::string reason) {
  if (!connection.is_open()) return;
  reactor_.remove(connection.fd);
  ::close(connection.fd);
  connection.fd = -1;
  connection.gone_reason = std::move(reason);
  const auto found = connections_.find(connection.id.value());
  dropped_.push_back(std::move(found->second));
  connections_.erase(found);
  reactor_.set_timer(bury_timer_, Instant{0});
}

void ClientServer::bury() {
  std::vector<std::unique_ptr<Connection>> gone;
  gone.swap(dropped_);
  for (const auto& connection : gone) {
    if (connection->greeted) sink_(ClientGone{connection->id, std::move(connection->gone_reason)});
  }
}

std::size_t ClientServer::queued_bytes(ClientId client) const {
  const Connection* connection = find_open(client);
  return connection == nullptr ? 0 : connection->unsent();
}

}  // namespace shoal::executor
