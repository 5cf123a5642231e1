// The large worlds: what an idle system of thousands of agents costs, and how fast it notices deaths.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "tools/sim/agent.h"
#include "tools/sim/clients.h"
#include "tools/sim/scenario.h"
#include "tools/sim/topology.h"

namespace shoal::sim {
namespace {

constexpr std::uint32_t kRegion = 64;

double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

double peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

std::string number(double value, int decimals = 1) {
  char text[48];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

// A world of full regions in up to three levels, joined the way real agents join.
class LargeWorld {
 public:
  explicit LargeWorld(const RunOptions& options) : agents_(options.agents != 0 ? options.agents : 10'000) {
    WorldOptions world_options;
    world_options.seed = options.seed;
    world_options.bug = options.bug;
    world_options.trace_agent = options.trace_agent;
    world_options.until_event = options.until_event;
    world_ = std::make_unique<World>(std::move(world_options));
    topology_.sites = large_tree(agents_, kRegion);
  }

  World& world() { return *world_; }
  std::uint32_t agents() const { return agents_; }

  // Starts everyone, level by level, and waits until every region is whole. False (and a violation) when it is not.
  bool build(bool verbose) {
    populate(*world_, topology_, world_->stream("topology"));
    Rng rng = world_->stream("starts");
    std::vector<std::uint32_t> seen(topology_.sites.size());
    for (std::uint32_t i = 0; i < world_->agents(); ++i) {
      const std::uint32_t site = world_->agent(i).site();
      const std::int64_t level = site == 0 ? 0 : topology_.sites[site].parent == 0 ? 1 : 2;
      const bool founder = seen[site]++ == 0;
      const Duration offset = founder ? milliseconds(rng.between(0, 1500)) : milliseconds(rng.between(4000, 9000));
      world_->queue().at(Instant{} + seconds(level * 12) + offset, [this, i] { world_->agent(i).start(); });
    }
    const Instant deadline = Instant{} + seconds(240);
    while (!world_->stopped()) {
      if (!world_->run_until(world_->now() + seconds(5))) return false;
      const std::uint32_t homeless = unplaced();
      if (verbose)
        std::printf("%8lld ms  %u agents are in no region yet\n", static_cast<long long>(world_->now().us / 1000),
                    homeless);
      if (homeless == 0) break;
      if (world_->now() >= deadline) world_->violate("build", std::to_string(homeless) + " agents are in no region");
    }
    return world_->run_until(world_->now() + seconds(20));  // the last joins spread, links find their places
  }

 private:
  std::uint32_t unplaced() const {
    std::uint32_t count = 0;
    for (std::uint32_t i = 0; i < world_->agents(); ++i) {
      const SimAgent& agent = world_->agent(i);
      if (!agent.up() || agent.core().address().path.empty()) ++count;
    }
    return count;
  }

  std::uint32_t agents_;
  TopologyOptions topology_;
  std::unique_ptr<World> world_;
};

RunResult result_of(World& world) {
  RunResult out;
  out.hash = world.trace().value();
  out.events = world.queue().executed();
  out.virtual_time = world.now();
  out.violation = world.violation();
  out.attempts = world.ledger().attempts;
  return out;
}

// Notes who is declared dead, when first, and by whom wrongly.
class DeathWatch : public Observer {
 public:
  explicit DeathWatch(World& world) : world_(world) {
    for (std::uint32_t i = 0; i < world.agents(); ++i) by_brief_[world.id(i).brief()] = i;
    world.observe(*this);
  }

  void on_trace(std::uint32_t agent, const std::string& event) override {
    constexpr std::string_view kDead = "member dead ";
    if (!event.starts_with(kDead)) return;
    auto it = by_brief_.find(event.substr(kDead.size(), 8));
    if (it == by_brief_.end()) return;
    if (world_.agent(it->second).up()) {
      ++false_deaths_;
      return;
    }
    first_.try_emplace(it->second, world_.now());
    told_[it->second].insert(agent);
  }

  const std::map<std::uint32_t, Instant>& first() const { return first_; }
  std::uint64_t false_deaths() const { return false_deaths_; }
  const std::set<std::uint32_t>& told(std::uint32_t victim) { return told_[victim]; }

 private:
  World& world_;
  std::map<std::string, std::uint32_t> by_brief_;
  std::map<std::uint32_t, Instant> first_;
  std::map<std::uint32_t, std::set<std::uint32_t>> told_;
  std::uint64_t false_deaths_ = 0;
};

Traffic total_traffic(World& world) {
  Traffic out;
  for (std::uint32_t i = 0; i < world.agents(); ++i) {
    out.frames += world.network().traffic(i).frames;
    out.bytes += world.network().traffic(i).bytes;
  }
  return out;
}

}  // namespace

RunResult run_idle(const RunOptions& options) {
  LargeWorld large(options);
  World& world = large.world();
  TaskClients tasks(world, world.stream("tasks"));
  const double cpu_start = cpu_seconds();
  const bool built = large.build(options.verbose);
  const double cpu_built = cpu_seconds();
  const std::uint64_t events_built = world.queue().executed();
  RunResult result;
  if (built) {
    Rng rng = world.stream("arrivals");
    const Instant start = world.now();
    for (std::uint32_t i = 0; i < world.agents(); ++i) {
      world.queue().at(start + milliseconds(rng.between(0, 15'000)), [&tasks, i] { tasks.open_single(i); });
    }
    world.run_until(start + seconds(20));
    const Traffic before = total_traffic(world);
    const double cpu_tasks = cpu_seconds();
    const std::uint64_t events_tasks = world.queue().executed();
    world.run_until(start + seconds(60));
    const Traffic after = total_traffic(world);
    if (!world.stopped() && !tasks.all_finished()) world.violate("Q1", tasks.stuck().substr(0, 400));
    const double agent_seconds = 40.0 * large.agents();
    result.figures.push_back("first 20 s, with a task per agent: " + number(cpu_tasks - cpu_built) + " CPU-s, " +
                             std::to_string(events_tasks - events_built) + " events");
    result.figures.push_back("60 virtual seconds of " + std::to_string(large.agents()) +
                             " agents: " + number(cpu_seconds() - cpu_built) + " CPU-s, " +
                             std::to_string(world.queue().executed() - events_built) + " events; building took " +
                             number(cpu_built - cpu_start) + " CPU-s; peak " + number(peak_mib(), 0) + " MiB");
    result.figures.push_back(
        "idle agent sends " + number(static_cast<double>(after.frames - before.frames) / agent_seconds, 2) +
        " messages/s, " + number(static_cast<double>(after.bytes - before.bytes) / agent_seconds, 0) + " B/s");
    result.figures.push_back(std::to_string(tasks.tasks_finished()) + " tasks finished");
  }
  RunResult end = result_of(world);
  end.figures = std::move(result.figures);
  end.apps = tasks.opened();
  end.tasks = tasks.tasks_finished();
  return end;
}

RunResult run_detect(const RunOptions& options) {
  LargeWorld large(options);
  World& world = large.world();
  std::vector<std::string> figures;
  if (large.build(options.verbose)) {
    DeathWatch watch(world);
    Rng rng = world.stream("victims");
    std::vector<std::uint32_t> victims(world.agents());
    for (std::uint32_t i = 0; i < world.agents(); ++i) victims[i] = i;
    rng.shuffle(victims);
    victims.resize(world.agents() / 10);
    const Instant killed = world.now();
    for (const std::uint32_t victim : victims) world.agent(victim).crash(true);
    world.run_until(killed + seconds(40));
    std::vector<std::int64_t> times;
    for (const auto& [victim, at] : watch.first()) times.push_back((at - killed).us / 1000);
    std::sort(times.begin(), times.end());
    const std::size_t undetected = victims.size() - times.size();
    const auto at = [&times](std::size_t per_mille) {
      return times.empty() ? 0 : times[std::min(times.size() - 1, times.size() * per_mille / 1000)];
    };
    figures.push_back("10 % of " + std::to_string(large.agents()) + " agents killed at once: detection p50 " +
                      std::to_string(at(500)) + " ms, p99 " + std::to_string(at(990)) + " ms, last " +
                      std::to_string(times.empty() ? 0 : times.back()) + " ms; undetected " +
                      std::to_string(undetected) + ", false deaths " + std::to_string(watch.false_deaths()));
    if (!world.stopped() && (undetected != 0 || watch.false_deaths() != 0 || at(500) > 4500 || at(990) > 6000)) {
      world.violate("detect", figures.back() + " (wanted: p50 <= 4500, p99 <= 6000, none undetected, no false death)");
    }
  }
  RunResult end = result_of(world);
  end.figures = std::move(figures);
  return end;
}

}  // namespace shoal::sim
