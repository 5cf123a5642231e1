#include "agent/daemon/value_table.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstring>
#include <filesystem>
#include <numeric>
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

constexpr std::string_view kSpares = "/spare";  // below the arena: files named "<bytes>.<number>"
constexpr std::uint64_t kSpareBytesMin = 1U << 20;
constexpr std::uint64_t kSpareBytesMax = 256U << 20;  // of all together
constexpr std::size_t kSpareFilesMax = 16;

struct Spare {
  std::uint64_t bytes = 0;
  std::string path;
};

std::vector<Spare> spares_in(const std::string& arena) {
  std::vector<Spare> found;
  std::error_code error;
  for (fs::directory_iterator it(arena + std::string(kSpares), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::uint64_t bytes = 0;
    std::from_chars(name.data(), name.data() + name.size(), bytes);
    found.push_back({bytes, it->path().string()});
  }
  std::sort(found.begin(), found.end(), [](const Spare& a, const Spare& b) { return a.bytes < b.bytes; });
  return found;
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
  if (auto made = make_directories(arena_dir + std::string(kSpares)); !made) return tl::unexpected<Error>(made.error());
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
      created_(other.created_),
      spared_(other.spared_) {}

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

bool ValueTable::drop(const std::string& key) {
  auto it = values_.find(key);
  if (it == values_.end()) return false;
  const bool spared = keep_as_spare(it->second);
  if (!spared) discard(it->second);
  values_.erase(it);
  return spared;
}

// Whoever maps a file of the arena holds a shared lock on it for as long as the mapping lives, so the exclusive one is
// had only where no reader is left; a reader that came too late finds that the name is gone.
bool ValueTable::keep_as_spare(const client::Value& value) {
  const auto* shared = std::get_if<client::Shared>(&value);
  if (shared == nullptr || shared->bytes < kSpareBytesMin || !is_plain_name(shared->name)) return false;
  const std::string path = arena_dir_ + "/" + shared->name;
  const executor::Fd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  struct stat info = {};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink != 1) return false;
  const auto bytes = static_cast<std::uint64_t>(info.st_size);
  const std::vector<Spare> spares = spares_in(arena_dir_);
  const std::uint64_t held = std::accumulate(spares.begin(), spares.end(), bytes,
                                             [](std::uint64_t sum, const Spare& spare) { return sum + spare.bytes; });
  if (spares.size() >= kSpareFilesMax || held > kSpareBytesMax) return false;
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return false;
  const std::string spare = fmt::format("{}{}/{}.{}", arena_dir_, kSpares, bytes, ++spared_);
  return ::rename(path.c_str(), spare.c_str()) == 0;
}

// The smallest spare that is large enough, else the largest, as `path`: its descriptor; -1 when there is none.
int ValueTable::take_spare(const std::string& path, std::uint64_t bytes) const {
  if (bytes < kSpareBytesMin) return -1;
  const std::vector<Spare> spares = spares_in(arena_dir_);
  if (spares.empty()) return -1;
  auto best = std::find_if(spares.begin(), spares.end(), [&](const Spare& spare) { return spare.bytes >= bytes; });
  if (best == spares.end()) --best;
  if (::rename(best->path.c_str(), path.c_str()) != 0) return -1;  // a client was faster
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd >= 0 && ::ftruncate(fd, static_cast<off_t>(bytes)) == 0) return fd;
  if (fd >= 0) ::close(fd);
  ::unlink(path.c_str());
  return -1;
}

bool ValueTable::release_spares() {
  const std::vector<Spare> spares = spares_in(arena_dir_);
  for (const Spare& spare : spares) ::unlink(spare.path.c_str());
  return !spares.empty();
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
  if (form == Form::kMemory) incoming.fd = take_spare(path, bytes);
  if (incoming.fd < 0) incoming.fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (incoming.fd < 0) return fail(Code::kUnavailable, fmt::format("cannot create {}: {}", path, std::strerror(errno)));
  // Space is taken before a byte is written: a full tmpfs would otherwise kill the writer of a mapping.
  const auto take_space = [&] { return bytes == 0 ? 0 : ::posix_fallocate(incoming.fd, 0, static_cast<off_t>(bytes)); };
  int full = take_space();
  if (full != 0 && form == Form::kMemory && release_spares()) full = take_space();
  if (full != 0) {
    ::close(incoming.fd);
    ::unlink(path.c_str());
    return fail(Code::kExhausted, fmt::format("no room for {} bytes in {}: {}", bytes,
                                              form == Form::kMemory ? arena_dir_ : files_dir_, std::strerror(full)));
  }
  return incoming;
}

Result<client::Value> ValueTable::adopt(const std::string& key, const std::string& path, std::uint64_t bytes, Form form,
                                        const std::string& name) {
  client::Value value;
  std::string link;
  if (form == Form::kMemory) {
    const std::string file = fmt::format("in.{}", ++created_);
    link = arena_dir_ + "/" + file;
    value = client::Shared{file, bytes};
  } else {
    const std::string folder = fmt::format("{}/{}.{}", files_dir_, file_name_for(key), ++created_);
    if (auto made = make_directories(folder); !made) return tl::unexpected<Error>(made.error());
    link = folder + "/" + (is_plain_name(name) ? name : "value");
    value = client::FilePath{link};
  }
  if (::symlink(path.c_str(), link.c_str()) != 0)
    return fail(Code::kUnavailable, fmt::format("cannot make {}: {}", link, std::strerror(errno)));
  return value;
}

Result<std::string> ValueTable::hold(const client::Value& value) {
  const auto path = path_of(value);
  if (!path) return fail(Code::kUnsupported, "it is not a file");
  const bool file = std::holds_alternative<client::FilePath>(value);
  std::string held = fmt::format("{}/held.{}", file ? files_dir_ : arena_dir_, ++created_);
  if (::link(path->c_str(), held.c_str()) != 0)
    return fail(Code::kUnsupported, fmt::format("{} has no second name: {}", *path, std::strerror(errno)));
  return held;
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
