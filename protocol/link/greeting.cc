// Who is let in: dialling, greeting, and newcomers who ask to join.
#include <algorithm>

#include "protocol/link/transport_impl.h"

namespace shoal::link {
namespace {

constexpr Duration kJoinAnswerTime = seconds(30);  // the caller's, to store the spent token and answer
constexpr Duration kEndingTime = seconds(1);       // for the other side to read why, and close

bool is_wildcard(const std::string& endpoint) {
  return endpoint.find("//0.0.0.0:") != std::string::npos || endpoint.find("//*:") != std::string::npos;
}

}  // namespace

Bytes Transport::Impl::own_greeting() {
  Greeting greeting;
  greeting.chain = config_.chain;
  greeting.endpoint = !config_.announce.empty() ? config_.announce : is_wildcard(endpoint_) ? std::string() : endpoint_;
  greeting.process = process_;
  greeting.sequence = ++sequence_;
  greeting.window_bytes = config_.limits.window_bytes;
  return wire::encode(greeting);
}

// ---- dialling ----

Connection* Transport::Impl::dialling(AgentId agent) {
  const auto found = dialling_.find(agent);
  return found == dialling_.end() ? nullptr : find(found->second);
}

void Transport::Impl::dial(AgentId neighbour, const std::string& endpoint, const Bytes& curve_key) {
  if (links_.contains(neighbour) || dialling_.contains(neighbour)) return;
  if (curve_key.size() != identity::kKeyBytes) {
    return report_down(neighbour, "its link key is not known, so it cannot be dialled", std::nullopt);
  }
  if (links_.size() + dialling_.size() >= config_.limits.links_max) {
    return report_down(neighbour, "this agent has as many links as it may (links_max)", std::nullopt);
  }
  auto owned = std::make_unique<Connection>();
  Connection& c = *owned;
  c.id = next_id_++;
  c.dialled = true;
  c.agent = neighbour;
  c.curve_key = curve_key;
  c.target = endpoint;
  connections_.emplace(c.id, std::move(owned));
  ++dials_;
  dialling_[neighbour] = c.id;
  if (!open_dialled(c, endpoint)) return lost(c, "cannot dial '" + endpoint + "': write it as tcp://HOST:PORT", false);
  transmit(c, FrameKind::kGreeting, own_greeting());
  const Limits& limits = config_.limits;
  arm(c, milliseconds(limits.connect_ms) + milliseconds(limits.handshake_ms) + milliseconds(limits.greeting_ms));
}

bool Transport::Impl::open_dialled(Connection& c, const std::string& endpoint) {
  // Endpoints come from other agents: nothing but TCP may be reached through them.
  if (!is_dialable(endpoint)) return false;
  Socket socket(context_, ZMQ_DEALER);
  if (!socket.is_open()) return false;
  set_common(socket, config_.limits);
  socket.set(ZMQ_CURVE_SERVERKEY, c.curve_key);
  socket.set(ZMQ_CURVE_PUBLICKEY, config_.curve.public_key);
  socket.set(ZMQ_CURVE_SECRETKEY, config_.curve.secret_key);
  socket.set(ZMQ_CONNECT_TIMEOUT, static_cast<int>(config_.limits.connect_ms));
  socket.set(ZMQ_RECONNECT_IVL, -1);  // the caller decides when to dial again
  Monitor monitor(context_, socket, std::to_string(c.id));
  if (!monitor.is_open() || socket.connect(endpoint) != 0) return false;
  c.socket = std::move(socket);
  c.monitor = std::move(monitor);
  wait_set_.add(c.socket.fd(), c.id * 2);
  wait_set_.add(c.monitor.fd(), c.id * 2 + 1);
  return true;
}

void Transport::Impl::handle_answer(Connection& c, FrameKind kind, std::string_view body) {
  if (kind == FrameKind::kRefusal) {
    auto refusal = wire::decode<Refusal>(body, kControlLimits);
    if (!refusal) return lost(c, "the agent at " + c.target + " answered with something unreadable", false);
    if (!refusal->duplicate) return lost(c, "the agent at " + c.target + " refused: " + refusal->message, false);
    // Its own link to us is on the way and is to stay. Nothing more is said on this one.
    c.stage = Stage::kWaiting;
    close_dialled(c, {});
    return arm(c, milliseconds(config_.limits.greeting_ms));
  }
  if (kind != FrameKind::kWelcome) return drop_frame();
  auto greeting = wire::decode<Greeting>(body, kControlLimits);
  if (!greeting) return lost(c, "the agent at " + c.target + " answered with something unreadable", false);
  auto certificate = check_greeting(*greeting, user_id_of(c.curve_key));
  if (!certificate)
    return lost(c, "the agent at " + c.target + " cannot be trusted: " + certificate.error().message, false);
  if (certificate->agent != c.agent) {
    return lost(c, "at " + c.target + " answers agent " + certificate->agent.brief() + ", not " + c.agent.brief(),
                false);
  }
  dialling_.erase(c.agent);
  establish(c, std::move(*certificate), *greeting);
}

// ---- accepting ----

Connection* Transport::Impl::accept(std::string_view route, const Message& message) {
  serve_router_monitor();
  const auto accepted = accepted_.find(message.descriptor());
  if (accepted == accepted_.end()) return nullptr;  // it has ended already, or was never counted
  auto owned = std::make_unique<Connection>();
  Connection& c = *owned;
  c.id = next_id_++;
  c.route = std::string(route);
  c.user_id = std::string(message.user_id());
  c.descriptor = accepted->first;
  c.peer = accepted->second.peer;
  accepted_.erase(accepted);
  routes_[c.route] = c.id;
  connections_.emplace(c.id, std::move(owned));
  return &c;
}

void Transport::Impl::handle_first(Connection& c, FrameKind kind, std::string_view body) {
  if (body.size() > kControlBytesMax) {
    drop_frame();
    return refuse(c, {Code::kDenied, "the greeting is too long", false});
  }
  if (kind == FrameKind::kGreeting) return handle_greeting(c, body);
  handle_join_ask(c, body);
}

Result<identity::Certificate> Transport::Impl::check_greeting(const Greeting& greeting,
                                                              std::string_view user_id) const {
  if (greeting.version_oldest > kVersion || greeting.version < kVersionOldest) {
    return fail(Code::kUnsupported, "the two agents have no link version in common; upgrade the older one");
  }
  auto certificate = identity::verify_certificate(greeting.chain, config_.realm, wall_now(), config_.terms);
  if (!certificate) return certificate;
  if (user_id_of(certificate->curve_key) != user_id) {
    return fail(Code::kDenied, "the certificate is for another key than the one that encrypts the connection");
  }
  if (certificate->curve_key == config_.curve.public_key)
    return fail(Code::kInvalid, "an agent need not link to itself");
  return certificate;
}

void Transport::Impl::handle_greeting(Connection& c, std::string_view body) {
  auto greeting = wire::decode<Greeting>(body, kControlLimits);
  if (!greeting) return refuse(c, {greeting.error().code, "the greeting cannot be read", false});
  auto certificate = check_greeting(*greeting, c.user_id);
  if (!certificate) return refuse(c, {certificate.error().code, certificate.error().message, false});
  if (!stays(*greeting, certificate->agent)) return refuse(c, {Code::kExists, "another link of this pair stays", true});
  if (links_.size() >= config_.limits.links_max) {
    return refuse(c, {Code::kExhausted, "this agent has as many links as it may; try another one", false});
  }
  c.agent = certificate->agent;
  if (transmit(c, FrameKind::kWelcome, own_greeting()) != 0) return lost(c, "the connection was closed", false);
  establish(c, std::move(*certificate), *greeting);
}

// Whether the connection of a new greeting becomes the link of its pair. Makes room for it if so.
//
// Both sides may dial at the same time. Then the lower id's link stays: that side refuses the other's
// greeting, the other side gives up its own. A greeting that was sent before the welcome (or greeting) of the
// present link is left over from such a race; a later one, or one of another process, means that the other
// side has lost the present link.
bool Transport::Impl::stays(const Greeting& greeting, AgentId agent) {
  if (const auto link = links_.find(agent); link != links_.end()) {
    Connection& present = *find(link->second);
    if (present.process == greeting.process && greeting.sequence < present.sequence) return false;
    lost(present, "the other side opened a new link", false);
    return true;
  }
  Connection* own = dialling(agent);
  if (own == nullptr) return true;
  if (own->stage == Stage::kGreeting && self_ < agent) return false;
  erase(*own);
  return true;
}

void Transport::Impl::refuse(Connection& c, Refusal refusal) {
  if (!refusal.duplicate) ++counters_.greetings_denied;
  end(c, FrameKind::kRefusal, wire::encode(refusal));
}

// Says the last word, and leaves the other side time to read it and close.
void Transport::Impl::end(Connection& c, FrameKind kind, std::string_view body) {
  if (transmit(c, kind, body) != 0) return erase(c);
  c.stage = Stage::kEnding;
  arm(c, kEndingTime);
}

void Transport::Impl::establish(Connection& c, identity::Certificate certificate, const Greeting& greeting) {
  finish_downs_of(c.agent);
  disarm(c);
  c.stage = Stage::kLinked;
  c.announced = greeting.endpoint;
  c.process = greeting.process;
  c.sequence = greeting.sequence;
  c.certificate = std::move(certificate);
  const std::uint64_t window = std::min<std::uint64_t>(config_.limits.window_bytes, greeting.window_bytes);
  c.flow = Flow(window, window / 4);
  if (zap_) zap_->remember(user_id_of(c.certificate.curve_key));
  links_[c.agent] = c.id;
  ++counters_.greetings_accepted;
  ++counters_.links_up;
  queue(event::LinkUp{c.agent, c.certificate, c.announced});
}

// ---- newcomers ----

void Transport::Impl::handle_join_ask(Connection& c, std::string_view body) {
  auto ask = wire::decode<identity::JoinAsk>(body, kControlLimits);
  auto answer = [&](Error error) {
    ++counters_.greetings_denied;
    end(c, FrameKind::kJoinAnswer, wire::encode(Answer<identity::JoinGrant>::of(tl::unexpected(std::move(error)))));
  };
  if (!ask)
    return answer({Code::kInvalid, "the request to join cannot be read; use the same version on both machines"});
  if (auto genuine = identity::verify_join_ask(*ask); !genuine) return answer(genuine.error());
  if (user_id_of(ask->curve_key) != c.user_id) {
    return answer({Code::kDenied, "the request to join is for another key than the one that encrypts the connection"});
  }
  c.stage = Stage::kJoining;
  arm(c, kJoinAnswerTime);
  ++counters_.joins_asked;
  queue(event::JoinRequest{JoinHandle{c.id}, std::move(*ask)});
}

void Transport::Impl::answer_join(JoinHandle handle, const Result<identity::JoinGrant>& answer) {
  Connection* c = find(handle.value);
  if (c == nullptr || c->stage != Stage::kJoining) return;
  end(*c, FrameKind::kJoinAnswer, wire::encode(Answer<identity::JoinGrant>::of(answer)));
}

}  // namespace shoal::link
