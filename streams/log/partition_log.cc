#include "streams/log/partition_log.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "protocol/base/check.h"

namespace shoal::streams {
namespace {

constexpr std::uint64_t kWorthClosingBytes = 1U << 20;

std::string snapshot_path(const std::string& directory, Offset base) {
  return fmt::format("{}/{:020}.producers", directory, base);
}

std::int64_t written_ms(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1000 + status.st_mtim.tv_nsec / 1'000'000;
}

}  // namespace

PartitionLog::PartitionLog(std::string directory, LogOptions options)
    : directory_(std::move(directory)), options_(options) {}

Result<std::unique_ptr<PartitionLog>> PartitionLog::open(std::string directory, LogOptions options) {
  auto made = make_directories(directory);
  if (!made) return tl::unexpected(made.error());
  std::unique_ptr<PartitionLog> log(new PartitionLog(std::move(directory), options));
  auto recovered = log->recover();
  if (!recovered) return tl::unexpected(recovered.error());
  return log;
}

Result<> PartitionLog::recover() {
  std::vector<Offset> bases;
  for (const std::string& name : list_directory(directory_)) {
    if (auto base = Segment::base_of(name, ".log")) bases.push_back(*base);
  }
  for (std::size_t i = 0; i < bases.size(); ++i) {
    struct stat status{};
    const std::string path = directory_ + "/" + Segment::log_name(bases[i]);
    if (::stat(path.c_str(), &status) != 0) return file_error("look at", path, errno);
    const auto bytes = static_cast<std::uint64_t>(status.st_size);
    segments_.emplace_back(directory_, bases[i], bytes, i + 1 < bases.size() ? bases[i + 1] : bases[i]);
  }
  if (segments_.empty()) return add_segment(0);

  Segment& newest = segments_.back();
  Result<> table;
  const auto snapshot = options_.dedup ? read_file(snapshot_path(directory_, newest.base()))
                                       : Result<Bytes>(fail(Code::kNotFound, "no dedup"));
  auto restored =
      snapshot ? ProducerTable::restore(*snapshot) : Result<ProducerTable>(tl::unexpected(snapshot.error()));
  if (restored) {
    producers_ = std::move(*restored);
  } else if (options_.dedup) {
    auto rebuilt = rebuild_table();
    if (!rebuilt) return rebuilt;
  }
  auto cut = newest.recover([this](const BatchHeader& header) {
    if (options_.dedup) producers_.note(header.stamp, header.records, {header.base_offset, header.last_offset()});
  });
  if (!cut) return tl::unexpected(cut.error());
  cut_bytes_ = *cut;
  for (const Segment& segment : segments_) bytes_ += segment.bytes();
  reading_ = segments_.size() - 1;
  return {};
}

// Without a usable snapshot, every sealed segment is read once; the newest one is read by recover().
Result<> PartitionLog::rebuild_table() {
  for (std::size_t i = 0; i + 1 < segments_.size(); ++i) {
    auto headers = segments_[i].scan();
    if (!headers) return tl::unexpected(headers.error());
    for (const auto& header : *headers) {
      producers_.note(header.stamp, header.records, {header.base_offset, header.last_offset()});
    }
    segments_[i].rest();
  }
  return {};
}

Result<> PartitionLog::add_segment(Offset base) {
  Segment segment(directory_, base, 0, base);
  auto created = segment.create();
  if (!created) return created;
  auto file = segment.file();
  auto directory = File::open(directory_, File::Mode::kDirectory);
  if (!directory) return tl::unexpected(directory.error());
  note_unsynced(*file);
  note_unsynced(*directory);
  segments_.push_back(std::move(segment));
  return {};
}

Result<> PartitionLog::roll() {
  const Offset next = end();
  if (options_.dedup) {
    auto saved = replace_file(snapshot_path(directory_, next), producers_.snapshot(), Sync::kNo);
    if (!saved) return saved;
  }
  const Offset sealed = segments_.back().base();
  const std::size_t sealed_index = segments_.size() - 1;
  auto added = add_segment(next);
  if (!added) return added;
  segments_[sealed_index].seal();
  segments_[sealed_index].rest();
  reading_ = segments_.size() - 1;
  if (options_.dedup) ::unlink(snapshot_path(directory_, sealed).c_str());
  return {};
}

Result<Bytes> PartitionLog::trim(const Bytes& batch, const BatchHeader& header, std::int32_t skip) const {
  auto stored = decode_batch(batch, 0);
  if (!stored) return tl::unexpected(stored.error());
  std::vector<Record> rest;
  for (auto i = static_cast<std::size_t>(skip); i < stored->size(); ++i) rest.push_back(std::move((*stored)[i].record));
  BatchOptions options;
  options.codec = header.codec;
  options.stamp = header.stamp;
  options.stamp.sequence = advance_sequence(header.stamp.sequence, skip);
  options.leader_epoch = header.leader_epoch;
  return encode_batch(rest, options);
}

Result<PartitionLog::Append> PartitionLog::append(Bytes batch, OnGap on_gap) {
  auto header = check_batch(batch);
  if (!header) return fail(Code::kInvalid, header.error().message);
  if (header->bytes != batch.size() || header->records != header->last_offset_delta + 1) {
    return fail(Code::kInvalid, "an append takes one complete batch without holes");
  }
  if (options_.dedup && header->stamp.stated()) {
    const auto verdict = producers_.judge(header->stamp, header->records);
    switch (verdict.kind) {
      case ProducerTable::Kind::kNew:
        break;
      case ProducerTable::Kind::kDuplicate:
        return Append{verdict.offsets, true};
      case ProducerTable::Kind::kFenced:
        return fail(Code::kStale,
                    fmt::format("producer {} has a newer instance (epoch {}, this one is {}): stop this one",
                                header->stamp.producer, verdict.epoch, header->stamp.epoch));
      case ProducerTable::Kind::kGap:
        if (on_gap == OnGap::kAccept) break;
        return fail(Code::kInvalid, fmt::format("producer {} skipped records: sequence {} came, {} was expected",
                                                header->stamp.producer, header->stamp.sequence, verdict.expected));
      case ProducerTable::Kind::kPartial: {
        auto rest = trim(batch, *header, verdict.skip);
        if (!rest) return tl::unexpected(rest.error());
        batch = std::move(*rest);
        header = read_batch_header(batch);
        break;
      }
    }
  }
  Segment* newest = &segments_.back();
  if (newest->bytes() > 0 && newest->bytes() + batch.size() > options_.segment_bytes) {
    auto rolled = roll();
    if (!rolled) return tl::unexpected(rolled.error());
    newest = &segments_.back();
  }
  const Offset first = newest->end();
  set_base_offset(batch, first);
  header->base_offset = first;
  auto written = newest->append(batch, *header);
  if (!written) return tl::unexpected(written.error());
  bytes_ += batch.size();
  note_unsynced(*newest->file());
  const OffsetRange offsets{first, header->last_offset()};
  if (options_.dedup) producers_.note(header->stamp, header->records, offsets);
  return Append{offsets, false};
}

Result<std::vector<Bytes>> PartitionLog::read_batches(Offset from, Offset below, std::size_t bytes_max) {
  std::vector<Bytes> out;
  from = std::max(from, start());
  auto after = std::upper_bound(segments_.begin(), segments_.end(), from,
                                [](Offset wanted, const Segment& segment) { return wanted < segment.base(); });
  auto index = static_cast<std::size_t>(after - segments_.begin()) - 1;
  std::size_t total = 0;
  while (index < segments_.size() && segments_[index].base() < below) {
    if (reading_ != index && reading_ + 1 < segments_.size()) segments_[reading_].rest();
    reading_ = index;
    auto batches = segments_[index].read(from, below, bytes_max - total);
    if (!batches) return batches;
    for (Bytes& batch : *batches) {
      if (total > 0 && total + batch.size() > bytes_max) return out;
      total += batch.size();
      out.push_back(std::move(batch));
    }
    if (total >= bytes_max || (!batches->empty() && index + 1 == segments_.size())) break;
    ++index;
    if (index < segments_.size()) from = std::max(from, segments_[index].base());
  }
  return out;
}

Result<std::vector<StoredRecord>> PartitionLog::read(std::uint32_t partition, Offset from, Offset below,
                                                     std::size_t records_max, std::size_t bytes_max) {
  std::vector<StoredRecord> out;
  std::size_t bytes = 0;
  from = std::max(from, start());
  const auto take = [&](std::vector<StoredRecord>& records) {  // false when the answer is full
    for (StoredRecord& record : records) {
      if (record.offset < from) continue;
      const std::size_t size = record.record.bytes();
      if (record.offset >= below || out.size() >= records_max || (!out.empty() && bytes + size > bytes_max))
        return false;
      bytes += size;
      from = record.offset + 1;
      out.push_back(record);
    }
    return true;
  };
  if (!decoded_.empty() && decoded_.front().offset <= from && from <= decoded_.back().offset && !take(decoded_)) {
    return out;
  }
  while (from < below) {
    auto batches = read_batches(from, below, std::max<std::size_t>(bytes_max - std::min(bytes, bytes_max), 1));
    if (!batches) {
      if (!out.empty()) break;
      return tl::unexpected(batches.error());
    }
    if (batches->empty()) break;
    for (const Bytes& batch : *batches) {
      auto header = read_batch_header(batch);
      if (header->control) {
        from = header->next_offset();
        continue;
      }
      auto records = decode_batch(batch, partition);
      if (!records) return tl::unexpected(records.error());
      const bool room = take(*records);
      decoded_.clear();
      if (!room) {
        decoded_ = std::move(*records);
        return out;
      }
      from = std::max(from, header->next_offset());
    }
  }
  return out;
}

PartitionLog::Dropped PartitionLog::drop_front() {
  Segment& oldest = segments_.front();
  const Dropped dropped{oldest.end() - oldest.base(), oldest.bytes()};
  oldest.remove_files();
  bytes_ -= oldest.bytes();
  segments_.pop_front();
  reading_ = segments_.size() - 1;
  return dropped;
}

PartitionLog::Dropped PartitionLog::retain(std::uint64_t bytes_max, std::int64_t unix_ms) {
  Dropped sum;
  while (segments_.size() > 1) {
    const bool too_many = bytes_max > 0 && bytes_ > bytes_max;
    const bool too_old = unix_ms > 0 && written_ms(segments_.front().path(".log")) < unix_ms;
    if (!too_many && !too_old) break;
    const Dropped one = drop_front();
    sum.records += one.records;
    sum.bytes += one.bytes;
  }
  return sum;
}

PartitionLog::Dropped PartitionLog::drop_before(Offset offset) {
  Dropped sum;
  if (segments_.back().end() <= offset &&
      segments_.back().bytes() >= std::min(kWorthClosingBytes, options_.segment_bytes / 2) && !roll())
    return sum;
  while (segments_.size() > 1 && segments_.front().end() <= offset) {
    const Dropped one = drop_front();
    sum.records += one.records;
    sum.bytes += one.bytes;
  }
  return sum;
}

PartitionLog::Dropped PartitionLog::drop_oldest() {
  if (segments_.size() == 1 && (segments_.front().bytes() == 0 || !roll())) return {};
  return drop_front();
}

void PartitionLog::note_unsynced(const std::shared_ptr<File>& file) {
  if (std::find(unsynced_.begin(), unsynced_.end(), file) == unsynced_.end()) unsynced_.push_back(file);
}

std::vector<std::shared_ptr<File>> PartitionLog::take_unsynced() {
  return std::exchange(unsynced_, {});
}

void PartitionLog::check_invariants() const {
  SHOAL_CHECK(!segments_.empty(), "a log without a segment");
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    bytes += segments_[i].bytes();
    SHOAL_CHECK(segments_[i].base() <= segments_[i].end(), "a segment ends before it begins");
    if (i > 0) SHOAL_CHECK(segments_[i - 1].end() <= segments_[i].base(), "segments overlap");
  }
  SHOAL_CHECK(bytes == bytes_, "the log's size is not the sum of its segments");
  producers_.check_invariants();
}

}  // namespace shoal::streams
