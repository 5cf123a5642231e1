// streams/log/file.h
//
// The few file operations that logs and the broker's small state files are made of, with errors fit for users.
// Everything else about files (formats, when to sync) is the business of the callers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/result.h"
#include "protocol/wire/bytes.h"

namespace shoal::streams {

// An open file or directory; closed with its last owner. Shared with the thread of GroupCommit, which only syncs it.
class File {
 public:
  enum class Mode : std::uint8_t { kRead, kReadWrite, kCreate, kDirectory };
  static Result<std::shared_ptr<File>> open(const std::string& path, Mode mode);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  Result<std::uint64_t> size() const;
  // Up to `bytes` bytes at `position`; fewer only at the end of the file.
  Result<Bytes> read_at(std::uint64_t position, std::size_t bytes) const;
  // All of `bytes` at `position`, or an error; then the file's content from `position` on is undefined.
  Result<> write_at(std::uint64_t position, std::string_view bytes) const;
  Result<> truncate(std::uint64_t bytes) const;
  Result<> sync() const;

 private:
  File(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_;
  std::string path_;
};

// The error that errno stands for: kExhausted for a full disk or quota, kNotFound, kDenied, else kUnavailable.
tl::unexpected<Error> file_error(const std::string& what, const std::string& path, int error_number);

Result<> make_directories(const std::string& path);
// Names in a directory, sorted; empty if there is none.
std::vector<std::string> list_directory(const std::string& path);
Result<Bytes> read_file(const std::string& path, std::size_t bytes_max = 64U << 20);

enum class Sync : std::uint8_t { kNo, kYes };
// Replaces the file by a new one with `bytes`: after a crash there is the old or the new content, never a mix. With
// kYes the new content is on disk before this returns.
Result<> replace_file(const std::string& path, std::string_view bytes, Sync sync);

// Removes a directory with everything in it.
void remove_tree(const std::string& path);

// `name` as a file name: letters, digits, '.', '-', '_' stay, the rest becomes %XX; and back.
std::string escape_name(std::string_view name);
std::string unescape_name(std::string_view file_name);

}  // namespace shoal::streams
