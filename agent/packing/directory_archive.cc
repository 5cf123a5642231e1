#include "agent/packing/directory_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

namespace shoal::packing {
namespace {

namespace fs = std::filesystem;

using Reader = std::unique_ptr<archive, decltype(&archive_read_free)>;
using Writer = std::unique_ptr<archive, decltype(&archive_write_free)>;
using Entry = std::unique_ptr<archive_entry, decltype(&archive_entry_free)>;

constexpr std::size_t kBlock = 64U << 10;

// A descriptor that closes itself.
class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

tl::unexpected<Error> problem(archive* with, const std::string& what) {
  const int number = archive_errno(with);
  const char* text = archive_error_string(with);
  const Code code = number == ENOSPC || number == EDQUOT ? Code::kExhausted : Code::kUnavailable;
  return fail(code, fmt::format("{}: {}", what, text == nullptr ? "unknown error" : text));
}

Result<> write_content(archive* out, const std::string& path) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return fail(Code::kUnavailable, fmt::format("{} cannot be read: {}", path, std::strerror(errno)));
  std::array<char, kBlock> block;
  for (;;) {
    const ssize_t got = ::read(file.get(), block.data(), block.size());
    if (got < 0) return fail(Code::kUnavailable, fmt::format("{} cannot be read: {}", path, std::strerror(errno)));
    if (got == 0) return {};
    if (archive_write_data(out, block.data(), static_cast<std::size_t>(got)) < 0)
      return problem(out, "cannot pack " + path);
  }
}

Result<> write_entry(archive* out, const fs::path& path, const std::string& name) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0)
    return fail(Code::kUnavailable, fmt::format("{} cannot be read: {}", path.string(), std::strerror(errno)));
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode) && !S_ISLNK(status.st_mode))
    return fail(Code::kUnsupported, path.string() + " is neither a file nor a directory nor a symbolic link");
  const Entry entry(archive_entry_new(), archive_entry_free);
  archive_entry_set_pathname(entry.get(), name.c_str());
  archive_entry_set_mode(entry.get(), status.st_mode);
  archive_entry_set_size(entry.get(), S_ISREG(status.st_mode) ? status.st_size : 0);
  if (S_ISLNK(status.st_mode)) {
    std::error_code error;
    archive_entry_set_symlink(entry.get(), fs::read_symlink(path, error).c_str());
  }
  if (archive_write_header(out, entry.get()) != ARCHIVE_OK) return problem(out, "cannot pack " + path.string());
  return S_ISREG(status.st_mode) ? write_content(out, path.string()) : Result<>();
}

Result<> write_all_entries(archive* out, const std::string& directory) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (fs::recursive_directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    paths.push_back(it->path());
  if (error) return fail(Code::kUnavailable, fmt::format("{} cannot be read: {}", directory, error.message()));
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    if (auto written = write_entry(out, path, path.lexically_relative(directory).string()); !written) return written;
  }
  if (archive_write_close(out) != ARCHIVE_OK) return problem(out, "cannot pack " + directory);
  return {};
}

// A path of an archive that stays below the directory it is unpacked into.
bool stays_inside(const fs::path& path) {
  if (path.empty() || path.is_absolute()) return false;
  for (const auto& part : path) {
    if (part == "..") return false;
  }
  return true;
}

Result<> unpack_content(archive* in, archive* out, std::uint64_t& bytes_left) {
  const void* block = nullptr;
  std::size_t size = 0;
  la_int64_t offset = 0;
  for (;;) {
    const int got = archive_read_data_block(in, &block, &size, &offset);
    if (got == ARCHIVE_EOF) return {};
    if (got != ARCHIVE_OK) return fail(Code::kCorrupt, "the archive of the directory is damaged");
    if (size > bytes_left) return fail(Code::kExhausted, "the archive holds more than may be unpacked");
    bytes_left -= size;
    if (archive_write_data_block(out, block, size, offset) < 0) return problem(out, "cannot unpack the directory");
  }
}

Reader open_reader(const std::string& path, Format format) {
  Reader in(archive_read_new(), archive_read_free);
  if (format == Format::kTar) {
    archive_read_support_format_tar(in.get());
  } else {
    archive_read_support_format_zip_seekable(in.get());
  }
  if (archive_read_open_filename(in.get(), path.c_str(), kBlock) != ARCHIVE_OK) in.reset();
  return in;
}

