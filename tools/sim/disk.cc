#include "tools/sim/disk.h"

#include <algorithm>
#include <utility>

namespace shoal::sim {
namespace {

constexpr std::size_t kLiesKept = 64;  // writes that a lying disk holds back from the platter

}  // namespace

Disk::Disk(EventQueue& queue, Rng rng, Events events) : queue_(queue), rng_(rng), events_(std::move(events)) {}

void Disk::persist(const node::out::Persist& write) {
  if (write.ticket != Ticket()) {
    waiting_.insert(write.ticket);
    last_issued_ = std::max(last_issued_, write.ticket);
  }
  append(write.lane, Write{write.ticket, write.key, write.value, std::nullopt, nullptr});
}

void Disk::put_object(ObjectId object, StoredObject stored, std::string manifest_key, Bytes manifest,
                      std::function<void()> done) {
  append(node::out::Lane::kSynced, Write{Ticket(), std::move(manifest_key), std::move(manifest),
                                         std::pair(object, std::optional(stored)), std::move(done)});
}

void Disk::erase_object(ObjectId object) {
  append(node::out::Lane::kSynced, Write{Ticket(), {}, {}, std::pair(object, std::optional<StoredObject>()), nullptr});
}

void Disk::append(node::out::Lane lane, Write write) {
  Lane& target = lanes_[static_cast<std::size_t>(lane)];
  target.tail.push_back(std::move(write));
  if (!target.syncing) start_sync(target);
}

// A synced write takes 2 ms in the middle, 9 ms at the 99th percentile, as measured on a plain SSD.
Duration Disk::sync_latency() {
  Duration latency = microseconds(rng_.between(800, 3200));
  if (rng_.chance(10'000)) latency = latency + milliseconds(rng_.between(4, 9));
  return latency + extra_latency_;
}

void Disk::start_sync(Lane& lane) {
  if (full_) return;  // nothing gets through until there is space again
  lane.syncing = true;
  // One sync covers all that was written before it began.
  queue_.after(sync_latency(), [this, &lane, covered = lane.tail.size(), life = life_] {
    if (life == life_) finish_sync(lane, covered);
  });
}

void Disk::finish_sync(Lane& lane, std::size_t covered) {
  lane.syncing = false;
  if (fail_next_sync_) {
    fail_next_sync_ = false;
    events_.failed();
    return;
  }
  std::vector<Write> synced(std::make_move_iterator(lane.tail.begin()),
                            std::make_move_iterator(lane.tail.begin() + static_cast<std::ptrdiff_t>(covered)));
  lane.tail.erase(lane.tail.begin(), lane.tail.begin() + static_cast<std::ptrdiff_t>(covered));
  if (!lane.tail.empty()) start_sync(lane);
  const std::uint64_t life = life_;
  for (auto& write : synced) {
    if (lies_) {
      lied_about_.push_back(write);
      if (lied_about_.size() > kLiesKept) {
        apply(lied_about_.front());
        lied_about_.erase(lied_about_.begin());
      }
    } else {
      apply(write);
    }
    waiting_.erase(write.ticket);
    if (write.done) write.done();
    if (write.ticket != Ticket()) events_.durable(write.ticket);
    if (life != life_) return;
  }
}

void Disk::apply(Write& write) {
  if (!write.key.empty()) {
    if (write.value.empty()) {
      durable_.erase(write.key);
    } else {
      durable_[write.key] = write.value;
    }
  }
  if (!write.object) return;
  auto& [id, stored] = *write.object;
  if (stored) {
    objects_[id] = *stored;
  } else {
    objects_.erase(id);
  }
}

bool Disk::flip_bit(ObjectId object) {
  auto it = objects_.find(object);
  if (it == objects_.end()) return false;
  it->second.damaged = true;
  return true;
}

void Disk::crash(Rng& rng) {
  ++life_;
  lied_about_.clear();
  for (auto& lane : lanes_) {
    const std::size_t kept = rng.below(lane.tail.size() + 1);
    for (std::size_t i = 0; i < kept; ++i) apply(lane.tail[i]);
    lane.tail.clear();
    lane.syncing = false;
  }
  waiting_.clear();
  last_issued_ = Ticket();
  fail_next_sync_ = false;
}

void Disk::wipe() {
  ++life_;
  for (auto& lane : lanes_) lane = Lane();
  lied_about_.clear();
  durable_.clear();
  objects_.clear();
  waiting_.clear();
  last_issued_ = Ticket();
}

void Disk::heal() {
  fail_next_sync_ = false;
  slow_down({});
  set_full(false);
}

void Disk::set_full(bool full) {
  full_ = full;
  if (full_) return;
  for (auto& lane : lanes_) {
    if (!lane.syncing && !lane.tail.empty()) start_sync(lane);
  }
}

}  // namespace shoal::sim
