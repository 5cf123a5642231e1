// protocol/link/zap.h
//
// Answers ZeroMQ's question whether a connection may be opened (RFC 27, ZAP). Any well-formed CURVE key may,
// at a limited rate for keys not seen before: all it gains is the chance to show a certificate. The reply
// names the key, so that every frame of the connection carries it. Internal to this folder.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <string>

#include "protocol/base/time.h"
#include "protocol/link/zmq_door.h"

namespace shoal::link {

class ZapHandler {
 public:
  static constexpr const char* kDomain = "shoal";
  static constexpr std::size_t kKnownMax = 4096;

  // Must exist before the first socket binds: ZeroMQ lets everyone in when nobody answers.
  ZapHandler(const Context& context, std::uint32_t unknown_per_s);

  int fd() const { return socket_.fd(); }
  // Answers what waits. A broken handler stops the process: without it nothing guards the door.
  void serve(Instant now);
  // `user_id` has shown a valid certificate: the rate limit is not for it.
  void remember(const std::string& user_id);
  std::uint64_t denied() const { return denied_; }

 private:
  struct Request {
    std::string id;
    std::string mechanism;
    std::string key;
    bool well_formed = false;
  };
  bool receive(Request& request);
  void reply(const std::string& request_id, bool allow, const char* text, const std::string& user_id);
  bool take_token(Instant now);

  Socket socket_;
  std::uint32_t per_s_;
  std::int64_t tokens_micro_;  // millionths of an admission
  Instant refilled_at_;
  std::set<std::string> known_;
  std::deque<std::string> known_order_;
  std::uint64_t denied_ = 0;
};

}  // namespace shoal::link
