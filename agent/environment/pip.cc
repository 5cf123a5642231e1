#include "agent/environment/pip.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <set>
#include <vector>

namespace shoal::environment {

namespace {

constexpr std::size_t kLastLines = 8;
constexpr std::size_t kLineBytesMax = 400;

// Runs a command; its exit status and the last lines of what it said. Every line also goes to `line`.
struct Ran {
  int status = -1;
  std::deque<std::string> last;
};

void take_lines(std::string& text, Ran& ran, const std::function<void(const std::string&)>& line) {
  for (;;) {
    const auto end = text.find('\n');
    if (end == std::string::npos) return;
    std::string one = text.substr(0, std::min(end, kLineBytesMax));
    text.erase(0, end + 1);
    if (one.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (line) line(one);
    ran.last.push_back(std::move(one));
    if (ran.last.size() > kLastLines) ran.last.pop_front();
  }
}

Result<Ran> run(std::vector<std::string> words, const std::function<void(const std::string&)>& line) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return fail(Code::kExhausted, fmt::format("no pipe: {}", std::strerror(errno)));
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (failed != 0) {
    ::close(ends[0]);
    return fail(Code::kUnsupported, fmt::format("cannot run {}: {}", words[0], std::strerror(failed)));
  }
  Ran ran;
  std::string text;
  std::array<char, 4096> block{};
  for (;;) {
    const ssize_t got = ::read(ends[0], block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(block.data(), static_cast<std::size_t>(got));
    take_lines(text, ran, line);
  }
  text += '\n';
  take_lines(text, ran, line);
  ::close(ends[0]);
  while (::waitpid(pid, &ran.status, 0) < 0 && errno == EINTR) {
  }
  return ran;
}

}  // namespace

Result<> collect_wheels(const Description& description, const PackOptions& options, const std::string& directory) {
  if (options.python.empty())
    return fail(Code::kUnsupported, "its packages are collected by pip, and no Python interpreter was found here");
  std::vector<std::string> words = {options.python, "-m", "pip"};
  if (options.python_suits) {
    words.insert(words.end(), {"wheel", "--wheel-dir", directory});
  } else {
    if (!description.projects.empty()) {
      return fail(Code::kUnsupported,
                  fmt::format("a wheel for Python {0} can only be made by Python {0}, which is not installed here",
                              description.python));
    }
    words.insert(words.end(),
                 {"download", "--only-binary=:all:", "--python-version", description.python, "--dest", directory});
  }
  words.insert(words.end(), {"--disable-pip-version-check", "--no-input", "--progress-bar", "off"});
  std::set<std::string> places;
  for (const auto& wheel : description.wheels) places.insert(std::filesystem::path(wheel).parent_path().string());
  for (const auto& place : places) words.insert(words.end(), {"--find-links", place});
  for (const auto& lock : description.locks) words.insert(words.end(), {"--requirement", lock});
  words.insert(words.end(), description.projects.begin(), description.projects.end());
  for (const auto& requirement : description.requirements) {
    if (requirement.starts_with("-"))
      return fail(Code::kInvalid,
                  fmt::format("the requirement \"{}\" is an option; put those into a lock file", requirement));
    words.push_back(requirement);
  }
  auto ran = run(std::move(words), [&](const std::string& line) {
    if (options.progress) options.progress(line);
  });
  if (!ran) return tl::unexpected<Error>(ran.error());
  if (WIFEXITED(ran->status) && WEXITSTATUS(ran->status) == 0) return {};
  return fail(Code::kFailed, fmt::format("pip could not collect its packages:\n  {}", fmt::join(ran->last, "\n  ")));
}

}  // namespace shoal::environment
