#include "streams/log/segment.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "protocol/base/crc32c.h"
#include "protocol/wire/codec.h"

namespace shoal::streams {
namespace {

constexpr std::uint64_t kIndexEvery = 4096;
constexpr std::size_t kChunkBytes = 256U << 10;
constexpr std::size_t kReadAheadBytes = 32U << 10;

// The index file: this, in msgpack, after four bytes of CRC32C.
struct IndexFile {
  std::uint32_t version = 1;
  std::uint64_t bytes = 0;  // of the segment it describes
  std::vector<std::pair<Offset, std::uint64_t>> entries;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.bytes, self.entries);
  }
};

}  // namespace

Segment::Segment(std::string directory, Offset base, std::uint64_t bytes, Offset end)
    : directory_(std::move(directory)), base_(base), end_(end), bytes_(bytes), hint_{base, 0} {}

std::string Segment::log_name(Offset base) {
  return fmt::format("{:020}.log", base);
}

std::optional<Offset> Segment::base_of(const std::string& file_name, const std::string& suffix) {
  constexpr std::size_t kDigits = 20;
  if (file_name.size() != kDigits + suffix.size() || !file_name.ends_with(suffix)) return std::nullopt;
  Offset base = 0;
  const auto [end, error] = std::from_chars(file_name.data(), file_name.data() + kDigits, base);
  if (error != std::errc() || end != file_name.data() + kDigits || base < 0) return std::nullopt;
  return base;
}

std::string Segment::path(const std::string& suffix) const {
  return fmt::format("{}/{:020}{}", directory_, base_, suffix);
}

Result<> Segment::create() {
  auto made = File::open(path(".log"), File::Mode::kCreate);
  if (!made) return tl::unexpected(made.error());
  file_ = std::move(*made);
  indexed_ = true;
  return {};
}

Result<std::shared_ptr<File>> Segment::file() {
  if (!file_) {
    auto opened = File::open(path(".log"), File::Mode::kReadWrite);
    if (!opened) return opened;
    file_ = std::move(*opened);
  }
  return file_;
}

Result<std::vector<BatchHeader>> Segment::walk(std::uint64_t& good_bytes) {
  auto log = file();
  if (!log) return tl::unexpected(log.error());
  std::vector<BatchHeader> headers;
  index_.clear();
  Offset expected = base_;
  std::uint64_t position = 0;  // of `buffer` in the file
  Bytes buffer;
  std::size_t used = 0;
  good_bytes = 0;
  while (true) {
    const std::string_view rest = std::string_view(buffer).substr(used);
    auto header = read_batch_header(rest);
    const std::size_t wanted = header ? header->bytes : kBatchHeaderBytes;
    if (rest.size() < wanted) {
      auto more = (*log)->read_at(position + buffer.size(), std::max(kChunkBytes, wanted));
      if (!more) return tl::unexpected(more.error());
      if (more->empty()) break;
      position += used;
      buffer.erase(0, used);
      used = 0;
      buffer += *more;
      continue;
    }
    // Offsets only grow; anything else is left over from before a cut.
    if (!header || !check_batch(rest) || header->base_offset < expected) break;
    note_in_index(header->base_offset, position + used);
    expected = header->next_offset();
    used += header->bytes;
    good_bytes = position + used;
    headers.push_back(*header);
  }
  indexed_ = true;
  return headers;
}

Result<std::vector<BatchHeader>> Segment::scan() {
  std::uint64_t good = 0;
  return walk(good);
}

Result<std::vector<BatchHeader>> Segment::scan_and_cut() {
  std::uint64_t good = 0;
  auto headers = walk(good);
  if (!headers) return headers;
  auto size = file_->size();
  if (!size) return tl::unexpected(size.error());
  cut_bytes_ = *size - good;
  if (cut_bytes_ > 0) {
    auto cut = file_->truncate(good);
    if (!cut) return tl::unexpected(cut.error());
  }
  bytes_ = good;
  end_ = headers->empty() ? base_ : headers->back().next_offset();
  return headers;
}

Result<> Segment::append(std::string_view batch, const BatchHeader& header) {
  auto log = file();
  if (!log) return tl::unexpected(log.error());
  auto written = (*log)->write_at(bytes_, batch);
  if (!written) {
    // Half a batch would be cut at the next start anyway; try to give the space back now.
    [[maybe_unused]] const auto cut = (*log)->truncate(bytes_);
    return written;
  }
  note_in_index(header.base_offset, bytes_);
  bytes_ += batch.size();
  end_ = header.next_offset();
  return {};
}

