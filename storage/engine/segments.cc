#include "storage/engine/segments.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "protocol/base/check.h"
#include "protocol/base/crc32c.h"
#include "storage/engine/little_endian.h"

namespace shoal::storage {
namespace {

constexpr std::uint64_t kHeaderBytes = 64;
constexpr std::uint64_t kAlign = 64;
constexpr std::string_view kMagic = "SHOALOBJ";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kCopyBytes = 1U << 20;

std::uint64_t align_up(std::uint64_t n, std::uint64_t to) {
  return (n + to - 1) / to * to;
}
std::uint64_t pieces_of(std::uint64_t length) {
  return (length + Segments::kPieceBytes - 1) / Segments::kPieceBytes;
}
std::uint64_t table_offset(std::uint64_t length) {
  return align_up(length, 4);
}
// Header, content, checksums and padding together.
std::uint64_t footprint(std::uint64_t length) {
  return align_up(kHeaderBytes + table_offset(length) + 4 * pieces_of(length), kAlign);
}

Error damaged(const std::string& path, std::uint64_t offset) {
  return {Code::kCorrupt, fmt::format("{} is damaged near byte {}; use another copy", path, offset)};
}

}  // namespace

// Writes one object to the end of the active segment, piece by piece.
class Segments::Appender {
 public:
  Appender(int fd, std::string path, std::uint64_t start)
      : fd_(fd), path_(std::move(path)), at_(start + kHeaderBytes) {}

  Result<> header(ObjectId object, std::uint64_t length) const {
    std::string bytes(kMagic);
    put_u32(bytes, kVersion);
    put_u32(bytes, 0);
    put_u64(bytes, length);
    bytes += object.bytes();
    put_u32(bytes, crc32c(bytes));
    bytes.resize(kHeaderBytes, '\0');
    return write_all(fd_, bytes, at_ - kHeaderBytes, path_);
  }

  // Chunks of a multiple of the piece size, but for the last.
  Result<> content(std::string_view chunk) {
    for (std::size_t i = 0; i < chunk.size(); i += kPieceBytes) put_u32(table_, crc32c(chunk.substr(i, kPieceBytes)));
    auto written = write_all(fd_, chunk, at_, path_);
    at_ += chunk.size();
    return written;
  }

  // Returns the checksum of the checksums.
  Result<std::uint32_t> finish() {
    const std::uint32_t crc = crc32c(table_);
    auto written = write_all(fd_, table_, align_up(at_, 4), path_);
    if (!written) return tl::unexpected<Error>(written.error());
    return crc;
  }

 private:
  int fd_;
  std::string path_;
  std::uint64_t at_;
  std::string table_;
};

std::string Segments::path(std::uint64_t segment) const {
  return fmt::format("{}/{:08}.seg", config_.dir, segment);
}

// ---- opening ----

Result<std::unique_ptr<Segments>> Segments::open(SegmentConfig config, const std::vector<Extent>& alive) {
  if (auto made = make_directory(config.dir); !made) return tl::unexpected<Error>(made.error());
  std::unique_ptr<Segments> self(new Segments(std::move(config)));
  std::map<std::uint64_t, std::uint64_t> ends;
  for (const Extent& extent : alive) {
    self->segments_[extent.segment].live += footprint(extent.length);
    auto& end = ends[extent.segment];
    end = std::max(end, extent.offset - kHeaderBytes + footprint(extent.length));
  }
  DIR* listing = ::opendir(self->config_.dir.c_str());
  if (listing == nullptr) return tl::unexpected<Error>(system_error(errno, "cannot list", self->config_.dir));
  std::vector<std::uint64_t> found;
  while (const dirent* entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    std::uint64_t number = 0;
    if (!name.ends_with(".seg")) continue;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size() - 4, number);
    if (error == std::errc() && end == name.data() + name.size() - 4) found.push_back(number);
  }
  ::closedir(listing);
  for (std::uint64_t number : found) {
    auto fd = open_file(self->path(number), O_RDWR);
    if (!fd) return tl::unexpected<Error>(fd.error());
    auto size = file_size(fd->get(), self->path(number));
    if (!size) return tl::unexpected<Error>(size.error());
    if (!ends.contains(number)) {
      ::unlink(self->path(number).c_str());
      continue;
    }
    // What lies beyond the last extent was never acknowledged.
    if (*size > ends[number] && ::ftruncate(fd->get(), static_cast<off_t>(ends[number])) == 0) size = ends[number];
    Segment& segment = self->segments_[number];
    segment.fd = std::make_shared<Fd>(std::move(*fd));
    segment.size = *size;
    // A file shorter than its extents has lost acknowledged bytes: never append to it, so that the damage
    // stays visible.
    if (*size == ends[number]) self->active_ = std::max(self->active_, number);
  }
  if (!self->segments_.empty() && self->active_ != self->segments_.rbegin()->first) self->active_ = 0;
  return self;
}

