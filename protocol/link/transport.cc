// The sockets, and the public face.
#include "protocol/link/transport.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "protocol/base/check.h"
#include "protocol/identity/crypto.h"
#include "protocol/link/transport_impl.h"

namespace shoal::link {
namespace {

constexpr int kSocketsPerDial = 3;  // the link, and two ends of its monitor

WallTime system_wall_clock() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return {std::chrono::duration_cast<std::chrono::milliseconds>(since).count()};
}

TransportConfig completed(TransportConfig config) {
  if (!config.wall_clock) config.wall_clock = system_wall_clock;
  config.limits.window_bytes = std::max<std::size_t>(config.limits.window_bytes, config.limits.frame_bytes_max);
  return config;
}

tl::unexpected<Error> bind_error(const std::string& bind, int error) {
  switch (error) {
    case EADDRINUSE:
      return fail(Code::kExists, "cannot listen on " + bind +
                                     ": another process uses that port; stop it or choose "
                                     "another port");
    case EADDRNOTAVAIL:
    case ENODEV:
      return fail(Code::kInvalid, "cannot listen on " + bind +
                                      ": this machine has no such address; use one of its own, "
                                      "or 0.0.0.0 for all");
    case EACCES:
      return fail(Code::kDenied, "cannot listen on " + bind + ": this user may not; choose a port above 1023");
    default:
      return fail(Code::kInvalid,
                  "cannot listen on '" + bind + "': " + zmq_strerror(error) + "; write it as tcp://ADDRESS:PORT");
  }
}

}  // namespace

// ---- start and stop ----

Transport::Impl::Impl(TransportConfig config)
    : config_(completed(std::move(config))),
      context_(static_cast<int>(config_.limits.links_max) * kSocketsPerDial + 64) {
  const Bytes seed = identity::random_bytes(sizeof process_);
  std::memcpy(&process_, seed.data(), sizeof process_);
}

Transport::Impl::~Impl() {
  close(Duration{});
}

Result<> Transport::Impl::check_own_chain(const identity::CertificateChain& chain) const {
  auto certificate = identity::verify_certificate(chain, config_.realm, wall_now(), config_.terms);
  if (!certificate) return fail(Code::kDenied, "this agent's certificate is not valid: " + certificate.error().message);
  if (certificate->curve_key != config_.curve.public_key) {
    return fail(Code::kDenied, "this agent's certificate is for another link key; join again with a new token");
  }
  return {};
}

Result<> Transport::Impl::start() {
  if (zmq_has("curve") == 0) {
    return fail(Code::kUnsupported, "the installed libzmq has no CURVE; install one that was built with libsodium");
  }
  if (auto valid = check_own_chain(config_.chain); !valid) return valid;
  self_ = identity::read_certificate(config_.chain)->agent;
  if (config_.bind.empty()) return {};
  if (!is_bindable(config_.bind)) return bind_error(config_.bind, EINVAL);
  if (!config_.without_zap_handler) {
    zap_.emplace(context_, config_.limits.greetings_per_s);
    wait_set_.add(zap_->fd(), kZapTag);
  }
  router_ = Socket(context_, ZMQ_ROUTER);
  if (!router_.is_open()) return fail(Code::kExhausted, "no descriptors are left; raise ulimit -n");
  set_common(router_, config_.limits);
  router_.set(ZMQ_ROUTER_MANDATORY, 1);
  router_.set(ZMQ_CURVE_SERVER, 1);
  router_.set(ZMQ_CURVE_SECRETKEY, config_.curve.secret_key);
  router_.set(ZMQ_ZAP_DOMAIN, ZapHandler::kDomain);
  router_monitor_ = Monitor(context_, router_, "router");
  if (!router_monitor_.is_open()) return fail(Code::kExhausted, "no descriptors are left; raise ulimit -n");
  if (const int error = router_.bind(config_.bind); error != 0) return bind_error(config_.bind, error);
  endpoint_ = router_.last_endpoint();
  wait_set_.add(router_.fd(), kRouterTag);
  wait_set_.add(router_monitor_.fd(), kRouterMonitorTag);
  return {};
}

void set_common(Socket& socket, const Limits& limits) {
  socket.set(ZMQ_IPV6, 0);
  // Control bodies and batch headers come on top of the caller's bytes.
  socket.set(ZMQ_MAXMSGSIZE, static_cast<std::int64_t>(limits.frame_bytes_max + kControlBytesMax + 1));
  socket.set(ZMQ_HANDSHAKE_IVL, static_cast<int>(limits.handshake_ms));
  // Our own credit is met first: see flow.h.
  const auto hwm = static_cast<int>(limits.window_bytes / kMessageCost + 1024);
  socket.set(ZMQ_SNDHWM, hwm);
  socket.set(ZMQ_RCVHWM, hwm);
  socket.set(ZMQ_HEARTBEAT_IVL, static_cast<int>(limits.heartbeat_ms));
  socket.set(ZMQ_HEARTBEAT_TIMEOUT, static_cast<int>(limits.silence_ms));
}

void Transport::Impl::close(Duration linger) {
  const int linger_ms = static_cast<int>(linger.us / 1000);
  for (auto& [agent, id] : links_) {
    if (auto* c = find(id)) transmit(*c, FrameKind::kBye, {});
  }
  links_.clear();
  for (auto& [id, c] : connections_) close_dialled(*c, linger);
  connections_.clear();
  if (router_.is_open()) {
    router_monitor_.stop();
    router_.set(ZMQ_LINGER, linger_ms);
    router_.close();
  }
}

