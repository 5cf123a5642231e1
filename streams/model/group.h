// streams/model/group.h
//
// One consumer group of a stream: which records were dealt to whom, which are done, which must be dealt again. Pure;
// the broker reads the records and tells the group what it handed out.
//
// Per partition the group knows `next` (nothing from there on was ever dealt), ranges *held* by a consumer (dealt, not
// yet acknowledged) and ranges *waiting* to be dealt again. Everything below `next` that is neither is done. The modes
// differ only in who may take from a partition: in kShared every consumer, in kPartitioned the one it is assigned to.
// A broadcast is a kShared group per consumer.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/base/time.h"
#include "protocol/wire/codec.h"
#include "streams/model/engine.h"

namespace shoal::streams {

enum class GroupMode : std::uint8_t { kPartitioned = 0, kShared = 1 };

class Group {
 public:
  static constexpr std::size_t kConsumersMax = 10'000;

  Group(GroupMode mode, std::uint32_t partitions);

  // What to read for a consumer: offsets [from, below) of a partition.
  struct Want {
    std::uint32_t partition = 0;
    Offset from = 0;
    Offset below = 0;
    bool again = false;  // dealt before
  };

  GroupMode mode() const { return mode_; }

  // The consumer asks for records: it joins if it is new, and counts as polling until it is answered. False when there
  // are kConsumersMax.
  bool poll_begins(const std::string& consumer, Instant now);
  void poll_ends(const std::string& consumer);
  // The consumer is gone for good or for now; what it holds is dealt again. Returns the number of records.
  std::int64_t leave(const std::string& consumer);
  // What it holds is dealt again (perhaps to itself): it never got it.
  std::int64_t give_back(const std::string& consumer);
  // Everything it holds is done.
  void acknowledge(const std::string& consumer);
  // Of what it holds in `partition`, everything below `next` is done. False if it held nothing there.
  bool acknowledge(const std::string& consumer, std::uint32_t partition, Offset next);

  // Partitions without a position get one from this before anything is dealt from them.
  bool has_position(std::uint32_t partition) const;
  // Forgets what was dealt of `partition`; goes on at `next`.
  void seek(std::uint32_t partition, Offset next);

  // What `consumer` may get now, records to be dealt again first. Ranges that retention removed are skipped and counted
  // in lost().
  std::vector<Want> wants(const std::string& consumer, const std::vector<Extent>& extents);
  // Records up to `last` of a Want were handed to the consumer.
  void deal(const std::string& consumer, const Want& want, Offset last);
  // How many records one consumer should get at most, so that all get some of what there is.
  std::size_t fair_share(const std::vector<Extent>& extents, std::size_t max) const;

  // With the stream closed: nothing is left for `consumer`, nor held by another consumer that may yet give it back. A
  // consumer that is polling, or has not polled since `patience_start`, is not waited for.
  bool at_end(const std::string& consumer, const std::vector<Extent>& extents, Instant patience_start) const;

  // Offset below which everything is done, per partition.
  Offset committed(std::uint32_t partition) const;
  std::int64_t lag(const std::vector<Extent>& extents) const;
  std::vector<std::string> consumers() const;
  std::size_t consumer_count() const { return consumers_.size(); }
  std::int64_t held(const std::string& consumer) const;
  std::uint64_t lost() const { return lost_; }

  struct PartitionState {
    bool positioned = false;
    Offset next = 0;
    std::vector<std::pair<Offset, Offset>> open;  // held or waiting: first, last
    template <class Self, class F>
    static void fields(Self& self, F&& f) {
      f(self.positioned, self.next, self.open);
    }
  };
  struct State {  // what survives a restart: everything held waits to be dealt again
    GroupMode mode = GroupMode::kPartitioned;
    std::vector<PartitionState> partitions;
    template <class Self, class F>
    static void fields(Self& self, F&& f) {
      f(self.mode, self.partitions);
    }
  };
  State state() const;
  static Group restore(const State& state, std::uint32_t partitions);

  void check_invariants() const;

 private:
  struct Held {
    Offset last = 0;
    std::string consumer;
  };
  struct Partition {
    bool positioned = false;
    Offset next = 0;
    std::map<Offset, Offset> waiting;  // first → last
    std::map<Offset, Held> held;       // by first
    std::string assigned;              // kPartitioned; empty: to nobody
  };
  struct Consumer {
    Instant polled;
    bool polling = false;
  };

  bool may_take(const std::string& consumer, const Partition& partition) const;
  void assign();
  std::int64_t release(const std::string& consumer, Partition& partition);
  static bool has_more(const Partition& partition, const Extent& extent);
  void skip_removed(Partition& partition, Offset start);

  GroupMode mode_;
  std::vector<Partition> partitions_;
  std::map<std::string, Consumer> consumers_;
  std::uint64_t lost_ = 0;
};

}  // namespace shoal::streams
