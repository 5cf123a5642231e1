#include "streams/broker/outbox.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "protocol/base/check.h"
#include "protocol/base/crc32c.h"
#include "protocol/base/hash.h"

namespace shoal::streams {
namespace {

constexpr std::size_t kCursorBytes = 20;  // next, dropped, CRC32C; big-endian
constexpr std::int16_t kEpochMax = std::numeric_limits<std::int16_t>::max();

void put_be(std::string& out, std::uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift & 0xff));
}

std::uint64_t get_be(std::string_view in) {
  std::uint64_t value = 0;
  for (const char c : in) value = value << 8 | static_cast<unsigned char>(c);
  return value;
}

}  // namespace

Result<std::unique_ptr<Outbox>> Outbox::open(std::string directory, const StreamInfo* info, Services services) {
  std::unique_ptr<Outbox> outbox(new Outbox(std::move(directory), std::move(services)));
  auto bytes = read_file(outbox->directory_ + "/meta");
  if (bytes) {
    auto meta = wire::decode<Meta>(*bytes);
    if (!meta || meta->version != 1) {
      return fail(Code::kCorrupt, outbox->directory_ + "/meta is damaged or of a newer version");
    }
    outbox->meta_ = std::move(*meta);
  } else if (info == nullptr || bytes.error().code != Code::kNotFound) {
    return tl::unexpected(bytes.error());
  }
  if (info != nullptr) outbox->meta_.info = *info;
  Meta& meta = outbox->meta_;
  if (meta.producer == 0 || meta.epoch == kEpochMax) {
    meta.producer =
        static_cast<std::int64_t>(combine64(hash64(outbox->services_.self.bytes()),
                                            hash64(meta.info.name) ^ static_cast<std::uint64_t>(meta.producer)) >>
                                  1);
    meta.epoch = 0;
  } else {
    ++meta.epoch;
  }
  auto ready = make_directories(outbox->directory_);
  if (ready) ready = outbox->save_meta(Sync::kYes);
  if (ready) ready = outbox->load_cursor();
  if (!ready) return tl::unexpected(ready.error());
  LogOptions options;
  options.dedup = false;
  options.segment_bytes =
      std::clamp<std::uint64_t>(outbox->bound() / 8, 16U << 10, outbox->services_.limits.segment_bytes);
  auto log = PartitionLog::open(outbox->directory_ + "/p0", options);
  if (!log) return tl::unexpected(log.error());
  outbox->log_ = std::move(*log);
  // The cursor may be ahead of a log whose tail was lost with the power, and behind what drop_oldest removed.
  const Offset next = std::clamp(outbox->cursor_.next, outbox->log_->start(), outbox->log_->end());
  if (next != outbox->cursor_.next) {
    outbox->cursor_.next = next;
    for (int copy = 0; copy < 2; ++copy) {  // both: the larger one wins when they are read
      if (auto saved = outbox->save_cursor(); !saved) return tl::unexpected(saved.error());
    }
  }
  return outbox;
}

Result<> Outbox::load_cursor() {
  const std::string path = directory_ + "/cursor";
  auto file = File::open(path, File::Mode::kReadWrite);
  if (!file && file.error().code == Code::kNotFound) file = File::open(path, File::Mode::kCreate);
  if (!file) return tl::unexpected(file.error());
  cursor_file_ = std::move(*file);
  auto bytes = cursor_file_->read_at(0, 2 * kCursorBytes);
  if (!bytes) return tl::unexpected(bytes.error());
  for (std::size_t i = 0; i < 2 && bytes->size() >= (i + 1) * kCursorBytes; ++i) {
    const std::string_view copy = std::string_view(*bytes).substr(i * kCursorBytes, kCursorBytes);
    if (get_be(copy.substr(16)) != crc32c(copy.substr(0, 16))) continue;
    const auto next = static_cast<Offset>(get_be(copy.substr(0, 8)));
    if (next < cursor_.next) continue;
    cursor_ = {next, get_be(copy.substr(8, 8))};
    second_copy_ = i == 0;
  }
  return {};
}

Result<> Outbox::save_cursor() {
  std::string copy;
  put_be(copy, static_cast<std::uint64_t>(cursor_.next), 8);
  put_be(copy, cursor_.dropped, 8);
  put_be(copy, crc32c(copy), 4);
  auto written = cursor_file_->write_at(second_copy_ ? kCursorBytes : 0, copy);
  if (written) second_copy_ = !second_copy_;
  return written;
}

Result<> Outbox::save_meta(Sync sync) {
  return replace_file(directory_ + "/meta", wire::encode(meta_), sync);
}

Result<> Outbox::set_info(const StreamInfo& info) {
  meta_.info = info;
  return save_meta(Sync::kNo);
}

Result<> Outbox::note_writer(const std::string& writer, bool open) {
  if (open ? !meta_.writers.insert(writer).second : meta_.writers.erase(writer) == 0) return {};
  return save_meta(Sync::kNo);
}

std::uint64_t Outbox::bound() const {
  const std::uint64_t most = services_.limits.outbox_bytes_max;
  return meta_.info.retention_bytes > 0 ? std::min(most, meta_.info.retention_bytes) : most;
}

