#include "agent/daemon/value_table.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace shoal::daemon {
namespace {

namespace fs = std::filesystem;

// Names come from clients: one path component, nothing that climbs out of the arena.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

std::string file_name_for(std::string key) {
  std::replace(key.begin(), key.end(), '/', '_');
  return key;
}

}  // namespace

Result<ValueTable> ValueTable::open(std::string arena_dir, std::string files_dir) {
  std::error_code error;
  fs::remove_all(arena_dir, error);
  for (const auto& dir : {arena_dir, files_dir}) {
    fs::create_directories(dir, error);
    if (error) return fail(Code::kUnavailable, fmt::format("cannot make the directory {}: {}", dir, error.message()));
  }
  fs::permissions(arena_dir, fs::perms::owner_all, error);
  return ValueTable(std::move(arena_dir), std::move(files_dir));
}

ValueTable::ValueTable(std::string arena_dir, std::string files_dir)
    : arena_dir_(std::move(arena_dir)), files_dir_(std::move(files_dir)) {}

ValueTable::ValueTable(ValueTable&& other) noexcept
    : arena_dir_(std::exchange(other.arena_dir_, {})),
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

Result<ValueTable::Incoming> ValueTable::create(const std::string& key, std::uint64_t bytes, bool is_file) {
  Incoming incoming;
  std::string path;
  if (is_file) {
    path = fmt::format("{}/{}.{}", files_dir_, file_name_for(key), ++created_);
    incoming.value = client::FilePath{path};
  } else {
    const std::string name = fmt::format("in.{}", ++created_);
    path = arena_dir_ + "/" + name;
    incoming.value = client::Shared{name, bytes};
  }
  incoming.fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (incoming.fd < 0) return fail(Code::kUnavailable, fmt::format("cannot create {}: {}", path, std::strerror(errno)));
  // Space is taken before a byte is written: a full tmpfs would otherwise kill the writer of a mapping.
  const int full = bytes == 0 ? 0 : ::posix_fallocate(incoming.fd, 0, static_cast<off_t>(bytes));
  if (full != 0) {
    ::close(incoming.fd);
    ::unlink(path.c_str());
    return fail(Code::kExhausted, fmt::format("no room for {} bytes in {}: {}", bytes,
                                              is_file ? files_dir_ : arena_dir_, std::strerror(full)));
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
}

}  // namespace shoal::daemon
