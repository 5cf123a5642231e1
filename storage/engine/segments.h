// storage/engine/segments.h
//
// Bytes of larger objects in append-only files. An object is one run of bytes (so that it can be mapped),
// followed by the CRC-32C of each 64 KiB piece:
//
//   | header 64 B: magic, version, length, object | content | pad to 4 | crc of piece 0 | crc of piece 1 | …
//   | pad to 64 |
//
// The extent that finds it again (with the checksum of the checksums) is kept by the caller, who also says
// which extents are alive; what no extent covers is dead, and at the end of a file it is cut off when the
// store is opened.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/wire/bytes.h"
#include "storage/engine/posix.h"

namespace shoal::storage {

struct Extent {
  std::uint64_t segment = 0;
  std::uint64_t offset = 0;  // of the content
  std::uint64_t length = 0;
  std::uint32_t table_crc = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.segment, self.offset, self.length, self.table_crc);
  }
  friend bool operator==(const Extent&, const Extent&) = default;
};

struct SegmentConfig {
  std::string dir;
  std::uint64_t segment_bytes = 64ULL << 20;
  std::uint64_t reserve_bytes = 0;
  bool sync = true;
};

// append, sync, release and undo: one thread (the writer). read and open_segment: any thread.
class Segments {
 public:
  static constexpr std::uint64_t kPieceBytes = 64U << 10;

  // Opens the directory; `alive` lists all extents that exist. Cuts torn tails, removes files without a live
  // extent.
  static Result<std::unique_ptr<Segments>> open(SegmentConfig config, const std::vector<Extent>& alive);

  // Adds an object's content, from memory or from a file of exactly `length` bytes; durable after sync().
  Result<Extent> append(ObjectId object, std::string_view content);
  Result<Extent> append_file(ObjectId object, const std::string& path, std::uint64_t length);
  // Takes back the extent appended last.
  void undo(const Extent& extent);
  Result<> sync();

  // The bytes of [offset, offset + length) of the content, checked. kCorrupt if they are not what was
  // written; kNotFound if the segment is gone (compacted away: look the extent up again).
  Result<Bytes> read(const Extent& extent, std::uint64_t offset, std::uint64_t length) const;
  Result<std::shared_ptr<Fd>> open_segment(std::uint64_t segment) const;

  void keep(const Extent& extent);     // counts as alive
  void release(const Extent& extent);  // is dead; a file without live bytes is removed
  // Sealed segments that are more than half dead.
  std::vector<std::uint64_t> wasteful() const;

  struct Totals {
    std::uint64_t segments = 0;
    std::uint64_t bytes = 0;
  };
  Totals totals() const;

 private:
  struct Segment {
    std::shared_ptr<Fd> fd;
    std::uint64_t size = 0;
    std::uint64_t live = 0;
  };
  class Appender;

  explicit Segments(SegmentConfig config) : config_(std::move(config)) {}
  std::string path(std::uint64_t segment) const;
  Result<> roll(std::uint64_t need);
  Result<> start_segment();
  Result<std::vector<std::uint32_t>> table(const Extent& extent, int fd) const;

  SegmentConfig config_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, Segment> segments_;
  std::uint64_t active_ = 0;
  std::set<std::uint64_t> unsynced_;
  bool directory_unsynced_ = false;
};

}  // namespace shoal::storage
