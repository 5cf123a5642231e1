// streams/log/embedded_engine.h
//
// The embedded engine: the partitions of one stream as PartitionLogs in one directory ("<dir>/p0", "p1", …).
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "streams/log/group_commit.h"
#include "streams/log/partition_log.h"
#include "streams/model/engine.h"

namespace shoal::streams {

struct EmbeddedOptions {
  std::uint32_t partitions = 1;
  Durability durability = Durability::kProcess;
  LogOptions log;
};

class EmbeddedEngine final : public Engine {
 public:
  // `commits` is shared by the engines of an agent and outlives them.
  static Result<std::unique_ptr<EmbeddedEngine>> open(const std::string& directory, EmbeddedOptions options,
                                                      GroupCommit& commits);

  std::uint32_t partitions() const override { return static_cast<std::uint32_t>(logs_.size()); }
  // Under kProcess (and kMemory, which gets no less) the append is reported by the next collect().
  void append(std::uint64_t token, std::uint32_t partition, Bytes batch, OnGap on_gap) override;
  void collect(std::vector<Appended>& out) override;
  Result<std::vector<StoredRecord>> fetch(std::uint32_t partition, Offset offset, std::size_t records_max,
                                          std::size_t bytes_max) override;
  // Under kLocal readers see only what is on disk.
  Extent extent(std::uint32_t partition) const override;
  std::uint64_t refresh() override { return 0; }
  bool is_fresh(std::uint64_t) const override { return waiting_.empty(); }
  std::uint64_t bytes() const override;

  // Applies retention to every partition; see PartitionLog::retain. Returns the records removed.
  std::int64_t retain(std::uint64_t bytes_max, std::int64_t unix_ms);
  std::uint64_t cut_bytes() const;
  void check_invariants() const;

 private:
  EmbeddedEngine(EmbeddedOptions options, GroupCommit& commits) : options_(options), commits_(commits) {}

  struct Waiting {
    std::uint64_t ticket = 0;
    Appended done;
    Offset end = 0;
  };
  const EmbeddedOptions options_;
  GroupCommit& commits_;
  std::vector<std::unique_ptr<PartitionLog>> logs_;
  std::vector<Offset> durable_end_;  // per partition; only under kLocal
  std::deque<Waiting> waiting_;      // by ticket
  std::vector<Appended> done_;
};

}  // namespace shoal::streams
