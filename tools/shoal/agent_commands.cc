// Commands that make, start, stop and look at agents.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "agent/daemon/home.h"
#include "agent/settings/settings.h"
#include "protocol/identity/realm.h"
#include "protocol/link/join.h"
#include "tools/shoal/view.h"

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kPauseUs = 10'000;         // between two looks at something that takes a moment
constexpr std::int64_t kLastWordsUs = 5'000'000;  // from taking back its ready file to the end of the process

WallTime wall_now() {
  return {std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
              .count()};
}

Result<settings::Settings> load_settings(const Context& context) {
  std::vector<std::string> flags = context.rest;
  if (context.home_named) flags.insert(flags.begin(), {"--home", context.home});
  return settings::Settings::load(flags, settings::process_environment());
}

// Settings given to init and join are kept: later starts need not repeat them.
Result<> remember_settings(const Context& context, const settings::Settings& settings) {
  std::string text;
  for (const auto& [key, value] : settings.all()) {
    if (!value.origin.starts_with("flag") || key == "home" || key == "config") continue;
    if (key == "labels") {
      text += "labels = {";
      bool first = true;
      for (const auto& [label, said] : settings.labels()) {
        text += fmt::format("{} \"{}\" = \"{}\"", first ? "" : ",", label, said);
        first = false;
      }
      text += " }\n";
    } else {
      std::string quoted;
      for (char c : value.text) quoted += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
      text += fmt::format("{} = \"{}\"\n", key, quoted);
    }
  }
  if (text.empty()) return {};
  const std::string path = context.home + "/config.toml";
  if (fs::exists(path)) {
    return fail(Code::kExists,
                fmt::format("{} exists already: put the settings there instead of on the command line", path));
  }
  return daemon::replace_file(path, text, 0644);
}

std::string default_name() {
  char host[256] = {};
  ::gethostname(host, sizeof(host) - 1);
  return host;
}

identity::Profile profile_of(const settings::Settings& settings) {
  const std::string& name = settings.text("name");
  return {name.empty() ? default_name() : name, settings.labels()};
}

std::string daemon_program() {
  std::error_code ignored;
  const fs::path self = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const fs::path& candidate : {self / "shoald", self / "../../agent/daemon/shoald"}) {
    if (fs::exists(candidate, ignored)) return candidate.lexically_normal().string();
  }
  return "shoald";
}

std::vector<std::string> daemon_command(const Context& context) {
  std::vector<std::string> words = {daemon_program()};
  if (context.home_named) words.insert(words.end(), {"--home", context.home});
  words.insert(words.end(), context.rest.begin(), context.rest.end());
  return words;
}

Result<pid_t> spawn_daemon(const std::vector<std::string>& command, const std::string& log) {
  std::vector<std::string> words = command;
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0) return fail(Code::kFailed, fmt::format("cannot run {}: {}", command[0], std::strerror(failed)));
  return pid;
}

std::string last_lines(const std::string& path, std::uintmax_t offset) {
  auto text = daemon::read_file(path);
  if (!text || text->size() <= offset) return {};
  std::string tail = text->substr(offset);
  return tail.size() > 2000 ? tail.substr(tail.size() - 2000) : tail;
}

void pause_briefly() {
  std::this_thread::sleep_for(std::chrono::microseconds(kPauseUs));
}

// Waits until an agent that was asked to stop has ended; the exit code.
int wait_for_end(const Context& context, const daemon::Home& home, pid_t pid) {
  const Duration patience = context.timeout.value_or(seconds(20));
  for (std::int64_t waited = 0; waited < patience.us; waited += kPauseUs) {
    if (::kill(pid, 0) != 0) return kOk;
    // One that another process started and does not wait for stays as a zombie: it has ended all the same.
    if (!home.read_ready() && waited > kLastWordsUs) return kOk;
    pause_briefly();
  }
  complain(fmt::format("process {} still stops; look at {}", pid, home.at("logs/shoald.log")));
  return kTimedOut;
}

}  // namespace

int run_up(Context& context) {
  if (auto settings = load_settings(context); !settings) return report(settings.error());
  const auto command = daemon_command(context);
  if (context.has("foreground")) {
    std::vector<std::string> words = command;
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execvp(argv[0], argv.data());
    return report(Error{Code::kFailed, fmt::format("cannot run {}: {}", argv[0], std::strerror(errno))});
  }
  const daemon::Home home(context.home);
  if (auto ready = home.read_ready(); ready) {
    complain(fmt::format("an agent (process {}) already runs in {}", ready->pid, context.home));
    return kOk;
  }
  if (auto prepared = home.prepare(); !prepared) return report(prepared.error());
  const std::string log = home.at("logs/shoald.log");
  std::error_code ignored;
  const auto offset = fs::exists(log, ignored) ? fs::file_size(log, ignored) : 0;
  auto pid = spawn_daemon(command, log);
  if (!pid) return report(pid.error());
  const Duration patience = context.timeout.value_or(seconds(30));
  for (std::int64_t waited = 0; waited < patience.us; waited += kPauseUs) {
    if (auto ready = home.read_ready(); ready && ready->pid == static_cast<std::uint64_t>(*pid)) {
      const Shape shape{"", {}, "agent"};
      put(render(wire::Dynamic(wire::Dynamic::Map{{"agent", ready->agent},
                                                  {"name", ready->name},
                                                  {"pid", ready->pid},
                                                  {"endpoint", ready->endpoint},
                                                  {"http", ready->http},
                                                  {"home", context.home}}),
                 shape, context.look));
      return kOk;
    }
    int status = 0;
    if (::waitpid(*pid, &status, WNOHANG) == *pid) {
      complain("the agent did not start:");
      fmt::print(stderr, "{}", last_lines(log, offset));
      return kFailed;
    }
    pause_briefly();
  }
  complain(fmt::format("the agent does not get ready; see {}", log));
  return kTimedOut;
}

