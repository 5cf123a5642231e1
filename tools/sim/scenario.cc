#include "tools/sim/scenario.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "tools/sim/agent.h"
#include "tools/sim/checks.h"
#include "tools/sim/clients.h"
#include "tools/sim/faults.h"
#include "tools/sim/store_clients.h"
#include "tools/sim/topology.h"

namespace shoal::sim {
namespace {

constexpr Duration kBuildWithin = seconds(90);
constexpr Duration kConvergeWithin = seconds(150);  // longer than the slowest time-out plus the longest replacement

struct Ingredients {
  bool tasks = true;
  bool store = true;
};

std::optional<Ingredients> ingredients_of(const std::string& scenario) {
  if (scenario == "mixed") return Ingredients{true, true};
  if (scenario == "overlay") return Ingredients{false, false};
  if (scenario == "tasks") return Ingredients{true, false};
  if (scenario == "store") return Ingredients{false, true};
  return std::nullopt;
}

// One seed of a small scenario, from an empty world to the verdict.
class Run {
 public:
  Run(const RunOptions& options, Ingredients ingredients)
      : options_(options),
        world_(world_options(options)),
        plan_(world_.stream("plan")),
        membership_(world_),
        tasks_(world_, world_.stream("tasks")),
        store_(world_, world_.stream("store")),
        faults_(world_, world_.stream("faults"), membership_, ingredients.tasks ? &tasks_ : nullptr,
                ingredients.store ? &store_ : nullptr),
        ingredients_(ingredients) {}

  RunResult execute() {
    build();
    if (!world_.stopped()) work();
    if (!world_.stopped()) converge();
    if (!world_.stopped()) {
      for (std::uint32_t i = 0; i < world_.agents(); ++i) {
        if (world_.agent(i).up()) world_.agent(i).core().check_invariants();
      }
    }
    RunResult result;
    result.hash = world_.trace().value();
    result.events = world_.queue().executed();
    result.virtual_time = world_.now();
    result.violation = world_.violation();
    result.faults = schedule_.size();
    result.apps = tasks_.opened();
    result.apps_exempt = tasks_.exempt();
    result.tasks = tasks_.tasks_finished();
    result.attempts = world_.ledger().attempts;
    result.writes = store_.acknowledged();
    return result;
  }

 private:
  static WorldOptions world_options(const RunOptions& options) {
    WorldOptions out;
    out.seed = options.seed;
    out.bug = options.bug;
    out.until_event = options.until_event;
    out.trace_agent = options.trace_agent;
    return out;
  }

  void say(const std::string& text) const {
    if (options_.verbose) std::printf("%8lld ms  %s\n", static_cast<long long>(world_.now().us / 1000), text.c_str());
  }

