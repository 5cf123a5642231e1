#include "storage/engine/journals.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "protocol/base/check.h"
#include "protocol/base/crc32c.h"
#include "storage/engine/little_endian.h"

namespace shoal::storage {
namespace {

constexpr auto kWriteDelay = std::chrono::milliseconds(5);
constexpr auto kSyncDelay = std::chrono::milliseconds(50);
constexpr std::size_t kBufferedBytesMax = 256U << 10;
constexpr std::size_t kFrameHead = 8;

struct Parsed {
  std::vector<Bytes> records;
  std::uint64_t whole_bytes = 0;  // of the file, up to a torn tail
  bool damaged = false;           // a bad record with more behind it than a torn write can leave
};

Parsed parse(std::string_view file) {
  Parsed parsed;
  std::string_view rest = file;
  while (rest.size() >= kFrameHead) {
    const std::uint32_t length = get_u32(rest);
    if (length == 0 || length > rest.size() - kFrameHead) break;
    const std::string_view body = rest.substr(kFrameHead, length);
    if (crc32c(body) != get_u32(rest.substr(4))) {
      parsed.damaged =
          kFrameHead + length < rest.size() && std::any_of(
                                                   rest.begin() + static_cast<std::ptrdiff_t>(kFrameHead + length),
                                                   rest.end(), [](char c) { return c != '\0'; });
      break;
    }
    parsed.records.emplace_back(body);
    rest.remove_prefix(kFrameHead + length);
    parsed.whole_bytes += kFrameHead + length;
  }
  return parsed;
}

Result<std::string> read_file(const std::string& path) {
  auto fd = open_file(path, O_RDONLY);
  if (!fd) return tl::unexpected<Error>(fd.error());
  auto size = file_size(fd->get(), path);
  if (!size) return tl::unexpected<Error>(size.error());
  std::string bytes(static_cast<std::size_t>(*size), '\0');
  auto got = read_at(fd->get(), bytes.data(), bytes.size(), 0, path);
  if (!got) return tl::unexpected<Error>(got.error());
  bytes.resize(*got);
  return bytes;
}

}  // namespace

Journals::Journals(std::string dir, bool sync, std::uint64_t reserve_bytes, Completions& completions)
    : dir_(std::move(dir)), sync_(sync), reserve_bytes_(reserve_bytes), completions_(completions) {}

Journals::~Journals() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<> Journals::check_name(const std::string& name) {
  const bool good =
      !name.empty() && name.size() <= 128 && name.front() != '.' && std::all_of(name.begin(), name.end(), [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-';
      });
  if (good) return {};
  return fail(Code::kInvalid,
              "a journal's name has 1 to 128 letters, digits, '.', '_' or '-', and no '.' at the front");
}

void Journals::append(const std::string& name, const Bytes& record, std::uint64_t completion) {
  if (auto ok = check_name(name); !ok || record.empty()) {
    completions_.push(completion, ok ? fail(Code::kInvalid, "a journal record cannot be empty") : ok);
    return;
  }
  const std::lock_guard lock(mutex_);
  Journal& journal = journals_[name];
  put_u32(journal.buffer, static_cast<std::uint32_t>(record.size()));
  put_u32(journal.buffer, crc32c(record));
  journal.buffer += record;
  if (completion != 0) journal.buffered.push_back(completion);
  buffered_bytes_ += record.size() + kFrameHead;
  const Clock::time_point now = Clock::now();
  write_by_ = buffered_bytes_ >= kBufferedBytesMax ? now : std::min(write_by_, now + kWriteDelay);
  sync_by_ = std::min(sync_by_, now + kSyncDelay);
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  wake_.notify_one();
}

Result<> Journals::open(const std::string& name, Journal& journal) const {
  auto fd = open_file(path(name), O_RDWR | O_CREAT);
  if (!fd) return tl::unexpected<Error>(fd.error());
  auto bytes = read_file(path(name));
  if (!bytes) return tl::unexpected<Error>(bytes.error());
  const Parsed parsed = parse(*bytes);
  if (parsed.damaged) {
    return fail(Code::kCorrupt, fmt::format("{} is damaged near byte {}; remove the journal or use another copy",
                                            path(name), parsed.whole_bytes));
  }
  if (bytes->size() > parsed.whole_bytes && ::ftruncate(fd->get(), static_cast<off_t>(parsed.whole_bytes)) != 0) {
    return tl::unexpected<Error>(system_error(errno, "cannot cut the torn tail of", path(name)));
  }
  journal.fd = std::move(*fd);
  journal.size = parsed.whole_bytes;
  return sync_ ? sync_directory(dir_) : Result<>{};
}

// Under the lock: the buffers are small and the page cache takes them at once.
void Journals::write(const std::string& name, Journal& journal) {
  if (journal.buffer.empty()) return;
  Result<> result;
  if (!journal.fd) result = open(name, journal);
  if (result && free_bytes(dir_) < reserve_bytes_ + journal.buffer.size()) {
    result = fail(Code::kExhausted, fmt::format("the disk of {} is full; free some space: reads go on", dir_));
  }
  if (result) result = write_all(journal.fd.get(), journal.buffer, journal.size, path(name));
  buffered_bytes_ -= journal.buffer.size();
  if (result) {
    journal.size += journal.buffer.size();
    journal.written.insert(journal.written.end(), journal.buffered.begin(), journal.buffered.end());
  } else {
    for (std::uint64_t id : journal.buffered) completions_.push(id, result);
  }
  journal.buffer.clear();
  journal.buffered.clear();
}

void Journals::sync_all() {
  for (auto& [name, journal] : journals_) {
    if (!journal.fd) continue;
    // As for segments: after a failed fdatasync nothing can be trusted.
    if (sync_) SHOAL_CHECK(::fdatasync(journal.fd.get()) == 0, "the disk failed while a journal was synced");
    for (std::uint64_t id : journal.written) completions_.push(id, {});
    journal.written.clear();
  }
}

void Journals::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const Clock::time_point next = std::min(write_by_, sync_by_);
    if (!stopping_) {
      if (next == Clock::time_point::max()) {
        wake_.wait(lock);
      } else {
        wake_.wait_until(lock, next);
      }
    }
    const Clock::time_point now = Clock::now();
    if (stopping_ || now >= write_by_ || now >= sync_by_) {
      for (auto& [name, journal] : journals_) write(name, journal);
      write_by_ = Clock::time_point::max();
    }
    if (stopping_ || now >= sync_by_) {
      sync_all();
      sync_by_ = Clock::time_point::max();
    }
    if (stopping_) return;
  }
}

