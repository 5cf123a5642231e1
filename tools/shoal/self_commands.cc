// Commands about this program and this machine: doctor, completion, man, version.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "agent/daemon/home.h"
#include "tools/shoal/command.h"

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;

struct Check {
  std::string what;
  bool ok = false;
  std::string fact;
  std::string fix;
};

std::string cgroup_mode() {
  std::error_code ignored;
  if (fs::exists("/sys/fs/cgroup/cgroup.controllers", ignored)) {
    auto controllers = daemon::read_file("/sys/fs/cgroup/cgroup.controllers");
    return controllers && controllers->find("memory") != std::string::npos ? "v2"
                                                                           : "v2 without controllers: limits by rlimit";
  }
  return fs::exists("/sys/fs/cgroup/memory", ignored) ? "v1: limits by rlimit" : "none: limits by rlimit";
}

std::vector<Check> machine_checks(const Context& context) {
  std::vector<Check> out;
  struct statvfs space{};
  const std::string place = fs::exists(context.home) ? context.home : fs::path(context.home).root_path().string();
  const bool known = ::statvfs(place.c_str(), &space) == 0;
  const std::uint64_t free_mb = known ? (static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize) >> 20 : 0;
  out.push_back({"disk", free_mb > 256, fmt::format("{} MiB free for {}", free_mb, context.home),
                 "free some space or choose another --home"});
  const bool shm = ::statvfs("/dev/shm", &space) == 0;
  const std::uint64_t shm_mb = shm ? (static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize) >> 20 : 0;
  out.push_back({"/dev/shm", shm_mb > 64, fmt::format("{} MiB free", shm_mb),
                 "mount a tmpfs there: large values of tasks are shared through it"});
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  out.push_back({"open files", files.rlim_max >= 4096,
                 fmt::format("limit {} (hard {})", files.rlim_cur, files.rlim_max), "ulimit -n 65536"});
  const long pid_fd = ::syscall(SYS_pidfd_open, ::getpid(), 0);
  if (pid_fd >= 0) ::close(static_cast<int>(pid_fd));
  out.push_back({"pidfd", pid_fd >= 0, pid_fd >= 0 ? "available" : "missing", "a Linux kernel from 5.3 on is needed"});
  out.push_back({"cgroup", true, cgroup_mode(), ""});
  const bool bwrap = fs::exists("/usr/bin/bwrap");
  out.push_back({"sandbox", true,
                 bwrap ? "bubblewrap is there; executors run at level 1 (rlimits, no new privileges)"
                       : "executors run at level 1 (rlimits, no new privileges); level 2 is refused",
                 ""});
  return out;
}

}  // namespace

int run_doctor(Context& context) {
  auto checks = machine_checks(context);
  auto client = context.connect();
  if (client) {
    checks.push_back({"agent", true, "answers at " + daemon::Home(context.home).socket(), ""});
    if (auto result = client->request("agent.doctor"); result && (*result)["checks"].as_array() != nullptr) {
      for (const auto& row : *(*result)["checks"].as_array()) {
        checks.push_back(
            {row.text_or("check", "?"), row.bool_or("ok", false), row.text_or("fact", ""), row.text_or("fix", "")});
      }
    }
  } else {
    checks.push_back({"agent", false, "none runs in " + context.home, "shoal up"});
  }
  bool good = true;
  wire::Dynamic::Array rows;
  for (const auto& check : checks) {
    good = good && check.ok;
    rows.emplace_back(wire::Dynamic::Map{
        {"check", check.what}, {"ok", check.ok}, {"fact", check.fact}, {"fix", check.ok ? "" : check.fix}});
  }
  print(wire::Dynamic(std::move(rows)), context.format,
        {{"check", "CHECK"}, {"ok", "OK"}, {"fact", "FACT"}, {"fix", "FIX"}});
  return good ? kOk : kFailed;
}