Result<> Segments::start_segment() {
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = segments_.empty() ? 1 : segments_.rbegin()->first + 1;
  }
  auto fd = open_file(path(number), O_RDWR | O_CREAT | O_EXCL);
  if (!fd) return tl::unexpected<Error>(fd.error());
  const std::lock_guard lock(mutex_);
  segments_[number].fd = std::make_shared<Fd>(std::move(*fd));
  active_ = number;
  directory_unsynced_ = true;
  return {};
}

// Makes sure that the active segment takes `need` more bytes and that the disk has them.
Result<> Segments::roll(std::uint64_t need) {
  const std::uint64_t free = free_bytes(config_.dir);
  if (free < need + config_.reserve_bytes) {
    return fail(Code::kExhausted,
                fmt::format("the disk of {} is full: {} bytes are wanted, {} are left, {} are kept in reserve; "
                            "free some space or delete objects",
                            config_.dir, need, free, config_.reserve_bytes));
  }
  auto active = segments_.find(active_);
  const bool usable =
      active != segments_.end() && (active->second.size == 0 || active->second.size + need <= config_.segment_bytes);
  return usable ? Result<>{} : start_segment();
}

// ---- appending ----

namespace {

// Reserves the range, so that a full disk shows before anything is written. File systems that cannot do it
// are told apart by their error and simply written to.
Result<> reserve(int fd, std::uint64_t offset, std::uint64_t bytes, const std::string& path) {
  if (::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0) return {};
  if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINTR) return {};
  return tl::unexpected<Error>(system_error(errno, "cannot reserve space in", path));
}

}  // namespace

Result<Extent> Segments::append(ObjectId object, std::string_view content) {
  const std::uint64_t need = footprint(content.size());
  if (auto rolled = roll(need); !rolled) return tl::unexpected<Error>(rolled.error());
  Segment& segment = segments_.at(active_);
  const std::string file = path(active_);
  const std::uint64_t start = segment.size;
  Appender appender(segment.fd->get(), file, start);
  Result<std::uint32_t> crc = [&]() -> Result<std::uint32_t> {
    if (auto ok = reserve(segment.fd->get(), start, need, file); !ok) return tl::unexpected<Error>(ok.error());
    if (auto ok = appender.header(object, content.size()); !ok) return tl::unexpected<Error>(ok.error());
    if (auto ok = appender.content(content); !ok) return tl::unexpected<Error>(ok.error());
    return appender.finish();
  }();
  const Extent extent{active_, start + kHeaderBytes, content.size(), crc ? *crc : 0};
  if (!crc) {
    undo(extent);
    return tl::unexpected<Error>(crc.error());
  }
  const std::lock_guard lock(mutex_);
  segment.size = start + need;
  unsynced_.insert(active_);
  return extent;
}

Result<Extent> Segments::append_file(ObjectId object, const std::string& source, std::uint64_t length) {
  auto from = open_file(source, O_RDONLY);
  if (!from) return tl::unexpected<Error>(from.error());
  const std::uint64_t need = footprint(length);
  if (auto rolled = roll(need); !rolled) return tl::unexpected<Error>(rolled.error());
  Segment& segment = segments_.at(active_);
  const std::string file = path(active_);
  const std::uint64_t start = segment.size;
  Appender appender(segment.fd->get(), file, start);
  Result<std::uint32_t> crc = [&]() -> Result<std::uint32_t> {
    if (auto ok = reserve(segment.fd->get(), start, need, file); !ok) return tl::unexpected<Error>(ok.error());
    if (auto ok = appender.header(object, length); !ok) return tl::unexpected<Error>(ok.error());
    std::string chunk(static_cast<std::size_t>(std::min<std::uint64_t>(kCopyBytes, length)), '\0');
    for (std::uint64_t done = 0; done < length;) {
      const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(chunk.size(), length - done));
      auto got = read_at(from->get(), chunk.data(), want, done, source);
      if (!got) return tl::unexpected<Error>(got.error());
      if (*got != want)
        return fail(Code::kInvalid, fmt::format("{} became shorter while it was stored; store it again", source));
      if (auto ok = appender.content(std::string_view(chunk.data(), want)); !ok)
        return tl::unexpected<Error>(ok.error());
      done += want;
    }
    return appender.finish();
  }();
  const Extent extent{active_, start + kHeaderBytes, length, crc ? *crc : 0};
  if (!crc) {
    undo(extent);
    return tl::unexpected<Error>(crc.error());
  }
  const std::lock_guard lock(mutex_);
  segment.size = start + need;
  unsynced_.insert(active_);
  return extent;
}

