#include "protocol/identity/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace shoal::identity {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

tl::unexpected<Error> io_error(const std::string& what, const std::string& path, int error) {
  Code code = Code::kUnavailable;
  std::string remedy = "check the disk and try again";
  if (error == ENOENT) {
    code = Code::kNotFound;
    remedy = "check the path";
  } else if (error == EACCES || error == EPERM || error == EROFS) {
    code = Code::kDenied;
    remedy = "make the directory writable for this user, or choose another state directory";
  } else if (error == ENOSPC || error == EDQUOT) {
    code = Code::kExhausted;
    remedy = "free some space";
  }
  return fail(code, "cannot " + what + " " + path + ": " + std::strerror(error) + "; " + remedy);
}

Result<> write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return io_error("write", path, errno);
    content.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Result<> write_synced(const std::string& path, std::string_view content) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (file.get() < 0) return io_error("create", path, errno);
  // An old file of this name keeps its mode on open; it must not pass it on.
  if (::fchmod(file.get(), 0600) != 0) return io_error("protect", path, errno);
  if (auto written = write_all(file.get(), content, path); !written) return written;
  if (::fsync(file.get()) != 0) return io_error("sync", path, errno);
  return {};
}

}  // namespace

Result<Bytes> read_secret_file(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return io_error("open", path, errno);
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return io_error("look at", path, errno);
  if (!S_ISREG(status.st_mode)) return fail(Code::kCorrupt, path + " is not a file");
  if ((status.st_mode & 077) != 0) {
    return fail(Code::kDenied, path + " holds a secret but others may read it; run: chmod 600 " + path);
  }
  if (static_cast<std::size_t>(status.st_size) > kSecretFileBytesMax) {
    return fail(Code::kCorrupt, path + " is too large to be what it should be; restore it from a copy");
  }
  Bytes content(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t have = 0;
  while (have < content.size()) {
    const ssize_t n = ::read(file.get(), content.data() + have, content.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return io_error("read", path, errno);
    if (n == 0) break;
    have += static_cast<std::size_t>(n);
  }
  content.resize(have);
  return content;
}

Result<> write_secret_file(const std::string& path, std::string_view content) {
  const std::string fresh = path + ".new";
  if (auto written = write_synced(fresh, content); !written) {
    ::unlink(fresh.c_str());
    return written;
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) return io_error("replace", path, errno);
  const std::string folder = std::filesystem::path(path).parent_path().string();
  Descriptor directory(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || ::fsync(directory.get()) != 0) return io_error("sync", folder, errno);
  return {};
}

Result<> make_private_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return io_error("create", path, error.value());
  if (::chmod(path.c_str(), 0700) != 0) return io_error("protect", path, errno);
  return {};
}

}  // namespace shoal::identity