  void build() {
    TopologyOptions topology;
    const std::uint32_t agents =
        options_.agents != 0 ? options_.agents : static_cast<std::uint32_t>(plan_.between(5, 12));
    topology.sites = small_tree(agents, plan_);
    topology.dial_only_per_million = plan_.chance(300'000) ? 300'000 : 0;
    topology.drift_ppm_max = plan_.chance(500'000) ? 200 : 0;
    populate(world_, topology, world_.stream("topology"));
    std::string shape;
    for (const auto& site : topology.sites)
      shape += site.region + "<" + topology.sites[site.parent].region + ":" + std::to_string(site.agents) + " ";
    say("world of " + std::to_string(agents) + " agents: " + shape);
    for (std::uint32_t i = 0; i < world_.agents(); ++i) {
      const Instant at = i == 0 ? Instant{} : Instant{} + milliseconds(plan_.between(10, 3000));
      world_.queue().at(at, [this, i] { world_.agent(i).start(); });
    }
    world_.run_until(Instant{} + seconds(3));  // everyone has started
    until_settled(Instant{} + kBuildWithin, "build", [this] { return membership_.disagreement(); });
    say("built");
  }

  // Runs until `problem()` is empty, asked after each second; a violation of `rule` at the deadline.
  template <class Problem>
  void until_settled(Instant deadline, const std::string& rule, Problem problem) {
    std::string last;
    while (!world_.stopped()) {
      if (!world_.run_until(world_.now() + seconds(1))) return;
      membership_.ask_views();
      if (!world_.run_until(world_.now() + milliseconds(1))) return;
      last = problem();
      if (last.empty()) return;
      if (world_.now() >= deadline) world_.violate(rule, last);
    }
  }

  void work() {
    const Duration length = seconds(plan_.between(20, 50));
    const Instant start = world_.now();
    FaultPlan plan;
    plan.from = start;
    plan.until = start + length;
    schedule_ = make_schedule(plan, world_.stream("schedule"));
    for (std::size_t i = 0; i < schedule_.size(); ++i) {
      say("fault " + std::to_string(i) + ": " + describe(schedule_[i]) +
          (options_.skip.count(i) != 0 ? " (skipped)" : ""));
    }
    faults_.arm(schedule_, options_.skip);
    if (ingredients_.tasks) plan_tasks(start, length);
    if (ingredients_.store) plan_store(start, length);
    world_.run_until(start + length);
    say("workload given");
  }

  void plan_tasks(Instant start, Duration length) {
    Rng rng = world_.stream("arrivals");
    const std::uint64_t programs = 1 + rng.below(4);
    for (std::uint64_t i = 0; i < programs; ++i) {
      const Instant at = start + microseconds(rng.between(0, length.us * 3 / 4));
      ProgramShape shape;
      shape.tasks_max = rng.chance(200'000) ? 150 : 30;
      world_.queue().at(at, [this, shape, draw = rng.next()]() mutable {
        auto agent = running(draw);
        if (!agent) return;
        // A demand that nobody in reach can meet is refused after a while, and a cut may leave only this agent in
        // reach.
        shape.units_max = world_.agent(*agent).config().resources.computing_units;
        tasks_.open(*agent, shape);
      });
    }
  }

  void plan_store(Instant start, Duration length) {
    Rng rng = world_.stream("store-arrivals");
    const std::uint64_t actions = rng.below(60);
    for (std::uint64_t i = 0; i < actions; ++i) {
      const Instant at = start + microseconds(rng.between(0, length.us));
      world_.queue().at(at, [this, draw = rng.next()] {
        if (auto agent = running(draw)) store_.act(*agent);
      });
    }
  }

  std::optional<std::uint32_t> running(std::uint64_t draw) {
    std::vector<std::uint32_t> candidates;
    for (std::uint32_t i = 0; i < world_.agents(); ++i) {
      if (world_.agent(i).up() && !world_.agent(i).left() && !world_.agent(i).core().address().path.empty())
        candidates.push_back(i);
    }
    if (candidates.empty()) return std::nullopt;
    return candidates[Rng(draw).below(candidates.size())];
  }

  // Liveness: nothing breaks any more; everything that was accepted must now come to its end.
  void converge() {
    faults_.heal();
    say("healed");
    const Instant deadline = world_.now() + kConvergeWithin;
    until_settled(deadline, "Q2", [this] { return membership_.disagreement(); });
    if (world_.stopped()) return;
    say("views agree");
    until_settled(deadline, "Q1", [this] { return tasks_.all_finished() ? std::string() : tasks_.stuck(); });
    if (world_.stopped()) return;
    say("applications finished");
    until_settled(deadline, "Q1", [this] { return store_.idle() ? std::string() : store_.stuck(); });
    until_settled(deadline, "Q4", [this] {
      // Every agent must be able to read everything; a different one is asked each time.
      if (auto agent = running(world_.queue().executed())) store_.audit(*agent);
      return store_.shortfall();
    });
    say("store audited");
  }

  RunOptions options_;
  World world_;
  Rng plan_;
  MembershipChecks membership_;
  TaskClients tasks_;
  StoreClients store_;
  Faults faults_;
  Ingredients ingredients_;
  std::vector<Fault> schedule_;
};

}  // namespace

const std::vector<std::string>& scenario_names() {
  static const std::vector<std::string> kScenarios = {"mixed", "overlay", "tasks", "store", "idle10k", "detect"};
  return kScenarios;
}

bool is_scenario(const std::string& scenario) {
  const auto& names = scenario_names();
  return std::find(names.begin(), names.end(), scenario) != names.end();
}

RunResult run(const RunOptions& options) {
  if (options.scenario == "idle10k") return run_idle(options);
  if (options.scenario == "detect") return run_detect(options);
  return Run(options, ingredients_of(options.scenario).value_or(Ingredients{})).execute();
}

std::string reproduce_line(const RunOptions& options, const RunResult& result) {
  char seed[24];
  std::snprintf(seed, sizeof seed, "0x%llx", static_cast<unsigned long long>(options.seed));
  std::string line = "shoal-sim --scenario " + options.scenario + " --seed " + seed;
  if (options.agents != 0) line += " --agents " + std::to_string(options.agents);
  if (options.bug != Bug::kNone) line += " --bug " + std::string(bug_name(options.bug));
  if (!options.skip.empty()) {
    line += " --skip ";
    for (const std::size_t entry : options.skip) line += (line.back() == ' ' ? "" : ",") + std::to_string(entry);
  }
  if (result.violation && result.violation->event != 0)
    line += " --until-event " + std::to_string(result.violation->event);
  return line;
}

std::set<std::size_t> reduce(const RunOptions& options, const RunResult& failed) {
  RunOptions trial = options;
  trial.until_event = 0;
  trial.verbose = false;
  for (std::size_t entry = failed.faults; entry-- > 0;) {
    if (!trial.skip.insert(entry).second) continue;
    const RunResult result = run(trial);
    if (!result.violation || result.violation->rule != failed.violation->rule) trial.skip.erase(entry);
  }
  return trial.skip;
}

}  // namespace shoal::sim
