#include "storage/engine/objects.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "protocol/base/crc32c.h"
#include "protocol/wire/codec.h"

namespace shoal::storage {
namespace {

constexpr std::size_t kGroupMax = 512;
constexpr std::uint64_t kGroupContentMax = 64ULL << 20;
constexpr std::size_t kCheckedMax = 65'536;

std::string index_key(ObjectId object) {
  return "o/" + object.bytes();
}
std::string inline_key(ObjectId object) {
  return "i/" + object.bytes();
}
std::string manifest_key(ObjectId object) {
  return "m/" + object.bytes();
}

Error not_here(ObjectId object) {
  return {Code::kNotFound, "object " + object.hex() + " is not on this agent's disk"};
}
Error damaged_entry(ObjectId object) {
  return {Code::kCorrupt, "object " + object.hex() + " is damaged on this agent's disk; use another copy"};
}

Result<std::uint64_t> content_bytes(const Payload& content) {
  if (const auto* bytes = std::get_if<Bytes>(&content)) return bytes->size();
  const std::string& path = std::get<FileSource>(content).path;
  auto fd = open_file(path, O_RDONLY);
  if (!fd) return tl::unexpected<Error>(fd.error());
  return file_size(fd->get(), path);
}

Result<Bytes> small_content(const Payload& content, std::uint64_t length) {
  if (const auto* bytes = std::get_if<Bytes>(&content)) return *bytes;
  const std::string& path = std::get<FileSource>(content).path;
  auto fd = open_file(path, O_RDONLY);
  if (!fd) return tl::unexpected<Error>(fd.error());
  Bytes bytes;
  bytes.resize(static_cast<std::size_t>(length));
  auto got = read_at(fd->get(), bytes.data(), bytes.size(), 0, path);
  if (!got) return tl::unexpected<Error>(got.error());
  if (*got != length) return fail(Code::kInvalid, path + " became shorter while it was stored; store it again");
  return bytes;
}

}  // namespace

// ---- opening ----

Result<std::unique_ptr<Objects>> Objects::open(const EngineConfig& config, KeyValueStore& store,
                                               Completions& completions) {
  std::vector<Extent> alive;
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
  auto scanned = store.scan("o/", [&](std::string_view, std::string_view value) {
    if (auto entry = wire::decode<IndexEntry>(value)) {
      if (entry->in_segment) alive.push_back(entry->extent);
      ++count;
      bytes += entry->length;
    }
    return true;
  });
  if (!scanned) return tl::unexpected<Error>(scanned.error());
  auto segments =
      Segments::open({config.dir + "/segments", config.segment_bytes, config.reserve_bytes, config.sync}, alive);
  if (!segments) return tl::unexpected<Error>(segments.error());
  std::unique_ptr<Objects> self(new Objects(config, store, completions, std::move(*segments)));
  const std::lock_guard lock(self->mutex_);
  self->count_ = count;
  self->bytes_ = bytes;
  return self;
}

Objects::Objects(const EngineConfig& config, KeyValueStore& store, Completions& completions,
                 std::unique_ptr<Segments> segments)
    : config_(config), store_(store), completions_(completions), segments_(std::move(segments)), writer_([this] {
        run();
      }) {}

Objects::~Objects() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  writer_.join();
}

// ---- writing ----

void Objects::enqueue(Work work, std::uint64_t completion) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({std::move(work), completion});
  }
  wake_.notify_one();
}

void Objects::run() {
  for (;;) {
    std::vector<Queued> batch;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      std::uint64_t content = 0;
      while (!queue_.empty() && batch.size() < kGroupMax && content < kGroupContentMax) {
        if (const auto* put = std::get_if<Put>(&queue_.front().work)) content += put->manifest.bytes;
        batch.push_back(std::move(queue_.front()));
        queue_.pop_front();
      }
    }
    carry_out(batch);
  }
}

void Objects::carry_out(std::vector<Queued>& batch) {
  Group group;
  std::vector<std::uint64_t> compactions;
  bool erased = false;
  for (Queued& queued : batch) {
    if (std::holds_alternative<Compact>(queued.work)) {
      compactions.push_back(queued.completion);
      continue;
    }
    erased = erased || std::holds_alternative<Erase>(queued.work);
    const Result<> prepared = prepare(group, queued.work);
    if (prepared) {
      group.completions.push_back(queued.completion);
    } else {
      completions_.push(queued.completion, prepared);
    }
  }
  const Result<> committed = commit(group);
  for (std::uint64_t id : group.completions) completions_.push(id, committed);
  if (erased || !compactions.empty()) compact_wasteful();
  for (std::uint64_t id : compactions) completions_.push(id, {});
}

Result<std::optional<IndexEntry>> Objects::look_up(const Group& group, ObjectId object) const {
  if (auto it = group.overlay.find(object); it != group.overlay.end()) return it->second;
  auto value = store_.get(index_key(object));
  if (!value) return tl::unexpected<Error>(value.error());
  if (!*value) return std::optional<IndexEntry>();
  auto entry = wire::decode<IndexEntry>(**value);
  if (!entry) return std::optional<IndexEntry>();  // unreadable: as good as not there, written anew
  return std::optional<IndexEntry>(*entry);
}

