#include "tools/shoal/checks.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <optional>

#include "agent/daemon/home.h"
#include "agent/daemon/python_path.h"
#include "protocol/identity/realm.h"
#include "tools/shoal/output.h"

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kDiskLeastMb = 256;
constexpr std::uint64_t kShmLeastMb = 64;
constexpr std::int64_t kSlowSyncUs = 50'000;
constexpr rlim_t kFilesLeast = 4096;
constexpr int kInterpreterMs = 10'000;

Check check(std::string name, Status status, std::string fact, std::string fix) {
  return {std::move(name), status, std::move(fact), status == Status::kOk ? "" : std::move(fix)};
}

Status fail_unless(bool good) {
  return good ? Status::kOk : Status::kFail;
}
Status warn_unless(bool good) {
  return good ? Status::kOk : Status::kWarn;
}

// The home, or what of its path exists already.
fs::path existing_part(const std::string& home) {
  std::error_code ignored;
  fs::path place = fs::absolute(home, ignored);
  while (!fs::exists(place, ignored) && place.has_relative_path()) place = place.parent_path();
  return place;
}

std::optional<std::uint64_t> free_mb(const std::string& path) {
  struct statvfs space{};
  if (::statvfs(path.c_str(), &space) != 0) return std::nullopt;
  return (static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize) >> 20;
}

Check disk_check(const std::string& home) {
  const auto free = free_mb(existing_part(home).string());
  return check("disk", fail_unless(free && *free > kDiskLeastMb),
               fmt::format("{} MiB free for {}", free.value_or(0), home), "free some space or choose another --home");
}

// The median of a few synced writes: what every receipt "local" waits for.
Check sync_check(const std::string& home) {
  const std::string path = (existing_part(home) / fmt::format(".shoal-doctor-{}", getpid())).string();
  const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) {
    return check("fsync", Status::kFail, fmt::format("cannot write in {}", existing_part(home).string()),
                 "make it writable or choose another --home");
  }
  ::unlink(path.c_str());
  const std::string block(4096, 'x');
  std::array<std::int64_t, 7> times{};
  bool good = true;
  for (auto& time : times) {
    const auto begin = std::chrono::steady_clock::now();
    good =
        good && ::write(fd, block.data(), block.size()) == static_cast<ssize_t>(block.size()) && ::fdatasync(fd) == 0;
    time = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count();
  }
  ::close(fd);
  if (!good) return check("fsync", Status::kFail, "a synced write failed", "look at the disk: dmesg, df, df -i");
  std::sort(times.begin(), times.end());
  const std::int64_t median = times[times.size() / 2];
  return check("fsync", warn_unless(median < kSlowSyncUs),
               fmt::format("{:.1f} ms for 4 KiB", static_cast<double>(median) / 1000),
               "every safe write waits for this: use a faster disk for --home");
}

Check shm_check() {
  const auto free = free_mb("/dev/shm");
  return check("/dev/shm", fail_unless(free && *free > kShmLeastMb), fmt::format("{} MiB free", free.value_or(0)),
               "mount a tmpfs there: large values of tasks are shared through it");
}

Check files_check() {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  return check("open files", fail_unless(files.rlim_max >= kFilesLeast),
               fmt::format("limit {} (hard {})", files.rlim_cur, files.rlim_max), "ulimit -n 65536");
}

Check pidfd_check() {
  const long fd = ::syscall(SYS_pidfd_open, ::getpid(), 0);
  if (fd >= 0) ::close(static_cast<int>(fd));
  return check("pidfd", fail_unless(fd >= 0), fd >= 0 ? "available" : "missing",
               "a Linux kernel from 5.3 on is needed");
}

Check cgroup_check() {
  std::error_code ignored;
  const std::string limits = "memory limits of tasks are then rlimits";
  if (fs::exists("/sys/fs/cgroup/cgroup.controllers", ignored)) {
    auto controllers = daemon::read_file("/sys/fs/cgroup/cgroup.controllers");
    const bool memory = controllers && controllers->find("memory") != std::string::npos;
    return check("cgroup", Status::kOk, memory ? "v2" : "v2 without the memory controller: " + limits, "");
  }
  return check("cgroup", Status::kOk, (fs::exists("/sys/fs/cgroup/memory", ignored) ? "v1: " : "none: ") + limits, "");
}

// Tried in a child, because a process cannot go back.
Check namespaces_check() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::unshare(CLONE_NEWUSER) == 0 ? 0 : 1);
  int status = 1;
  if (child > 0) ::waitpid(child, &status, 0);
  const bool good = child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const bool bwrap = ::access("/usr/bin/bwrap", X_OK) == 0;
  return check(
      "user namespaces", warn_unless(good),
      fmt::format("{}; bubblewrap {}; executors run at level 1 (rlimits, no new privileges)",
                  good ? "available" : "not for this user", bwrap ? "is there" : "is not installed"),
      "sysctl kernel.unprivileged_userns_clone=1 and user.max_user_namespaces; only stronger sandboxes need it");
}