Result<std::vector<Bytes>> Journals::read(const std::string& name) {
  if (auto ok = check_name(name); !ok) return tl::unexpected<Error>(ok.error());
  const std::lock_guard lock(mutex_);
  if (auto it = journals_.find(name); it != journals_.end()) write(name, it->second);
  auto bytes = read_file(path(name));
  if (!bytes && bytes.error().code == Code::kNotFound) return std::vector<Bytes>();
  if (!bytes) return tl::unexpected<Error>(bytes.error());
  Parsed parsed = parse(*bytes);
  if (parsed.damaged) {
    return fail(Code::kCorrupt, fmt::format("{} is damaged near byte {}; remove the journal or use another copy",
                                            path(name), parsed.whole_bytes));
  }
  return std::move(parsed.records);
}

void Journals::remove(const std::string& name) {
  if (!check_name(name)) return;
  const std::lock_guard lock(mutex_);
  if (auto it = journals_.find(name); it != journals_.end()) {
    buffered_bytes_ -= it->second.buffer.size();
    for (std::uint64_t id : it->second.buffered)
      completions_.push(id, fail(Code::kCancelled, "the journal was removed"));
    for (std::uint64_t id : it->second.written) completions_.push(id, {});
    journals_.erase(it);
  }
  ::unlink(path(name).c_str());
}

}  // namespace shoal::storage
