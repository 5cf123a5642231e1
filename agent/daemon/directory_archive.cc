#include "agent/daemon/directory_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "agent/executor/process.h"

namespace shoal::daemon {
namespace {

namespace fs = std::filesystem;

using Reader = std::unique_ptr<archive, decltype(&archive_read_free)>;
using Writer = std::unique_ptr<archive, decltype(&archive_write_free)>;
using Entry = std::unique_ptr<archive_entry, decltype(&archive_entry_free)>;

constexpr std::size_t kBlock = 64U << 10;

tl::unexpected<Error> problem(archive* with, const std::string& what) {
  const int number = archive_errno(with);
  const char* text = archive_error_string(with);
  const Code code = number == ENOSPC || number == EDQUOT ? Code::kExhausted : Code::kUnavailable;
  return fail(code, fmt::format("{}: {}", what, text == nullptr ? "unknown error" : text));
}

Result<> write_content(archive* out, const std::string& path) {
  const executor::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
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
  for (fs::recursive_directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().lexically_relative(directory).string();
    if (auto written = write_entry(out, it->path(), name); !written) return written;
  }
  if (error) return fail(Code::kUnavailable, fmt::format("{} cannot be read: {}", directory, error.message()));
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

Result<> unpack_content(archive* in, archive* out) {
  const void* block = nullptr;
  std::size_t size = 0;
  la_int64_t offset = 0;
  for (;;) {
    const int got = archive_read_data_block(in, &block, &size, &offset);
    if (got == ARCHIVE_EOF) return {};
    if (got != ARCHIVE_OK) return fail(Code::kCorrupt, "the archive of the directory is damaged");
    if (archive_write_data_block(out, block, size, offset) < 0) return problem(out, "cannot unpack the directory");
  }
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

Result<> unpack_directory(const std::string& archive_path, const std::string& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  const fs::path root = error ? fs::path() : fs::canonical(directory, error);
  if (error) return fail(Code::kUnavailable, fmt::format("cannot make {}: {}", directory, error.message()));
  const Reader in(archive_read_new(), archive_read_free);
  archive_read_support_format_tar(in.get());
  if (archive_read_open_filename(in.get(), archive_path.c_str(), kBlock) != ARCHIVE_OK)
    return fail(Code::kCorrupt, "what was sent is no archive of a directory");
  const Writer out(archive_write_disk_new(), archive_write_free);
  archive_write_disk_set_options(out.get(), ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT);
  archive_entry* entry = nullptr;
  for (;;) {
    const int got = archive_read_next_header(in.get(), &entry);
    if (got == ARCHIVE_EOF) break;
    if (got != ARCHIVE_OK) return fail(Code::kCorrupt, "what was sent is no archive of a directory");
    const char* name = archive_entry_pathname(entry);
    const bool kind = archive_entry_filetype(entry) == AE_IFREG || archive_entry_filetype(entry) == AE_IFDIR ||
                      archive_entry_filetype(entry) == AE_IFLNK;
    if (name == nullptr || !stays_inside(name) || !kind || archive_entry_hardlink(entry) != nullptr)
      return fail(Code::kCorrupt, "the archive of a directory has an entry that leads out of it");
    archive_entry_set_pathname(entry, (root / name).c_str());
    if (archive_write_header(out.get(), entry) != ARCHIVE_OK) return problem(out.get(), "cannot unpack the directory");
    if (auto written = unpack_content(in.get(), out.get()); !written) return written;
    if (archive_write_finish_entry(out.get()) != ARCHIVE_OK) return problem(out.get(), "cannot unpack the directory");
  }
  if (archive_write_close(out.get()) != ARCHIVE_OK) return problem(out.get(), "cannot unpack the directory");
  return {};
}

}  // namespace shoal::daemon
