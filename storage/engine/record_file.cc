#include "storage/engine/record_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "protocol/base/check.h"
#include "protocol/base/crc32c.h"
#include "storage/engine/little_endian.h"

namespace shoal::storage {
namespace {

constexpr std::size_t kHeadBytes = RecordFile::kKindBytes + 8;
constexpr std::size_t kFrameBytes = 8;

std::string head(std::string_view kind, std::uint32_t format) {
  std::string out(kind);
  put_u32(out, format);
  put_u32(out, crc32c(out));
  return out;
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

Result<> sync(int fd, const std::string& path) {
  if (::fdatasync(fd) == 0) return {};
  return fail(Code::kFailed, system_error(errno, "cannot sync", path).message);
}

Result<> check_head(std::string_view file, std::string_view kind, std::uint32_t format, const std::string& path) {
  const bool ours = file.substr(0, kind.size()) == kind &&
                    crc32c(file.substr(0, kHeadBytes - 4)) == get_u32(file.substr(kHeadBytes - 4));
  if (!ours) return fail(Code::kInvalid, fmt::format("{} is not what it should be; name another folder", path));
  const std::uint32_t found = get_u32(file.substr(kind.size()));
  if (found <= format) return {};
  return fail(Code::kUnsupported,
              fmt::format("{} has format {}, and this version of Shoal reads up to {}; use the version "
                          "that wrote it, or another folder",
                          path, found, format));
}

}  // namespace

Result<RecordFile::Opened> RecordFile::open(const std::string& path, std::string_view kind, std::uint32_t format) {
  SHOAL_CHECK(kind.size() == kKindBytes, "a kind of record file has eight letters");
  auto fd = open_file(path, O_RDWR | O_CREAT);
  if (!fd) return tl::unexpected<Error>(fd.error());
  if (::flock(fd->get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Code::kUnavailable, fmt::format("{} is in use by another running application; wait for its end or name "
                                                "another folder",
                                                path));
  }
  auto size = file_size(fd->get(), path);
  if (!size) return tl::unexpected<Error>(size.error());
  std::string file(static_cast<std::size_t>(*size), '\0');
  auto got = read_at(fd->get(), file.data(), file.size(), 0, path);
  if (!got) return tl::unexpected<Error>(got.error());
  file.resize(*got);
  const std::string wanted_head = head(kind, format);
  if (file.size() < kHeadBytes && wanted_head.starts_with(file)) {  // new, or a crash while it was made
    if (auto written = write_all(fd->get(), wanted_head, 0, path); !written)
      return tl::unexpected<Error>(written.error());
    if (auto synced = sync(fd->get(), path); !synced) return tl::unexpected<Error>(synced.error());
    if (auto synced = sync_directory(folder_of(path)); !synced) return tl::unexpected<Error>(synced.error());
    return Opened{RecordFile(path, std::move(*fd), kHeadBytes), {}, 0};
  }
  if (file.size() < kHeadBytes)
    return fail(Code::kInvalid, fmt::format("{} is not what it should be; name another folder", path));
  if (auto ok = check_head(file, kind, format, path); !ok) return tl::unexpected<Error>(ok.error());

  std::vector<Bytes> records;
  std::string_view rest = std::string_view(file).substr(kHeadBytes);
  while (rest.size() >= kFrameBytes) {
    const std::uint32_t length = get_u32(rest);
    if (length == 0 || length > kRecordBytesMax || length > rest.size() - kFrameBytes) break;
    const std::string_view body = rest.substr(kFrameBytes, length);
    if (crc32c(body) != get_u32(rest.substr(4))) break;
    records.emplace_back(body);
    rest.remove_prefix(kFrameBytes + length);
  }
  const std::uint64_t whole = file.size() - rest.size();
  if (!rest.empty()) {
    if (::ftruncate(fd->get(), static_cast<off_t>(whole)) != 0)
      return tl::unexpected<Error>(system_error(errno, "cannot cut the damaged end of", path));
    if (auto synced = sync(fd->get(), path); !synced) return tl::unexpected<Error>(synced.error());
  }
  return Opened{RecordFile(path, std::move(*fd), whole), std::move(records), rest.size()};
}

Result<> RecordFile::append(const std::vector<Bytes>& records) {
  std::string out;
  for (const auto& record : records) {
    if (record.empty() || record.size() > kRecordBytesMax)
      return fail(Code::kInvalid, fmt::format("a record of {} bytes cannot be written to {}", record.size(), path_));
    put_u32(out, static_cast<std::uint32_t>(record.size()));
    put_u32(out, crc32c(record));
    out += record;
  }
  if (auto written = write_all(fd_.get(), out, size_, path_); !written) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0)
      return fail(Code::kFailed, system_error(errno, "cannot cut what was half written to", path_).message);
    return written;
  }
  if (auto synced = sync(fd_.get(), path_); !synced) return synced;
  size_ += out.size();
  return {};
}

}  // namespace shoal::storage
