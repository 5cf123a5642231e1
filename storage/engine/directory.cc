#include "storage/engine/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace shoal::storage {
namespace {

constexpr std::string_view kMarkerHead = "shoal store, format ";

Result<std::string> read_small(const std::string& path) {
  auto fd = open_file(path, O_RDONLY);
  if (!fd) return tl::unexpected<Error>(fd.error());
  std::string text(256, '\0');
  auto got = read_at(fd->get(), text.data(), text.size(), 0, path);
  if (!got) return tl::unexpected<Error>(got.error());
  text.resize(*got);
  return text;
}

Result<Fd> lock(const std::string& dir) {
  const std::string path = dir + "/lock";
  auto fd = open_file(path, O_RDWR | O_CREAT);
  if (!fd) return fd;
  if (::flock(fd->get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return tl::unexpected<Error>(system_error(errno, "cannot lock", path));
    auto owner = read_small(path);
    const long pid = owner ? std::strtol(owner->c_str(), nullptr, 10) : 0;
    return fail(Code::kUnavailable,
                fmt::format("the store in {} is in use by process {}; stop that agent first or choose another "
                            "directory",
                            dir, pid));
  }
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(fd->get(), 0) != 0) return tl::unexpected<Error>(system_error(errno, "cannot write", path));
  if (auto written = write_all(fd->get(), pid, 0, path); !written) return tl::unexpected<Error>(written.error());
  return fd;
}

// A file name in `dir` that no store of ours has before its marker; empty if there is none.
Result<std::string> foreign_entry(const std::string& dir) {
  DIR* listing = ::opendir(dir.c_str());
  if (listing == nullptr) return tl::unexpected<Error>(system_error(errno, "cannot list", dir));
  std::string found;
  while (const dirent* entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != ".." && name != "lock" && name != "marker.new" && name != "lost+found") found = name;
  }
  ::closedir(listing);
  return found;
}

Result<> write_marker(const std::string& dir) {
  const std::string temporary = dir + "/marker.new";
  auto fd = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  if (!fd) return tl::unexpected<Error>(fd.error());
  auto written = write_all(fd->get(), fmt::format("{}{}\n", kMarkerHead, kStoreFormat), 0, temporary);
  if (!written) return written;
  if (::fsync(fd->get()) != 0) return tl::unexpected<Error>(system_error(errno, "cannot sync", temporary));
  if (::rename(temporary.c_str(), (dir + "/marker").c_str()) != 0) {
    return tl::unexpected<Error>(system_error(errno, "cannot rename", temporary));
  }
  return sync_directory(dir);
}

}  // namespace

Result<Fd> claim_directory(const std::string& dir) {
  if (auto made = make_directory(dir); !made) return tl::unexpected<Error>(made.error());
  auto marker = read_small(dir + "/marker");
  if (!marker && marker.error().code != Code::kNotFound) return tl::unexpected<Error>(marker.error());
  if (!marker) {
    auto foreign = foreign_entry(dir);
    if (!foreign) return tl::unexpected<Error>(foreign.error());
    if (!foreign->empty()) {
      return fail(Code::kInvalid, fmt::format("{} holds other files ({}) and no Shoal store; choose an empty directory",
                                              dir, *foreign));
    }
  } else if (!marker->starts_with(kMarkerHead)) {
    return fail(Code::kInvalid, fmt::format("{}/marker is not of a Shoal store; choose an empty directory", dir));
  } else if (const long format = std::strtol(marker->c_str() + kMarkerHead.size(), nullptr, 10);
             format > kStoreFormat) {
    return fail(Code::kUnsupported,
                fmt::format("the store in {} has format {}, this version reads up to {}; upgrade this agent", dir,
                            format, kStoreFormat));
  }
  auto locked = lock(dir);
  if (!locked) return locked;
  if (!marker) {
    if (auto written = write_marker(dir); !written) return tl::unexpected<Error>(written.error());
  }
  return locked;
}

}  // namespace shoal::storage
