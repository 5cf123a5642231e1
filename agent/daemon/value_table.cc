#include "agent/daemon/value_table.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <utility>

#include "protocol/base/id.h"

namespace shoal::daemon {
namespace {

namespace fs = std::filesystem;

// Names come from clients: one path component, nothing that climbs out of the arena.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= NAME_MAX && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

std::string file_name_for(std::string key) {
  std::replace(key.begin(), key.end(), '/', '_');
  return key;
}

Result<> make_directories(const std::string& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) return fail(Code::kUnavailable, fmt::format("cannot make the directory {}: {}", dir, error.message()));
  return {};
}

// The lock of a directory that exists and is this user's; an invalid descriptor when somebody else has it, or it is
// not.
executor::Fd lock_directory(const std::string& dir) {
  executor::Fd fd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat opened = {};
  struct stat named = {};
  if (!fd.valid() || ::fstat(fd.get(), &opened) != 0 || opened.st_uid != ::geteuid()) return {};
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return {};
  // A sweep may have removed it, and its owner made it anew, between the opening and the lock.
  const bool same = ::lstat(dir.c_str(), &named) == 0 && named.st_ino == opened.st_ino && named.st_dev == opened.st_dev;
  return same ? std::move(fd) : executor::Fd();
}

// "shoal-" and an agent's id in hexadecimal: nothing else is ours to remove.
bool is_arena_name(std::string_view name) {
  constexpr std::string_view kPrefix = "shoal-";
  return name.starts_with(kPrefix) && name.size() == kPrefix.size() + 2 * AgentId::kSize &&
         name.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string_view::npos;
}

void sweep_siblings(const fs::path& arena) {
  std::error_code error;
  for (fs::directory_iterator it(arena.parent_path(), error), end; !error && it != end; it.increment(error)) {
    if (it->path() == arena || !is_arena_name(it->path().filename().string())) continue;
    const executor::Fd lock = lock_directory(it->path().string());
    std::error_code ignored;
    if (lock.valid()) fs::remove_all(it->path(), ignored);
  }
}

constexpr int kLockTries = 100;  // each lost to a sweep by another agent that starts

}  // namespace

Result<ValueTable> ValueTable::open(std::string arena_dir, std::string files_dir) {
  if (auto made = make_directories(files_dir); !made) return tl::unexpected<Error>(made.error());
  executor::Fd lock;
  for (int tries = 0; !lock.valid(); ++tries) {
    if (tries == kLockTries)
      return fail(Code::kUnavailable, fmt::format("cannot lock {}: another process holds it", arena_dir));
    std::error_code ignored;
    fs::remove_all(arena_dir, ignored);
    if (auto made = make_directories(arena_dir); !made) return tl::unexpected<Error>(made.error());
    lock = lock_directory(arena_dir);
  }
  std::error_code ignored;
  fs::permissions(arena_dir, fs::perms::owner_all, ignored);
  sweep_siblings(arena_dir);
  return ValueTable(std::move(arena_dir), std::move(lock), std::move(files_dir));
}

ValueTable::ValueTable(std::string arena_dir, executor::Fd lock, std::string files_dir)
    : arena_dir_(std::move(arena_dir)), lock_(std::move(lock)), files_dir_(std::move(files_dir)) {}

ValueTable::ValueTable(ValueTable&& other) noexcept
    : arena_dir_(std::exchange(other.arena_dir_, {})),
      lock_(std::move(other.lock_)),
      files_dir_(std::move(other.files_dir_)),
      values_(std::move(other.values_)),
      created_(other.created_) {}

ValueTable::~ValueTable() {
  if (arena_dir_.empty()) return;
  std::error_code ignored;
  fs::remove_all(arena_dir_, ignored);
}

void ValueTable::keep(const std::string& key, client::Value value) {
  auto it = values_.find(key);
  if (it != values_.end()) {
    if (it->second == value) return;
    drop(key);
  }
  values_.emplace(key, std::move(value));
}

const client::Value* ValueTable::find(const std::string& key) const {
  auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

void ValueTable::drop(const std::string& key) {
  auto it = values_.find(key);
  if (it == values_.end()) return;
  discard(it->second);
  values_.erase(it);
}

std::optional<std::string> ValueTable::path_of(const client::Value& value) const {
  if (const auto* shared = std::get_if<client::Shared>(&value)) {
    if (!is_plain_name(shared->name)) return std::nullopt;
    return arena_dir_ + "/" + shared->name;
  }
  if (const auto* file = std::get_if<client::FilePath>(&value)) return file->path;
  return std::nullopt;
}

Result<ValueTable::Incoming> ValueTable::create(const std::string& key, std::uint64_t bytes, Form form,
                                                const std::string& name) {
  Incoming incoming;
  std::string path;
  if (form == Form::kMemory) {
    const std::string file = fmt::format("in.{}", ++created_);
    path = arena_dir_ + "/" + file;
    incoming.value = client::Shared{file, bytes};
  } else {
    const std::string folder = fmt::format("{}/{}.{}", files_dir_, file_name_for(key), ++created_);
    if (auto made = make_directories(folder); !made) return tl::unexpected<Error>(made.error());
    const std::string inside = folder + "/" + (is_plain_name(name) ? name : "value");
    incoming.value = client::FilePath{inside};
    if (form == Form::kDirectory) incoming.archive = folder + ".tar";
    path = form == Form::kDirectory ? incoming.archive : inside;
  }
  incoming.fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (incoming.fd < 0) return fail(Code::kUnavailable, fmt::format("cannot create {}: {}", path, std::strerror(errno)));
  // Space is taken before a byte is written: a full tmpfs would otherwise kill the writer of a mapping.
  const int full = bytes == 0 ? 0 : ::posix_fallocate(incoming.fd, 0, static_cast<off_t>(bytes));
  if (full != 0) {
    ::close(incoming.fd);
    ::unlink(path.c_str());
    return fail(Code::kExhausted, fmt::format("no room for {} bytes in {}: {}", bytes,
                                              form == Form::kMemory ? arena_dir_ : files_dir_, std::strerror(full)));
  }
  return incoming;
}

void ValueTable::discard(const client::Value& value) const {
  auto path = path_of(value);
  if (!path) return;
  const bool ours = path->starts_with(arena_dir_ + "/") || path->starts_with(files_dir_ + "/");
  if (!ours) return;
  std::error_code ignored;
  fs::remove_all(*path, ignored);
  const std::string folder = fs::path(*path).parent_path().string();
  if (folder.starts_with(files_dir_ + "/")) fs::remove(folder, ignored);  // unless something else is in it
}

}  // namespace shoal::daemon
