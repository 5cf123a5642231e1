#include "tools/sim/world.h"

#include <utility>

#include "protocol/base/check.h"
#include "tools/sim/agent.h"

namespace shoal::sim {
namespace {

constexpr std::uint64_t kEventsPerInstantMax = 20'000;

}  // namespace

World::World(WorldOptions options)
    : options_(std::move(options)),
      root_(mix64(options_.seed ^ 0x53686f616cULL)),
      network_(queue_, *this, root_.split("network"), options_.network),
      bugs_before_(bug_count()) {
  if (!options_.cores) options_.cores = node_cores();
}

World::~World() = default;

SimAgent& World::add_agent(AgentOptions options) {
  const auto index = static_cast<std::uint32_t>(agents_.size());
  SHOAL_CHECK(index_.emplace(options.config.id, index).second, "two simulated agents with one id");
  network_.place(index, options.site, options.config.endpoint);
  agents_.push_back(std::make_unique<SimAgent>(*this, index, std::move(options)));
  return *agents_.back();
}

std::optional<std::vector<std::uint32_t>> World::route(std::uint32_t from, const wire::Address& target) const {
  std::vector<std::uint32_t> path{from};
  for (int hops = 0; hops <= wire::Envelope::kHopsMax; ++hops) {
    const std::uint32_t here = path.back();
    if (!agents_[here]->up()) return std::nullopt;
    if (id(here) == target.agent) return path;
    auto hop = agents_[here]->core().next_hop(target);
    if (!hop) return std::nullopt;
    auto next = index(*hop);
    if (!next || !network_.linked(here, *next)) return std::nullopt;
    path.push_back(*next);
  }
  return std::nullopt;
}

bool World::run_until(Instant deadline) {
  while (!stopped() && queue_.next() <= deadline) {
    in_event_ = true;
    const Instant before = queue_.now();
    queue_.run_next();
    events_here_ = queue_.now() == before ? events_here_ + 1 : 0;
    if (events_here_ > kEventsPerInstantMax + 50ULL * agents())
      violate("livelock", "time stands still: somebody asks to be woken again and again");
    if (bug_count() != bugs_before_) violate("bug", "a machine noted a surprise (SHOAL_BUG); see stderr");
    if (options_.until_event != 0 && queue_.executed() >= options_.until_event) limit_reached_ = true;
    in_event_ = false;
  }
  if (stopped()) return false;
  // Time passes even when nothing happens.
  queue_.at(deadline, [] {});
  while (queue_.next() <= deadline) queue_.run_next();
  return true;
}

void World::violate(std::string rule, std::string what) {
  if (violation_) return;
  violation_ = Violation{std::move(rule), std::move(what), in_event_ ? queue_.executed() : 0, queue_.now()};
}

bool World::process_up(std::uint32_t agent) const {
  return agents_[agent]->up();
}
bool World::host_up(std::uint32_t agent) const {
  return agents_[agent]->host_up();
}
bool World::paused(std::uint32_t agent) const {
  return agents_[agent]->paused();
}
std::uint64_t World::life(std::uint32_t agent) const {
  return agents_[agent]->life();
}
AgentId World::id(std::uint32_t agent) const {
  return agents_[agent]->config().id;
}
void World::deliver(std::uint32_t agent, node::Input input) {
  agents_[agent]->take(std::move(input));
}

std::optional<std::uint32_t> World::index(AgentId agent) const {
  auto it = index_.find(agent);
  if (it == index_.end()) return std::nullopt;
  return it->second;
}

}  // namespace shoal::sim
