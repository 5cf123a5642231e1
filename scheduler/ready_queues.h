// scheduler/ready_queues.h
//
// Work that waits for a place. Attempts of one application, one function and one demand make a class: they are alike
// for placement but for the data they read, so a class has a lane for each agent that has most of the inputs of some
// of its work (and one for work without large inputs), and a lane that finds no place never stands in the way of
// another. In a lane, and between the heads of lanes, the order is that of `rank`, then age.
//
// Between applications, whoever was given least goes first: each is charged what it is expected to use (and then what
// it did use), divided by its weight, and one that had nothing to do does not save up for later (start-time fair
// queueing, Goyal, Vin and Chen 1996).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "scheduler/work.h"

namespace shoal::scheduler {

class ReadyQueues {
 public:
  struct Entry {
    WorkIndex work = kNone;
    std::uint64_t serial = 0;
  };
  struct Lane {
    std::size_t size = 0;     // work that waits
    std::size_t entries = 0;  // with those that were taken out of the middle
    std::map<std::uint8_t, std::deque<Entry>, std::greater<>> ranks;
  };
  struct Class {
    AppId app;
    FunctionId function;
    Demand demand;
    std::uint64_t made = 0;                             // which class in this place it is; 0: none
    std::uint64_t users = 0;                            // work records of it
    std::uint64_t mean_us = 0;                          // of finished attempts, newer ones count more; 0: none yet
    std::map<AgentIndex, std::uint64_t> mean_by_agent;  // the same, of the attempts that ran there
    std::map<AgentIndex, Lane> lanes;                   // by home
    std::size_t size = 0;
    Instant homeless_since = Instant::never();  // since when no known agent could ever run it
    // What an attempt is expected to take at that agent.
    std::uint64_t run_us(AgentIndex agent, std::uint64_t unknown) const {
      auto it = mean_by_agent.find(agent);
      if (it != mean_by_agent.end()) return it->second;
      return mean_us != 0 ? mean_us : unknown;
    }
  };
  struct LaneId {
    std::uint32_t klass = kNone;
    AgentIndex home = kNone;
    friend auto operator<=>(const LaneId&, const LaneId&) = default;
  };
  // Smaller goes first: (lowest rank last, age).
  using Order = std::pair<std::uint8_t, std::uint64_t>;
  // What an application was given so far, and its lanes with work.
  struct Share {
    std::uint64_t given = 0;  // units times microseconds, divided by its weight
    std::uint32_t weight = kWeight;
    bool youngest_first = false;
    std::set<LaneId> active;
  };
  static constexpr std::uint32_t kWeight = 100;

  // The class of a function of an application and a demand. A class lives while work is in it; beyond kIdleMax, classes
  // without work are forgotten (with what was learnt about them), and their places given to others.
  std::uint32_t intern(AppId app, FunctionId function, const Demand& demand);
  // Whether `klass` is still the class that was `made` then.
  bool is(std::uint32_t klass, std::uint64_t made) const {
    return klass < classes_.size() && classes_[klass].made == made;
  }
  void join(std::uint32_t klass) { ++classes_[klass].users; }
  void leave(std::uint32_t klass) { --classes_[klass].users; }

  Class& operator[](std::uint32_t klass) { return classes_[klass]; }
  const Class& operator[](std::uint32_t klass) const { return classes_[klass]; }
  // Work in a lane, which need not be there any more.
  std::size_t size(LaneId id) const {
    const Class& c = classes_[id.klass];
    auto it = c.lanes.find(id.home);
    return it == c.lanes.end() ? 0 : it->second.size;
  }

  // Work enters the lane of its class and `home` behind (or, put_back, before) others of its rank.
  void push(WorkIndex index, WorkTable& works) { insert(index, works, false); }
  void put_back(WorkIndex index, WorkTable& works) { insert(index, works, true); }
  void take(WorkIndex index, WorkTable& works);
  // Its rank is another one now.
  void rerank(WorkIndex index, std::uint8_t rank, WorkTable& works);
  // The first and the last in the order of a lane that has work.
  WorkIndex head(LaneId lane, const WorkTable& works);
  WorkIndex tail(LaneId lane, const WorkTable& works);
  // Any work of a class that has some.
  WorkIndex any(std::uint32_t klass, const WorkTable& works);
  Order order(LaneId lane, const WorkTable& works) {
    const Work& work = works[head(lane, works)];
    const bool reversed = shares_.at(classes_[lane.klass].app).youngest_first;
    return {static_cast<std::uint8_t>(0xff - work.rank), reversed ? ~work.seq : work.seq};
  }

  void learn(std::uint32_t klass, AgentIndex agent, std::uint64_t run_us);

  // ---- shares ----
  // How an application's work is ordered and weighed. Unknown applications have the defaults.
  void set_share(AppId app, std::uint32_t weight, bool youngest_first);
  // Work was given a place, and is expected to use that much of it; the smaller `given` goes first.
  void charge(AppId app, std::uint64_t unit_us);
  // What it used in the end.
  void settle(AppId app, std::uint64_t expected_unit_us, std::uint64_t unit_us);
  void drop_app(AppId app);
  const std::map<AppId, Share>& shares() const { return shares_; }

  std::size_t size() const { return size_; }
  // Grows whenever a lane that had no work gets some.
  std::uint64_t awakenings() const { return awakenings_; }
  // Work whose inputs are mostly at another agent, and what it is expected to take (units times microseconds), by home.
  std::size_t homed_elsewhere() const { return homed_elsewhere_; }
  std::uint64_t homed_us(AgentIndex home) const {
    auto it = homed_us_.find(home);
    return it == homed_us_.end() ? 0 : it->second;
  }
  void check_invariants(const WorkTable& works) const;

 private:
  static constexpr std::size_t kIdleMax = 4'096;
  static constexpr std::size_t kAgentsMax = 256;  // for which a class knows a mean of their own

  static bool is_valid(const Entry& entry, LaneId lane, std::uint8_t rank, const WorkTable& works) {
    const Work& work = works[entry.work];
    return work.serial == entry.serial && work.queued && work.rank == rank && work.home == lane.home &&
           work.klass == lane.klass;
  }
  void insert(WorkIndex index, WorkTable& works, bool front);
  WorkIndex edge(LaneId id, bool front, const WorkTable& works);
  void tidy(LaneId id, const WorkTable& works);
  void sweep();

  std::deque<Class> classes_;
  std::vector<std::uint32_t> free_;
  std::size_t swept_at_ = kIdleMax;
  std::uint64_t made_ = 0;
  std::map<std::tuple<AppId, FunctionId, Demand>, std::uint32_t> by_key_;
  std::map<AppId, Share> shares_;
  std::uint64_t clock_ = 0;  // `given` of who was served last
  std::map<AgentIndex, std::uint64_t> homed_us_;
  std::size_t homed_elsewhere_ = 0;
  std::size_t size_ = 0;
  std::uint64_t awakenings_ = 0;
};

}  // namespace shoal::scheduler
