#include "protocol/link/join.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "protocol/link/frames.h"
#include "protocol/link/tcp.h"
#include "protocol/link/transport_impl.h"
#include "protocol/link/zmq_door.h"

namespace shoal::link {
namespace {

using Clock = std::chrono::steady_clock;

int left_ms(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::max<std::int64_t>(0, left));
}

WallTime wall_now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return {std::chrono::duration_cast<std::chrono::milliseconds>(since).count()};
}

// Asks the port before the long handshake, so that a wrong address is told from a silent agent.
Result<> check_reachable(const std::string& endpoint, int wait_ms) {
  const auto address = resolved_address(endpoint);
  if (!address) {
    return fail(Code::kUnavailable, "the address " + endpoint +
                                        " in the token is not known here; check the name service, "
                                        "or make a token on an agent with a reachable address");
  }
  Probe probe(*address);
  if (probe.verdict() == Probe::Verdict::kPending) {
    zmq_pollitem_t item{nullptr, probe.fd(), ZMQ_POLLOUT, 0};
    zmq_poll(&item, 1, wait_ms);
  }
  switch (probe.verdict()) {
    case Probe::Verdict::kRefused:
      return fail(Code::kUnavailable, "nothing listens at " + endpoint + "; start the agent that made the token");
    case Probe::Verdict::kPending:
      return fail(Code::kUnavailable, "no answer from " + endpoint +
                                          "; check that this machine can reach it (firewall, "
                                          "network)");
    case Probe::Verdict::kOther:
      break;
  }
  return {};
}

Result<identity::JoinGrant> read_answer(std::string_view message) {
  const auto unreadable =
      fail(Code::kFailed, "the agent's answer cannot be read; use the same version on both machines");
  if (message.empty()) return unreadable;
  const std::string_view body = message.substr(1);
  if (static_cast<FrameKind>(message[0]) == FrameKind::kRefusal) {
    auto refusal = wire::decode<Refusal>(body, kControlLimits);
    return refusal ? Result<identity::JoinGrant>(fail(refusal->code, refusal->message)) : unreadable;
  }
  auto answer = wire::decode<Answer<identity::JoinGrant>>(body, kControlLimits);
  if (static_cast<FrameKind>(message[0]) != FrameKind::kJoinAnswer || !answer) return unreadable;
  return answer->result();
}

Result<identity::JoinGrant> ask_at(const std::string& endpoint, const identity::JoinToken& token,
                                   const identity::AgentKeys& keys, std::string_view ask, int wait_ms) {
  Context context(16);
  Socket socket(context, ZMQ_DEALER);
  if (!socket.is_open()) return fail(Code::kExhausted, "no descriptors are left; raise ulimit -n");
  set_common(socket, Limits{});
  socket.set(ZMQ_CURVE_SERVERKEY, token.issuer.curve_key);
  socket.set(ZMQ_CURVE_PUBLICKEY, keys.curve.public_key);
  socket.set(ZMQ_CURVE_SECRETKEY, keys.curve.secret_key);
  if (socket.connect(endpoint) != 0) return fail(Code::kInvalid, "the token's address '" + endpoint + "' is malformed");
  Message question(static_cast<std::uint8_t>(FrameKind::kJoinAsk), ask);
  socket.send(question);
  zmq_pollitem_t item{socket.get(), 0, ZMQ_POLLIN, 0};
  zmq_poll(&item, 1, wait_ms);
  Message answer;
  if (socket.receive(answer) != 0) {
    return fail(Code::kTimeout, "the agent at " + endpoint +
                                    " did not answer in time; if it is running, it may have "
                                    "another key now: make a new token with `shoal token create`");
  }
  return read_answer(answer.view());
}

Result<> check_grant(const identity::JoinGrant& grant, const identity::JoinToken& token,
                     const identity::AgentKeys& keys) {
  auto certificate = identity::verify_certificate(grant.chain, token.realm, wall_now());
  if (!certificate) return tl::unexpected(certificate.error());
  if (certificate->agent != keys.id() || certificate->curve_key != keys.curve.public_key) {
    return fail(Code::kFailed, "the agent answered with somebody else's certificate; report this");
  }
  return {};
}

}  // namespace

Result<identity::JoinGrant> join_realm(const identity::JoinToken& token, const identity::AgentKeys& keys,
                                       const identity::Profile& profile, Duration timeout) {
  const auto deadline = Clock::now() + std::chrono::microseconds(timeout.us);
  const Bytes ask = wire::encode(identity::make_join_ask(token, keys.key, keys.curve, profile.name, profile.labels));
  Error last{Code::kInvalid, "the join token names no address; make a new one with `shoal token create`"};
  const auto& endpoints = token.issuer.endpoints;
  for (std::size_t i = 0; i < endpoints.size() && left_ms(deadline) > 0; ++i) {
    // What is left is shared by the addresses not tried yet.
    const int wait_ms = left_ms(deadline) / static_cast<int>(endpoints.size() - i);
    if (auto reachable = check_reachable(endpoints[i], wait_ms); !reachable) {
      last = reachable.error();
      continue;
    }
    auto grant = ask_at(endpoints[i], token, keys, ask, wait_ms);
    if (!grant && grant.error().code == Code::kTimeout) {
      last = grant.error();
      continue;
    }
    if (!grant) return grant;
    if (auto good = check_grant(*grant, token, keys); !good) return tl::unexpected(good.error());
    return grant;
  }
  return tl::unexpected(last);
}

}  // namespace shoal::link
