// scheduler/estimates.h
//
// What is expected of agents, from what was seen of them: how fast values travel between two of them, and how long it
// takes until one of them has worked off what this agent gave it. Integers only, so that every compiler decides alike.
// It decides nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "protocol/base/time.h"
#include "scheduler/data.h"

namespace shoal::scheduler {

// Taken for granted until something was measured: a network of 1 Gb/s, tasks of a tenth of a second.
constexpr std::uint64_t kNeutralRate = 100'000;  // bytes per millisecond
constexpr std::uint64_t kNeutralRunUs = 100'000;

// How an attempt is expected to fare at one agent. The best is the one with the smallest total.
struct Candidate {
  AgentIndex agent = kNone;
  bool behind = false;  // beyond the region, through this gateway
  bool room = false;    // could start at once
  std::uint64_t wait_us = 0;
  std::uint64_t missing_bytes = 0;
  std::uint64_t coming_bytes = 0;  // on their way there for somebody else
  std::uint64_t rate = 0;          // bytes per millisecond, for what is missing
  std::uint64_t transfer_us = 0;
  std::uint64_t run_us = 0;
  // Inputs travel while the attempt waits.
  std::uint64_t total_us() const { return std::max(wait_us, transfer_us) + run_us; }
};

class Estimates {
 public:
  // ---- rates ----
  // `bytes` came from one agent to another in `us`. Small amounts say nothing about the rate and are ignored.
  void moved(AgentIndex from, AgentIndex to, std::uint64_t bytes, std::uint64_t us) {
    if (bytes < kTellingBytes) return;
    const std::uint64_t rate = std::max<std::uint64_t>(bytes * 1'000 / std::max<std::uint64_t>(us, 1), 1);
    if (rates_.size() >= kRatesMax && !rates_.contains({from, to})) rates_.clear();
    auto [it, fresh] = rates_.try_emplace({from, to}, rate);
    if (!fresh) it->second = (it->second * 3 + rate) / 4;
  }
  bool is_measured(AgentIndex from, AgentIndex to) const { return rates_.contains({from, to}); }
  std::uint64_t rate(AgentIndex from, AgentIndex to) const {
    auto it = rates_.find({from, to});
    return it == rates_.end() ? kNeutralRate : it->second;
  }

  // ---- load ----
  // Attempts given to an agent: so many units until then. What is given is taken off again with the same numbers.
  void add(AgentIndex agent, std::uint64_t units, Instant end, Instant now) {
    if (loads_.size() <= agent) loads_.resize(agent + 1);
    Load& load = loads_[agent];
    load.units += units;
    load.ends += static_cast<std::int64_t>(units) * end.us;
    load.progress = now;
  }
  void remove(AgentIndex agent, std::uint64_t units, Instant end, Instant now) {
    Load& load = loads_[agent];
    load.units -= units;
    load.ends -= static_cast<std::int64_t>(units) * end.us;
    load.progress = now;
  }
  std::uint64_t units(AgentIndex agent) const { return agent < loads_.size() ? loads_[agent].units : 0; }
  // Units times microseconds that are expected to be left of all that.
  std::uint64_t remaining(AgentIndex agent, Instant now) const {
    if (agent >= loads_.size()) return 0;
    const Load& load = loads_[agent];
    const std::int64_t left = load.ends - static_cast<std::int64_t>(load.units) * now.us;
    return left > 0 ? static_cast<std::uint64_t>(left) : 0;
  }
  // ---- transfers ----
  // Somebody's inputs travel to the agent, after those that do already.
  void add_transfer(AgentIndex agent, std::uint64_t us, Instant now) {
    if (loads_.size() <= agent) loads_.resize(agent + 1);
    Load& load = loads_[agent];
    ++load.transfers;
    load.inbound = std::max(load.inbound, now) + microseconds(static_cast<std::int64_t>(us));
  }
  void remove_transfer(AgentIndex agent) {
    if (--loads_[agent].transfers == 0) loads_[agent].inbound = Instant{};
  }
  // Until all of them have arrived.
  std::uint64_t inbound_us(AgentIndex agent, Instant now) const {
    if (agent >= loads_.size()) return 0;
    return static_cast<std::uint64_t>(std::max<std::int64_t>(loads_[agent].inbound.us - now.us, 0));
  }

  // How long nothing was given to the agent and nothing came back.
  std::uint64_t silence_us(AgentIndex agent, Instant now) const {
    if (agent >= loads_.size()) return 0;
    return static_cast<std::uint64_t>(std::max<std::int64_t>(now.us - loads_[agent].progress.us, 0));
  }

 private:
  static constexpr std::uint64_t kTellingBytes = 64U << 10;
  static constexpr std::size_t kRatesMax = 65'536;

  struct Load {
    std::uint64_t units = 0;
    std::int64_t ends = 0;  // sum of units times their expected end
    Instant progress;
    std::uint64_t transfers = 0;
    Instant inbound;
  };

  std::map<std::pair<AgentIndex, AgentIndex>, std::uint64_t> rates_;
  std::vector<Load> loads_;
};

}  // namespace shoal::scheduler
