// agent/node/node.h
//
// The core of one agent: overlay, scheduler and store machines composed into one step. It owns no policy: one
// input becomes calls on the machines, and what they give out becomes effects or calls on their siblings, one
// bridge file per pair. Pure: no clock, no I/O, no threads; equal inputs give equal effects.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/node/io.h"
#include "protocol/base/rng.h"
#include "protocol/base/time.h"
#include "protocol/overlay/overlay.h"
#include "scheduler/policy.h"

namespace shoal::node {

enum class Preset : std::uint8_t { kLan = 0, kWan = 1, kRadio = 2 };  // time-outs ×1, ×3, ×10

// A place to ask for admission to a region.
struct Contact {
  AgentId agent;
  std::string endpoint;
  Bytes curve_key;
};

struct NodeConfig {
  AgentId id;
  std::string name;
  std::string endpoint;  // empty: dials out only
  Bytes curve_key;
  std::map<std::string, std::string> labels;
  Preset preset = Preset::kLan;
  // With contacts the agent joins their region (`region` zero), or, with `child_region` set, founds or joins
  // that named region below theirs. Without contacts it founds a root region.
  std::vector<Contact> contacts;
  std::string child_region;
  std::string region_name = "root";
  scheduler::Resources resources;
  scheduler::Policy policy = scheduler::Policy::kCompletion;  // of applications that name no scheduler
};

// What an earlier life of this agent left on disk: the pairs of its Persist effects, by key.
using Recovered = std::map<std::string, Bytes>;

class Node {
 public:
  // `rng` is this agent's only source of randomness. Restart is construction with what was persisted.
  Node(NodeConfig config, Recovered recovered, Rng rng);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Takes one input at time `now` (never smaller than before) and appends effects to `out`. Never blocks,
  // never throws for bad input.
  void step(Instant now, Input input, std::vector<Effect>& out);

  // The neighbour to hand a frame for `target` to; nullopt when there is no way now. Drivers route data
  // frames by it.
  std::optional<AgentId> next_hop(const wire::Address& target) const;
  const wire::Address& address() const;

  // Who is known, for drivers that show it or ask others on a person's behalf. Read only.
  const overlay::Overlay& overlay() const;

  // Aborts when a machine's state contradicts itself. For tests and the simulator.
  void check_invariants() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::node
