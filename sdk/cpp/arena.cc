#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>
#include <system_error>

#include "shoal/shoal.hpp"

namespace shoal::sdk {

namespace {

struct OpenFile {
  explicit OpenFile(int opened) : fd(opened) {}
  ~OpenFile() {
    if (fd >= 0) ::close(fd);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  const int fd;
};

Bytes read_file(const std::string& path) {
  const OpenFile file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat info{};
  struct stat named{};
  // The lock keeps its memory from being re-used while it is read; the name tells whether that had happened before.
  if (file.fd < 0 || ::flock(file.fd, LOCK_SH) != 0 || ::fstat(file.fd, &info) != 0 ||
      ::stat(path.c_str(), &named) != 0 || named.st_ino != info.st_ino) {
    throw Failure(Code::kNotFound, "a value is not there any more ('" + path + "': " + ::strerror(errno) + ")");
  }
  Bytes out;
  out.resize(static_cast<std::size_t>(info.st_size));
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::pread(file.fd, out.data() + done, out.size() - done, static_cast<off_t>(done));
    if (got <= 0) throw Failure(Code::kCorrupt, "a value cannot be read ('" + path + "')");
    done += static_cast<std::size_t>(got);
  }
  return out;
}

constexpr std::size_t kSpareBytesMin = 1U << 20;  // smaller values are not worth the search

// Memory that values no longer need, by size (docs/client-protocol.md, "Spare files").
std::multimap<std::uint64_t, std::string> spares_in(const std::string& arena) {
  std::multimap<std::uint64_t, std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it(arena + "/spare", error), end; !error && it != end; it.increment(error)) {
    found.emplace(std::strtoull(it->path().filename().c_str(), nullptr, 10), it->path().string());
  }
  return found;
}

// Renames the smallest spare that is large enough, else the largest, to `path`; nothing when there is none.
void take_spare(const std::string& arena, const std::string& path, std::size_t bytes) {
  const auto spares = spares_in(arena);
  if (spares.empty()) return;
  auto best = spares.lower_bound(bytes);
  if (best == spares.end()) --best;
  std::error_code taken_by_another;
  std::filesystem::rename(best->second, path, taken_by_another);
}

// Makes the file that long, with all its pages: a full shared memory is an error here, and not a SIGBUS later. 0 or
// errno.
int allocate(int fd, std::size_t bytes) {
  struct stat info{};
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0 || ::fstat(fd, &info) != 0) return errno;
  if (static_cast<std::size_t>(info.st_blocks) * 512 >= bytes) return 0;  // a spare that was large enough
  return ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
}

}  // namespace

client::Value Arena::store(Bytes blob) {
  if (blob.size() <= inline_max_) return client::Inline{std::move(blob)};
  const std::string name = std::to_string(client_) + "." + std::to_string(++created_);
  const std::string path = directory_ + "/" + name;
  if (blob.size() >= kSpareBytesMin) take_spare(directory_, path, blob.size());
  const OpenFile file{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  int error = file.fd < 0 ? errno : allocate(file.fd, blob.size());
  if (error == ENOSPC) {
    for (const auto& [bytes, spare] : spares_in(directory_)) ::unlink(spare.c_str());
    error = allocate(file.fd, blob.size());
  }
  for (std::size_t done = 0; error == 0 && done < blob.size();) {
    const ssize_t put = ::pwrite(file.fd, blob.data() + done, blob.size() - done, static_cast<off_t>(done));
    if (put < 0)
      error = errno;
    else
      done += static_cast<std::size_t>(put);
  }
  if (error != 0) {
    ::unlink(path.c_str());
    throw Failure(Code::kExhausted, "a value of " + std::to_string(blob.size()) +
                                        " bytes does not fit into shared memory ('" + path + "': " + ::strerror(error) +
                                        "): make " + directory_ + " larger or use smaller values");
  }
  return client::Shared{name, blob.size()};
}

Bytes Arena::load(const client::Value& value) const {
  if (const auto* bytes = std::get_if<client::Inline>(&value)) return bytes->bytes;
  if (const auto* shared = std::get_if<client::Shared>(&value)) return read_file(directory_ + "/" + shared->name);
  if (const auto* file = std::get_if<client::FilePath>(&value)) return read_file(file->path);
  throw Failure(Code::kNotFound, "there is no value: the task that should have made it failed and was ignored");
}

Bytes Arena::take(const client::Shared& value) const {
  Bytes out = load(value);
  ::unlink((directory_ + "/" + value.name).c_str());
  return out;
}

}  // namespace shoal::sdk
