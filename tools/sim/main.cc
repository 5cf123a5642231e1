// shoal-sim: runs seeds of the simulator and says, in one line each, how to repeat those that fail.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tools/sim/scenario.h"

namespace {

using shoal::sim::RunOptions;
using shoal::sim::RunResult;

constexpr const char* kHelp =
    "Usage: shoal-sim [--scenario NAME] [--seeds A..B | --seed N] [options]\n"
    "\n"
    "Runs simulated worlds of Shoal agents and checks the invariants of tools/sim/README.md.\n"
    "\n"
    "  --scenario NAME   mixed (default), overlay, tasks, store, idle10k, detect\n"
    "  --seeds A..B      every seed from A to B, both included (default 1..100)\n"
    "  --seed N          one seed, decimal or 0x..., with its story told\n"
    "  --agents N        agents in the world (default: drawn from the seed; 10000 in the large scenarios)\n"
    "  --jobs N          processes to share the seeds (default 2)\n"
    "  --bug NAME        plant a mistake that an invariant must notice; 'list' names them\n"
    "  --hash            print 'seed hash' for every run, to compare compilers with diff\n"
    "  --trace agent=N   print the inputs and effects of agent N (with --seed)\n"
    "  --until-event N   stop after event N\n"
    "  --skip I,J        leave out entries of the fault schedule\n"
    "  --reduce          drop fault entries while the run still fails (with --seed)\n"
    "\n"
    "Exit: 0 no violation, 1 violation (one line repeats it), 2 wrong usage.\n";

struct Arguments {
  RunOptions run;
  std::uint64_t first = 1;
  std::uint64_t last = 100;
  unsigned jobs = 2;
  bool hash = false;
  bool reduce = false;
  bool one = false;
};

[[noreturn]] void usage_error(const std::string& message) {
  std::fprintf(stderr, "shoal-sim: %s. Run 'shoal-sim --help' for the options.\n", message.c_str());
  std::exit(2);
}

std::uint64_t number(const std::string& option, const std::string& text) {
  char* end = nullptr;
  const std::uint64_t value = std::strtoull(text.c_str(), &end, 0);
  if (text.empty() || *end != '\0') usage_error(option + " wants a number, not '" + text + "'");
  return value;
}

void take_seeds(Arguments& out, const std::string& text) {
  const std::size_t dots = text.find("..");
  if (dots == std::string::npos) usage_error("--seeds wants A..B, not '" + text + "'");
  out.first = number("--seeds", text.substr(0, dots));
  out.last = number("--seeds", text.substr(dots + 2));
  if (out.last < out.first) usage_error("--seeds " + text + " is empty: write the smaller seed first");
}

void take_bug(Arguments& out, const std::string& text) {
  if (auto bug = shoal::sim::bug_from(text)) {
    out.run.bug = *bug;
    return;
  }
  std::string names;
  for (const auto bug : shoal::sim::all_bugs()) names += " " + std::string(shoal::sim::bug_name(bug));
  if (text != "list") usage_error("there is no bug '" + text + "'; there are:" + names);
  std::printf("%s\n", names.c_str() + 1);
  std::exit(0);
}

Arguments parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= argc) usage_error(option + " wants a value");
      return argv[++i];
    };
    if (option == "--help" || option == "-h") {
      std::fputs(kHelp, stdout);
      std::exit(0);
    } else if (option == "--scenario") {
      out.run.scenario = value();
      if (!shoal::sim::is_scenario(out.run.scenario)) usage_error("there is no scenario '" + out.run.scenario + "'");
    } else if (option == "--seeds") {
      take_seeds(out, value());
    } else if (option == "--seed") {
      out.first = out.last = number(option, value());
      out.one = true;
    } else if (option == "--agents") {
      out.run.agents = static_cast<std::uint32_t>(number(option, value()));
    } else if (option == "--jobs") {
      out.jobs = static_cast<unsigned>(number(option, value()));
    } else if (option == "--bug") {
      take_bug(out, value());
    } else if (option == "--hash") {
      out.hash = true;
    } else if (option == "--reduce") {
      out.reduce = true;
    } else if (option == "--until-event") {
      out.run.until_event = number(option, value());
    } else if (option == "--trace") {
      const std::string text = value();
      if (!text.starts_with("agent=")) usage_error("--trace wants agent=N, not '" + text + "'");
      out.run.trace_agent = static_cast<std::uint32_t>(number(option, text.substr(6)));
    } else if (option == "--skip") {
      std::string text = value() + ",";
      for (std::size_t comma = text.find(','); comma != std::string::npos; comma = text.find(',')) {
        out.run.skip.insert(number(option, text.substr(0, comma)));
        text.erase(0, comma + 1);
      }
    } else {
      usage_error("unknown option '" + option + "'");
    }
  }
  const bool large = out.run.scenario == "idle10k" || out.run.scenario == "detect";
  if (large && !out.one) {
    if (out.last - out.first == 99) out.last = out.first;  // one run unless seeds are asked for
    out.jobs = 1;
  }
  if (out.jobs == 0) out.jobs = 1;
  return out;
}

