// protocol/link/frames.h
//
// What two transports say to each other inside an encrypted connection: one ZeroMQ message is one octet of
// kind and a body. Data bodies are the caller's frames; the others are msgpack structs. Internal to this
// folder.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/identity/certificate.h"
#include "protocol/identity/token.h"
#include "protocol/wire/codec.h"

namespace shoal::link {

// The versions of this conversation that we speak: N and N-1.
constexpr std::uint16_t kVersion = 1;
constexpr std::uint16_t kVersionOldest = 1;

enum class FrameKind : std::uint8_t {
  kData = 1,      // one frame of the caller
  kBatch = 2,     // several: a 4-byte little-endian length before each
  kGreeting = 3,  // first on every connection, by the dialler
  kWelcome = 4,   // the answer: the link is up
  kRefusal = 5,   // or not; the connection ends
  kCredit = 6,    // how much of the neighbour's data was taken in, since the greeting
  kBye = 7,       // the link ends, wanted by the sender
  kIdentity = 8,  // a renewed certificate chain
  kJoinAsk = 9,   // first instead of a greeting, by a newcomer
  kJoinAnswer = 10,
  kRenewalAsk = 11,
  kRenewalAnswer = 12,
};

// Bodies before the link is up, and all control bodies after it, are at most this long.
constexpr std::size_t kControlBytesMax = 64 << 10;
constexpr wire::Limits kControlLimits{kControlBytesMax, 10, 256, 32 << 10};

// Both directions: kGreeting and kWelcome.
struct Greeting {
  std::uint16_t version = kVersion;
  std::uint16_t version_oldest = kVersionOldest;
  identity::CertificateChain chain;
  std::string endpoint;            // where the sender can be dialled; empty: it only dials out
  std::uint64_t process = 0;       // drawn when the sender started
  std::uint64_t sequence = 0;      // grows with every greeting and welcome of that process: tells old from new
  std::uint64_t window_bytes = 0;  // how much the sender lets us have under way to it
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.version_oldest, self.chain, self.endpoint, self.process, self.sequence, self.window_bytes);
  }
};

struct Refusal {
  Code code = Code::kDenied;
  std::string message;
  bool duplicate = false;  // not an error: another link of this pair stays
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.code, self.message, self.duplicate);
  }
};

struct Credit {
  std::uint64_t taken_in = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.taken_in);
  }
};

// A Result on the wire: `value` counts when `code` is 0.
template <class T>
struct Answer {
  std::uint8_t code = 0;
  std::string message;
  T value;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.code, self.message, self.value);
  }

  static Answer of(const Result<T>& result) {
    if (result) return {0, {}, *result};
    return {static_cast<std::uint8_t>(result.error().code), result.error().message, {}};
  }
  Result<T> result() const {
    if (code == 0) return value;
    return fail(static_cast<Code>(code), message);
  }
};

// Appends `frame` to the body of a kBatch.
void append_to_batch(std::string& body, std::string_view frame);

// The frames of a kBatch body, as views into it; false when the lengths do not add up.
bool split_batch(std::string_view body, std::vector<std::string_view>& out);

}  // namespace shoal::link
