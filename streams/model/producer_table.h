// streams/model/producer_table.h
//
// Decides, for one partition, whether a producer's batch is new: each producer id has an epoch that fences older
// instances, and a sequence that counts its records. This is what makes a repeated append harmless. Pure; the log
// rebuilds it from batches or restores it from a snapshot.
#pragma once

#include <cstdint>
#include <map>

#include "protocol/base/result.h"
#include "protocol/wire/codec.h"
#include "streams/model/record_batch.h"

namespace shoal::streams {

// The sequence `count` places after `sequence`.
std::int32_t advance_sequence(std::int32_t sequence, std::int64_t count);

class ProducerTable {
 public:
  // Producers remembered; beyond that, the one that has been silent longest (by offset) is forgotten.
  static constexpr std::size_t kProducersMax = 10'000;
  // Batches of each producer whose offsets a repeated append is told.
  static constexpr std::size_t kBatchesMax = 5;

  enum class Kind : std::uint8_t {
    kNew,        // append it
    kDuplicate,  // all of it was appended before; `offsets` says where, or is empty if that is forgotten
    kPartial,    // its first `skip` records were appended before
    kFenced,     // a newer epoch of this producer has written
    kGap,        // records between the last one and this batch are missing; `expected` comes next
  };
  struct Verdict {
    Kind kind = Kind::kNew;
    OffsetRange offsets;
    std::int32_t skip = 0;
    std::int32_t expected = 0;
    std::int16_t epoch = 0;  // the newest known
  };

  Verdict judge(const ProducerStamp& stamp, std::int32_t records) const;
  // Notes a batch that was appended. Batches come in the order of the log.
  void note(const ProducerStamp& stamp, std::int32_t records, OffsetRange offsets);

  Bytes snapshot() const;
  static Result<ProducerTable> restore(std::string_view snapshot);

  std::size_t size() const { return producers_.size(); }
  void check_invariants() const;

 private:
  struct Appended {
    std::int32_t sequence = 0;
    std::int32_t records = 0;
    Offset first = 0;
    template <class Self, class F>
    static void fields(Self& self, F&& f) {
      f(self.sequence, self.records, self.first);
    }
  };
  struct Producer {
    std::int16_t epoch = 0;
    std::int32_t last_sequence = 0;
    Offset last_offset = 0;
    std::vector<Appended> recent;  // oldest first
    template <class Self, class F>
    static void fields(Self& self, F&& f) {
      f(self.epoch, self.last_sequence, self.last_offset, self.recent);
    }
  };

  std::map<std::int64_t, Producer> producers_;
};

}  // namespace shoal::streams
