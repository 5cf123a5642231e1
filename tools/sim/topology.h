// tools/sim/topology.h
//
// Which agents a world has and where: regions as a tree of sites, every agent told two contacts as a join token would.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/sim/world.h"

namespace shoal::sim {

struct Site {
  std::string region;      // "root" for the first
  std::size_t parent = 0;  // index of a site before this one; itself for the root
  std::uint32_t agents = 0;
};

struct TopologyOptions {
  std::vector<Site> sites;
  std::uint32_t units_min = 1;
  std::uint32_t units_max = 4;
  std::uint32_t dial_only_per_million = 0;  // agents that cannot be dialled
  std::int32_t drift_ppm_max = 0;
};

// A tree of 2 or 3 levels for `agents` agents.
std::vector<Site> small_tree(std::uint32_t agents, Rng& rng);
// Regions of `region` agents: a root, `fan` regions below it, and leaves below those.
std::vector<Site> large_tree(std::uint32_t agents, std::uint32_t region);

// Adds the agents to the world, switched off: the founder of each site before its other agents, sites in order.
void populate(World& world, const TopologyOptions& options, Rng rng);

}  // namespace shoal::sim
