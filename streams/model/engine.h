// streams/model/engine.h
//
// What a stream's records are kept in: the embedded log (streams/log) or a Kafka topic (streams/kafka). Both are asked
// from one thread and never block it on the network; news are announced on a descriptor that whoever makes the engine
// gives it. An interface only.
#pragma once

#include <cstdint>
#include <vector>

#include "protocol/base/result.h"
#include "streams/model/record_batch.h"

namespace shoal::streams {

// How safe an acknowledged append is (design: the ladder of receipts, as far as one agent can go).
enum class Durability : std::uint8_t { kMemory = 0, kProcess = 1, kLocal = 2 };

// What to do with a stamped batch whose predecessors are missing: a client is told, a forwarder is believed, because
// it sends in order whatever it has.
enum class OnGap : std::uint8_t { kRefuse = 0, kAccept = 1 };

struct Extent {
  Offset start = 0;  // oldest offset that can be read
  Offset end = 0;    // one past the newest offset that readers may see
};

struct Appended {
  std::uint64_t token = 0;
  std::uint32_t partition = 0;
  Result<OffsetRange> offsets;
  bool duplicate = false;  // it was there already; offsets may be {0, -1}: forgotten
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual std::uint32_t partitions() const = 0;

  // Appends one complete batch. Its fate is reported once by collect(), when it is as durable as the engine promises.
  // Errors: kStale (fenced by a newer producer epoch), kInvalid (gap under kRefuse), kExhausted (disk or queue full).
  virtual void append(std::uint64_t token, std::uint32_t partition, Bytes batch, OnGap on_gap) = 0;
  virtual void collect(std::vector<Appended>& out) = 0;

  // Records from `offset` on, or from the start if that is later; what is at hand, maybe nothing. Returns at least one
  // record if any is at hand, however large.
  virtual Result<std::vector<StoredRecord>> fetch(std::uint32_t partition, Offset offset, std::size_t records_max,
                                                  std::size_t bytes_max) = 0;
  virtual Extent extent(std::uint32_t partition) const = 0;
  // Readers wait for new records: from now on they are announced.
  virtual void watch() {}
  // False while extents are not known yet (a cluster that has not answered).
  virtual bool ready() const { return true; }

  // Asks for extents that include everything acknowledged to anyone before this call; they are, once is_fresh() of the
  // returned ticket. Needed only to decide that a closed stream is at its end.
  virtual std::uint64_t refresh() = 0;
  virtual bool is_fresh(std::uint64_t ticket) const = 0;

  virtual std::uint64_t bytes() const = 0;  // stored, as far as known
};

}  // namespace shoal::streams
