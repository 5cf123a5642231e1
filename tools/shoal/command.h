// tools/shoal/command.h
//
// One table declares every command: it feeds the parser, the help, the completions, the man page, and a test
// that runs each example. A handler gets what was parsed and returns the exit code.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/result.h"
#include "tools/shoal/client.h"
#include "tools/shoal/output.h"

namespace shoal::cli {

// Exit codes: documented, tested, frozen.
enum Exit : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kUnreachable = 3,  // no agent answers
  kNotFound = 4,
  kDenied = 5,
  kCannotPlace = 6,
  kTimedOut = 7,
  kAppFailed = 8,
  // Of `run`, whose other codes are the program's own:
  kRunFailed = 125,
  kRunCannotExecute = 126,
  kRunNotFound = 127,
  kSignalled = 128,  // plus the signal's number
};

struct Option {
  std::string_view name;      // without dashes
  char letter = 0;            // of the short form; 0: none
  std::string_view argument;  // shown in the help; empty: a switch
  std::string_view help;
};

// How a command's answer can be looked at, beyond its format.
enum class View : std::uint8_t {
  kOnce,
  kWatch,  // --watch
  kRows,   // --filter, --sort, --columns
  kList,   // all of them
};

struct Command;

struct Context {
  const Command* command = nullptr;
  std::string home;
  bool home_named = false;  // by --home or SHOAL_HOME
  std::string agent;        // --agent
  Look look;
  bool quiet = false;                                       // -q
  std::optional<Duration> timeout;                          // --timeout
  std::vector<std::string> arguments;                       // of the command, without options
  std::map<std::string, std::vector<std::string>> options;  // by name; a switch has an empty value
  std::vector<std::string> rest;                            // after the program of `run`, or settings of an agent

  bool has(const std::string& name) const { return options.count(name) != 0; }
  std::string option(const std::string& name, std::string otherwise = {}) const {
    auto it = options.find(name);
    return it == options.end() ? otherwise : it->second.back();
  }
  std::string argument(std::size_t index, std::string otherwise = {}) const {
    return index < arguments.size() ? arguments[index] : otherwise;
  }
  // kInvalid unless the option is absent or a whole number from `low` on.
  Result<std::int64_t> number(const std::string& name, std::int64_t otherwise, std::int64_t low) const;
  // Connected to the agent of `home`; requests go to `agent` and take at most `timeout`.
  Result<Client> connect() const;
};

struct Command {
  std::string_view name;       // "objects put": up to two words
  std::string_view arguments;  // "FILE": for the help; names in capitals are positional
  std::size_t least = 0;       // positional arguments
  std::size_t most = 0;
  std::string_view summary;
  std::vector<Option> options = {};
  std::string_view example;
  int (*run)(Context&) = nullptr;
  View view = View::kOnce;
  bool destroys = false;         // takes --dry-run and --yes
  bool takes_rest = false;       // everything after the first positional argument belongs to it
  bool passes_settings = false;  // takes the agent's settings as options
  bool own_codes = false;        // its exit codes are a program's: shoal's own failures are kRunFailed
};

const std::vector<Command>& commands();
// Options of every command, of those with a View, and of those that destroy something.
const std::vector<Option>& common_options();
const std::vector<Option>& view_options();
const std::vector<Option>& destruction_options();
// All that `command` takes, its own first.
std::vector<Option> options_of(const Command& command);

// The exit code that fits an error.
int exit_code(const Error& error);
// Complains and returns the exit code.
int report(const Error& error);

// A duration such as "90s", "5m", "250ms" or a plain number of seconds.
Result<Duration> parse_duration(std::string_view text);

// -- handlers, by topic --
int run_up(Context&);
int run_down(Context&);
int run_dev(Context&);
int run_init(Context&);
int run_join(Context&);
int run_token_create(Context&);
int run_status(Context&);
int run_agents(Context&);
int run_topology(Context&);
int run_leave(Context&);
int run_run(Context&);
int run_submit(Context&);
int run_attach(Context&);
int run_apps(Context&);
int run_tasks(Context&);
int run_explain(Context&);
int run_logs(Context&);
int run_cancel(Context&);
int run_graph(Context&);
int run_timeline(Context&);
int run_environments(Context&);
int run_environments_build(Context&);
int run_environments_rm(Context&);
int run_objects(Context&);
int run_objects_put(Context&);
int run_objects_get(Context&);
int run_objects_rm(Context&);
int run_objects_locate(Context&);
int run_streams(Context&);
int run_streams_status(Context&);
int run_streams_publish(Context&);
int run_streams_tail(Context&);
int run_streams_close(Context&);
int run_sources(Context&);
int run_doctor(Context&);
int run_config_show(Context&);
int run_completion(Context&);
int run_man(Context&);
int run_version(Context&);
int run_help(Context&);

}  // namespace shoal::cli
