// protocol/link/transport.h
//
// Encrypted, authenticated links to other agents over ZeroMQ (ROUTER/DEALER with CURVE). A link exists only
// between agents that have shown each other a valid certificate of the realm for the very key that encrypts
// the connection; nothing else reaches the caller. The transport moves opaque frames to neighbours; it does
// not route, retry, or decide whom to dial.
//
// One thread owns a Transport and makes every call. fd() tells when poll() has something to do;
// next_deadline() when it should be called though nothing came. No timer runs faster than once a second while
// nothing happens.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/identity/certificate.h"
#include "protocol/identity/keys.h"
#include "protocol/identity/token.h"
#include "protocol/wire/bytes.h"

namespace shoal::link {

struct Limits {
  std::size_t frame_bytes_max = 16U << 20;
  std::size_t window_bytes = 32U << 20;  // sent to one neighbour and not yet taken in by it; at least one frame
  std::size_t links_max = 1024;          // greeted neighbours
  std::size_t connections_max = 2048;    // all connections on the bound port, greeting ones included
  std::uint32_t greetings_per_s = 200;   // connections with keys not seen before
  std::uint32_t handshake_ms = 5'000;    // CURVE handshake
  std::uint32_t greeting_ms = 5'000;     // certificate after the handshake
  std::uint32_t connect_ms = 5'000;
  std::uint32_t heartbeat_ms = 5'000;     // ZMTP pings: find peers whose host is gone without a word
  std::uint32_t silence_ms = 15'000;      // no answer to pings: the link is down
  std::uint32_t frames_per_poll = 4'096;  // poll() returns after so many, and asks to be called again
};

struct TransportConfig {
  std::string bind;      // "tcp://0.0.0.0:7700"; port "*" or 0: any free one; empty: dial out only
  std::string announce;  // where neighbours may dial this agent; empty: as bound
  RealmId realm;
  identity::CertificateChain chain;
  identity::CurveKeys curve;
  identity::CertificateTerms terms;
  Limits limits;
  std::function<WallTime()> wall_clock;  // for certificates; the system's when empty
  // Tests only: leaves out the handler that authenticates connections, to show that nothing gets in without
  // it.
  bool without_zap_handler = false;
};

// A newcomer that waits for its answer.
struct JoinHandle {
  std::uint64_t value = 0;
  friend auto operator<=>(const JoinHandle&, const JoinHandle&) = default;
};

namespace event {
struct LinkUp {
  AgentId neighbour;
  identity::Certificate certificate;
  std::string endpoint;  // where it says it can be dialled; empty: it only dials out
};
struct LinkDown {  // also answers a dial() that came to nothing
  AgentId neighbour;
  bool refused = false;  // its host says that nothing listens there: that process is gone
  std::string reason;    // for people
};
struct Frame {
  AgentId neighbour;
  Bytes bytes;
};
struct Writable {  // send() was refused with kExhausted and would be accepted now
  AgentId neighbour;
};
struct CertificateChanged {  // a neighbour renewed its certificate
  AgentId neighbour;
  identity::Certificate certificate;
};
struct JoinRequest {  // its signature is checked; answer with answer_join()
  JoinHandle handle;
  identity::JoinAsk ask;
};
struct RenewalRequest {  // answer with answer_renewal(); its signature is for grant_renewal() to check
  AgentId neighbour;
  identity::RenewalAsk ask;
};
struct RenewalAnswer {  // to ask_renewal(); not checked yet. Pass a chain to update_identity()
  AgentId neighbour;
  Result<identity::CertificateChain> answer;
};
}  // namespace event
using Event = std::variant<event::LinkUp, event::LinkDown, event::Frame, event::Writable, event::CertificateChanged,
                           event::JoinRequest, event::RenewalRequest, event::RenewalAnswer>;

// Everything since open(), for metrics. Offered frames = sent + refused_exhausted + refused_no_link +
// refused_too_big.
struct Counters {
  std::uint64_t frames_sent = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t frames_received = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t refused_exhausted = 0;  // frames: the neighbour is slower than its credit
  std::uint64_t refused_no_link = 0;    // frames
  std::uint64_t refused_too_big = 0;    // frames
  std::uint64_t frames_dropped = 0;     // arrived without authentication, without a greeting, or malformed
  std::uint64_t handshakes_denied = 0;  // by the authentication handler: rate, malformed key
  std::uint64_t handshakes_failed = 0;  // not ZMTP, wrong key, too slow
  std::uint64_t greetings_accepted = 0;
  std::uint64_t greetings_denied = 0;
  std::uint64_t joins_asked = 0;
  std::uint64_t links_up = 0;    // LinkUp events
  std::uint64_t links_down = 0;  // LinkDown events
  std::uint64_t links_now = 0;

