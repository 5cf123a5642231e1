// tools/sim/faults.h
//
// What goes wrong in a run: a schedule drawn from the seed, from a menu of which every run arms a random part (swarm
// testing: a run that does everything at once hides what only shows when one thing happens often). Targets are chosen
// when an entry comes due, so an entry can be left out without changing the others: that is how a failure is reduced.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tools/sim/checks.h"
#include "tools/sim/clients.h"
#include "tools/sim/store_clients.h"
#include "tools/sim/world.h"

namespace shoal::sim {

enum class FaultKind : std::uint8_t {
  kCrash,         // un-synced writes are lost, restarts later
  kVanish,        // the host goes without a word, returns later
  kRestartStorm,  // several crashes of one agent in a row
  kHeadKill,      // of a random region
  kPowerCut,      // a whole site at once; its machines return one by one
  kTotalLoss,     // disk and identity are gone; a new agent takes the place
  kLeave,
  kPause,
  kSlowCpu,
  kPartitionPair,
  kPartitionSite,
  kPartitionRandom,
  kOneWay,
  kReset,
  kClog,
  kSlowDisk,
  kFullDisk,
  kSyncError,
  kBitFlip,
  kExecutorLoss,
  kHostileFrames,
  kDisconnect,  // a driver's process dies
  kCount,
};
const char* fault_name(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::kCrash;
  Instant at;
  Duration length;
  std::uint64_t draw = 0;  // what chooses the target when it comes due
};

struct FaultPlan {
  Instant from;
  Instant until;
  std::uint32_t entries_max = 12;
  std::set<FaultKind> menu;  // empty: all
};
std::vector<Fault> make_schedule(const FaultPlan& plan, Rng rng);
std::string describe(const Fault& fault);

class Faults {
 public:
  Faults(World& world, Rng rng, const MembershipChecks& membership, TaskClients* tasks, StoreClients* store);

  // Puts the schedule into the world's queue, without the entries in `skip`.
  void arm(const std::vector<Fault>& schedule, const std::set<std::size_t>& skip);
  // Ends every fault: network whole, disks and processors well, every machine that can return is started.
  void heal();

 private:
  void strike(const Fault& fault);
  void strike_machine(const Fault& fault);
  void strike_network(const Fault& fault);
  void strike_disk(const Fault& fault, std::uint32_t target);
  void crash_for(std::uint32_t agent, bool vanish, Duration length);
  void replace(std::uint32_t agent, Duration after);
  void hostile(std::uint32_t from, Rng rng);
  std::optional<std::uint32_t> pick(std::uint64_t draw) const;  // a running agent
  std::size_t natives_beside(std::uint32_t agent) const;        // running agents of its region, without it

  World& world_;
  Rng rng_;
  const MembershipChecks& membership_;
  TaskClients* tasks_;
  StoreClients* store_;
  bool ended_ = false;
  std::uint32_t departures_ = 0;
  std::uint64_t last_partition_ = 0;
};

}  // namespace shoal::sim