// The output of a program, at most 4 KiB; nothing when it fails or takes too long.
std::optional<std::string> output_of(std::vector<std::string> words) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return std::nullopt;
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  const int failed = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string out;
  pollfd wait{ends[0], POLLIN, 0};
  while (failed == 0 && out.size() < 4096 && ::poll(&wait, 1, kInterpreterMs) > 0) {
    std::array<char, 1024> chunk{};
    const ssize_t got = ::read(ends[0], chunk.data(), chunk.size());
    if (got <= 0) break;
    out.append(chunk.data(), static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  if (failed != 0) return std::nullopt;
  ::kill(pid, SIGKILL);  // without effect on one that has ended
  int status = 0;
  ::waitpid(pid, &status, 0);
  return out.empty() ? std::nullopt : std::optional(out);
}

std::vector<Check> python_checks(const std::string& wanted) {
  const std::string python = daemon::find_python(wanted);
  if (python.empty()) return {check("python", Status::kWarn, "no interpreter that runs", daemon::no_python(wanted))};
  // One line a package: its version, or "-".
  const std::string script =
      "import importlib, sys\nprint(sys.version.split()[0])\nfor name in ('msgpack', 'cloudpickle', 'numpy'):\n"
      "    try:\n        module = importlib.import_module(name)\n"
      "        print('.'.join(map(str, module.version)) if name == 'msgpack' else module.__version__)\n"
      "    except Exception:\n        print('-')\n";
  const auto said = output_of({python, "-c", script});
  std::array<std::string, 4> versions;
  std::size_t begin = 0;
  for (auto& version : versions) {
    const auto end = said ? said->find('\n', begin) : std::string::npos;
    version = end == std::string::npos ? "-" : said->substr(begin, end - begin);
    begin = end == std::string::npos ? begin : end + 1;
  }
  const auto& [own, msgpack, cloudpickle, numpy] = versions;
  std::vector<Check> out;
  out.push_back(check("python", fail_unless(msgpack != "-" && cloudpickle != "-"),
                      fmt::format("{} {}, msgpack {}, cloudpickle {}", python, own, msgpack, cloudpickle),
                      "apt install python3-msgpack python3-cloudpickle, or pip install msgpack cloudpickle"));
  out.push_back(check("numpy", warn_unless(numpy != "-"), numpy == "-" ? "not installed" : numpy,
                      "apt install python3-numpy: arrays then pass between tasks without a copy"));
  return out;
}

std::int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::vector<Check> identity_checks(const std::string& home) {
  auto identity = identity::load_identity(home);
  if (!identity) {
    if (identity.error().code == Code::kNotFound)
      return {
          check("keys", Status::kOk, "none yet: they are made by the first start, `shoal init` or `shoal join`", "")};
    return {check("keys", Status::kFail, identity.error().message, "join again with a new token")};
  }
  auto certificate = identity::read_certificate(identity->chain);
  if (!certificate)
    return {check("certificate", Status::kFail, certificate.error().message, "join again with a new token")};
  const std::int64_t age_ms = wall_ms() - certificate->not_before.unix_ms;
  const std::int64_t left_ms = certificate->not_after.unix_ms - wall_ms();
  std::error_code error;
  const auto key = fs::perms::group_read | fs::perms::others_read;
  bool secret = true;
  for (const auto& entry : fs::directory_iterator(home + "/identity", error)) {
    const bool is_key = entry.path().extension() == ".key";
    if (is_key && (entry.status(error).permissions() & key) != fs::perms::none) secret = false;
  }
  std::vector<Check> out;
  out.push_back(check("keys", fail_unless(secret),
                      secret ? fmt::format("only this user can read them; certificate issued {} ago",
                                           human_ms(std::max<std::int64_t>(0, age_ms)))
                             : "others on this machine can read them",
                      fmt::format("chmod -R go= {}/identity", home)));
  out.push_back(check("certificate", left_ms <= 0 ? Status::kFail : Status::kOk,
                      left_ms > 0 ? fmt::format("valid for {} more; it is renewed in time", human_ms(left_ms))
                                  : fmt::format("expired {} ago", human_ms(-left_ms)),
                      "let it reach an issuing agent of its region, or join again with a new token"));
  return out;
}

// Whether the kernel believes its clock; how far other agents' clocks are is the agent's to say.
Check clock_check() {
  timex state{};
  const bool synced = ::adjtimex(&state) != TIME_ERROR;
  return check("clock", warn_unless(synced), synced ? "synchronised" : "not synchronised",
               "run chrony or systemd-timesyncd: certificates and timelines need clocks that agree");
}

}  // namespace

std::vector<Check> machine_checks(const std::string& home, const std::string& python) {
  std::vector<Check> out = {disk_check(home), sync_check(home), shm_check(),        files_check(),
                            pidfd_check(),    cgroup_check(),   namespaces_check(), clock_check()};
  for (auto& more : {python_checks(python), identity_checks(home)}) out.insert(out.end(), more.begin(), more.end());
  return out;
}

}  // namespace shoal::cli
