// scheduler/resources.h
//
// What a task asks for (Demand), who could ever meet it, and the ledger of what of this agent is taken. Computing
// units are counted in 64ths: an attempt of a function known to be short is charged one 64th per unit, so that 64 of
// them are handed to the executors ahead of time, and a long one is charged in full.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/base/result.h"
#include "scheduler/io.h"
#include "scheduler/requirement.h"
#include "scheduler/state.h"

namespace shoal::scheduler {

struct Demand {
  std::uint32_t units = 1;
  std::uint64_t memory_mb = 0;
  std::string architecture;  // empty: any
  std::vector<Requirement> requirements;
  std::string language;  // of the executor; empty: any
  bool local = false;    // nowhere but on the agent that is the application's master
  // The agent it is meant for, by the numbering of the agent that places it; never travels. When that agent is gone,
  // any other will do.
  std::optional<std::uint32_t> only = {};
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.units, self.memory_mb, self.architecture, self.requirements, self.language, self.local);
  }
  friend auto operator<=>(const Demand&, const Demand&) = default;
};

// Reads the constraints of a task: the keys of COMPSs' @constraint and label.KEY. kInvalid names the key and what is
// accepted.
Result<Demand> parse_demand(const std::map<std::string, std::string>& constraints);

// For people: "computing_units=4, label.gpu=yes".
std::string describe(const Demand& demand);
std::string describe(const Resources& resources);
std::string describe(const Summary& summary);

// Whether an idle agent of this kind could run it. Labels of a summary are unions and it has no facts, so its answer
// may be too hopeful.
bool can_meet(const Resources& resources, const Demand& demand);
bool can_meet(const Summary& summary, const Demand& demand);

// Attempts shorter than this on average are handed out ahead of time.
constexpr std::uint64_t kShortUs = 5'000;

// What one attempt is charged. `mean_us` 0 means unknown: charged as a long one.
std::uint64_t charge64(const Demand& demand, std::uint64_t mean_us);

// What of this agent is taken. Units given back by a blocked attempt may be taken by others and then be claimed again,
// so `used64` may pass the total for a while; nothing new fits then.
class Ledger {
 public:
  void set_total(std::uint32_t units, std::uint64_t memory_mb);
  bool fits(std::uint64_t units64, std::uint64_t memory_mb) const;
  void take(std::uint64_t units64, std::uint64_t memory_mb);
  void give_back(std::uint64_t units64, std::uint64_t memory_mb);

  std::uint64_t used64() const { return used64_; }
  std::uint64_t free64() const { return total64_ > used64_ ? total64_ - used64_ : 0; }
  std::uint64_t total64() const { return total64_; }
  std::uint64_t used_memory_mb() const { return used_memory_mb_; }

 private:
  std::uint64_t total64_ = 0;
  std::uint64_t used64_ = 0;
  std::uint64_t memory_mb_ = 0;
  std::uint64_t used_memory_mb_ = 0;
};

}  // namespace shoal::scheduler