// What a worker process tells of one seed, on one line of its pipe.
std::string report_line(const RunOptions& options, const RunResult& result) {
  char numbers[256];
  std::snprintf(numbers, sizeof numbers, "done %llu %016llx %llu %llu %llu %llu %llu %llu %llu ",
                static_cast<unsigned long long>(options.seed), static_cast<unsigned long long>(result.hash),
                static_cast<unsigned long long>(result.events), static_cast<unsigned long long>(result.faults),
                static_cast<unsigned long long>(result.apps), static_cast<unsigned long long>(result.apps_exempt),
                static_cast<unsigned long long>(result.tasks), static_cast<unsigned long long>(result.attempts),
                static_cast<unsigned long long>(result.writes));
  std::string line = numbers;
  if (result.violation) {
    std::string what = result.violation->what;
    for (char& c : what) {
      if (c == '\n') c = ' ';
    }
    line += "| " + result.violation->rule + ": " + what + " | " + shoal::sim::reproduce_line(options, result);
  }
  return line + "\n";
}

struct Totals {
  std::uint64_t runs = 0, events = 0, faults = 0, apps = 0, exempt = 0, tasks = 0, attempts = 0, writes = 0,
                violations = 0;
  std::map<std::uint64_t, std::string> hashes;
};

void on_report(const std::string& line, Totals& totals) {
  unsigned long long seed = 0, events = 0, faults = 0, apps = 0, exempt = 0, tasks = 0, attempts = 0, writes = 0;
  char hash[32] = {};
  if (std::sscanf(line.c_str(), "done %llu %31s %llu %llu %llu %llu %llu %llu %llu", &seed, hash, &events, &faults,
                  &apps, &exempt, &tasks, &attempts, &writes) != 9) {
    return;
  }
  ++totals.runs;
  totals.events += events;
  totals.faults += faults;
  totals.apps += apps;
  totals.exempt += exempt;
  totals.tasks += tasks;
  totals.attempts += attempts;
  totals.writes += writes;
  totals.hashes[seed] = hash;
  const std::size_t bar = line.find('|');
  if (bar == std::string::npos) return;
  ++totals.violations;
  const std::size_t second = line.find(" | ", bar + 1);
  std::printf("violation in seed %llu: %s\n%s\n", seed, line.substr(bar + 2, second - bar - 2).c_str(),
              line.substr(second + 3).c_str());
  std::fflush(stdout);
}

struct Worker {
  pid_t pid = 0;
  int pipe = -1;
  std::uint64_t seed = 0;  // being run
};

// Each worker runs every jobs-th seed and reports through a pipe; an aborting one (a broken invariant inside a machine)
// costs only the seed it was at, and another goes on behind it.
Worker spawn(const Arguments& arguments, std::uint64_t from) {
  int ends[2];
  if (pipe(ends) != 0) {
    std::perror("shoal-sim: cannot make a pipe");
    std::exit(2);
  }
  std::fflush(stdout);
  const pid_t pid = fork();
  if (pid < 0) {
    std::perror("shoal-sim: cannot start a worker process");
    std::exit(2);
  }
  if (pid == 0) {
    close(ends[0]);
    for (std::uint64_t seed = from; seed <= arguments.last; seed += arguments.jobs) {
      RunOptions options = arguments.run;
      options.seed = seed;
      const std::string line = report_line(options, shoal::sim::run(options));
      if (write(ends[1], line.data(), line.size()) < 0) _exit(3);
    }
    _exit(0);
  }
  close(ends[1]);
  return {pid, ends[0], from};
}

