// storage/engine/objects.h
//
// Objects on disk: content in RocksDB (small) or in segments (large), index and manifest in RocksDB. One
// writer thread groups writers: segment bytes of the whole group, one fdatasync, then the index entries in
// one synced batch.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "storage/engine/completions.h"
#include "storage/engine/key_value.h"
#include "storage/engine/segments.h"

namespace shoal::storage {

// How content is found again, under "o/" + id.
struct IndexEntry {
  bool in_segment = false;
  std::uint64_t length = 0;
  std::uint32_t crc = 0;  // of inline content, which is under "i/" + id
  Extent extent;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.in_segment, self.length, self.crc, self.extent);
  }
};

class Objects {
 public:
  static Result<std::unique_ptr<Objects>> open(const EngineConfig& config, KeyValueStore& store,
                                               Completions& completions);
  ~Objects();  // finishes what is queued
  Objects(const Objects&) = delete;
  Objects& operator=(const Objects&) = delete;

  struct Put {
    Manifest manifest;
    Payload content;
    Verify verify = Verify::kNo;
  };
  struct PutManifest {
    Manifest manifest;
  };
  struct Erase {
    ObjectId object;
  };
  struct Compact {};
  using Work = std::variant<Put, PutManifest, Erase, Compact>;
  void enqueue(Work work, std::uint64_t completion);

  Result<IndexEntry> find(ObjectId object) const;
  Result<Bytes> read(ObjectId object, std::uint64_t offset, std::uint64_t length) const;
  // The whole of an object in a segment, checked at the first call for this extent.
  Result<std::shared_ptr<Fd>> checked_segment(const Extent& extent) const;
  Result<Manifest> manifest(ObjectId object) const;
  std::vector<Manifest> manifests() const;
  void totals(Usage& usage) const;

 private:
  struct Queued {
    Work work;
    std::uint64_t completion = 0;
  };
  // What one group does, before it is committed.
  struct Group {
    std::vector<Write> writes;
    std::vector<std::uint64_t> completions;
    std::vector<Extent> kept;
    std::vector<Extent> released;
    std::map<ObjectId, std::optional<IndexEntry>> overlay;  // index entries as the group leaves them
  };
  Objects(const EngineConfig& config, KeyValueStore& store, Completions& completions,
          std::unique_ptr<Segments> segments);
  void run();
  void carry_out(std::vector<Queued>& batch);
  Result<> prepare(Group& group, const Work& work);
  Result<> prepare_put(Group& group, const Put& put);
  Result<> verify(const Put& put, const IndexEntry& entry, std::string_view inlined) const;
  Result<> commit(Group& group);
  Result<> compact_segment(std::uint64_t segment);
  void compact_wasteful();
  Result<std::optional<IndexEntry>> look_up(const Group& group, ObjectId object) const;

  EngineConfig config_;
  KeyValueStore& store_;
  Completions& completions_;
  std::unique_ptr<Segments> segments_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Queued> queue_;
  bool stopping_ = false;
  std::uint64_t count_ = 0;
  std::uint64_t bytes_ = 0;
  mutable std::set<std::pair<std::uint64_t, std::uint64_t>>
      checked_;  // (segment, offset) of extents checked for mapping
  std::thread writer_;
};

}  // namespace shoal::storage