// ---- connections by name ----

Connection* Transport::Impl::find(std::uint64_t id) {
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second.get();
}

void Transport::Impl::close_dialled(Connection& connection, Duration linger) {
  if (connection.monitor.is_open()) wait_set_.remove(connection.monitor.fd());
  connection.monitor.stop();
  if (!connection.socket.is_open()) return;
  wait_set_.remove(connection.socket.fd());
  connection.socket.set(ZMQ_LINGER, static_cast<int>(linger.us / 1000));
  connection.socket.close();
}

void Transport::Impl::erase(Connection& connection, Duration linger) {
  disarm(connection);
  if (connection.dialled) {
    --dials_;
    const auto dial = dialling_.find(connection.agent);
    if (dial != dialling_.end() && dial->second == connection.id) dialling_.erase(dial);
    close_dialled(connection, linger);
  } else {
    routes_.erase(connection.route);
  }
  connections_.erase(connection.id);
}

void Transport::Impl::queue(Event event) {
  queued_.push_back(std::move(event));
  if (!in_poll_) wait_set_.wake();
}

void Transport::Impl::arm(Connection& connection, Duration after) {
  disarm(connection);
  if (!in_poll_) {
    unarmed_.emplace_back(connection.id, after);
    wait_set_.wake();
    return;
  }
  connection.deadline = now_ + after;
  deadlines_.emplace(connection.deadline, connection.id);
}

void Transport::Impl::disarm(Connection& connection) {
  if (connection.deadline != Instant::never()) deadlines_.erase({connection.deadline, connection.id});
  connection.deadline = Instant::never();
}

// ---- sending ----

int Transport::Impl::transmit(Connection& connection, FrameKind kind, std::string_view body) {
  Message message(static_cast<std::uint8_t>(kind), body);
  if (connection.dialled) {
    if (!connection.socket.is_open()) return ENOTCONN;
    const int error = connection.socket.send(message);
    touch(&connection);
    return error;
  }
  int error = router_.send(connection.route, true);
  if (error == 0) error = router_.send(message);
  touch(nullptr);
  return error;
}

// A send may swallow the signal that something has arrived, so the socket is looked at again before we sleep.
void Transport::Impl::touch(Connection* connection) {
  if (connection == nullptr) {
    router_dirty_ = true;
  } else if (!connection->dirty) {
    connection->dirty = true;
    dirty_.push_back(connection->id);
  }
  if (!in_poll_) wait_set_.wake();
}

// ---- the public face ----

Result<std::unique_ptr<Transport>> Transport::open(TransportConfig config) {
  auto impl = std::make_unique<Impl>(std::move(config));
  if (auto started = impl->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<Transport>(new Transport(std::move(impl)));
}

Transport::Transport(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Transport::~Transport() = default;

int Transport::fd() const {
  return impl_->wait_set_.fd();
}
Instant Transport::next_deadline() const {
  return impl_->next_deadline();
}
std::string Transport::endpoint() const {
  return impl_->endpoint_;
}
void Transport::dial(AgentId neighbour, const std::string& endpoint, const Bytes& curve_key) {
  impl_->dial(neighbour, endpoint, curve_key);
}
void Transport::hang_up(AgentId neighbour) {
  impl_->hang_up(neighbour);
}
bool Transport::is_up(AgentId neighbour) const {
  return impl_->links_.contains(neighbour);
}
void Transport::poll(std::vector<Event>& out, Instant now) {
  impl_->poll(out, now);
}
void Transport::answer_join(JoinHandle handle, const Result<identity::JoinGrant>& answer) {
  impl_->answer_join(handle, answer);
}
Result<> Transport::update_identity(const identity::CertificateChain& chain) {
  return impl_->update_identity(chain);
}
void Transport::close(Duration linger) {
  impl_->close(linger);
}
const Counters& Transport::counters() const {
  return impl_->counters_;
}

Result<> Transport::send(AgentId neighbour, std::string_view frame) {
  return impl_->send(neighbour, FrameKind::kData, frame, 1, frame.size());
}

Result<> Transport::send_batch(AgentId neighbour, std::span<const std::string_view> frames) {
  if (frames.empty()) return {};
  std::string body;
  std::uint64_t bytes = 0;
  for (std::string_view frame : frames) bytes += frame.size();
  body.reserve(bytes + 4 * frames.size());
  for (std::string_view frame : frames) append_to_batch(body, frame);
  return impl_->send(neighbour, FrameKind::kBatch, body, frames.size(), bytes);
}

Result<> Transport::ask_renewal(AgentId neighbour, const identity::RenewalAsk& ask) {
  return impl_->send_control(neighbour, FrameKind::kRenewalAsk, wire::encode(ask));
}

void Transport::answer_renewal(AgentId neighbour, const Result<identity::CertificateChain>& answer) {
  const auto body = wire::encode(Answer<identity::CertificateChain>::of(answer));
  static_cast<void>(impl_->send_control(neighbour, FrameKind::kRenewalAnswer, body));  // gone: it will ask again
}

}  // namespace shoal::link
