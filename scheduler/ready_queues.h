// scheduler/ready_queues.h
//
// Work that waits for a place, in classes: attempts of one function with one demand are alike for placement, so what
// holds for the first of a class holds for all, and a class that finds no place never stands in the way of another.
// Inside a class, and between the heads of classes, the order is priority first, then age.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "scheduler/work.h"

namespace shoal::scheduler {

class ReadyQueues {
 public:
  struct Class {
    FunctionId function;
    Demand demand;
    std::uint64_t made = 0;     // which class in this place it is; 0: none
    std::uint64_t users = 0;    // work records of it
    std::uint64_t mean_us = 0;  // of finished attempts, newer ones count more; 0: none yet
    std::deque<WorkIndex> urgent;
    std::deque<WorkIndex> normal;
    Instant homeless_since = Instant::never();  // since when no known agent could ever run it
    std::size_t size() const { return urgent.size() + normal.size(); }
  };
  // (not urgent, age): what heads of classes are ordered by.
  using Order = std::pair<bool, std::uint64_t>;

  // The class of a function and a demand. A class lives while work is in it; beyond kIdleMax, classes without work are
  // forgotten (with what was learnt about them), and their places given to others.
  std::uint32_t intern(FunctionId function, const Demand& demand) {
    auto it = by_key_.find({function, demand});
    if (it != by_key_.end()) return it->second;
    if (free_.empty() && classes_.size() >= swept_at_) sweep();
    std::uint32_t index = static_cast<std::uint32_t>(classes_.size());
    if (free_.empty()) {
      classes_.emplace_back();
    } else {
      index = free_.back();
      free_.pop_back();
    }
    by_key_[{function, demand}] = index;
    classes_[index].function = function;
    classes_[index].demand = demand;
    classes_[index].made = ++made_;
    return index;
  }
  // Whether `klass` is still the class that was `made` then.
  bool is(std::uint32_t klass, std::uint64_t made) const {
    return klass < classes_.size() && classes_[klass].made == made;
  }
  void join(std::uint32_t klass) { ++classes_[klass].users; }
  void leave(std::uint32_t klass) { --classes_[klass].users; }

  Class& operator[](std::uint32_t klass) { return classes_[klass]; }
  const Class& operator[](std::uint32_t klass) const { return classes_[klass]; }

  void push(WorkIndex index, const Work& work) {
    Class& c = classes_[work.klass];
    (work.priority ? c.urgent : c.normal).push_back(index);
    active_.insert(work.klass);
    ++size_;
  }
  // Back to the head, where it had been taken from.
  void put_back(WorkIndex index, const Work& work) {
    Class& c = classes_[work.klass];
    (work.priority ? c.urgent : c.normal).push_front(index);
    active_.insert(work.klass);
    ++size_;
  }
  WorkIndex head(std::uint32_t klass) const {
    const Class& c = classes_[klass];
    return c.urgent.empty() ? c.normal.front() : c.urgent.front();
  }
  void pop(std::uint32_t klass) {
    Class& c = classes_[klass];
    if (c.urgent.empty()) {
      c.normal.pop_front();
    } else {
      c.urgent.pop_front();
    }
    if (c.size() == 0) active_.erase(klass);
    --size_;
  }
  Order order(std::uint32_t klass, const WorkTable& works) const {
    const Work& work = works[head(klass)];
    return {!work.priority, work.seq};
  }

  void learn(std::uint32_t klass, std::uint64_t run_us) {
    std::uint64_t& mean = classes_[klass].mean_us;
    mean = mean == 0 ? run_us + 1 : (mean * 7 + run_us + 1) / 8;
  }

  const std::set<std::uint32_t>& active() const { return active_; }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kIdleMax = 4'096;

  void sweep() {
    for (auto it = by_key_.begin(); it != by_key_.end();) {
      Class& c = classes_[it->second];
      if (c.users != 0 || c.size() != 0 || c.homeless_since != Instant::never()) {
        ++it;
        continue;
      }
      c = Class();
      free_.push_back(it->second);
      it = by_key_.erase(it);
    }
    swept_at_ = std::max(kIdleMax, by_key_.size() * 2);
  }

  std::deque<Class> classes_;
  std::vector<std::uint32_t> free_;
  std::size_t swept_at_ = kIdleMax;
  std::uint64_t made_ = 0;
  std::map<std::pair<FunctionId, Demand>, std::uint32_t> by_key_;
  std::set<std::uint32_t> active_;  // with work
  std::size_t size_ = 0;
};

}  // namespace shoal::scheduler
