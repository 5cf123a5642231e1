// What poll() does: takes in what has come to each socket, and what has become of each connection.
#include <algorithm>
#include <utility>

#include "protocol/link/transport_impl.h"

namespace shoal::link {
namespace {

constexpr std::uint32_t kFramesPerSocket = 512;  // before another socket gets its turn
constexpr Duration kAuditEvery = seconds(60);    // of the neighbours' certificates

// The first message of a connection.
bool is_opening(std::string_view message) {
  if (message.empty()) return false;
  const auto kind = static_cast<FrameKind>(message[0]);
  return kind == FrameKind::kGreeting || kind == FrameKind::kJoinAsk;
}

}  // namespace

// Leaves only sockets with nothing to read, or makes sure that poll() is called again.
void Transport::Impl::settle() {
  if (router_dirty_) {
    router_dirty_ = router_.readable();
    if (router_dirty_) wait_set_.wake();
  }
  std::erase_if(dirty_, [this](std::uint64_t id) {
    Connection* c = find(id);
    if (c == nullptr || !c->socket.is_open()) return true;
    c->dirty = c->socket.readable();
    if (c->dirty) wait_set_.wake();
    return !c->dirty;
  });
}

// ---- receiving ----

void Transport::Impl::poll(std::vector<Event>& out, Instant now) {
  in_poll_ = true;
  now_ = std::max(now_, now);
  budget_ = config_.limits.frames_per_poll;
  for (const auto& [id, after] : std::exchange(unarmed_, {})) {
    if (Connection* c = find(id)) arm(*c, after);
  }
  wait_set_.take_ready(ready_);
  const std::vector<std::uint64_t> again = dirty_;
  if (router_dirty_) serve_router();
  for (std::uint64_t id : again) serve_dialled(id);
  for (std::uint64_t tag : ready_) serve_ready(tag);
  run_deadlines();
  settle();
  in_poll_ = false;
  counters_.links_now = links_.size();
  counters_.handshakes_denied = zap_ ? zap_->denied() : 0;
  std::move(queued_.begin(), queued_.end(), std::back_inserter(out));
  queued_.clear();
}

void Transport::Impl::serve_ready(std::uint64_t tag) {
  if (tag == kZapTag) return zap_->serve(now_);
  if (tag == kRouterTag) return serve_router();
  // What had arrived before a connection ended counts: frames first, then its fate.
  if (tag == kRouterMonitorTag) {
    serve_router();
    return serve_router_monitor();
  }
  const std::uint64_t id = tag / 2;
  if (downs_.contains(id)) {
    const Probe::Verdict verdict = downs_.at(id).probe.verdict();
    if (verdict != Probe::Verdict::kPending) finish_down(id, verdict == Probe::Verdict::kRefused);
    return;
  }
  serve_dialled(id);
  if (tag % 2 == 1) serve_dialled_monitor(id);
}

void Transport::Impl::serve_router() {
  for (std::uint32_t turn = 0;; ++turn) {
    if (budget_ == 0 || turn == kFramesPerSocket) return touch(nullptr);
    Message route;
    if (router_.receive(route) != 0) return;
    Message body;
    const bool has_body = route.more() && router_.receive(body) == 0;
    bool more = has_body && body.more();
    const bool proper = has_body && !more;
    while (more) {  // nobody of ours sends more parts: swallow them
      Message rest;
      more = router_.receive(rest) == 0 && rest.more();
    }
    --budget_;
    if (proper) {
      serve_router_message(route.view(), body);
    } else {
      drop_frame();
    }
  }
}

void Transport::Impl::serve_router_message(std::string_view route, Message& message) {
  const std::string_view user_id = message.user_id();
  if (user_id.empty()) {  // nobody authenticated it: the handler is not there, or this libzmq does not ask it
    drop_frame();
    const int fd = message.descriptor();
    if (const auto peer = peer_of(fd)) cut_connection(fd, *peer);
    return;
  }
  const auto known = routes_.find(std::string(route));
  Connection* connection = known == routes_.end() ? nullptr : find(known->second);
  const std::string_view bytes = message.view();
  const bool opens = is_opening(bytes);
  if (connection != nullptr &&
      (connection->user_id != user_id || (opens && connection->descriptor != message.descriptor()))) {
    // The route was taken over by another connection, of whose predecessor's end we have not heard yet.
    lost(*connection, "the connection was replaced", false);
    connection = nullptr;
  }
  if (connection == nullptr && opens) connection = accept(route, message);
  // What is left of an ended connection, or somebody who does not greet: cut when its time is up.
  if (connection == nullptr) return drop_frame();
  handle(*connection, bytes);
}

void Transport::Impl::handle(Connection& connection, std::string_view message) {
  if (message.empty()) return drop_frame();
  const auto kind = static_cast<FrameKind>(message[0]);
  const std::string_view body = message.substr(1);
  switch (connection.stage) {
    case Stage::kLinked:
      return handle_linked(connection, kind, body);
    case Stage::kGreeting:
      return connection.dialled ? handle_answer(connection, kind, body) : handle_first(connection, kind, body);
    case Stage::kWaiting:
    case Stage::kJoining:
    case Stage::kEnding:
      break;
  }
  drop_frame();
}

void Transport::Impl::serve_dialled(std::uint64_t id) {
  for (std::uint32_t turn = 0;; ++turn) {
    Connection* c = find(id);  // looked up again: handling a frame may end the connection
    if (c == nullptr || !c->socket.is_open()) return;
    if (budget_ == 0 || turn == kFramesPerSocket) return touch(c);
    Message message;
    if (c->socket.receive(message) != 0) return;
    --budget_;
    handle(*c, message.view());
  }
}

// ---- what connections go through ----

// ZeroMQ's thread reports a connection here before it hands on its first message, and its end before the
// descriptor is closed and given to the next one. So a descriptor names the connection that was reported
// last.
void Transport::Impl::serve_router_monitor() {
  while (const auto event = router_monitor_.next()) {
    if (event->kind == ZMQ_EVENT_ACCEPTED) {
      const auto peer = peer_of(event->value);
      if (!peer) continue;  // gone already
      if (accepted_.size() + accepted_connections() >= config_.limits.connections_max) {
        ++counters_.handshakes_failed;
        cut_connection(event->value, *peer);
        continue;
      }
      const auto allowed = milliseconds(config_.limits.handshake_ms) + milliseconds(config_.limits.greeting_ms);
      accepted_[event->value] = Accepted{*peer, now_ + allowed};
    } else if (event->kind == ZMQ_EVENT_DISCONNECTED) {
      accepted_.erase(event->value);
      std::vector<std::uint64_t> gone;
      for (const auto& [id, c] : connections_) {
        if (!c->dialled && c->descriptor == event->value) gone.push_back(id);
      }
      for (std::uint64_t id : gone) lost(*find(id), "the connection was closed", true);
    } else {
      ++counters_.handshakes_failed;
    }
  }
}

void Transport::Impl::serve_dialled_monitor(std::uint64_t id) {
  for (;;) {
    Connection* c = find(id);
    const auto event = c == nullptr ? std::nullopt : c->monitor.next();
    if (!event) return;
    if (event->kind == ZMQ_EVENT_CONNECTED) {
      c->descriptor = event->value;
      c->peer = peer_of(event->value);
    } else if (event->kind == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
      ++counters_.handshakes_failed;
      lost(*c, "the agent at " + c->target + " takes no new connections now", false);
    } else if (event->kind == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL ||
               event->kind == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) {
      ++counters_.handshakes_failed;
      lost(*c, "what listens at " + c->target + " is not the expected agent: it has another key", false);
    } else if (event->kind == ZMQ_EVENT_CLOSED && c->stage == Stage::kGreeting) {
      lost(*c, "cannot connect to " + c->target, true);
    } else if (event->kind == ZMQ_EVENT_DISCONNECTED) {
      lost(*c, "the connection was closed", true);
    }
  }
}

// ---- time ----

Instant Transport::Impl::next_deadline() const {
  Instant next = audit_at_;
  if (!deadlines_.empty()) next = std::min(next, deadlines_.begin()->first);
  for (const auto& [fd, accepted] : accepted_) next = std::min(next, accepted.deadline);
  return next;
}

void Transport::Impl::run_deadlines() {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_) {
    const std::uint64_t id = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    if (Connection* c = find(id)) {
      c->deadline = Instant::never();
      expire(*c);
    } else if (downs_.contains(id)) {
      finish_down(id, downs_.at(id).probe.verdict() == Probe::Verdict::kRefused);
    }
  }
  std::erase_if(accepted_, [this](const auto& entry) {
    if (entry.second.deadline > now_) return false;
    ++counters_.handshakes_failed;
    cut_connection(entry.first, entry.second.peer);
    return true;
  });
  if (links_.empty()) {
    audit_at_ = Instant::never();
  } else if (audit_at_ == Instant::never()) {
    audit_at_ = now_ + kAuditEvery;
  } else if (audit_at_ <= now_) {
    audit_certificates();
    audit_at_ = now_ + kAuditEvery;
  }
}

void Transport::Impl::expire(Connection& connection) {
  if (connection.dialled) {
    const bool silent = connection.peer.has_value();
    return lost(connection, silent ? "no welcome from " + connection.target : "cannot connect to " + connection.target,
                !silent);
  }
  if (connection.peer) cut_connection(connection.descriptor, *connection.peer);
  erase(connection);
}

void Transport::Impl::audit_certificates() {
  const std::int64_t now_ms = wall_now().unix_ms;
  std::vector<std::uint64_t> expired;
  for (const auto& [agent, id] : links_) {
    const Connection* c = find(id);
    if (c->certificate.not_after.unix_ms + config_.terms.grace_ms <= now_ms) expired.push_back(id);
  }
  for (std::uint64_t id : expired) {
    Connection& c = *find(id);
    transmit(c, FrameKind::kBye, {});
    if (c.peer && !c.dialled) cut_connection(c.descriptor, *c.peer);
    lost(c, "its certificate expired; it must renew it or join again", false);
  }
}

}  // namespace shoal::link