void Segments::undo(const Extent& extent) {
  const std::lock_guard lock(mutex_);
  Segment& segment = segments_.at(extent.segment);
  const std::uint64_t start = extent.offset - kHeaderBytes;
  // If the cut fails the bytes stay as dead space; the next object overwrites them.
  const int cut = ::ftruncate(segment.fd->get(), static_cast<off_t>(start));
  (void)cut;
  segment.size = start;
}

Result<> Segments::sync() {
  std::set<std::uint64_t> touched;
  bool directory = false;
  {
    const std::lock_guard lock(mutex_);
    touched.swap(unsynced_);
    directory = std::exchange(directory_unsynced_, false);
  }
  if (!config_.sync) return {};
  for (std::uint64_t number : touched) {
    auto segment = segments_.find(number);
    if (segment == segments_.end()) continue;
    // A failed fdatasync may have dropped the dirty pages: nothing that follows could be trusted.
    SHOAL_CHECK(::fdatasync(segment->second.fd->get()) == 0, "the disk failed while a segment was synced");
  }
  return directory ? sync_directory(config_.dir) : Result<>{};
}

// ---- reading ----

Result<std::shared_ptr<Fd>> Segments::open_segment(std::uint64_t segment) const {
  const std::lock_guard lock(mutex_);
  auto it = segments_.find(segment);
  if (it == segments_.end() || !it->second.fd) return fail(Code::kNotFound, fmt::format("{} is gone", path(segment)));
  return it->second.fd;
}

Result<std::vector<std::uint32_t>> Segments::table(const Extent& extent, int fd) const {
  std::string bytes(4 * pieces_of(extent.length), '\0');
  const std::uint64_t at = extent.offset + table_offset(extent.length);
  auto got = read_at(fd, bytes.data(), bytes.size(), at, path(extent.segment));
  if (!got) return tl::unexpected<Error>(got.error());
  if (*got != bytes.size() || crc32c(bytes) != extent.table_crc)
    return tl::unexpected<Error>(damaged(path(extent.segment), at));
  std::vector<std::uint32_t> crcs(pieces_of(extent.length));
  for (std::size_t i = 0; i < crcs.size(); ++i) crcs[i] = get_u32(std::string_view(bytes).substr(4 * i));
  return crcs;
}

Result<Bytes> Segments::read(const Extent& extent, std::uint64_t offset, std::uint64_t length) const {
  auto fd = open_segment(extent.segment);
  if (!fd) return tl::unexpected<Error>(fd.error());
  auto crcs = table(extent, (*fd)->get());
  if (!crcs) return tl::unexpected<Error>(crcs.error());
  offset = std::min(offset, extent.length);
  length = std::min(length, extent.length - offset);
  const std::uint64_t first = offset / kPieceBytes;
  const std::uint64_t from = first * kPieceBytes;
  const std::uint64_t to = std::min(extent.length, align_up(offset + length, kPieceBytes));
  Bytes bytes;
  bytes.resize(length == 0 ? 0 : static_cast<std::size_t>(to - from));
  auto got = read_at((*fd)->get(), bytes.data(), bytes.size(), extent.offset + from, path(extent.segment));
  if (!got) return tl::unexpected<Error>(got.error());
  if (*got != bytes.size()) return tl::unexpected<Error>(damaged(path(extent.segment), extent.offset + from + *got));
  for (std::size_t i = 0; i * kPieceBytes < bytes.size(); ++i) {
    const std::string_view piece = std::string_view(bytes).substr(i * kPieceBytes, kPieceBytes);
    if (crc32c(piece) != (*crcs)[first + i]) {
      return tl::unexpected<Error>(damaged(path(extent.segment), extent.offset + from + i * kPieceBytes));
    }
  }
  if (bytes.size() == length) return bytes;
  return Bytes(
      std::string_view(bytes).substr(static_cast<std::size_t>(offset - from), static_cast<std::size_t>(length)));
}

// ---- space ----

void Segments::keep(const Extent& extent) {
  const std::lock_guard lock(mutex_);
  segments_.at(extent.segment).live += footprint(extent.length);
}

void Segments::release(const Extent& extent) {
  const std::lock_guard lock(mutex_);
  auto it = segments_.find(extent.segment);
  if (it == segments_.end()) return;
  it->second.live -= std::min(it->second.live, footprint(extent.length));
  if (it->second.live == 0 && extent.segment != active_) {
    ::unlink(path(extent.segment).c_str());
    segments_.erase(it);
  }
}

std::vector<std::uint64_t> Segments::wasteful() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::uint64_t> out;
  for (const auto& [number, segment] : segments_) {
    if (number != active_ && segment.live * 2 < segment.size) out.push_back(number);
  }
  return out;
}

Segments::Totals Segments::totals() const {
  const std::lock_guard lock(mutex_);
  Totals totals;
  for (const auto& [number, segment] : segments_) {
    ++totals.segments;
    totals.bytes += segment.size;
  }
  return totals;
}

}  // namespace shoal::storage
