// protocol/wire/address.h
//
// Where an agent lives: its id and the path of regions from the root of the hierarchy down to its home region. With
// the path in the address, routing needs no table that grows with the hierarchy: an agent that is not a neighbour is
// reached by going up to the common ancestor region and down again, from head to head.
#pragma once

#include <vector>

#include "protocol/base/id.h"
#include "protocol/wire/bytes.h"

namespace shoal::wire {

struct Address {
  AgentId agent;
  std::vector<RegionId> path;  // root first, home region last; at most kPathMax

  static constexpr std::size_t kPathMax = 8;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.agent, self.path);
  }
  friend auto operator<=>(const Address&, const Address&) = default;
};

// Who handles a message: the high byte of its kind.
enum class Plane : std::uint8_t { kOverlay = 1, kScheduler = 2, kStorage = 3, kStreams = 4, kClient = 5, kData = 6 };

// One message between agents, as the transport carries it. `kind` = plane << 8 | number inside the plane; bodies are
// the message structs of the module that owns the plane. kData frames are handled by drivers and never reach the core.
struct Envelope {
  std::uint16_t version = 1;
  std::uint16_t kind = 0;
  std::uint8_t hops = 0;  // relays passed; refused above kHopsMax
  Address source;
  Address target;
  Bytes body;

  static constexpr std::uint8_t kHopsMax = 16;

  Plane plane() const { return static_cast<Plane>(kind >> 8); }

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.kind, self.hops, self.source, self.target, self.body);
  }
};

}  // namespace shoal::wire
