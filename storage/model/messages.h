// storage/model/messages.h
//
// What store machines of different agents say to each other (plane kStorage). Structs only; fields are only
// ever added at the end. docs/protocol.md lists the kinds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/wire/address.h"
#include "storage/model/io.h"

namespace shoal::storage::msg {

enum class Kind : std::uint16_t {
  kAnnounce = 0x0301,
  kAnnounceAck = 0x0302,
  kReplicate = 0x0303,
  kPlace = 0x0304,
  kCopied = 0x0305,
  kAsk = 0x0306,
  kTell = 0x0307,
  kDecide = 0x0308,
  kDecided = 0x0309,
  kForget = 0x030a,
  kForgotten = 0x030b,
  kLost = 0x030c,
};

// "This agent no longer has a copy", said by the holder or passed upwards.
struct Gone {
  ObjectId object;
  AgentId holder;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.object, self.holder);
  }
  friend auto operator<=>(const Gone&, const Gone&) = default;
};

// What the receiver should know, repeated until acknowledged. An empty one is a greeting: it tells the
// session.
struct Announce {
  static constexpr Kind kKind = Kind::kAnnounce;
  std::uint64_t session = 0;   // another number: the sender restarted, or had taken the receiver for gone
  std::uint64_t sequence = 0;  // comes back in the answer
  std::vector<Manifest> objects;
  std::vector<Gone> gone;
  std::vector<Record> records;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.session, self.sequence, self.objects, self.gone, self.records);
  }
};

// Sent once all records of the announcement are durable at the receiver.
struct AnnounceAck {
  static constexpr Kind kKind = Kind::kAnnounceAck;
  std::uint64_t session = 0;
  std::uint64_t sequence = 0;
  std::vector<Record> newer;         // what the receiver knows better, tombstones of announced objects included
  std::vector<std::string> refused;  // records that it has no room for
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.session, self.sequence, self.newer, self.refused);
  }
};

// "Make a copy and tell `requester`." `depth`: index of the receiver's region in the requester's path, -1 for
// its own.
struct Replicate {
  static constexpr Kind kKind = Kind::kReplicate;
  Manifest manifest;
  wire::Address requester;
  std::int32_t depth = -1;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.manifest, self.requester, self.depth);
  }
};

// "Find an agent in the region at `depth` of the requester's path, and have it make a copy." Goes from head
// to head.
struct Place {
  static constexpr Kind kKind = Kind::kPlace;
  Manifest manifest;
  wire::Address requester;
  std::int32_t depth = 0;
  std::uint32_t attempt = 0;  // another try picks another agent
  std::uint32_t hops = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.manifest, self.requester, self.depth, self.attempt, self.hops);
  }
};

// Outcome of Replicate or Place. `code` 0 means durable at the sender.
struct Copied {
  static constexpr Kind kKind = Kind::kCopied;
  ObjectId object;
  std::int32_t depth = -1;
  std::uint8_t code = 0;
  std::string message;
  std::vector<Record> tombstones;  // the object was deleted; the sender knows, the requester did not
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.object, self.depth, self.code, self.message, self.tombstones);
  }
};

enum class What : std::uint8_t { kObject = 0, kRecord = 1, kList = 2 };

// "What do you know?" With `up`, the receiver also asks upwards before it answers.
struct Ask {
  static constexpr Kind kKind = Kind::kAsk;
  std::uint64_t id = 0;
  What what = What::kObject;
  ObjectId object;
  std::string name;  // of a record, or the prefix of a list
  bool up = false;
  Duration patience;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.what, self.object, self.name, self.up, self.patience);
  }
};

struct Tell {
  static constexpr Kind kKind = Kind::kTell;
  std::uint64_t id = 0;
  std::vector<Manifest> objects;  // at most one
  std::vector<Record> records;
  bool complete = true;  // nobody that was asked kept silent, nothing was cut
  bool up = false;       // as asked
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.objects, self.records, self.complete, self.up);
  }
};

// "Decide about this write of a record." Passed up as far as `here` is false and the hierarchy goes.
struct Decide {
  static constexpr Kind kKind = Kind::kDecide;
  std::uint64_t id = 0;
  std::string name;
  Bytes value;
  bool must_be_new = false;
  std::optional<Epoch> expected;
  bool remove = false;
  AgentId writer;
  std::uint64_t token = 0;     // with `writer`, names the write: deciding twice gives the same answer
  std::optional<Record> seen;  // the newest that anyone on the way knew
  bool here = false;
  Duration patience;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.name, self.value, self.must_be_new, self.expected, self.remove, self.writer, self.token, self.seen,
      self.here, self.patience);
  }
};

struct Decided {
  static constexpr Kind kKind = Kind::kDecided;
  std::uint64_t id = 0;
  std::uint8_t code = 0;  // 0: `record` is durable at the agent that decided
  std::string message;
  std::optional<Record> record;
  std::int32_t depth = 0;  // of the region that decided, in the writer's path; 0 is the root
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.code, self.message, self.record, self.depth);
  }
};

// The tombstones of an object, straight to a holder.
struct Forget {
  static constexpr Kind kKind = Kind::kForget;
  std::uint64_t id = 0;
  std::vector<Record> tombstones;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.tombstones);
  }
};

struct Forgotten {
  static constexpr Kind kKind = Kind::kForgotten;
  std::uint64_t id = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id);
  }
};

// From a head to its region: an agent of the parent region is gone, copies there no longer count.
struct Lost {
  static constexpr Kind kKind = Kind::kLost;
  AgentId agent;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.agent);
  }
};

}  // namespace shoal::storage::msg