int run_completion(Context& context) {
  const std::string& shell = context.arguments[0];
  std::string words;
  std::set<std::string> first;
  std::string flags = "--home --agent -o --help";
  for (const auto& command : commands()) {
    if (first.emplace(command.name.substr(0, command.name.find(' '))).second)
      words += (words.empty() ? "" : " ") + std::string(command.name.substr(0, command.name.find(' ')));
  }
  const auto options_of = [&](const Command& command) {
    std::string out = flags;
    for (const auto& option : command.options) out += fmt::format(" --{}", option.name);
    return out;
  };
  if (shell == "bash") {
    fmt::print(
        "_shoal() {{\n  local current=${{COMP_WORDS[COMP_CWORD]}}\n  case \"${{COMP_WORDS[1]}} "
        "${{COMP_WORDS[2]}}\" in\n");
    std::string singles;
    for (const auto& command : commands()) {
      const bool two = command.name.find(' ') != std::string_view::npos;
      const std::string line = fmt::format("    \"{}\"{}) COMPREPLY=($(compgen -f -W \"{}\" -- \"$current\")) ;;\n",
                                           two ? std::string(command.name) : std::string(command.name) + " ",
                                           two ? "" : "*", options_of(command));
      if (two) {
        fmt::print("{}", line);
      } else {
        singles += line;
      }
    }
    fmt::print(
        "{}    *) ;;\n  esac\n  [ \"$COMP_CWORD\" -eq 1 ] && COMPREPLY=($(compgen -W \"{}\" -- "
        "\"$current\"))\n}}\ncomplete -F _shoal shoal\n",
        singles, words);
    return kOk;
  }
  if (shell == "zsh") {
    fmt::print("#compdef shoal\nlocal -a commands\ncommands=(\n");
    for (const auto& command : commands()) {
      std::string summary(command.summary);
      std::erase(summary, '\'');
      fmt::print("  '{}:{}'\n", command.name, summary);
    }
    fmt::print(")\nif (( CURRENT == 2 )); then _describe command commands; else _files; fi\n");
    return kOk;
  }
  if (shell == "fish") {
    for (const auto& command : commands()) {
      const std::string_view name = command.name.substr(0, command.name.find(' '));
      std::string summary(command.summary);
      std::erase(summary, '\'');
      fmt::print("complete -c shoal -n __fish_use_subcommand -a {} -d '{}'\n", name, summary);
      for (const auto& option : command.options)
        fmt::print("complete -c shoal -n '__fish_seen_subcommand_from {}' -l {}\n", name, option.name);
    }
    return kOk;
  }
  complain(fmt::format("completions are for bash, zsh or fish, not \"{}\"", shell));
  return kUsage;
}

int run_man(Context& /*context*/) {
  fmt::print(
      ".TH SHOAL 1 \"\" \"shoal {}\" \"Shoal\"\n.SH NAME\nshoal \\- run, see and operate agents of the "
      "computing continuum\n"
      ".SH SYNOPSIS\n.B shoal\n[\\-\\-home DIR] [\\-\\-agent NAME] [\\-o FORMAT] COMMAND ...\n.SH COMMANDS\n",
      SHOAL_VERSION);
  for (const auto& command : commands()) {
    fmt::print(".TP\n.B {} {}\n{}.\n", command.name, command.arguments, command.summary);
    for (const auto& option : command.options)
      fmt::print(".br\n\\-\\-{} {}: {}\n", option.name, option.argument, option.help);
    fmt::print(".br\nExample: {}\n", command.example);
  }
  fmt::print(
      ".SH EXIT STATUS\n0 done, 1 failed, 2 usage, 3 no agent answers, 4 not found, 5 denied, 6 cannot be "
      "placed, 7 timed out,\n"
      "8 the application failed. run and attach return the program's own.\n");
  return kOk;
}

int run_version(Context& context) {
  print(wire::Dynamic(wire::Dynamic::Map{{"shoal", SHOAL_VERSION},
                                         {"client_protocol", client::kProtocolVersion},
                                         {"wire_protocol", 1},
                                         {"compiler", __VERSION__}}),
        context.format);
  return kOk;
}

}  // namespace shoal::cli
