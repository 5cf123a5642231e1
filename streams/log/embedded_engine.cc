#include "streams/log/embedded_engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "protocol/base/check.h"

namespace shoal::streams {

Result<std::unique_ptr<EmbeddedEngine>> EmbeddedEngine::open(const std::string& directory, EmbeddedOptions options,
                                                             GroupCommit& commits) {
  std::unique_ptr<EmbeddedEngine> engine(new EmbeddedEngine(options, commits));
  for (std::uint32_t i = 0; i < options.partitions; ++i) {
    auto log = PartitionLog::open(fmt::format("{}/p{}", directory, i), options.log);
    if (!log) return tl::unexpected(log.error());
    engine->durable_end_.push_back((*log)->end());
    engine->logs_.push_back(std::move(*log));
  }
  return engine;
}

void EmbeddedEngine::append(std::uint64_t token, std::uint32_t partition, Bytes batch, OnGap on_gap) {
  Appended appended{token, partition, OffsetRange{}, false};
  if (partition >= logs_.size()) {
    appended.offsets =
        fail(Code::kInvalid, fmt::format("the stream has no partition {}, only 0 to {}", partition, logs_.size() - 1));
    done_.push_back(std::move(appended));
    return;
  }
  PartitionLog& log = *logs_[partition];
  const std::uint64_t bytes = batch.size();
  auto result = log.append(std::move(batch), on_gap);
  if (!result) {
    appended.offsets = tl::unexpected(result.error());
    done_.push_back(std::move(appended));
    return;
  }
  appended.offsets = result->offsets;
  appended.duplicate = result->duplicate;
  if (options_.durability != Durability::kLocal) {
    // A closed segment is put on disk in any case, so that a loss of power can only cost the end of the log.
    if (log.segments() > 1) {
      if (auto files = log.take_unsynced(); files.size() > 1) commits_.add(std::move(files), 0);
    }
    done_.push_back(std::move(appended));
    return;
  }
  // A duplicate waits as well: the first copy may not be on disk yet.
  const std::uint64_t ticket = commits_.add(log.take_unsynced(), bytes);
  waiting_.push_back({ticket, std::move(appended), log.end()});
}

void EmbeddedEngine::collect(std::vector<Appended>& out) {
  out.insert(out.end(), std::make_move_iterator(done_.begin()), std::make_move_iterator(done_.end()));
  done_.clear();
  if (waiting_.empty()) return;
  const std::uint64_t durable = commits_.done();
  while (!waiting_.empty() && waiting_.front().ticket <= durable) {
    Waiting& front = waiting_.front();
    Offset& end = durable_end_[front.done.partition];
    end = std::max(end, front.end);
    out.push_back(std::move(front.done));
    waiting_.pop_front();
  }
}

Result<std::vector<StoredRecord>> EmbeddedEngine::fetch(std::uint32_t partition, Offset offset, std::size_t records_max,
                                                        std::size_t bytes_max) {
  if (partition >= logs_.size()) return fail(Code::kInvalid, "no such partition");
  return logs_[partition]->read(partition, offset, extent(partition).end, records_max, bytes_max);
}

Extent EmbeddedEngine::extent(std::uint32_t partition) const {
  if (partition >= logs_.size()) return {};
  const PartitionLog& log = *logs_[partition];
  return {log.start(), options_.durability == Durability::kLocal ? durable_end_[partition] : log.end()};
}

std::uint64_t EmbeddedEngine::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& log : logs_) sum += log->bytes();
  return sum;
}

std::int64_t EmbeddedEngine::retain(std::uint64_t bytes_max, std::int64_t unix_ms) {
  std::int64_t records = 0;
  for (auto& log : logs_) records += log->retain(bytes_max, unix_ms).records;
  return records;
}

std::uint64_t EmbeddedEngine::cut_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& log : logs_) sum += log->cut_bytes();
  return sum;
}

void EmbeddedEngine::check_invariants() const {
  for (std::size_t i = 0; i < logs_.size(); ++i) {
    logs_[i]->check_invariants();
    SHOAL_CHECK(durable_end_[i] <= logs_[i]->end(), "more is durable than was appended");
  }
  for (std::size_t i = 1; i < waiting_.size(); ++i) {
    SHOAL_CHECK(waiting_[i - 1].ticket <= waiting_[i].ticket, "commit tickets out of order");
  }
}

}  // namespace shoal::streams
