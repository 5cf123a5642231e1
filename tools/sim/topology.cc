#include "tools/sim/topology.h"

#include <algorithm>

#include "tools/sim/agent.h"

namespace shoal::sim {

std::vector<Site> small_tree(std::uint32_t agents, Rng& rng) {
  std::vector<Site> sites{{"root", 0, 0}};
  const std::uint64_t regions = 1 + rng.below(agents >= 9 ? 4 : 3);
  for (std::uint64_t i = 1; i < regions; ++i) {
    const std::size_t parent = sites.size() > 1 && rng.chance(400'000) ? 1 : 0;
    sites.push_back({"region" + std::to_string(i), parent, 0});
  }
  for (auto& site : sites) site.agents = 2;
  for (std::uint32_t left = agents - std::min<std::uint32_t>(agents, 2 * static_cast<std::uint32_t>(sites.size()));
       left > 0; --left) {
    ++sites[rng.below(sites.size())].agents;
  }
  return sites;
}

std::vector<Site> large_tree(std::uint32_t agents, std::uint32_t region) {
  const std::uint32_t regions = std::max<std::uint32_t>(1, (agents + region - 1) / region);
  std::uint32_t fan = 1;
  while (fan * fan + fan + 1 < regions) ++fan;
  std::vector<Site> sites{{"root", 0, 0}};
  for (std::uint32_t i = 0; i < fan && sites.size() < regions; ++i) sites.push_back({"fog" + std::to_string(i), 0, 0});
  for (std::uint32_t i = 0; sites.size() < regions; ++i) sites.push_back({"edge" + std::to_string(i), 1 + i % fan, 0});
  for (std::uint32_t i = 0; i < agents; ++i) ++sites[i % sites.size()].agents;
  return sites;
}

void populate(World& world, const TopologyOptions& options, Rng rng) {
  std::vector<std::vector<node::Contact>> contacts(options.sites.size());  // of each site: its first two agents
  for (std::size_t s = 0; s < options.sites.size(); ++s) {
    const Site& site = options.sites[s];
    for (std::uint32_t i = 0; i < site.agents; ++i) {
      AgentOptions agent;
      node::NodeConfig& config = agent.config;
      const std::uint32_t index = world.agents();
      config.id = AgentId{mix64(rng.next() << 20 | index), rng.next()};
      config.name = "a" + std::to_string(index);
      config.curve_key = Bytes(config.id.bytes() + config.id.bytes());
      const bool dialled = i < 2 || !rng.chance(options.dial_only_per_million);
      if (dialled) config.endpoint = "tcp://" + config.name + ":7700";
      config.resources.computing_units = static_cast<std::uint32_t>(rng.between(options.units_min, options.units_max));
      config.resources.memory_mb = 4096;
      config.resources.architecture = "x86_64";
      config.resources.languages = {"c++"};
      if (i == 0 && s > 0) config.child_region = site.region;
      if (i == 0) config.contacts = s > 0 ? contacts[site.parent] : std::vector<node::Contact>();
      if (i > 0) config.contacts = contacts[s];
      if (contacts[s].size() < 2) contacts[s].push_back({config.id, config.endpoint, config.curve_key});
      agent.site = static_cast<std::uint32_t>(s);
      agent.drift_ppm = static_cast<std::int32_t>(rng.between(-options.drift_ppm_max, options.drift_ppm_max));
      world.add_agent(std::move(agent));
    }
  }
}

}  // namespace shoal::sim