bool may_be_unpacked(archive_entry* entry, Links links) {
  const char* name = archive_entry_pathname(entry);
  const auto type = archive_entry_filetype(entry);
  const bool kind = type == AE_IFREG || type == AE_IFDIR || (type == AE_IFLNK && links == Links::kKeep);
  return name != nullptr && stays_inside(name) && kind && archive_entry_hardlink(entry) == nullptr;
}

}  // namespace

Result<> pack_directory(const std::string& directory, const std::string& archive_path) {
  const Writer out(archive_write_new(), archive_write_free);
  archive_write_set_format_pax_restricted(out.get());
  if (archive_write_open_filename(out.get(), archive_path.c_str()) != ARCHIVE_OK)
    return problem(out.get(), "cannot write " + archive_path);
  auto packed = write_all_entries(out.get(), directory);
  if (!packed) ::unlink(archive_path.c_str());
  return packed;
}

Result<> unpack_directory(const std::string& archive_path, const std::string& directory, const UnpackOptions& options) {
  std::error_code error;
  fs::create_directories(directory, error);
  const fs::path root = error ? fs::path() : fs::canonical(directory, error);
  if (error) return fail(Code::kUnavailable, fmt::format("cannot make {}: {}", directory, error.message()));
  const Reader in = open_reader(archive_path, options.format);
  if (!in) return fail(Code::kCorrupt, "what was sent is no archive of a directory");
  const Writer out(archive_write_disk_new(), archive_write_free);
  archive_write_disk_set_options(out.get(), ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT);
  std::uint64_t bytes_left = options.bytes_max;
  std::uint64_t entries = 0;
  archive_entry* entry = nullptr;
  for (;;) {
    const int got = archive_read_next_header(in.get(), &entry);
    if (got == ARCHIVE_EOF) break;
    if (got != ARCHIVE_OK) return fail(Code::kCorrupt, "what was sent is no archive of a directory");
    if (!may_be_unpacked(entry, options.links))
      return fail(Code::kCorrupt, "the archive of a directory has an entry that leads out of it");
    if (++entries > options.entries_max)
      return fail(Code::kExhausted, "the archive has more entries than are unpacked");
    archive_entry_set_pathname(entry, (root / archive_entry_pathname(entry)).c_str());
    if (archive_write_header(out.get(), entry) != ARCHIVE_OK) return problem(out.get(), "cannot unpack the directory");
    if (auto written = unpack_content(in.get(), out.get(), bytes_left); !written) return written;
    if (archive_write_finish_entry(out.get()) != ARCHIVE_OK) return problem(out.get(), "cannot unpack the directory");
  }
  if (archive_write_close(out.get()) != ARCHIVE_OK) return problem(out.get(), "cannot unpack the directory");
  return {};
}

Result<std::string> read_entry(const std::string& archive_path, const std::string& name, std::size_t bytes_max) {
  const Reader in = open_reader(archive_path, Format::kTar);
  if (!in) return fail(Code::kCorrupt, archive_path + " is no archive");
  archive_entry* entry = nullptr;
  for (;;) {
    const int got = archive_read_next_header(in.get(), &entry);
    if (got == ARCHIVE_EOF) return fail(Code::kNotFound, fmt::format("the archive has no file {}", name));
    if (got != ARCHIVE_OK) return fail(Code::kCorrupt, archive_path + " is no archive");
    const char* path = archive_entry_pathname(entry);
    if (path == nullptr || name != path || archive_entry_filetype(entry) != AE_IFREG) continue;
    const la_int64_t size = archive_entry_size(entry);
    if (size < 0 || static_cast<std::uint64_t>(size) > bytes_max)
      return fail(Code::kExhausted, fmt::format("{} of the archive is larger than {} bytes", name, bytes_max));
    std::string content(static_cast<std::size_t>(size), '\0');
    if (archive_read_data(in.get(), content.data(), content.size()) != size)
      return fail(Code::kCorrupt, fmt::format("{} of the archive is damaged", name));
    return content;
  }
}

}  // namespace shoal::packing
