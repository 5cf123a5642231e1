// streams/log/partition_log.h
//
// One partition of the embedded log: a directory of segments of Kafka record batches, and the table that rejects a
// producer's repeated batches. Appends and reads happen on the caller's thread, into and out of the page cache: an
// appended batch survives the death of the process at once, and is on disk when the files of take_unsynced() are
// synced. One thread uses it.
//
// On disk: <base>.log (batches), <base>.index (rebuilt when missing), <base>.producers (the table as it was at the
// start of the newest segment). Opening reads the newest segment only, cuts a torn tail at its first bad checksum, and
// otherwise looks at names and sizes.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "streams/log/segment.h"
#include "streams/model/engine.h"
#include "streams/model/producer_table.h"

namespace shoal::streams {

struct LogOptions {
  std::uint64_t segment_bytes = 16U << 20;
  bool dedup = true;  // off for outboxes, whose batches are judged by the stream's owner
};

class PartitionLog {
 public:
  struct Append {
    OffsetRange offsets;
    bool duplicate = false;
  };
  struct Dropped {
    std::int64_t records = 0;
    std::uint64_t bytes = 0;
  };

  // Opens or creates the log in `directory`.
  static Result<std::unique_ptr<PartitionLog>> open(std::string directory, LogOptions options);

  // Gives `batch` its offsets and writes it. kStale: fenced; kInvalid: not a batch, or a gap under OnGap::kRefuse;
  // kExhausted: the disk is full (nothing was appended, what is there stays good).
  Result<Append> append(Bytes batch, OnGap on_gap);

  // Complete batches from the one that contains `from`, up to about `bytes_max` but at least one, beginning before
  // `below`. Empty at the end. kCorrupt names the file and place.
  Result<std::vector<Bytes>> read_batches(Offset from, Offset below, std::size_t bytes_max);
  // Their records, from `from` on, without control batches.
  Result<std::vector<StoredRecord>> read(std::uint32_t partition, Offset from, Offset below, std::size_t records_max,
                                         std::size_t bytes_max);

  Offset start() const { return segments_.front().base(); }
  Offset end() const { return segments_.back().end(); }
  Offset oldest_end() const { return segments_.front().end(); }  // of the oldest segment
  std::uint64_t bytes() const { return bytes_; }
  std::size_t segments() const { return segments_.size(); }
  std::uint64_t cut_bytes() const { return cut_bytes_; }  // lost from a torn tail when it was opened

  // Removes the oldest whole segments while more than `bytes_max` bytes are held (0: no bound), and those last written
  // before `unix_ms` (0: no bound). The newest segment stays.
  Dropped retain(std::uint64_t bytes_max, std::int64_t unix_ms);
  // Removes whole segments that end at or before `offset`; also closes the newest one if all of it is before `offset`
  // and it is worth it.
  Dropped drop_before(Offset offset);
  // Removes the oldest segment, closing the newest first if it is the only one. For bounds with drop_oldest.
  Dropped drop_oldest();

  // Files with bytes that may not be on disk yet; the caller now answers for syncing them.
  std::vector<std::shared_ptr<File>> take_unsynced();

  void check_invariants() const;

 private:
  PartitionLog(std::string directory, LogOptions options);
  Result<> recover();
  Result<> rebuild_table();
  Result<> roll();
  Result<> add_segment(Offset base);
  Result<Bytes> trim(const Bytes& batch, const BatchHeader& header, std::int32_t skip) const;
  Dropped drop_front();
  void note_unsynced(const std::shared_ptr<File>& file);

  const std::string directory_;
  const LogOptions options_;
  std::deque<Segment> segments_;  // by base; never empty once open
  ProducerTable producers_;
  std::uint64_t bytes_ = 0;
  std::uint64_t cut_bytes_ = 0;
  std::vector<std::shared_ptr<File>> unsynced_;
  // The batch that the last read ended in, decoded: polls take a few records of a large batch at a time.
  std::vector<StoredRecord> decoded_;
  std::size_t reading_ = 0;  // index of the sealed segment that keeps its file open
};

}  // namespace shoal::streams
