// protocol/overlay/region.h
//
// What one agent knows of one region: its living members, those that are gone, and the graph of active links,
// which follows from the table alone. Pure data; it sends nothing and decides nothing about time.
//
// The graph is the K-ring topology of Rapid (Suresh et al., USENIX ATC 2018): members stand on kRings rings,
// ordered by a different hash on each, and keep a link to both neighbours on every ring. Agents with equal
// tables agree on the graph without a word; a member that comes or goes moves at most six links; one ring
// alone keeps it connected. Agents that only dial out stand between the dialable ones and link to the nearest
// of those on either side.
#pragma once

#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "protocol/overlay/agent_index.h"
#include "protocol/overlay/io.h"
#include "protocol/overlay/limits.h"

namespace shoal::overlay {

enum class Change : std::uint8_t {
  kNone,       // nothing new
  kNew,        // a member that was not living before
  kUpdated,    // another record or status of a living member
  kRestarted,  // living, in a new life: the former process is proven gone
  kDied,
  kLeft,
  kRefused,  // malformed, or the table is full
};

// True if every part of the record is within the limits.
bool well_formed(const Member& record);

class Region {
 public:
  // `self` never appears as gone here.
  Region(RegionId id, std::string name, AgentId self);
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  Region(Region&&) = default;
  Region& operator=(Region&&) = default;
  ~Region() = default;

  struct Gone {
    Member record;  // status kDead or kLeft
    bool proven = false;
    Instant since;
  };

  RegionId id() const { return id_; }
  const std::string& name() const { return name_; }
  void set_name(std::string name) { name_ = std::move(name); }

  const std::map<AgentId, Member>& living() const { return living_; }
  const std::map<AgentId, Gone>& gone() const { return gone_; }
  const Member* find(AgentId agent) const;
  const Gone* find_gone(AgentId agent) const;
  bool is_native(const Member& member) const { return member.home == id_; }
  std::size_t natives() const { return natives_; }
  std::size_t guests() const { return living_.size() - natives_; }
  // The living guest that speaks for `child`, or nullptr.
  const Member* guest_for(RegionId child) const;

  // Takes a record if it is newer: by (incarnation, state_version), the status by (incarnation, severity). A
  // guest with a newer head_epoch displaces the older guest of the same child region, which is reported in
  // `displaced`.
  Change merge(const Member& record, Instant now, std::vector<AgentId>& displaced);
  // Takes a status alone.
  Change claim(AgentId agent, Incarnation incarnation, Status status, bool proven, Instant now);
  // Remembers a member of an earlier life of this agent as dead, so that it is probed.
  void remember(const Member& record, Instant now);

  // How long a returning agent has to wait: doubles with every death in the recent past.
  Duration flap_delay(AgentId agent, Instant now) const;

  // Members that this region's graph links to `agent`, ascending. O(members) at worst, a few steps as a rule.
  std::vector<AgentId> neighbours_of(AgentId agent) const;
  // Grows whenever the graph may have changed.
  std::uint64_t graph_version() const { return graph_version_; }

  // Equal for equal tables: over (id, incarnation, state_version, status) of the living.
  std::uint64_t digest() const { return digest_; }

  void check_invariants() const;

 private:
  struct Place {
    std::uint64_t position;
    AgentId agent;
    bool dialable;
    friend bool operator<(const Place& a, const Place& b) {
      return a.position != b.position ? a.position < b.position : a.agent < b.agent;
    }
  };
  struct Flaps {
    unsigned count = 0;
    Instant last;
  };

  void insert(Member record);
  void bury(AgentId agent, Status status, bool proven, Instant now);
  void put_on_rings(const Member& member);
  void take_off_rings(AgentId agent);
  static Place place_of(std::size_t ring, AgentId agent, bool dialable);
  static std::uint64_t fingerprint(const Member& member);
  void add_tombstone(Gone gone);

  RegionId id_;
  std::string name_;
  AgentId self_;
  std::map<AgentId, Member> living_;
  AgentIndex<const Member> index_;  // of living_
  std::map<AgentId, Gone> gone_;
  std::map<AgentId, Flaps> flaps_;
  std::array<std::vector<Place>, kRings> rings_;
  std::size_t natives_ = 0;
  std::uint64_t graph_version_ = 0;
  std::uint64_t digest_ = 0;
};

}  // namespace shoal::overlay
