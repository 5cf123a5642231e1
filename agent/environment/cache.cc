#include "agent/environment/cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace shoal::environment {

namespace {

namespace fs = std::filesystem;

// Holds the lock of one environment while it lives.
class Lock {
 public:
  explicit Lock(const std::string& path) : fd_(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)) {
    if (fd_ >= 0 && ::flock(fd_, LOCK_EX) != 0) {
      ::close(fd_);
      fd_ = -1;
    }
  }
  ~Lock() {
    if (fd_ >= 0) ::close(fd_);
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  bool held() const { return fd_ >= 0; }

 private:
  int fd_;
};

std::uint64_t bytes_of(const fs::path& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return fs::file_size(path, error);
  std::uint64_t bytes = 0;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (!it->is_symlink(ignored) && it->is_regular_file(ignored)) bytes += it->file_size(ignored);
  }
  return bytes;
}

std::string platform_of(const Machine& machine) {
  return machine.platform ? scheduler::platform_text(*machine.platform) + " " + machine.python : machine.architecture;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string lock_path(const std::string& dir, EnvironmentId id) {
  return dir + "/locks/" + id.hex();
}

}  // namespace

Result<> Cache::open() const {
  std::error_code error;
  fs::remove_all(dir_ + "/scratch", error);
  for (const char* name : {"bundles", "built", "locks", "scratch"}) {
    fs::create_directories(dir_ + "/" + name, error);
    if (error) return fail(Code::kUnavailable, fmt::format("cannot make {}/{}: {}", dir_, name, error.message()));
  }
  fs::permissions(dir_, fs::perms::owner_all, error);
  return {};
}

std::string Cache::bundle_path(EnvironmentId id) const {
  return dir_ + "/bundles/" + id.hex() + ".tar";
}
std::string Cache::built_path(EnvironmentId id) const {
  return dir_ + "/built/" + id.hex();
}
std::string Cache::scratch_path(const std::string& name) const {
  return dir_ + "/scratch/" + name;
}

Result<Manifest> Cache::take_bundle(EnvironmentId id, const std::string& path) const {
  Result<Manifest> manifest = [&]() -> Result<Manifest> {
    auto real = id_of_bundle(path);
    if (!real) return tl::unexpected<Error>(real.error());
    if (*real != id) {
      return fail(Code::kCorrupt, fmt::format("what came as the bundle of environment {} has other content ({})",
                                              id.brief(), real->brief()));
    }
    return manifest_of_bundle(path);
  }();
  if (manifest && ::rename(path.c_str(), bundle_path(id).c_str()) != 0)
    manifest = fail(Code::kUnavailable, fmt::format("cannot keep {}: {}", bundle_path(id), std::strerror(errno)));
  if (!manifest) ::unlink(path.c_str());
  if (manifest) touch(id);
  return manifest;
}

Result<Manifest> Cache::manifest(EnvironmentId id) const {
  if (::access(bundle_path(id).c_str(), R_OK) != 0)
    return fail(Code::kNotFound, fmt::format("the bundle of environment {} is not here", id.brief()));
  return manifest_of_bundle(bundle_path(id));
}

Result<Manifest> Cache::make_ready(EnvironmentId id, const Machine& machine, bool& built) const {
  built = false;
  const Lock lock(lock_path(dir_, id));
  if (!lock.held()) return fail(Code::kUnavailable, fmt::format("cannot lock {}", lock_path(dir_, id)));
  auto known = manifest(id);
  if (!known) return known;
  const std::string target = built_path(id);
  if (first_line(target + "/platform") == platform_of(machine)) return known;
  std::error_code error;
  fs::remove_all(target, error);  // of an interpreter that is not there any more
  auto real = id_of_bundle(bundle_path(id));
  if (!real || *real != id) {
    ::unlink(bundle_path(id).c_str());
    return fail(Code::kNotFound, fmt::format("the bundle of environment {} was damaged on this disk", id.brief()));
  }
  const std::string scratch = scratch_path(fmt::format("{}.{}", id.hex(), ::getpid()));
  if (auto done = build(bundle_path(id), *known, machine, target, scratch); !done)
    return tl::unexpected<Error>(done.error());
  std::ofstream(target + "/platform") << platform_of(machine) << '\n';
  built = true;
  return known;
}

void Cache::touch(EnvironmentId id) const {
  const int fd = ::open(lock_path(dir_, id).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return;
  ::futimens(fd, nullptr);
  ::close(fd);
}

std::vector<Cache::Entry> Cache::list() const {
  std::vector<Entry> out;
  std::error_code error;
  for (fs::directory_iterator it(dir_ + "/bundles", error), end; !error && it != end; it.increment(error)) {
    const auto id = EnvironmentId::from_hex_text(it->path().stem().string());
    if (!id) continue;
    Entry& entry = out.emplace_back();
    entry.id = *id;
    if (auto known = manifest(*id)) entry.name = known->name;
    entry.built = ::access((built_path(*id) + "/platform").c_str(), F_OK) == 0;
    entry.bytes = bytes_of(it->path()) + bytes_of(built_path(*id));
    struct stat info = {};
    if (::stat(lock_path(dir_, *id).c_str(), &info) == 0)
      entry.used_unix_ms = std::int64_t{info.st_mtim.tv_sec} * 1000 + info.st_mtim.tv_nsec / 1'000'000;
  }
  return out;
}

Result<> Cache::remove(EnvironmentId id) const {
  const Lock lock(lock_path(dir_, id));
  if (!lock.held()) return fail(Code::kUnavailable, fmt::format("cannot lock {}", lock_path(dir_, id)));
  // Out of the way in one step: nobody sees half of it.
  const std::string doomed = scratch_path(fmt::format("{}.{}.removed", id.hex(), ::getpid()));
  std::error_code error;
  fs::rename(built_path(id), doomed, error);
  fs::remove_all(doomed, error);
  ::unlink(bundle_path(id).c_str());
  ::unlink(lock_path(dir_, id).c_str());
  if (error) return fail(Code::kUnavailable, fmt::format("cannot remove {}: {}", built_path(id), error.message()));
  return {};
}

std::vector<EnvironmentId> choose_victims(std::vector<Cache::Entry> entries, const std::vector<EnvironmentId>& in_use,
                                          std::uint64_t bytes_max) {
  std::uint64_t total = 0;
  for (const auto& entry : entries) total += entry.bytes;
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.used_unix_ms, a.id) < std::pair(b.used_unix_ms, b.id);
  });
  std::vector<EnvironmentId> victims;
  for (const auto& entry : entries) {
    if (total <= bytes_max) break;
    if (std::find(in_use.begin(), in_use.end(), entry.id) != in_use.end()) continue;
    victims.push_back(entry.id);
    total -= entry.bytes;
  }
  return victims;
}

}  // namespace shoal::environment
