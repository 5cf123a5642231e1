// tools/sim/disk.h
//
// The stable storage of one agent: what its Persist effects wrote, and the objects of its store. A write sits in the
// un-synced tail of its lane until a sync covers it; a crash keeps a random prefix of each tail, in order. Moves no
// bytes: an object is its size and the hash its bytes would have.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/node/io.h"
#include "agent/node/node.h"
#include "protocol/base/rng.h"
#include "tools/sim/event_queue.h"

namespace shoal::sim {

struct StoredObject {
  std::uint64_t bytes = 0;
  std::uint64_t content = 0;  // stands for the bytes
  bool damaged = false;       // a bit flipped since: every checked read notices
};

class Disk {
 public:
  struct Events {
    std::function<void(Ticket)> durable;  // a Persist with a ticket is on disk
    std::function<void()> failed;         // a sync failed: the process must stop
  };

  Disk(EventQueue& queue, Rng rng, Events events);

  void persist(const node::out::Persist& write);
  // Writes an object together with the manifest its core will recover; `done` runs once both are durable.
  void put_object(ObjectId object, StoredObject stored, std::string manifest_key, Bytes manifest,
                  std::function<void()> done);
  void erase_object(ObjectId object);

  // True unless a Persist with this ticket still waits for its sync. Ticket 0 is always durable.
  bool is_durable(Ticket ticket) const { return waiting_.count(ticket) == 0; }
  // True when such a Persist was seen in this life of the process.
  bool was_issued(Ticket ticket) const { return ticket <= last_issued_; }

  const node::Recovered& contents() const { return durable_; }
  const std::map<ObjectId, StoredObject>& objects() const { return objects_; }
  bool flip_bit(ObjectId object);

  // The process stops: un-synced writes survive up to a random point of each lane.
  void crash(Rng& rng);
  // The machine is lost with everything on it.
  void wipe();

  // -- faults --
  void slow_down(Duration extra) { extra_latency_ = extra; }
  void set_full(bool full);
  bool full() const { return full_; }
  void fail_next_sync() { fail_next_sync_ = true; }
  void heal();
  // Seeded bug "lose-synced-writes": reports durable what a crash still loses.
  void lie_about_syncs() { lies_ = true; }

 private:
  struct Write {
    Ticket ticket;
    std::string key;
    Bytes value;
    std::optional<std::pair<ObjectId, std::optional<StoredObject>>> object;  // empty second: erased
    std::function<void()> done;
  };
  struct Lane {
    std::vector<Write> tail;
    bool syncing = false;
  };

  void append(node::out::Lane lane, Write write);
  void start_sync(Lane& lane);
  void finish_sync(Lane& lane, std::size_t covered);
  void apply(Write& write);
  Duration sync_latency();

  EventQueue& queue_;
  Rng rng_;
  Events events_;
  std::array<Lane, 2> lanes_;
  std::vector<Write> lied_about_;
  node::Recovered durable_;
  std::map<ObjectId, StoredObject> objects_;
  std::set<Ticket> waiting_;
  Ticket last_issued_;
  std::uint64_t life_ = 0;
  Duration extra_latency_;
  bool full_ = false;
  bool fail_next_sync_ = false;
  bool lies_ = false;
};

}  // namespace shoal::sim
