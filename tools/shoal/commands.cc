// The command table. The order is the order of the help.
#include "tools/shoal/command.h"

namespace shoal::cli {
namespace {

const Option kPython{"python", 0, "PATH", "interpreter of the program and its tasks"};
const Option kScheduler{"scheduler", 0, "NAME",
                        "completion, critical-path, fifo, lifo, locality, random, or a scheduler class of COMPSs"};
const Option kEnv{"env", 'e', "KEY=VALUE", "environment of the program"};
const Option kCheckpoint{"checkpoint", 0, "DIR", "save finished tasks there, and begin with what is there"};
const Option kCheckpointPolicy{"checkpoint-policy", 0, "WHEN",
                               "finished:N tasks (default 1), time:N seconds, group:N calls, or snapshot"};
const Option kCheckpointAvoid{"checkpoint-avoid", 0, "FUNCTIONS", "do not save what these give: names with commas"};
const Option kEnvironment{
    "environment", 0, "[NAME=]FILE|DIR",
    "packages that the program needs: requirements, wheels, modules or an environment.toml; with a "
    "NAME for tasks that ask for it"};
const Option kTaskOutput{"task-output", 0, "", "show what tasks print, too, wherever they run"};

std::vector<Command> agent_commands() {
  return {
      {.name = "up",
       .arguments = "[SETTINGS]",
       .summary = "start an agent in the background",
       .options = {{"foreground", 0, "", "stay attached to the terminal"}},
       .example = "shoal up --name gateway-7 --labels tier=edge",
       .run = run_up,
       .passes_settings = true},
      {.name = "down",
       .arguments = "",
       .summary = "stop the agent: it leaves its region, finishes writing and ends",
       .example = "shoal down --timeout 1m",
       .run = run_down},
      {.name = "dev",
       .arguments = "[SETTINGS]",
       .summary = "run a throw-away agent until Ctrl-C",
       .example = "shoal dev",
       .run = run_dev,
       .passes_settings = true},
      {.name = "init",
       .arguments = "[SETTINGS]",
       .summary = "found a realm: keys and a certificate for this first agent",
       .example = "shoal init --name cloud-1 --region cloud",
       .run = run_init,
       .passes_settings = true},
      {.name = "join",
       .arguments = "TOKEN [SETTINGS]",
       .least = 1,
       .most = 1,
       .summary = "join a realm with a token from `shoal token create`",
       .example = "shoal join shoal1-… --name fog-2",
       .run = run_join,
       .passes_settings = true},
      {.name = "token create",
       .arguments = "",
       .summary = "print a token that lets one agent join this agent's region",
       .options = {{"child-region", 0, "NAME", "found or join the region NAME below this agent's region"},
                   {"life", 0, "TIME", "how long it can be used (default 10m)"}},
       .example = "shoal token create --child-region fog",
       .run = run_token_create},
      {.name = "leave",
       .arguments = "",
       .summary = "leave the region gracefully and stop",
       .example = "shoal leave --yes",
       .run = run_leave,
       .destroys = true},
      {.name = "status",
       .arguments = "",
       .summary = "what this agent is and how it does",
       .example = "shoal status",
       .run = run_status,
       .view = View::kWatch},
      {.name = "agents",
       .arguments = "",
       .summary = "agents of this agent's region, and of the one above it",
       .example = "shoal agents --sort -units_free -o wide",
       .run = run_agents,
       .view = View::kList},
      {.name = "topology",
       .arguments = "",
       .summary = "the tree of regions and agents, their roles, resources and state",
       .example = "shoal topology",
       .run = run_topology,
       .view = View::kWatch},
  };
}

std::vector<Command> app_commands() {
  return {
      {.name = "run",
       .arguments = "PROGRAM [ARGUMENTS]",
       .least = 1,
       .most = 1,
       .summary = "run an application and stay attached; its exit code becomes shoal's",
       .options = {kPython, kEnv, kScheduler, kEnvironment, kCheckpoint, kCheckpointPolicy, kCheckpointAvoid,
                   kTaskOutput},
       .example = "shoal run --task-output train.py --epochs 3",
       .run = run_run,
       .takes_rest = true,
       .own_codes = true},
      {.name = "submit",
       .arguments = "PROGRAM [ARGUMENTS]",
       .least = 1,
       .most = 1,
       .summary = "start an application and print its id",
       .options = {kPython,
                   kEnv,
                   kScheduler,
                   kCheckpoint,
                   kCheckpointPolicy,
                   kCheckpointAvoid,
                   kEnvironment,
                   {"wait", 'w', "", "wait for its end"},
                   {"follow", 'f', "", "wait for its end and show its output"}},
       .example = "shoal submit --wait --timeout 5m pipeline.py",
       .run = run_submit,
       .takes_rest = true},
      {.name = "attach",
       .arguments = "APP",
       .least = 1,
       .most = 1,
       .summary = "follow a submitted application; its exit code becomes shoal's",
       .options = {kTaskOutput},
       .example = "shoal attach last",
       .run = run_attach},
      {.name = "apps",
       .arguments = "",
       .summary = "applications of this agent",
       .example = "shoal apps --filter state=done",
       .run = run_apps,
       .view = View::kList},
      {.name = "tasks",
       .arguments = "[APP] [TASKS]",
       .most = 2,
       .summary = "tasks of an application: all, or a selection such as 7, last or 1-10:2",
       .options = {{"state", 0, "STATE", "only waiting, ready, running, done, failed or cancelled ones"},
                   {"limit", 'n', "N", "at most N (default 100; 10000 with TASKS)"}},
       .example = "shoal tasks last 1-10:2 --columns task,state,agent_name",
       .run = run_tasks,
       .view = View::kList},
      {.name = "explain",
       .arguments = "APP TASK",
       .least = 2,
       .most = 2,
       .summary = "why a task runs where it does, or not yet; exit code 6 when no agent can run it",
       .example = "shoal explain last 1",
       .run = run_explain},
      {.name = "logs",
       .arguments = "[APP] [TASKS]",
       .most = 2,
       .summary = "output of an application's program, or of its tasks: 7, last, 1-10:2, all",
       .options = {{"follow", 'f', "", "keep printing until it ends"},
                   {"tasks", 't', "", "of all tasks, each line with its task and agent"}},
       .example = "shoal logs last 1-10:2 --follow",
       .run = run_logs},
      {.name = "cancel",
       .arguments = "APP…",
       .least = 1,
       .most = 1000,
       .summary = "stop applications and their tasks; `all` means those that run",
       .example = "shoal cancel last --dry-run",
       .run = run_cancel,
       .destroys = true},
      {.name = "graph",
       .arguments = "APP",
       .least = 1,
       .most = 1,
       .summary = "the task graph as SVG (or DOT with --dot) on stdout",
       .options = {{"dot", 0, "", "Graphviz text"}},
       .example = "shoal graph last > graph.svg",
       .run = run_graph},
      {.name = "timeline",
       .arguments = "APP",
       .least = 1,
       .most = 1,
       .summary = "the timeline as SVG (or Perfetto JSON with --perfetto) on stdout, or a Paraver trace",
       .options = {{"perfetto", 0, "", "JSON for the Perfetto viewer"},
                   {"paraver", 0, "NAME", "writes NAME.prv, NAME.pcf and NAME.row for Paraver"}},
       .example = "shoal timeline last > timeline.svg",
       .run = run_timeline},
  };
}

std::vector<Command> environment_commands() {
  return {
      {.name = "environments",
       .arguments = "",
       .summary = "environments of applications that this agent keeps: their packages, built once",
       .example = "shoal environments --sort -bytes",
       .run = run_environments,
       .view = View::kList},
      {.name = "environments ls",
       .arguments = "",
       .summary = "the same",
       .example = "shoal environments ls -o json",
       .run = run_environments,
       .view = View::kList},
      {.name = "environments build",
       .arguments = "FILE|DIR",
       .least = 1,
       .most = 1,
       .summary = "pack an environment and have the agent build it ahead of time; prints its id",
       .example = "shoal environments build requirements.txt",
       .run = run_environments_build},
      {.name = "environments rm",
       .arguments = "ENVIRONMENT…",
       .least = 1,
       .most = 1000,
       .summary = "remove environments that are not in use, by id or name",
       .example = "shoal environments rm requirements --dry-run",
       .run = run_environments_rm,
       .destroys = true},
  };
}

std::vector<Command> data_commands() {
  return {
      {.name = "objects",
       .arguments = "",
       .summary = "objects and aliases of the store",
       .example = "shoal objects --sort -bytes",
       .run = run_objects,
       .view = View::kList},
      {.name = "objects put",
       .arguments = "FILE",
       .least = 1,
       .most = 1,
       .summary = "store a file's bytes; prints the object id",
       .options = {{"alias", 0, "NAME", "give it this name"},
                   {"replicas", 0, "K", "copies on different agents (default 2)"},
                   {"receipt", 0, "LEVEL", "wait until it is safe at local, region, parent or cloud (default local)"}},
       .example = "shoal objects put model.bin --alias model --receipt local",
       .run = run_objects_put},
      {.name = "objects get",
       .arguments = "OBJECT [FILE]",
       .least = 1,
       .most = 2,
       .summary = "read an object or alias into FILE, or to stdout",
       .example = "shoal objects get model out.bin",
       .run = run_objects_get},
      {.name = "objects rm",
       .arguments = "OBJECT…",
       .least = 1,
       .most = 1000,
       .summary = "delete objects or aliases",
       .example = "shoal objects rm model --dry-run",
       .run = run_objects_rm,
       .destroys = true},
      {.name = "objects locate",
       .arguments = "OBJECT",
       .least = 1,
       .most = 1,
       .summary = "which agents hold an object or alias",
       .example = "shoal objects locate model",
       .run = run_objects_locate},
      {.name = "streams",
       .arguments = "",
       .summary = "streams this agent knows",
       .example = "shoal streams -o csv",
       .run = run_streams,
       .view = View::kList},
      {.name = "streams status",
       .arguments = "STREAM",
       .least = 1,
       .most = 1,
       .summary = "partitions, writers, groups and lag of a stream",
       .example = "shoal streams status readings",
       .run = run_streams_status,
       .view = View::kWatch},
      {.name = "streams publish",
       .arguments = "STREAM [TEXT…]",
       .least = 1,
       .most = 1000,
       .summary = "append each TEXT (or each line of stdin) as a record",
       .options = {{"create", 0, "", "make the stream if there is none"}},
       .example = "shoal streams publish readings '21.5' --create",
       .run = run_streams_publish},
      {.name = "streams tail",
       .arguments = "STREAM",
       .least = 1,
       .most = 1,
       .summary = "print records as they come; --timeout ends it after so long without one",
       .options = {{"from", 0, "earliest|latest", "where to start (default earliest)"},
                   {"count", 'n', "N", "stop after N records"}},
       .example = "shoal streams tail readings --count 1",
       .run = run_streams_tail},
      {.name = "streams close",
       .arguments = "STREAM",
       .least = 1,
       .most = 1,
       .summary = "end a stream for all its readers",
       .example = "shoal streams close readings --yes",
       .run = run_streams_close,
       .destroys = true},
      {.name = "sources",
       .arguments = "",
       .summary = "sensors and other sources attached to this agent",
       .example = "shoal sources",
       .run = run_sources,
       .view = View::kList},
  };
}

std::vector<Command> self_commands() {
  return {
      {.name = "doctor",
       .arguments = "",
       .summary = "check this machine and this agent; exit code 1 when something is broken",
       .example = "shoal doctor",
       .run = run_doctor,
       .view = View::kRows},
      {.name = "config show",
       .arguments = "[SETTINGS]",
       .summary = "every setting and its value",
       .options = {{"origin", 0, "", "and where it comes from"}},
       .example = "shoal config show --origin",
       .run = run_config_show,
       .view = View::kRows,
       .passes_settings = true},
      {.name = "completion",
       .arguments = "SHELL",
       .least = 1,
       .most = 1,
       .summary = "print completions for bash, zsh or fish",
       .example = "shoal completion bash",
       .run = run_completion},
      {.name = "man",
       .arguments = "",
       .summary = "print the manual page (roff)",
       .example = "shoal man > shoal.1",
       .run = run_man},
      {.name = "version",
       .arguments = "",
       .summary = "versions of this program, its protocols and its JSON",
       .example = "shoal version -o json",
       .run = run_version},
      {.name = "help",
       .arguments = "[COMMAND]",
       .most = 2,
       .summary = "help of a command; with -o json the whole command table",
       .example = "shoal help logs",
       .run = run_help},
  };
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> kCommands = [] {
    std::vector<Command> all;
    for (auto part : {agent_commands, app_commands, environment_commands, data_commands, self_commands}) {
      auto commands = part();
      all.insert(all.end(), commands.begin(), commands.end());
    }
    return all;
  }();
  return kCommands;
}

const std::vector<Option>& common_options() {
  static const std::vector<Option> kOptions = {
      {"home", 0, "DIR", "the agent's directory (environment SHOAL_HOME)"},
      {"agent", 0, "NAME", "ask another agent of the hierarchy, by name or id, through this one"},
      {"output", 'o', "FORMAT", "table, wide, json, jsonl, yaml, csv or quiet: ids only (environment SHOAL_OUTPUT)"},
      {"quiet", 'q', "", "no progress and no hints; of results only ids, unless -o says otherwise"},
      {"color", 0, "WHEN", "auto, always or never (environment NO_COLOR, CLICOLOR_FORCE)"},
      {"timeout", 0, "TIME", "give up after so long, e.g. 90s or 5m"},
      {"help", 'h', "", "help of a command"},
  };
  return kOptions;
}

const std::vector<Option>& view_options() {
  static const std::vector<Option> kOptions = {
      {"watch", 0, "", "show it again and again, until Ctrl-C or --timeout"},
      {"interval", 0, "TIME", "how often --watch does (default 2s)"},
      {"filter", 0, "KEY=VALUE", "only rows with this value; may be said again"},
      {"sort", 0, "KEY", "order by KEY, -KEY for descending; several with commas"},
      {"columns", 0, "KEY,KEY", "these columns in table, wide and csv"},
  };
  return kOptions;
}

const std::vector<Option>& destruction_options() {
  static const std::vector<Option> kOptions = {
      {"dry-run", 0, "", "only say what would be done"},
      {"yes", 'y', "", "do not ask"},
  };
  return kOptions;
}

std::vector<Option> options_of(const Command& command) {
  std::vector<Option> out = command.options;
  const auto add = [&](const std::vector<Option>& more, std::size_t count) {
    out.insert(out.end(), more.begin(), more.begin() + static_cast<std::ptrdiff_t>(count));
  };
  if (command.view == View::kWatch) add(view_options(), 2);
  if (command.view == View::kList) add(view_options(), view_options().size());
  if (command.view == View::kRows) out.insert(out.end(), view_options().begin() + 2, view_options().end());
  if (command.destroys) add(destruction_options(), destruction_options().size());
  add(common_options(), common_options().size());
  return out;
}

}  // namespace shoal::cli