int run_down(Context& context) {
  const daemon::Home home(context.home);
  auto ready = home.read_ready();
  if (!ready) return report(ready.error());
  const auto pid = static_cast<pid_t>(ready->pid);
  if (::kill(pid, SIGTERM) != 0)
    return report(Error{Code::kFailed, fmt::format("cannot stop process {}: {}", pid, std::strerror(errno))});
  return wait_for_end(context, home, pid);
}

int run_dev(Context& context) {
  std::string pattern = (fs::temp_directory_path() / "shoal-dev-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) return report(Error{Code::kFailed, "cannot make a temporary directory"});
  context.home = pattern;
  context.home_named = true;
  const auto command = daemon_command(context);
  fmt::print("throw-away agent in {}; in another terminal: shoal --home {} status\n", pattern, pattern);
  std::fflush(stdout);
  ::signal(SIGINT, SIG_IGN);  // Ctrl-C reaches the agent, which stops by itself
  std::vector<std::string> words = command;
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGINT);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, argv[0], nullptr, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  int status = 0;
  if (failed == 0) ::waitpid(pid, &status, 0);
  std::error_code ignored;
  fs::remove_all(pattern, ignored);
  if (failed != 0)
    return report(Error{Code::kFailed, fmt::format("cannot run {}: {}", argv[0], std::strerror(failed))});
  return WIFEXITED(status) ? WEXITSTATUS(status) : kFailed;
}

int run_init(Context& context) {
  auto settings = load_settings(context);
  if (!settings) return report(settings.error());
  const daemon::Home home(context.home);
  if (auto prepared = home.prepare(); !prepared) return report(prepared.error());
  auto identity = identity::init_realm(context.home, profile_of(*settings), wall_now());
  if (!identity) return report(identity.error());
  if (auto kept = remember_settings(context, *settings); !kept) return report(kept.error());
  put(render(wire::Dynamic(wire::Dynamic::Map{{"realm", identity->realm.hex()},
                                              {"agent", identity->id().hex()},
                                              {"home", context.home},
                                              {"root_key", home.at("realm/root.key")}}),
             Shape{"", {}, "agent"}, context.look));
  if (context.quiet) return kOk;
  complain(
      "the realm's root key lies beside the agent: move it to a safe place; it is needed only to let further "
      "agents issue tokens");
  return kOk;
}

int run_join(Context& context) {
  auto token = identity::JoinToken::parse(context.arguments[0]);
  if (!token) return report(token.error());
  auto settings = load_settings(context);
  if (!settings) return report(settings.error());
  const daemon::Home home(context.home);
  if (auto prepared = home.prepare(); !prepared) return report(prepared.error());
  if (identity::load_identity(context.home)) {
    return report(Error{
        Code::kExists,
        fmt::format("{} already belongs to a realm; use another --home, or remove it to start anew", context.home)});
  }
  auto keys = identity::load_or_create_keys(context.home);
  if (!keys) return report(keys.error());
  auto grant = link::join_realm(*token, *keys, profile_of(*settings), context.timeout.value_or(seconds(15)));
  if (!grant) return report(grant.error());
  if (auto kept = remember_settings(context, *settings); !kept) return report(kept.error());
  if (auto written = home.write_admission({grant->contacts, grant->child_region}); !written)
    return report(written.error());
  identity::AgentIdentity identity{*keys, grant->realm, grant->chain, grant->leave};
  if (auto saved = identity::save_identity(context.home, identity); !saved) return report(saved.error());
  put(render(
      wire::Dynamic(wire::Dynamic::Map{{"realm", grant->realm.hex()},
                                       {"agent", identity.id().hex()},
                                       {"home", context.home},
                                       {"region", grant->child_region.empty() ? "the issuer's" : grant->child_region}}),
      Shape{"", {}, "agent"}, context.look));
  if (!context.quiet)
    complain(context.home_named ? "start it with `shoal --home " + context.home + " up`" : "start it with `shoal up`");
  return kOk;
}

int run_token_create(Context& context) {
  auto life = parse_duration(context.option("life", "10m"));
  if (!life) return report(life.error());
  auto client = context.connect();
  if (!client) return report(client.error());
  auto result =
      client->request("token.create", {{"child_region", context.option("child-region")}, {"life_ms", life->us / 1000}});
  if (!result) return report(result.error());
  const bool people = context.look.format == Format::kTable;
  put(people ? result->text_or("token", "") + "\n" : render(*result, Shape{"", {}, "token"}, context.look));
  return kOk;
}

int run_leave(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto status = client->request("agent.status");
  if (!status) return report(status.error());
  const Step step{
      "leave", status->text_or("name", ""),
      fmt::format("region {}, {} running applications are stopped, {} objects", status->text_or("region", "?"),
                  status->int_or("apps_running", 0), status->int_or("objects", 0))};
  return carefully(context, {step}, [&] {
    // Read first: an agent that nobody holds back is gone before its answer is.
    const daemon::Home home(context.home);
    const auto ready = home.read_ready();
    auto result = client->request("agent.leave");
    if (!result) return report(result.error());
    if (!context.agent.empty() || !ready) return static_cast<int>(kOk);
    return wait_for_end(context, home, static_cast<pid_t>(ready->pid));
  });
}

}  // namespace shoal::cli