Result<> Objects::prepare(Group& group, const Work& work) {
  if (const auto* put = std::get_if<Put>(&work)) return prepare_put(group, *put);
  if (const auto* put = std::get_if<PutManifest>(&work)) {
    auto entry = look_up(group, put->manifest.object);
    if (!entry) return tl::unexpected<Error>(entry.error());
    if (!*entry) return tl::unexpected<Error>(not_here(put->manifest.object));
    group.writes.push_back({manifest_key(put->manifest.object), wire::encode(put->manifest)});
    return {};
  }
  const ObjectId object = std::get<Erase>(work).object;
  auto entry = look_up(group, object);
  if (!entry) return tl::unexpected<Error>(entry.error());
  if (!*entry) return {};
  if ((*entry)->in_segment) group.released.push_back((*entry)->extent);
  for (const std::string& key : {index_key(object), inline_key(object), manifest_key(object)})
    group.writes.push_back({key, std::nullopt});
  group.overlay[object] = std::nullopt;
  const std::lock_guard lock(mutex_);
  --count_;
  bytes_ -= (*entry)->length;
  return {};
}

Result<> Objects::prepare_put(Group& group, const Put& put) {
  const ObjectId object = put.manifest.object;
  auto length = content_bytes(put.content);
  if (!length) return tl::unexpected<Error>(length.error());
  if (*length != put.manifest.bytes) {
    return fail(Code::kInvalid,
                fmt::format("object {} has {} bytes, its manifest says {}", object.hex(), *length, put.manifest.bytes));
  }
  auto present = look_up(group, object);
  if (!present) return tl::unexpected<Error>(present.error());
  IndexEntry entry;
  entry.length = *length;
  Bytes inlined;
  if (*present && (*present)->length == *length && put.verify == Verify::kNo) {
    group.writes.push_back({manifest_key(object), wire::encode(put.manifest)});
    return {};
  }
  if (*length <= config_.inline_bytes_max) {
    auto bytes = small_content(put.content, *length);
    if (!bytes) return tl::unexpected<Error>(bytes.error());
    const std::uint64_t free = free_bytes(config_.dir);
    if (free < config_.reserve_bytes) {
      return fail(
          Code::kExhausted,
          fmt::format("the disk of {} is full ({} bytes left); free some space or delete objects", config_.dir, free));
    }
    inlined = std::move(*bytes);
    entry.crc = crc32c(inlined);
  } else {
    const auto* bytes = std::get_if<Bytes>(&put.content);
    auto extent = bytes != nullptr ? segments_->append(object, *bytes)
                                   : segments_->append_file(object, std::get<FileSource>(put.content).path, *length);
    if (!extent) return tl::unexpected<Error>(extent.error());
    entry.in_segment = true;
    entry.extent = *extent;
  }
  if (auto verified = verify(put, entry, inlined); !verified) {
    if (entry.in_segment) segments_->undo(entry.extent);
    return verified;
  }
  if (*present && (*present)->in_segment) group.released.push_back((*present)->extent);
  if (entry.in_segment) {
    group.kept.push_back(entry.extent);
  } else {
    group.writes.push_back({inline_key(object), std::move(inlined)});
  }
  group.writes.push_back({index_key(object), wire::encode(entry)});
  group.writes.push_back({manifest_key(object), wire::encode(put.manifest)});
  group.overlay[object] = entry;
  const std::lock_guard lock(mutex_);
  if (*present) bytes_ -= (*present)->length;
  count_ += *present ? 0 : 1;
  bytes_ += entry.length;
  return {};
}

// Hashes what was written, not what was offered.
Result<> Objects::verify(const Put& put, const IndexEntry& entry, std::string_view inlined) const {
  if (put.verify == Verify::kNo) return {};
  if (!config_.hasher)
    return fail(Code::kUnsupported, "the engine was opened without a hasher and cannot verify content");
  Bytes stored;
  if (entry.in_segment) {
    auto bytes = segments_->read(entry.extent, 0, entry.length);
    if (!bytes) return tl::unexpected<Error>(bytes.error());
    stored = std::move(*bytes);
    inlined = stored;
  }
  if (config_.hasher(inlined) == put.manifest.object) return {};
  return fail(Code::kCorrupt, "the content received for object " + put.manifest.object.hex() +
                                  " does not have that hash; get it from another holder");
}

Result<> Objects::commit(Group& group) {
  for (const Extent& extent : group.kept) segments_->keep(extent);
  Result<> result = segments_->sync();
  if (result) result = store_.commit_and_wait(std::move(group.writes));
  if (!result) {
    for (const Extent& extent : group.kept) segments_->release(extent);
    // Counters go back to what the index says.
    std::uint64_t count = 0;
    std::uint64_t bytes = 0;
    const Result<> scanned = store_.scan("o/", [&](std::string_view, std::string_view value) {
      if (auto entry = wire::decode<IndexEntry>(value)) {
        ++count;
        bytes += entry->length;
      }
      return true;
    });
    const std::lock_guard lock(mutex_);
    if (scanned) {
      count_ = count;
      bytes_ = bytes;
    }
    return result;
  }
  {
    const std::lock_guard lock(mutex_);
    for (const Extent& extent : group.released) checked_.erase({extent.segment, extent.offset});
  }
  for (const Extent& extent : group.released) segments_->release(extent);
  return {};
}

