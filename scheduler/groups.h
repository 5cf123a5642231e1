// scheduler/groups.h
//
// Named groups of tasks (TaskGroup): they nest, a task belongs to the group that is open when it is submitted and to
// all that enclose that one. A group lives until it is closed, empty and its barrier answered.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "protocol/base/result.h"
#include "scheduler/slab.h"

namespace shoal::scheduler {

class TaskGroups {
 public:
  struct Group {
    std::string name;
    std::uint32_t parent = kNone;
    std::uint64_t unfinished = 0;   // tasks in it or in a group inside
    std::uint32_t inner = 0;        // groups opened inside that still exist
    std::uint32_t failure = kNone;  // first of a member, see Graph::make_failure
    bool open = false;
    bool reported = false;
  };

  explicit TaskGroups(std::uint32_t groups_max) : groups_max_(groups_max) {}

  // A name that is used again means a new group. kExhausted at the maximum.
  Result<> open(const std::string& name) {
    if (groups_.live() >= groups_max_) {
      return fail(Code::kExhausted,
                  "more than " + std::to_string(groups_max_) + " task groups are alive: wait for some");
    }
    const std::uint32_t index = groups_.add();
    groups_[index].name = name;
    groups_[index].parent = current_;
    groups_[index].open = true;
    if (current_ != kNone) ++groups_[current_].inner;
    by_name_[name] = index;
    current_ = index;
    return {};
  }

  // Closes the innermost open group of that name and those inside it.
  void close(const std::string& name) {
    std::uint32_t index = current_;
    while (index != kNone && groups_[index].name != name) index = groups_[index].parent;
    if (index == kNone) return;
    for (std::uint32_t i = current_;; i = groups_[i].parent) {
      groups_[i].open = false;
      if (i == index) break;
    }
    current_ = groups_[index].parent;
  }

  std::uint32_t current() const { return current_; }
  std::uint32_t find(const std::string& name) const {
    auto it = by_name_.find(name);
    return it == by_name_.end() ? kNone : it->second;
  }
  Group& operator[](std::uint32_t index) { return groups_[index]; }

  void enter(std::uint32_t group) {
    for (; group != kNone; group = groups_[group].parent) ++groups_[group].unfinished;
  }
  // Appends the groups that have no unfinished task now.
  void leave(std::uint32_t group, std::vector<std::uint32_t>& emptied) {
    for (; group != kNone; group = groups_[group].parent) {
      if (--groups_[group].unfinished == 0) emptied.push_back(group);
    }
  }
  bool contains(std::uint32_t outer, std::uint32_t group) const {
    for (; group != kNone; group = groups_[group].parent) {
      if (group == outer) return true;
    }
    return false;
  }

  // Frees a closed, empty, reported group and its parents in the same condition. Returns their failures.
  std::vector<std::uint32_t> forget(std::uint32_t index) {
    std::vector<std::uint32_t> failures;
    while (index != kNone) {
      Group& group = groups_[index];
      if (group.open || group.unfinished != 0 || !group.reported || group.inner != 0) break;
      if (group.failure != kNone) failures.push_back(group.failure);
      auto it = by_name_.find(group.name);
      if (it != by_name_.end() && it->second == index) by_name_.erase(it);
      const std::uint32_t parent = group.parent;
      if (parent != kNone) --groups_[parent].inner;
      groups_.free(index);
      index = parent;
    }
    return failures;
  }

 private:
  std::uint32_t groups_max_;
  Slab<Group> groups_;
  std::map<std::string, std::uint32_t> by_name_;
  std::uint32_t current_ = kNone;
};

}  // namespace shoal::scheduler
