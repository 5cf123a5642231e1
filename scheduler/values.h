// scheduler/values.h
//
// Which named values are on this host, which are on their way, and who waits for them. It decides nothing: the master
// of an application says when a value is not needed any more.
#pragma once

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/io.h"

namespace shoal::scheduler {

class LocalValues {
 public:
  // Who wants a value: an attempt (its work record) or a wait of an application's driver (its version).
  struct Waiter {
    bool attempt = false;
    AppId app;
    std::uint32_t index = 0;
    std::uint64_t guard = 0;  // tells a reused work record from the one that asked
  };

  // Where the value is; nullptr when it is not here.
  const client::Value* find(const ValueKey& key) const {
    auto it = entries_.find(key);
    return it == entries_.end() || !it->second.here ? nullptr : &it->second.value;
  }

  // `borrowed`: the user's own file, which is never dropped.
  void keep(AppId app, const ValueKey& key, const client::Value& value, bool borrowed) {
    Entry& entry = entries_[key];
    entry.app = app;
    entry.here = true;
    entry.value = value;
    entry.borrowed = borrowed;
    by_app_[app].insert(key);
  }

  // Registers a wish for a value that is not here. True when nobody asked before: the caller sends the Fetch.
  bool want(AppId app, const ValueKey& key, Waiter waiter) {
    auto [it, fresh] = entries_.try_emplace(key);
    it->second.app = app;
    it->second.waiters.push_back(waiter);
    by_app_[app].insert(key);
    return fresh;
  }

  // Whether anybody waits for it.
  bool is_wanted(const ValueKey& key) const {
    auto it = entries_.find(key);
    return it != entries_.end() && !it->second.here && !it->second.waiters.empty();
  }

  // The end of a Fetch. `known` is false when nobody needs the value any more: it is to be dropped again.
  std::vector<Waiter> arrived(const ValueKey& key, bool ok, const client::Value& value, bool& known) {
    auto it = entries_.find(key);
    known = it != entries_.end();
    if (!known) return {};
    std::vector<Waiter> waiters = std::exchange(it->second.waiters, {});
    if (it->second.here) return waiters;  // kept by a local attempt meanwhile
    if (ok) {
      it->second.here = true;
      it->second.value = value;
    } else {
      forget(it);
    }
    return waiters;
  }

  // True when it was here or on its way, and is not somebody else's.
  bool drop(const ValueKey& key) {
    auto it = entries_.find(key);
    if (it == entries_.end()) return false;
    const bool ours = !it->second.borrowed;
    forget(it);
    return ours;
  }

  std::vector<ValueKey> drop_app(AppId app) {
    auto it = by_app_.find(app);
    if (it == by_app_.end()) return {};
    std::vector<ValueKey> keys;
    for (const auto& key : it->second) {
      auto entry = entries_.find(key);
      if (!entry->second.borrowed) keys.push_back(key);
      entries_.erase(entry);
    }
    by_app_.erase(it);
    return keys;
  }

  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    AppId app;
    bool here = false;
    bool borrowed = false;
    client::Value value;
    std::vector<Waiter> waiters;
  };
  using Entries = std::unordered_map<ValueKey, Entry>;

  void forget(Entries::iterator it) {
    auto app = by_app_.find(it->second.app);
    app->second.erase(it->first);
    if (app->second.empty()) by_app_.erase(app);
    entries_.erase(it);
  }

  Entries entries_;  // look-up only
  std::map<AppId, std::set<ValueKey>> by_app_;
};

}  // namespace shoal::scheduler