  // f(name, value) for each, in this order.
  template <class F>
  void each(F&& f) const {
    f("frames_sent", frames_sent);
    f("bytes_sent", bytes_sent);
    f("frames_received", frames_received);
    f("bytes_received", bytes_received);
    f("refused_exhausted", refused_exhausted);
    f("refused_no_link", refused_no_link);
    f("refused_too_big", refused_too_big);
    f("frames_dropped", frames_dropped);
    f("handshakes_denied", handshakes_denied);
    f("handshakes_failed", handshakes_failed);
    f("greetings_accepted", greetings_accepted);
    f("greetings_denied", greetings_denied);
    f("joins_asked", joins_asked);
    f("links_up", links_up);
    f("links_down", links_down);
    f("links_now", links_now);
  }
};

class Transport {
 public:
  // kInvalid: malformed address or certificate. kExists: the port is in use. kDenied: the certificate is not
  // valid for these keys and this realm now. kUnsupported: libzmq without CURVE.
  static Result<std::unique_ptr<Transport>> open(TransportConfig config);
  // Closes at once; frames not yet on the wire are lost. Call close() first to leave politely.
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // Readable (level-triggered) when poll() should be called. Owned by the transport.
  int fd() const;
  // When poll() should be called at the latest; never() if only fd() matters.
  Instant next_deadline() const;
  // Where this agent listens, with the real port; empty for one that only dials out.
  std::string endpoint() const;

  // Opens a link, answered by LinkUp or LinkDown. `curve_key` is the one its certificate must have. Does
  // nothing when a link to `neighbour` is up or on its way. When both dial each other, the lower id's link is
  // the one that stays.
  void dial(AgentId neighbour, const std::string& endpoint, const Bytes& curve_key);
  // Closes the link or stops the dialling; what was sent before still goes out. No LinkDown follows here, the
  // neighbour gets one.
  void hang_up(AgentId neighbour);
  bool is_up(AgentId neighbour) const;

  // Hands one frame to a neighbour. Frames on one link arrive in order, once, or the link goes down.
  // kUnavailable: no link. kExhausted: it takes in slower than we send; Writable follows. kInvalid: longer
  // than frame_bytes_max. Nothing of a refused frame is sent.
  Result<> send(AgentId neighbour, std::string_view frame);
  // Several frames as one message, delivered one by one: cheaper for small frames. All are accepted or none.
  Result<> send_batch(AgentId neighbour, std::span<const std::string_view> frames);

  // Takes in what has come and appends it to `out` in order. `now` never goes back.
  void poll(std::vector<Event>& out, Instant now);

  // Answers a JoinRequest; the connection closes after it. Late answers are dropped.
  void answer_join(JoinHandle handle, const Result<identity::JoinGrant>& answer);

  // Shows a new certificate (for the same keys) to all neighbours, present and future. kDenied as in open().
  Result<> update_identity(const identity::CertificateChain& chain);
  // Asks a neighbour that issues certificates for the next one.
  Result<> ask_renewal(AgentId neighbour, const identity::RenewalAsk& ask);
  void answer_renewal(AgentId neighbour, const Result<identity::CertificateChain>& answer);

  // Hangs up on everyone and waits up to `linger` until what was sent is on the wire. Only the destructor may
  // follow.
  void close(Duration linger);

  const Counters& counters() const;

 private:
  class Impl;
  explicit Transport(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::link