Result<> Outbox::make_room(std::size_t bytes) {
  while (log_->bytes() + bytes > bound()) {
    if (empty()) {  // what is held was delivered already
      log_->drop_before(log_->end());
      if (log_->bytes() > 0) log_->drop_oldest();
      return {};
    }
    if (meta_.info.when_full == WhenFull::kBlock) {
      return fail(Code::kExhausted,
                  fmt::format("{} bytes of stream '{}' wait for their way to {}, the most this agent keeps: try again "
                              "later, slow down, or open the stream with when_full='drop_oldest'",
                              log_->bytes(), meta_.info.name, meta_.info.is_kafka() ? meta_.info.url : "its owner"));
    }
    // Operations among the dropped records still have to happen: they move to the end.
    std::vector<Bytes> operations;
    std::int64_t lost = 0;
    Offset at = cursor_.next;
    const Offset end = log_->segments() > 1 ? log_->oldest_end() : log_->end();
    while (at < end) {
      auto batches = log_->read_batches(at, end, 1U << 20);
      if (!batches) return tl::unexpected(batches.error());
      if (batches->empty()) break;
      for (Bytes& batch : *batches) {
        auto header = read_batch_header(batch);
        at = header->next_offset();
        if (header->control) {
          operations.push_back(std::move(batch));
        } else {
          lost += header->records;
        }
      }
    }
    log_->drop_oldest();
    cursor_.next = std::max(cursor_.next, log_->start());
    cursor_.dropped += static_cast<std::uint64_t>(lost);
    services_.counters.records_dropped += static_cast<std::uint64_t>(lost);
    for (Bytes& operation : operations) {
      if (auto kept = log_->append(std::move(operation), OnGap::kAccept); !kept) return tl::unexpected(kept.error());
    }
    if (auto saved = save_cursor(); !saved) return saved;
  }
  return {};
}

Result<> Outbox::write(Bytes batch) {
  auto appended = log_->append(std::move(batch), OnGap::kAccept);
  if (!appended) return tl::unexpected(appended.error());
  return {};
}

Result<> Outbox::append(std::map<std::uint32_t, std::vector<Record>>& parts, const ProducerStamp& stamp) {
  // All batches first, then one write each: a publish that cannot be encoded leaves nothing behind.
  std::vector<std::pair<std::uint32_t, Bytes>> batches;
  std::size_t bytes = 0;
  for (auto& [partition, records] : parts) {
    BatchOptions options;
    options.codec = meta_.info.codec;
    options.leader_epoch = static_cast<std::int32_t>(partition);
    options.stamp = stamp;
    if (!stamp.stated()) options.stamp = {meta_.producer, meta_.epoch, sequences_[partition]};
    auto batch = encode_batch(records, options);
    if (!batch) return tl::unexpected(batch.error());
    bytes += batch->size();
    batches.emplace_back(partition, std::move(*batch));
  }
  if (auto room = make_room(bytes); !room) return room;
  for (auto& [partition, batch] : batches) {
    auto written = write(std::move(batch));
    if (!written) return written;
    if (!stamp.stated()) {
      sequences_[partition] =
          advance_sequence(sequences_[partition], static_cast<std::int64_t>(parts.at(partition).size()));
    }
  }
  return {};
}

Result<> Outbox::append(Operation operation, const std::string& writer) {
  Record record;
  record.key = Bytes(std::string(1, static_cast<char>(operation)));
  record.value = Bytes(writer);
  BatchOptions options;
  options.control = true;
  auto batch = encode_batch(std::span(&record, 1), options);
  if (!batch) return tl::unexpected(batch.error());
  return write(std::move(*batch));  // small and rare: the bound is for records
}

Result<std::optional<ForwardMessage>> Outbox::next(std::size_t bytes_max) {
  if (empty()) return std::nullopt;
  ForwardMessage message;
  message.stream = meta_.info.name;
  message.incarnation = meta_.info.incarnation;
  message.first = cursor_.next;
  message.next = cursor_.next;
  message.dropped = cursor_.dropped;
  auto batches = log_->read_batches(cursor_.next, log_->end(), bytes_max);
  if (!batches) return tl::unexpected(batches.error());
  for (Bytes& batch : *batches) {
    message.next = read_batch_header(batch)->next_offset();
    message.batches.push_back(std::move(batch));
  }
  if (message.batches.empty()) return std::nullopt;
  return message;
}

Result<> Outbox::advance(Offset next) {
  if (next <= cursor_.next || next > log_->end()) return {};
  cursor_.next = next;
  auto saved = save_cursor();
  // The cursor first, then the files: a crash between the two costs a few bytes, not a gap.
  if (saved) log_->drop_before(cursor_.next);
  return saved;
}

std::int64_t Outbox::abandon() {
  const std::int64_t lost = records();
  cursor_.dropped += static_cast<std::uint64_t>(lost);
  [[maybe_unused]] const auto moved = advance(log_->end());
  return lost;
}

void Outbox::check_invariants() const {
  SHOAL_CHECK(cursor_.next >= log_->start() && cursor_.next <= log_->end(), "the cursor is outside the outbox");
  log_->check_invariants();
}

}  // namespace shoal::streams
