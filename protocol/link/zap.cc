#include "protocol/link/zap.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include "protocol/base/check.h"

namespace shoal::link {

namespace {
constexpr std::int64_t kMicro = 1'000'000;
}

ZapHandler::ZapHandler(const Context& context, std::uint32_t unknown_per_s)
    : socket_(context, ZMQ_REP), per_s_(unknown_per_s), tokens_micro_(kMicro * unknown_per_s) {
  SHOAL_CHECK(socket_.is_open() && socket_.bind("inproc://zeromq.zap.01") == 0,
              "a context has one authentication handler");
}

bool ZapHandler::take_token(Instant now) {
  const std::int64_t passed_us = std::max<std::int64_t>(0, (now - refilled_at_).us);
  refilled_at_ = std::max(refilled_at_, now);
  const std::int64_t full = kMicro * per_s_;
  // Saturating: a long pause fills the bucket once.
  tokens_micro_ = passed_us >= kMicro ? full : std::min(full, tokens_micro_ + passed_us * per_s_);
  if (tokens_micro_ < kMicro) return false;
  tokens_micro_ -= kMicro;
  return true;
}

bool ZapHandler::receive(Request& request) {
  std::vector<std::string> parts;
  for (;;) {
    Message part;
    const int error = socket_.receive(part);
    if (parts.empty() && (error == EAGAIN || error == EINTR)) return false;
    SHOAL_CHECK(error == 0, "the authentication handler must work; without it nothing may be let in");
    parts.emplace_back(part.view());
    if (!part.more()) break;
  }
  // version, request id, domain, address, routing id, mechanism, credentials
  request.id = parts.size() > 1 ? parts[1] : std::string();
  request.well_formed = parts.size() == 7 && parts[0] == "1.0" && parts[2] == kDomain;
  if (request.well_formed) {
    request.mechanism = parts[5];
    request.key = parts[6];
  }
  return true;
}

void ZapHandler::reply(const std::string& request_id, bool allow, const char* text, const std::string& user_id) {
  bool ok = socket_.send("1.0", true) == 0 && socket_.send(request_id, true) == 0;
  ok = ok && socket_.send(allow ? "200" : "400", true) == 0 && socket_.send(text, true) == 0;
  ok = ok && socket_.send(user_id, true) == 0 && socket_.send("", false) == 0;
  SHOAL_CHECK(ok, "the authentication handler must work; without it nothing may be let in");
}

void ZapHandler::serve(Instant now) {
  Request request;
  while (receive(request)) {
    const bool proper =
        request.well_formed && request.mechanism == "CURVE" && request.key.size() == identity::kKeyBytes;
    const std::string user_id = proper ? user_id_of(request.key) : std::string();
    if (proper && (known_.contains(user_id) || take_token(now))) {
      reply(request.id, true, "may greet", user_id);
      continue;
    }
    ++denied_;
    reply(request.id, false, proper ? "too many new connections, try again later" : "only CURVE is accepted", "");
  }
}

void ZapHandler::remember(const std::string& user_id) {
  if (!known_.insert(user_id).second) return;
  known_order_.push_back(user_id);
  if (known_order_.size() <= kKnownMax) return;
  known_.erase(known_order_.front());
  known_order_.pop_front();
}

}  // namespace shoal::link
