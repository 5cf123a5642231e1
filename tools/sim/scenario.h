// tools/sim/scenario.h
//
// Runs of the simulator: a small world per seed that is built, worked and hurt, then healed and checked (mixed,
// overlay, tasks, store), and two large worlds for the figures of the system (idle10k, detect).
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tools/sim/world.h"

namespace shoal::sim {

struct RunOptions {
  std::string scenario = "mixed";
  std::uint64_t seed = 1;
  std::uint32_t agents = 0;  // 0: the scenario's own number
  Bug bug = Bug::kNone;
  std::uint64_t until_event = 0;
  std::optional<std::uint32_t> trace_agent;
  std::set<std::size_t> skip;  // entries of the fault schedule to leave out
  bool verbose = false;        // prints phases, the schedule and counters
};

struct RunResult {
  std::uint64_t hash = 0;
  std::uint64_t events = 0;
  Instant virtual_time;
  std::optional<Violation> violation;
  std::size_t faults = 0;  // entries of the schedule
  std::uint64_t apps = 0;
  std::uint64_t apps_exempt = 0;  // their driver died
  std::uint64_t tasks = 0;        // of applications that finished
  std::uint64_t attempts = 0;
  std::uint64_t writes = 0;          // acknowledged by the store
  std::vector<std::string> figures;  // of a large scenario, a line each
};

// Names of the scenarios, and whether `scenario` is one.
const std::vector<std::string>& scenario_names();
bool is_scenario(const std::string& scenario);

RunResult run(const RunOptions& options);

// The command that repeats this run up to its violation.
std::string reproduce_line(const RunOptions& options, const RunResult& result);

// Leaves fault entries out one by one while the run still breaks the same rule. Returns the entries to skip.
std::set<std::size_t> reduce(const RunOptions& options, const RunResult& failed);

// The large scenarios (large.cc).
RunResult run_idle(const RunOptions& options);
RunResult run_detect(const RunOptions& options);

}  // namespace shoal::sim
