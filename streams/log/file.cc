#include "streams/log/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace shoal::streams {
namespace fs = std::filesystem;

tl::unexpected<Error> file_error(const std::string& what, const std::string& path, int error_number) {
  Code code = Code::kUnavailable;
  std::string advice;
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      code = Code::kExhausted;
      advice = "; free space there, or give the stream a retention";
      break;
    case ENOENT:
      code = Code::kNotFound;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = Code::kDenied;
      advice = "; check the owner and mode of the state directory";
      break;
    case EMFILE:
    case ENFILE:
      code = Code::kExhausted;
      advice = "; raise the limit of open files";
      break;
    default:
      break;
  }
  return fail(code, fmt::format("cannot {} {}: {}{}", what, path, std::strerror(error_number), advice));
}

Result<std::shared_ptr<File>> File::open(const std::string& path, Mode mode) {
  int flags = O_CLOEXEC;
  switch (mode) {
    case Mode::kRead:
      flags |= O_RDONLY;
      break;
    case Mode::kReadWrite:
      flags |= O_RDWR;
      break;
    case Mode::kCreate:
      flags |= O_RDWR | O_CREAT | O_TRUNC;
      break;
    case Mode::kDirectory:
      flags |= O_RDONLY | O_DIRECTORY;
      break;
  }
  const int fd = ::open(path.c_str(), flags, 0640);
  if (fd < 0) return file_error("open", path, errno);
  return std::shared_ptr<File>(new File(fd, path));
}

File::~File() {
  ::close(fd_);
}

Result<std::uint64_t> File::size() const {
  struct stat status{};
  if (::fstat(fd_, &status) != 0) return file_error("look at", path_, errno);
  return static_cast<std::uint64_t>(status.st_size);
}

Result<Bytes> File::read_at(std::uint64_t position, std::size_t bytes) const {
  Bytes out;
  out.resize(bytes);
  std::size_t got = 0;
  while (got < bytes) {
    const ssize_t n = ::pread(fd_, out.data() + got, bytes - got, static_cast<off_t>(position + got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error("read", path_, errno);
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  out.resize(got);
  return out;
}

Result<> File::write_at(std::uint64_t position, std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(position));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error("write", path_, errno);
    bytes.remove_prefix(static_cast<std::size_t>(n));
    position += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<> File::truncate(std::uint64_t bytes) const {
  if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) return file_error("truncate", path_, errno);
  return {};
}

Result<> File::sync() const {
  // A directory's entries are metadata, which fdatasync may leave out.
  struct stat status{};
  const bool is_directory = ::fstat(fd_, &status) == 0 && S_ISDIR(status.st_mode);
  if ((is_directory ? ::fsync(fd_) : ::fdatasync(fd_)) != 0) return file_error("sync", path_, errno);
  return {};
}

Result<> make_directories(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return file_error("create the directory", path, error.value());
  return {};
}

std::vector<std::string> list_directory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<Bytes> read_file(const std::string& path, std::size_t bytes_max) {
  auto file = File::open(path, File::Mode::kRead);
  if (!file) return tl::unexpected(file.error());
  auto size = (*file)->size();
  if (!size) return tl::unexpected(size.error());
  if (*size > bytes_max) return fail(Code::kCorrupt, path + " is larger than it can be");
  return (*file)->read_at(0, static_cast<std::size_t>(*size));
}

Result<> replace_file(const std::string& path, std::string_view bytes, Sync sync) {
  const std::string temporary = path + ".new";
  {
    auto file = File::open(temporary, File::Mode::kCreate);
    if (!file) return tl::unexpected(file.error());
    auto written = (*file)->write_at(0, bytes);
    if (written && sync == Sync::kYes) written = (*file)->sync();
    if (!written) {
      ::unlink(temporary.c_str());
      return written;
    }
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) return file_error("replace", path, errno);
  if (sync == Sync::kNo) return {};
  auto directory = File::open(fs::path(path).parent_path().string(), File::Mode::kDirectory);
  if (!directory) return tl::unexpected(directory.error());
  return (*directory)->sync();
}

void remove_tree(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

std::string escape_name(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '_' || (c == '.' && !out.empty());
    if (plain) {
      out.push_back(c);
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string unescape_name(std::string_view file_name) {
  std::string out;
  for (std::size_t i = 0; i < file_name.size(); ++i) {
    if (file_name[i] == '%' && i + 2 < file_name.size()) {
      const auto digit = [](char c) { return c >= 'A' ? c - 'A' + 10 : c - '0'; };
      out.push_back(static_cast<char>(digit(file_name[i + 1]) * 16 + digit(file_name[i + 2])));
      i += 2;
    } else {
      out.push_back(file_name[i]);
    }
  }
  return out;
}

}  // namespace shoal::streams
