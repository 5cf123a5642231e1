// protocol/overlay/io.h
//
// What the overlay machine takes in and gives out. The overlay knows who is alive, who speaks for whom, and how to
// reach anyone; it knows nothing of tasks, objects or streams, whose load it carries as opaque bytes.
#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/time.h"
#include "protocol/wire/address.h"

namespace shoal::overlay {

enum class Status : std::uint8_t { kAlive = 0, kSuspect = 1, kDead = 2, kLeft = 3 };

// One agent as its region knows it. Newer (incarnation, status severity, state_version) wins.
struct Member {
  AgentId id;
  std::string name;
  std::string endpoint;  // "tcp://host:port" where it can be dialled; empty when it only dials out
  Bytes curve_key;       // 32 bytes, as in its certificate
  std::map<std::string, std::string> labels;
  Incarnation incarnation;
  RegionId home;  // this region for a native; a child region for the head that speaks for it here (a guest)
  std::string home_name;
  Epoch head_epoch;  // of a guest: the epoch under which it speaks for `home`
  Status status = Status::kAlive;
  Bytes state;  // opaque: resources and load of a native, summary of the child region for a guest
  std::uint64_t state_version = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.name, self.endpoint, self.curve_key, self.labels, self.incarnation, self.home, self.home_name,
      self.head_epoch, self.status, self.state, self.state_version);
  }
  friend bool operator==(const Member&, const Member&) = default;
};

// Which of an agent's (at most two) regions an event is about.
enum class Scope : std::uint8_t { kHome = 0, kParent = 1 };

namespace in {
struct Start {};  // once, after construction: dial contacts, or found a region
struct Wake {};   // the deadline has come
struct Frame {
  AgentId neighbour;        // authenticated by the link
  wire::Envelope envelope;  // plane kOverlay, addressed to this agent
};
struct LinkUp {
  AgentId neighbour;
};
struct LinkDown {
  AgentId neighbour;
  bool refused = false;  // its host answered that nothing listens there: proof of death
};
struct LocalState {  // resources and load, gossiped in the home region when changed
  Bytes state;
};
struct Summaries {  // only a head sets them
  Bytes upward;     // of this region and all below, told to the parent region
  Bytes downward;   // of the parent region and all above, told to the home region
};
struct Leave {};  // graceful: announced, then kLeft everywhere
struct Want {     // much is being sent to this member through a relay: make a direct link if one can be made
  AgentId member;
};
}  // namespace in
using Input = std::variant<in::Start, in::Wake, in::Frame, in::LinkUp, in::LinkDown, in::LocalState, in::Summaries,
                           in::Leave, in::Want>;

namespace out {
struct Send {
  wire::Envelope envelope;
  bool after_persist = false;  // hold it back until every Persist given out before it is durable
};
struct Dial {
  AgentId neighbour;
  std::string endpoint;
  Bytes curve_key;
};
struct HangUp {
  AgentId neighbour;
};
struct Persist {  // small: life, region, known members, epochs
  std::string key;
  Bytes value;
  bool new_life = false;  // no frame of this agent, of whatever plane, leaves before this is durable
};
struct MemberUp {  // also when a member's record changed
  Scope scope = Scope::kHome;
  Member member;
};
struct MemberDown {
  Scope scope = Scope::kHome;
  AgentId agent;
  bool left = false;    // graceful
  bool proven = false;  // by refusal or a higher incarnation: its leases end now
};
struct HeadChanged {
  Scope scope = Scope::kHome;
  AgentId head;
  Epoch epoch;
  bool self = false;
};
struct AddressChanged {  // this agent's path: joined, region re-attached elsewhere
  wire::Address self;
};
struct DownwardChanged {  // the head told this region what lies above it
  Bytes downward;
  Scope scope = Scope::kHome;  // kParent, at a head only: what the head of the parent region says lies above that
};
struct Isolated {  // cut off by its own judgement: serve local work, refuse the rest
  bool isolated = false;
};
struct LeaveDone {};
}  // namespace out
using Output = std::variant<out::Send, out::Dial, out::HangUp, out::Persist, out::MemberUp, out::MemberDown,
                            out::HeadChanged, out::AddressChanged, out::DownwardChanged, out::Isolated, out::LeaveDone>;

}  // namespace shoal::overlay