// ---- compaction ----

void Objects::compact_wasteful() {
  for (std::uint64_t segment : segments_->wasteful()) {
    const Result<> moved = compact_segment(segment);
    if (!moved) return;  // a full disk or a damaged object: the segment stays as it is
  }
}

Result<> Objects::compact_segment(std::uint64_t segment) {
  std::vector<std::pair<ObjectId, IndexEntry>> live;
  auto scanned = store_.scan("o/", [&](std::string_view key, std::string_view value) {
    auto entry = wire::decode<IndexEntry>(value);
    auto object = ObjectId::from_bytes(key.substr(2));
    if (entry && object && entry->in_segment && entry->extent.segment == segment) live.emplace_back(*object, *entry);
    return true;
  });
  if (!scanned) return scanned;
  if (live.empty()) {
    segments_->release({segment, 0, 0, 0});
    return {};
  }
  Group group;
  for (const auto& [object, entry] : live) {
    auto bytes = segments_->read(entry.extent, 0, entry.length);
    if (!bytes) return tl::unexpected<Error>(bytes.error());
    auto extent = segments_->append(object, *bytes);
    if (!extent) return tl::unexpected<Error>(extent.error());
    IndexEntry moved = entry;
    moved.extent = *extent;
    group.kept.push_back(*extent);
    group.released.push_back(entry.extent);
    group.writes.push_back({index_key(object), wire::encode(moved)});
  }
  return commit(group);
}

// ---- reading ----

Result<IndexEntry> Objects::find(ObjectId object) const {
  auto value = store_.get(index_key(object));
  if (!value) return tl::unexpected<Error>(value.error());
  if (!*value) return tl::unexpected<Error>(not_here(object));
  auto entry = wire::decode<IndexEntry>(**value);
  if (!entry) return tl::unexpected<Error>(damaged_entry(object));
  return *entry;
}

Result<Bytes> Objects::read(ObjectId object, std::uint64_t offset, std::uint64_t length) const {
  constexpr int kTries = 3;  // compaction may move the object between the look-up and the read
  Result<Bytes> bytes = tl::unexpected<Error>(not_here(object));
  for (int i = 0; i < kTries; ++i) {
    auto entry = find(object);
    if (!entry) return tl::unexpected<Error>(entry.error());
    if (!entry->in_segment) {
      auto content = store_.get(inline_key(object));
      if (!content) return tl::unexpected<Error>(content.error());
      if (!*content) continue;
      if ((*content)->size() != entry->length || crc32c(**content) != entry->crc)
        return tl::unexpected<Error>(damaged_entry(object));
      const std::string_view all = **content;
      return Bytes(all.substr(static_cast<std::size_t>(std::min<std::uint64_t>(offset, all.size())),
                              static_cast<std::size_t>(length)));
    }
    bytes = segments_->read(entry->extent, offset, length);
    if (bytes || bytes.error().code != Code::kNotFound) return bytes;
  }
  // The index names a segment that is not there: the file was taken away.
  return tl::unexpected<Error>(damaged_entry(object));
}

Result<std::shared_ptr<Fd>> Objects::checked_segment(const Extent& extent) const {
  const std::pair key(extent.segment, extent.offset);
  {
    const std::lock_guard lock(mutex_);
    if (checked_.contains(key)) return segments_->open_segment(extent.segment);
  }
  constexpr std::uint64_t kStep = 4U << 20;
  for (std::uint64_t at = 0; at < extent.length; at += kStep) {
    auto bytes = segments_->read(extent, at, kStep);
    if (!bytes) return tl::unexpected<Error>(bytes.error());
  }
  const std::lock_guard lock(mutex_);
  if (checked_.size() < kCheckedMax) checked_.insert(key);
  return segments_->open_segment(extent.segment);
}

Result<Manifest> Objects::manifest(ObjectId object) const {
  auto value = store_.get(manifest_key(object));
  if (!value) return tl::unexpected<Error>(value.error());
  if (!*value) return tl::unexpected<Error>(not_here(object));
  return wire::decode<Manifest>(**value);
}

std::vector<Manifest> Objects::manifests() const {
  std::vector<Manifest> out;
  const Result<> scanned = store_.scan("m/", [&](std::string_view, std::string_view value) {
    if (auto manifest = wire::decode<Manifest>(value)) out.push_back(std::move(*manifest));
    return true;
  });
  (void)scanned;  // what could be read is what there is
  return out;
}

void Objects::totals(Usage& usage) const {
  const Segments::Totals totals = segments_->totals();
  usage.segments = totals.segments;
  usage.segment_bytes = totals.bytes;
  const std::lock_guard lock(mutex_);
  usage.objects = count_;
  usage.object_bytes = bytes_;
}

}  // namespace shoal::storage
