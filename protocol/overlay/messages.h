// protocol/overlay/messages.h
//
// What overlays say to each other (plane kOverlay). Fields are only ever added at the end.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "protocol/overlay/io.h"
#include "protocol/overlay/overlay.h"
#include "protocol/wire/codec.h"

namespace shoal::overlay::message {

enum class Kind : std::uint16_t {
  kHeartbeat = 0x0101,
  kDelta = 0x0102,
  kDigest = 0x0103,
  kSync = 0x0104,
  kJoin = 0x0105,
  kJoinReply = 0x0106,
  kHeard = 0x0107,
  kAnnounce = 0x0108,
  kRollAck = 0x0109,
  kVoteRequest = 0x010a,
  kVote = 0x010b,
  kDialMe = 0x010c,
};

// To a neighbour. Proof of life is the frame itself.
struct Heartbeat {
  Incarnation incarnation;
  bool watching = false;  // the sender counts on hearing one from us each second
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.incarnation, self.watching);
  }
};

// "As far as I know": the part of a record that a failure changes.
struct Claim {
  AgentId agent;
  Incarnation incarnation;
  Status status = Status::kAlive;
  bool proven = false;
  AgentId observer;  // who wants to hear of contacts with a suspect
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.agent, self.incarnation, self.status, self.proven, self.observer);
  }
};

// News of a region, flooded over its active links: whoever learns something from it passes that on.
struct Delta {
  RegionId region;
  std::vector<Member> records;
  std::vector<Claim> claims;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.region, self.records, self.claims);
  }
};

// Compared with the receiver's; when they differ the receiver answers with its table.
struct Digest {
  RegionId region;
  std::uint64_t table = 0;
  Epoch epoch;
  std::uint64_t version = 0;  // of the announcement
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.region, self.table, self.epoch, self.version);
  }
};

// Who may vote on the head of a region. Changed only by the head, in two steps (joint consensus, Ongaro
// 2014, 4.3): while `incoming` is not empty, decisions need a majority of both lists.
struct Roll {
  Epoch epoch;
  std::uint64_t version = 0;  // newer: larger (epoch, version)
  std::vector<AgentId> voters;
  std::vector<AgentId> incoming;
  Contact witness;  // of the parent region: third vote of a region of two, and who may force an election
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.epoch, self.version, self.voters, self.incoming, self.witness);
  }
  friend bool operator==(const Roll&, const Roll&) = default;
};

// What a head tells its region. Newer: larger (epoch, version).
struct Announcement {
  RegionId region;
  std::string name;
  AgentId head;
  Epoch epoch;
  std::uint64_t version = 0;
  Roll roll;
  std::vector<RegionId> path;   // of the region, itself last
  std::vector<Contact> above;   // members of the parent region: whom a future head asks to be attached
  std::vector<Contact> beyond;  // members of the grandparent region, should the parent be lost
  Bytes downward;
  std::uint64_t life = 0;  // of the head's process: a head that restarts has to be elected again
  bool orphaned = false;   // this region, or one above it, has been looking for a parent for a while
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.region, self.name, self.head, self.epoch, self.version, self.roll, self.path, self.above, self.beyond,
      self.downward, self.life, self.orphaned);
  }
};

// A table, or the part of it that differs. What it says of the dead is second-hand: see Core::merge_sync.
struct Sync {
  RegionId region;
  bool answer = false;  // the receiver should send back what it knows better
  std::vector<Member> members;
  std::vector<Claim> gone;
  std::optional<Announcement> word;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.region, self.answer, self.members, self.gone, self.word);
  }
};

enum class Role : std::uint8_t {
  kNative = 0,   // live in the contact's region
  kGuest = 1,    // speak there for a child region
  kFounder = 2,  // join the child region of that name, or found it
};

struct Join {
  Role role = Role::kNative;
  RegionId region;           // the only acceptable one, if not zero
  std::string child_region;  // its name, if not empty; to a founder's contact, of a region below the contact's
  Member record;
  bool rescue = false;  // a guest whose present parent is orphaned: only a region that is not helps
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.role, self.region, self.child_region, self.record, self.rescue);
  }
};

enum class Verdict : std::uint8_t {
  kAdmitted = 0,
  kRedirected = 1,  // ask `redirect`, as `role`
  kFound = 2,       // found the child region, then come as a guest
  kRefused = 3,     // try another contact; `reason` is for people
  kRetry = 4,       // ask again after retry_ms
};

struct JoinReply {
  Verdict verdict = Verdict::kRefused;
  Role role = Role::kNative;
  std::string reason;
  Contact redirect;
  std::uint32_t retry_ms = 0;
  Incarnation known;  // of the asker, when the region knows it under a newer one than it claims
  RegionId region;
  std::string name;
  std::vector<RegionId> path;
  std::vector<Member> members;
  std::optional<Announcement> word;
  Role asked = Role::kNative;  // the role of the question
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.verdict, self.role, self.reason, self.redirect, self.retry_ms, self.known, self.region, self.name, self.path,
      self.members, self.word, self.asked);
  }
};

// To the observer of a suspect: when this agent last heard of it. An age, because "I can hear it" goes stale.
struct Heard {
  RegionId region;
  AgentId agent;
  Incarnation incarnation;
  Duration age;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.region, self.agent, self.incarnation, self.age);
  }
};

// To the head: this voter has the roll on disk.
struct RollAck {
  RegionId region;
  Epoch epoch;
  std::uint64_t version = 0;
  Epoch promised;  // an epoch above the head's: somebody stood for election meanwhile
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.region, self.epoch, self.version, self.promised);
  }
};

struct VoteRequest {
  RegionId region;
  Epoch epoch;
  Epoch roll_epoch;
  std::uint64_t roll_version = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.region, self.epoch, self.roll_epoch, self.roll_version);
  }
};

enum class Answer : std::uint8_t { kGranted = 0, kPromised = 1, kHeadLives = 2, kOldRoll = 3 };

struct Vote {
  RegionId region;
  Epoch epoch;
  Answer answer = Answer::kPromised;
  Epoch promised;
  std::optional<Roll> roll;  // with kOldRoll: the newer one
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.region, self.epoch, self.answer, self.promised, self.roll);
  }
};

// To a member, perhaps relayed: "dial this agent, which cannot dial you": the sender itself or, from a
// contact, an agent that asks for admission to the receiver's region.
struct DialMe {
  Contact contact;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.contact);
  }
};

}  // namespace shoal::overlay::message
