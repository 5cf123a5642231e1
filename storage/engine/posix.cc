#include "storage/engine/posix.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace shoal::storage {

Error system_error(int number, std::string_view doing, const std::string& path) {
  const std::string reason = std::generic_category().message(number);
  switch (number) {
    case ENOSPC:
    case EDQUOT:
      return {Code::kExhausted,
              fmt::format("{} {}: {}; free space on that disk or raise the quota", doing, path, reason)};
    case EROFS:
    case EACCES:
    case EPERM:
      return {Code::kDenied, fmt::format("{} {}: {}; make it writable for this user or choose another directory", doing,
                                         path, reason)};
    case ENOENT:
      return {Code::kNotFound, fmt::format("{} {}: {}", doing, path, reason)};
    default:
      return {Code::kFailed, fmt::format("{} {}: {}", doing, path, reason)};
  }
}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}
Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Result<Fd> open_file(const std::string& path, int flags) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return tl::unexpected<Error>(system_error(errno, "cannot open", path));
  return Fd(fd);
}

Result<> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return tl::unexpected<Error>(system_error(errno, "cannot make the directory", path));
}

Result<> sync_directory(const std::string& path) {
  auto fd = open_file(path, O_RDONLY | O_DIRECTORY);
  if (!fd) return tl::unexpected<Error>(fd.error());
  if (::fsync(fd->get()) != 0) return tl::unexpected<Error>(system_error(errno, "cannot sync the directory", path));
  return {};
}

Result<> write_all(int fd, std::string_view bytes, std::uint64_t offset, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return tl::unexpected<Error>(system_error(errno, "cannot write", path));
    bytes.remove_prefix(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<std::size_t> read_at(int fd, char* into, std::size_t length, std::uint64_t offset, const std::string& path) {
  std::size_t done = 0;
  while (done < length) {
    const ssize_t n = ::pread(fd, into + done, length - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return tl::unexpected<Error>(system_error(errno, "cannot read", path));
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Result<std::uint64_t> file_size(int fd, const std::string& path) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return tl::unexpected<Error>(system_error(errno, "cannot look at", path));
  return static_cast<std::uint64_t>(status.st_size);
}

std::uint64_t free_bytes(const std::string& path) {
  struct statvfs status{};
  if (::statvfs(path.c_str(), &status) != 0) return 0;
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

}  // namespace shoal::storage
