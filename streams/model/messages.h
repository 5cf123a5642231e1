// streams/model/messages.h
//
// What brokers of different agents say to each other (plane kStreams). Kinds are 0x04nn; fields are only ever added at
// the end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/wire/address.h"
#include "protocol/wire/codec.h"
#include "protocol/wire/dynamic.h"

namespace shoal::streams {

enum class MessageKind : std::uint16_t {
  kRequest = 0x0401,
  kReply = 0x0402,
  kForward = 0x0403,
  kForwarded = 0x0404,
  kAlive = 0x0405,
  kGone = 0x0406,
};

// A streams.* request of a client of the sender, for a stream that the receiver owns.
struct RequestMessage {
  std::uint64_t id = 0;      // of the sender; comes back in the reply
  std::uint64_t client = 0;  // of the sender
  std::string method;
  wire::Dynamic params;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.client, self.method, self.params);
  }
};

struct ReplyMessage {
  std::uint64_t id = 0;
  std::uint8_t code = 0;  // 0: done, else shoal::Code
  std::string message;
  wire::Dynamic result;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.code, self.message, self.result);
  }
};

// The next batches of the sender's outbox for a stream, in order. A batch's leader epoch is its partition; a control
// batch is an operation (outbox.h). Sent again until Forwarded says that all of it was taken.
struct ForwardMessage {
  std::string stream;
  std::uint64_t incarnation = 0;
  std::int64_t first = 0;     // outbox offset of the first batch
  std::int64_t next = 0;      // and of what follows the last one
  std::uint64_t dropped = 0;  // records that drop_oldest removed since the outbox was made
  std::vector<Bytes> batches;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.stream, self.incarnation, self.first, self.next, self.dropped, self.batches);
  }
};

struct ForwardedMessage {
  std::string stream;
  std::int64_t next = 0;  // of the Forward that this answers
  std::uint8_t code = 0;
  std::string message;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.stream, self.next, self.code, self.message);
  }
};

// The clients of the sender that consume streams of the receiver are still connected.
struct AliveMessage {
  std::vector<std::uint64_t> clients;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.clients);
  }
};

struct GoneMessage {  // a client of the sender disconnected
  std::uint64_t client = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.client);
  }
};

}  // namespace shoal::streams
