// protocol/overlay/agent_index.h
//
// Where the record of an agent is, beside the ordered map that owns the records: every frame that arrives looks its
// sender up, and a sorted array of a region's size is a few cache lines where the map is a dozen. Owns nothing.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "protocol/base/id.h"

namespace shoal::overlay {

template <class Record>
class AgentIndex {
 public:
  // nullptr when there is none. O(log n).
  Record* find(AgentId agent) const {
    const auto at = std::lower_bound(entries_.begin(), entries_.end(), agent, before);
    return at == entries_.end() || at->first != agent ? nullptr : at->second;
  }
  // `agent` must not be there. The record keeps its address while it is here. O(n).
  void insert(AgentId agent, Record* record) {
    entries_.insert(std::lower_bound(entries_.begin(), entries_.end(), agent, before), {agent, record});
  }
  // `agent` must be there. O(n).
  void erase(AgentId agent) { entries_.erase(std::lower_bound(entries_.begin(), entries_.end(), agent, before)); }
  void clear() { entries_.clear(); }
  std::size_t size() const { return entries_.size(); }

 private:
  using Entry = std::pair<AgentId, Record*>;
  static bool before(const Entry& entry, AgentId agent) { return entry.first < agent; }

  std::vector<Entry> entries_;
};

}  // namespace shoal::overlay
