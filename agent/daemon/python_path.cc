#include "agent/daemon/python_path.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace shoal::daemon {
namespace {

namespace fs = std::filesystem;

// Whether the interpreter has the packages the SDK imports, judged by the files: starting an interpreter to
// ask would cost more than the whole start of the agent.
bool has_packages(const fs::path& interpreter) {
  std::error_code ignored;
  const fs::path real = fs::canonical(interpreter, ignored);
  if (real.empty()) return false;
  const fs::path prefix = real.parent_path().parent_path();
  std::vector<fs::path> roots = {prefix / "lib/python3/dist-packages"};
  for (const auto& entry : fs::directory_iterator(prefix / "lib", ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("python3.")) roots.push_back(entry.path() / "site-packages");
  }
  const fs::path venv = interpreter.parent_path().parent_path();
  for (const auto& entry : fs::directory_iterator(venv / "lib", ignored))
    roots.push_back(entry.path() / "site-packages");
  bool msgpack = false;
  bool cloudpickle = false;
  for (const auto& root : roots) {
    msgpack = msgpack || fs::exists(root / "msgpack", ignored);
    cloudpickle = cloudpickle || fs::exists(root / "cloudpickle", ignored);
  }
  return msgpack && cloudpickle;
}

// "python3.11" or "python3.13t".
std::optional<PythonVersion> parse_version(const std::string& name) {
  constexpr std::string_view kPrefix = "python3.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string rest = name.substr(kPrefix.size());
  const auto digits = rest.find_first_not_of("0123456789");
  const std::string minor = rest.substr(0, digits);
  const std::string flags = digits == std::string::npos ? "" : rest.substr(digits);
  if (minor.empty() || minor.size() > 3 || (!flags.empty() && flags != "t")) return std::nullopt;
  return PythonVersion{std::atoi(minor.c_str()), flags};
}

}  // namespace

std::vector<std::string> sdk_directories() {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const fs::path installed = program / "../lib/shoal/python";
  if (fs::exists(installed / "shoal", ignored)) {
    return {installed.lexically_normal().string(), (installed / "compat").lexically_normal().string()};
  }
  // The C half of the SDK lies beside the programs of the build, where there is one.
  return {SHOAL_SOURCE_DIR "/sdk/python", SHOAL_SOURCE_DIR "/sdk/python/compat",
          (program / "../python").lexically_normal().string()};
}

std::string python_path(const std::string& existing) {
  std::string out;
  for (const auto& dir : sdk_directories()) out += (out.empty() ? "" : ":") + dir;
  return existing.empty() ? out : out + ":" + existing;
}

std::string find_python(const std::string& wanted) {
  if (wanted.find('/') != std::string::npos) return ::access(wanted.c_str(), X_OK) == 0 ? wanted : "";
  const std::string program = wanted.empty() ? "python3" : wanted;
  std::vector<fs::path> candidates;
  if (const char* venv = std::getenv("VIRTUAL_ENV")) candidates.push_back(fs::path(venv) / "bin" / program);
  if (const char* path = std::getenv("PATH")) {
    std::istringstream dirs(path);
    for (std::string dir; std::getline(dirs, dir, ':');) candidates.push_back(fs::path(dir) / program);
  }
  candidates.push_back(fs::path("/usr/bin") / program);
  std::string any;
  for (const auto& candidate : candidates) {
    if (::access(candidate.c_str(), X_OK) != 0) continue;
    if (has_packages(candidate)) return candidate.string();
    if (any.empty()) any = candidate.string();
  }
  return any;
}

std::optional<PythonVersion> python_version_of(const std::string& interpreter) {
  std::error_code error;
  const fs::path real = interpreter.empty() ? fs::path() : fs::canonical(interpreter, error);
  if (real.empty()) return std::nullopt;
  // "/usr/bin/python3.11", as nearly every python3 in the end is called.
  if (auto version = parse_version(real.filename().string())) return version;
  // A wrapper: the program itself knows.
  const std::string question = "timeout 5 '" + interpreter +
                               "' -c 'import sys; print(\"python3.%d%s\" % (sys.version_info[1], " +
                               "getattr(sys, \"abiflags\", \"\")))' 2>/dev/null";
  if (interpreter.find('\'') != std::string::npos) return std::nullopt;
  std::FILE* pipe = ::popen(question.c_str(), "r");
  if (pipe == nullptr) return std::nullopt;
  char line[64] = {};
  const bool answered = std::fgets(line, sizeof(line), pipe) != nullptr;
  ::pclose(pipe);
  std::string text(answered ? line : "");
  while (text.ends_with('\n')) text.pop_back();
  return parse_version(text);
}

std::string no_python(const std::string& wanted) {
  if (wanted.empty()) return "no Python interpreter was found; install python3, or name one with --python";
  return "the Python interpreter " + wanted +
         " cannot be run here, so Python tasks go to other agents; install it, or name another with --python";
}

}  // namespace shoal::daemon