void Segment::note_in_index(Offset offset, std::uint64_t position) {
  if (index_.empty() || position >= index_.back().position + kIndexEvery) index_.push_back({offset, position});
}

Result<> Segment::ensure_index() {
  if (indexed_) return {};
  auto stored = read_file(path(".index"));
  if (stored && stored->size() > 4) {
    const std::string_view body = std::string_view(*stored).substr(4);
    std::uint32_t crc = 0;
    for (int i = 0; i < 4; ++i) crc = crc << 8 | static_cast<unsigned char>((*stored)[static_cast<std::size_t>(i)]);
    wire::Limits limits;
    limits.items_max = 1U << 24;
    auto index = crc32c(body) == crc ? wire::decode<IndexFile>(body, limits)
                                     : Result<IndexFile>(fail(Code::kCorrupt, "checksum"));
    if (index && index->version == 1 && index->bytes == bytes_) {
      index_.clear();
      for (const auto& [offset, position] : index->entries) index_.push_back({offset, position});
      indexed_ = true;
      return {};
    }
  }
  auto headers = scan();
  if (!headers) return tl::unexpected(headers.error());
  return {};
}

std::uint64_t Segment::position_before(Offset offset) const {
  auto after = std::upper_bound(index_.begin(), index_.end(), offset,
                                [](Offset wanted, const Entry& entry) { return wanted < entry.offset; });
  const std::uint64_t position = after == index_.begin() ? 0 : std::prev(after)->position;
  return hint_.offset <= offset ? std::max(position, hint_.position) : position;
}

Result<std::vector<Bytes>> Segment::read(Offset from, Offset below, std::size_t bytes_max) {
  std::vector<Bytes> batches;
  if (from >= end_) return batches;
  auto ready = ensure_index();
  if (!ready) return tl::unexpected(ready.error());
  auto log = file();
  if (!log) return tl::unexpected(log.error());
  std::uint64_t position = position_before(from);
  std::size_t total = 0;
  while (position < bytes_) {
    const std::size_t ahead =
        std::max(kReadAheadBytes, bytes_max > total ? std::min(bytes_max - total, kChunkBytes) : 0);
    auto chunk = (*log)->read_at(position, static_cast<std::size_t>(std::min<std::uint64_t>(ahead, bytes_ - position)));
    if (!chunk) return tl::unexpected(chunk.error());
    auto header = read_batch_header(*chunk);
    if (header && header->bytes > chunk->size()) {
      chunk = (*log)->read_at(position, header->bytes);
      if (!chunk) return tl::unexpected(chunk.error());
    }
    std::string_view rest = *chunk;
    while (rest.size() >= kBatchHeaderBytes) {
      header = read_batch_header(rest);
      if (header && header->bytes > rest.size()) break;
      if (header && header->last_offset() < from) {
        rest.remove_prefix(header->bytes);
        position += header->bytes;
        continue;
      }
      if (header) header = check_batch(rest);
      if (!header) {
        return fail(Code::kCorrupt, fmt::format("{} is damaged near byte {}: {}; skip it by committing a later offset",
                                                path(".log"), position, header.error().message));
      }
      if (header->base_offset >= below || (total > 0 && total + header->bytes > bytes_max)) return batches;
      batches.emplace_back(rest.substr(0, header->bytes));
      hint_ = {header->base_offset, position};
      total += header->bytes;
      rest.remove_prefix(header->bytes);
      position += header->bytes;
    }
    if (rest.size() == chunk->size()) break;  // less than a header is left
  }
  return batches;
}

void Segment::seal() {
  if (!indexed_) return;
  IndexFile index;
  index.bytes = bytes_;
  for (const Entry& entry : index_) index.entries.emplace_back(entry.offset, entry.position);
  const Bytes body = wire::encode(index);
  const std::uint32_t crc = crc32c(body);
  std::string content;
  for (int shift = 24; shift >= 0; shift -= 8) content.push_back(static_cast<char>(crc >> shift & 0xff));
  content += body;
  [[maybe_unused]] const auto written = replace_file(path(".index"), content, Sync::kNo);
}

void Segment::rest() {
  file_.reset();
  indexed_ = false;
  index_.clear();
  index_.shrink_to_fit();
  hint_ = {base_, 0};
}

void Segment::remove_files() const {
  ::unlink(path(".log").c_str());
  ::unlink(path(".index").c_str());
}

}  // namespace shoal::streams
