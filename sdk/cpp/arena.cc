#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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
  if (file.fd < 0 || ::fstat(file.fd, &info) != 0) {
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

}  // namespace

client::Value Arena::store(Bytes blob) {
  if (blob.size() <= inline_max_) return client::Inline{std::move(blob)};
  const std::string name = std::to_string(client_) + "." + std::to_string(++created_);
  const std::string path = directory_ + "/" + name;
  const OpenFile file{::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  // Pages first: a full shared memory is an error here, and not a SIGBUS later.
  int error = file.fd < 0 ? errno : ::posix_fallocate(file.fd, 0, static_cast<off_t>(blob.size()));
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
