#include "agent/daemon/home.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "protocol/base/hash.h"
#include "protocol/wire/codec.h"

namespace shoal::daemon {
namespace {

namespace fs = std::filesystem;

std::string reason() {
  return std::strerror(errno);
}

}  // namespace

std::string Home::socket() const {
  std::error_code ignored;
  const std::string path = fs::absolute(dir_, ignored).lexically_normal().string() + "/run/shoald.sock";
  if (path.size() < sizeof(sockaddr_un::sun_path)) return path;
  return fmt::format("{}/shoal-{}-{:016x}.sock", fs::temp_directory_path(ignored).string(), getuid(), hash64(path));
}

std::string Home::arena(AgentId agent) const {
  std::error_code ignored;
  const std::string root = fs::is_directory("/dev/shm", ignored) ? "/dev/shm" : at("arena");
  return fmt::format("{}/shoal-{}", root, agent.hex());
}

Result<> Home::prepare() const {
  std::error_code error;
  for (const char* name : {"", "identity", "state", "streams", "files", "work", "logs"}) {
    const std::string path = at(name);
    fs::create_directories(path, error);
    if (error) {
      return fail(Code::kUnavailable,
                  fmt::format("cannot make {}: {}; choose another place with --home", path, error.message()));
    }
  }
  fs::permissions(dir_, fs::perms::owner_all, error);
  const std::string probe = at(".probe");
  if (auto written = replace_file(probe, "x"); !written) {
    return fail(Code::kUnavailable,
                fmt::format("{} cannot be written ({}); make it writable or choose another place with --home", dir_,
                            written.error().message));
  }
  ::unlink(probe.c_str());
  return {};
}

Result<> Home::prepare_run(const std::string& runtime) const {
  const std::string run = at("run");
  const std::string target = runtime.empty() ? run : runtime;
  std::error_code error;
  const bool linked = fs::is_symlink(run, error);
  if (linked && runtime.empty()) fs::remove(run, error);
  fs::create_directories(target, error);
  if (error)
    return fail(Code::kUnavailable, fmt::format("cannot make {}: {}; choose another --home", target, error.message()));
  fs::permissions(target, fs::perms::owner_all, error);
  // A home that an agent without a runtime directory used keeps its own directory.
  if (runtime.empty() || (!linked && fs::is_directory(run, error))) return {};
  const std::string fresh = run + ".new";
  fs::remove(fresh, error);
  if (::symlink(runtime.c_str(), fresh.c_str()) != 0 || ::rename(fresh.c_str(), run.c_str()) != 0)
    return fail(Code::kUnavailable, fmt::format("cannot link {} to {}: {}", run, runtime, reason()));
  return {};
}

Result<int> Home::lock() const {
  const std::string path = at("shoald.pid");
  const int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return fail(Code::kUnavailable, fmt::format("cannot open {}: {}", path, reason()));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd);
    auto pid = read_file(path);
    return fail(Code::kUnavailable,
                fmt::format("another agent (process {}) already uses {}; stop it with `shoal --home {} down` "
                            "or give this one its own --home",
                            pid ? *pid : "unknown", dir_, dir_));
  }
  const std::string pid = std::to_string(getpid());
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    ::close(fd);
    return fail(Code::kUnavailable, fmt::format("cannot write {}: {}", path, reason()));
  }
  return fd;
}

Result<Admission> Home::read_admission() const {
  auto bytes = read_file(at("contacts"));
  if (!bytes)
    return bytes.error().code == Code::kNotFound ? Result<Admission>(Admission{})
                                                 : tl::unexpected<Error>(bytes.error());
  auto admission = wire::decode<Admission>(*bytes);
  if (!admission)
    return fail(Code::kCorrupt, fmt::format("{} is damaged; join again with a new token", at("contacts")));
  return admission;
}

Result<> Home::write_admission(const Admission& admission) const {
  return replace_file(at("contacts"), wire::encode(admission));
}

Result<> Home::write_ready(const Ready& ready) const {
  const nlohmann::json json = {{"pid", ready.pid},           {"agent", ready.agent}, {"name", ready.name},
                               {"endpoint", ready.endpoint}, {"http", ready.http},   {"socket", socket()}};
  return replace_file(at("run/ready"), json.dump() + "\n");
}

Result<Ready> Home::read_ready() const {
  const auto not_running = [&] {
    return fail(Code::kUnavailable,
                fmt::format("no agent runs in {}; start one with `shoal --home {} up`", dir_, dir_));
  };
  auto text = read_file(at("run/ready"));
  if (!text) return not_running();
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object()) return not_running();
  Ready ready;
  ready.pid = json.value("pid", std::uint64_t{0});
  ready.agent = json.value("agent", "");
  ready.name = json.value("name", "");
  ready.endpoint = json.value("endpoint", "");
  ready.http = json.value("http", "");
  if (ready.pid == 0 || (::kill(static_cast<pid_t>(ready.pid), 0) != 0 && errno == ESRCH)) return not_running();
  return ready;
}

void Home::clear_ready() const {
  ::unlink(at("run/ready").c_str());
}

Result<> replace_file(const std::string& path, std::string_view content, unsigned mode) {
  const std::string fresh = path + ".new";
  const int fd = ::open(fresh.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) return fail(Code::kUnavailable, fmt::format("cannot write {}: {}", fresh, reason()));
  std::size_t done = 0;
  bool ok = true;
  while (ok && done < content.size()) {
    const ssize_t n = ::write(fd, content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    ok = n >= 0;
    if (ok) done += static_cast<std::size_t>(n);
  }
  ok = ok && ::fsync(fd) == 0;
  const std::string why = ok ? "" : reason();
  ::close(fd);
  if (!ok || ::rename(fresh.c_str(), path.c_str()) != 0) {
    const std::string cause = why.empty() ? reason() : why;
    ::unlink(fresh.c_str());
    return fail(Code::kUnavailable, fmt::format("cannot write {}: {}", path, cause));
  }
  return {};
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    const bool absent = errno == ENOENT;
    return fail(absent ? Code::kNotFound : Code::kUnavailable, fmt::format("cannot read {}: {}", path, reason()));
  }
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace shoal::daemon