// Reads until the worker ends; returns the seed at which it aborted, if it did.
bool drain(const Arguments& arguments, Worker& worker, std::string& buffer, Totals& totals) {
  char chunk[4096];
  const ssize_t got = read(worker.pipe, chunk, sizeof chunk);
  if (got > 0) {
    buffer.append(chunk, static_cast<std::size_t>(got));
    for (std::size_t end = buffer.find('\n'); end != std::string::npos; end = buffer.find('\n')) {
      on_report(buffer.substr(0, end), totals);
      buffer.erase(0, end + 1);
      worker.seed += arguments.jobs;
    }
    return true;
  }
  close(worker.pipe);
  int status = 0;
  waitpid(worker.pid, &status, 0);
  worker.pid = 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return false;
  ++totals.violations;
  RunOptions options = arguments.run;
  options.seed = worker.seed;
  std::printf("violation in seed %llu: abort: a machine broke one of its own invariants (see stderr)\n%s\n",
              static_cast<unsigned long long>(worker.seed), shoal::sim::reproduce_line(options, {}).c_str());
  if (worker.seed + arguments.jobs > arguments.last) return false;
  worker = spawn(arguments, worker.seed + arguments.jobs);
  buffer.clear();
  return true;
}

int run_many(const Arguments& arguments) {
  Totals totals;
  std::timespec start{};
  std::timespec end{};
  clock_gettime(CLOCK_MONOTONIC, &start);
  std::vector<Worker> workers;
  std::vector<std::string> buffers(arguments.jobs);
  for (unsigned i = 0; i < arguments.jobs && arguments.first + i <= arguments.last; ++i) {
    workers.push_back(spawn(arguments, arguments.first + i));
  }
  for (std::size_t running = workers.size(); running > 0;) {
    for (std::size_t i = 0; i < workers.size(); ++i) {
      if (workers[i].pid != 0 && !drain(arguments, workers[i], buffers[i], totals)) {
        workers[i].pid = 0;
        --running;
      }
    }
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  if (arguments.hash) {
    for (const auto& [seed, hash] : totals.hashes)
      std::printf("%llu %s\n", static_cast<unsigned long long>(seed), hash.c_str());
  }
  const double seconds =
      static_cast<double>(end.tv_sec - start.tv_sec) + static_cast<double>(end.tv_nsec - start.tv_nsec) / 1e9;
  std::fprintf(
      arguments.hash ? stderr : stdout,
      "%s: %llu runs in %.1f s, %llu events, %llu faults, %llu apps (%llu exempt: their driver died), %llu tasks in "
      "%llu attempts, %llu acknowledged writes, %llu violations\n",
      arguments.run.scenario.c_str(), static_cast<unsigned long long>(totals.runs), seconds,
      static_cast<unsigned long long>(totals.events), static_cast<unsigned long long>(totals.faults),
      static_cast<unsigned long long>(totals.apps), static_cast<unsigned long long>(totals.exempt),
      static_cast<unsigned long long>(totals.tasks), static_cast<unsigned long long>(totals.attempts),
      static_cast<unsigned long long>(totals.writes), static_cast<unsigned long long>(totals.violations));
  return totals.violations == 0 ? 0 : 1;
}

// One seed in this process, with its story: what a person debugs with.
int run_one(const Arguments& arguments) {
  RunOptions options = arguments.run;
  options.seed = arguments.first;
  options.verbose = !arguments.hash;
  RunResult result = shoal::sim::run(options);
  if (result.violation && arguments.reduce) {
    options.verbose = false;
    options.skip = shoal::sim::reduce(options, result);
    options.until_event = 0;
    result = shoal::sim::run(options);
  }
  for (const auto& figure : result.figures) std::printf("%s\n", figure.c_str());
  if (arguments.hash) {
    std::printf("%llu %016llx\n", static_cast<unsigned long long>(options.seed),
                static_cast<unsigned long long>(result.hash));
  } else {
    std::printf(
        "%llu events, %.1f virtual seconds, %llu faults, %llu tasks in %llu attempts, %llu acknowledged writes, hash "
        "%016llx\n",
        static_cast<unsigned long long>(result.events), static_cast<double>(result.virtual_time.us) / 1e6,
        static_cast<unsigned long long>(result.faults), static_cast<unsigned long long>(result.tasks),
        static_cast<unsigned long long>(result.attempts), static_cast<unsigned long long>(result.writes),
        static_cast<unsigned long long>(result.hash));
  }
  if (!result.violation) return 0;
  std::printf("violation in seed %llu: %s: %s\n%s\n", static_cast<unsigned long long>(options.seed),
              result.violation->rule.c_str(), result.violation->what.c_str(),
              shoal::sim::reproduce_line(options, result).c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  const bool large = arguments.run.scenario == "idle10k" || arguments.run.scenario == "detect";
  return arguments.one || (large && arguments.first == arguments.last) ? run_one(arguments) : run_many(arguments);
}
