#include "tools/shoal/client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace shoal::cli {
namespace {

Instant now() {
  return {std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
              .count()};
}

// A frame is [kind, message]; the message is decoded later, once its kind is known.
Result<std::pair<client::Kind, Bytes>> split_frame(std::string_view frame) {
  auto document = wire::Document::parse(frame, {client::kFrameMax, 64, 1U << 20, client::kFrameMax});
  if (!document) return tl::unexpected<Error>(document.error());
  const wire::Node root = document->root();
  std::uint64_t kind = 0;
  if (root.kind() != wire::Node::Kind::kArray || root.size() < 2 || !root.at(0).as_u64(kind) || kind > 255) {
    return fail(Code::kInvalid,
                "the agent sent something else than a message; do the versions of shoal and shoald match?");
  }
  // [kind, message]: an array header of one byte and a kind of one or two bytes precede the message.
  const std::size_t header = kind < 128 ? 2 : 3;
  return std::pair(static_cast<client::Kind>(kind), Bytes(frame.substr(header)));
}

}  // namespace

Result<Client> Client::connect(const std::string& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof(address.sun_path))
    return fail(Code::kInvalid, fmt::format("the socket path {} is too long", socket));
  std::memcpy(address.sun_path, socket.c_str(), socket.size() + 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(Code::kUnavailable, fmt::format("no socket: {}", std::strerror(errno)));
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    ::close(fd);
    return fail(Code::kUnavailable,
                fmt::format("no agent answers at {} ({}); start one with `shoal up`, or name its --home", socket,
                            std::strerror(error)));
  }
  Client client(fd, {});
  client::Hello hello;
  hello.role = "cli";
  hello.name = "shoal";
  hello.pid = static_cast<std::uint64_t>(getpid());
  if (auto sent = client.send(client::Kind::kHello, wire::encode(hello)); !sent)
    return tl::unexpected<Error>(sent.error());
  auto frame = client.receive(now() + seconds(10));
  if (!frame) return tl::unexpected<Error>(frame.error());
  if (frame->first != client::Kind::kWelcome) {
    auto refusal = wire::decode<client::Reply>(frame->second);
    return fail(Code::kDenied, refusal ? refusal->message : "the agent did not greet");
  }
  auto welcome = wire::decode<client::Welcome>(frame->second);
  if (!welcome) return tl::unexpected<Error>(welcome.error());
  client.welcome_ = *welcome;
  return client;
}

Client::Client(int fd, client::Welcome welcome) : fd_(fd), welcome_(std::move(welcome)) {}

Client::Client(Client&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      welcome_(std::move(other.welcome_)),
      agent_(std::move(other.agent_)),
      timeout_(other.timeout_),
      buffer_(std::move(other.buffer_)),
      last_request_(other.last_request_),
      events_(std::move(other.events_)) {}

Client::~Client() {
  if (fd_ >= 0) ::close(fd_);
}

Result<> Client::send(client::Kind kind, const Bytes& message) {
  wire::Encoder head;
  head.array(2);
  head.u64(static_cast<std::uint64_t>(kind));
  const std::uint32_t length = static_cast<std::uint32_t>(head.size() + message.size());
  std::string frame(4, '\0');
  for (int i = 0; i < 4; ++i) frame[static_cast<std::size_t>(i)] = static_cast<char>(length >> (8 * i));
  frame.append(head.view());
  frame.append(message);
  std::string_view rest = frame;
  while (!rest.empty()) {
    const ssize_t n = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(Code::kUnavailable, fmt::format("the agent hung up: {}", std::strerror(errno)));
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Result<std::pair<client::Kind, Bytes>> Client::receive(Instant deadline) {
  while (true) {
    if (buffer_.size() >= 4) {
      std::uint32_t length = 0;
      for (int i = 0; i < 4; ++i)
        length |= static_cast<std::uint32_t>(static_cast<unsigned char>(buffer_[static_cast<std::size_t>(i)]))
                  << (8 * i);
      if (length > client::kFrameMax) return fail(Code::kInvalid, "the agent sent a frame beyond the limit");
      if (buffer_.size() >= 4 + std::size_t{length}) {
        auto frame = split_frame(std::string_view(buffer_).substr(4, length));
        buffer_.erase(0, 4 + std::size_t{length});
        return frame;
      }
    }
    const std::int64_t left_ms = (deadline - now()).us / 1000;
    if (left_ms <= 0) return fail(Code::kTimeout, "the agent did not answer in time; --timeout gives it more");
    pollfd wait{fd_, POLLIN, 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(std::min<std::int64_t>(left_ms, 1 << 30)));
    if (ready < 0 && errno != EINTR) return fail(Code::kUnavailable, std::strerror(errno));
    if (ready <= 0) continue;
    char chunk[1 << 16];
    const ssize_t n = ::recv(fd_, chunk, sizeof(chunk), 0);
    if (n == 0) return fail(Code::kUnavailable, "the agent went away");
    if (n < 0 && errno != EINTR)
      return fail(Code::kUnavailable, fmt::format("the agent went away: {}", std::strerror(errno)));
    if (n > 0) buffer_.append(chunk, static_cast<std::size_t>(n));
  }
}

Result<wire::Dynamic> Client::request(const std::string& method, wire::Dynamic::Map params) {
  if (!agent_.empty()) params["agent"] = wire::Dynamic(agent_);
  client::Request request;
  request.request = ++last_request_;
  request.method = method;
  request.params = wire::Dynamic(std::move(params));
  if (auto sent = send(client::Kind::kRequest, wire::encode(request)); !sent)
    return tl::unexpected<Error>(sent.error());
  const Instant deadline = now() + timeout_;
  while (true) {
    auto frame = receive(deadline);
    if (!frame) return tl::unexpected<Error>(frame.error());
    if (frame->first == client::Kind::kEvent) {
      if (auto event = wire::decode<client::Event>(frame->second)) events_.push_back(std::move(*event));
      continue;
    }
    if (frame->first != client::Kind::kReply) continue;
    auto reply = wire::decode<client::Reply>(frame->second, {client::kFrameMax, 64, 1U << 20, client::kFrameMax});
    if (!reply) return tl::unexpected<Error>(reply.error());
    if (reply->request != request.request) continue;
    if (reply->code != 0) return fail(static_cast<Code>(reply->code), reply->message);
    return std::move(reply->result);
  }
}

Result<client::Event> Client::next_event(Duration timeout) {
  const Instant deadline = now() + timeout;
  while (events_.empty()) {
    auto frame = receive(deadline);
    if (!frame) return tl::unexpected<Error>(frame.error());
    if (frame->first != client::Kind::kEvent) continue;
    if (auto event = wire::decode<client::Event>(frame->second)) events_.push_back(std::move(*event));
  }
  client::Event event = std::move(events_.front());
  events_.erase(events_.begin());
  return event;
}

}  // namespace shoal::cli
