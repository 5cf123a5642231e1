// storage/engine/posix.h
//
// System calls as Results: what failed, on which path, and what to do next. No policy.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/base/result.h"

namespace shoal::storage {

// The error of errno value `number`: kExhausted for a full disk, kDenied for a read-only or forbidden place.
Error system_error(int number, std::string_view doing, const std::string& path);

// A file descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd();
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

Result<Fd> open_file(const std::string& path, int flags);
Result<> make_directory(const std::string& path);
// Makes renames, creations and removals in the directory durable.
Result<> sync_directory(const std::string& path);
Result<> write_all(int fd, std::string_view bytes, std::uint64_t offset, const std::string& path);
// Fewer bytes than `length` only at the end of the file.
Result<std::size_t> read_at(int fd, char* into, std::size_t length, std::uint64_t offset, const std::string& path);
Result<std::uint64_t> file_size(int fd, const std::string& path);
// Bytes that this user can still write on the file system of `path`; 0 if that cannot be told.
std::uint64_t free_bytes(const std::string& path);

}  // namespace shoal::storage
