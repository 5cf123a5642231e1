// scheduler/lease_table.h
//
// Who may still commit what. Upstream side (Grants): which jobs an agent has, when it was last heard, which of them it
// must be told about. Downstream side (Holdings): from whom jobs came and when that agent was last heard. There is one
// lease per pair of agents, renewed by one message per heartbeat for all its jobs.
//
// Fencing: job numbers are drawn once and never again, and a job is settled by its first result. When a lease lapses
// its jobs are forgotten, so whatever comes later from a former attempt finds no job. The downstream side gives up at
// `lease` after it last heard, the upstream side runs again one heartbeat later.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "protocol/base/time.h"
#include "scheduler/work.h"

namespace shoal::scheduler {

struct LeaseTerms {
  Duration lease;
  Duration heartbeat;
};

class Grants {
 public:
  // Job numbers start after `first_job`: drawn at random, so that results meant for a former life of this agent fit
  // none.
  Grants(LeaseTerms terms, std::uint64_t first_job) : terms_(terms), last_job_(first_job) {}

  struct Job {
    WorkIndex work = kNone;
    Instant granted;
  };
  struct Pair {
    Instant heard;           // from the other side, or when the pair came to be
    Instant renewed;         // last Renew sent
    std::uint64_t life = 0;  // of the other side; 0 until it said so
    std::map<std::uint64_t, Job> jobs;
    std::set<AppId> apps;                              // whose values it may hold
    std::set<std::pair<AppId, FunctionId>> functions;  // that were sent
  };

  // Grants the next job number for `work` to `agent`.
  std::uint64_t grant(AgentIndex agent, WorkIndex work, AppId app, Instant now) {
    auto [it, fresh] = pairs_.try_emplace(agent);
    if (fresh || it->second.jobs.empty()) it->second.heard = std::max(it->second.heard, now);
    if (fresh) it->second.renewed = now;
    it->second.apps.insert(app);
    it->second.jobs[++last_job_] = {work, now};
    return last_job_;
  }

  // The work that a result is for; nullopt when the job is not (or no longer) this agent's.
  std::optional<WorkIndex> settle(AgentIndex agent, std::uint64_t job) {
    auto pair = pairs_.find(agent);
    if (pair == pairs_.end()) return std::nullopt;
    auto it = pair->second.jobs.find(job);
    if (it == pair->second.jobs.end()) return std::nullopt;
    const WorkIndex work = it->second.work;
    pair->second.jobs.erase(it);
    return work;
  }

  Pair* find(AgentIndex agent) {
    auto it = pairs_.find(agent);
    return it == pairs_.end() ? nullptr : &it->second;
  }
  const Pair* find(AgentIndex agent) const {
    auto it = pairs_.find(agent);
    return it == pairs_.end() ? nullptr : &it->second;
  }

  // Notes a sign of life. False when the agent is not the one that the jobs were given to: it was restarted since.
  bool heard(AgentIndex agent, std::uint64_t life, Instant now) {
    auto it = pairs_.find(agent);
    if (it == pairs_.end()) return true;
    it->second.heard = now;
    const bool same = it->second.life == 0 || it->second.life == life;
    it->second.life = life;
    return same;
  }

  // All jobs of the agent, oldest first; the pair is forgotten.
  std::vector<WorkIndex> revoke(AgentIndex agent) {
    std::vector<WorkIndex> works;
    auto it = pairs_.find(agent);
    if (it == pairs_.end()) return works;
    for (const auto& [job, entry] : it->second.jobs) works.push_back(entry.work);
    pairs_.erase(it);
    return works;
  }

  std::vector<AgentIndex> lapsed(Instant now) const {
    std::vector<AgentIndex> agents;
    for (const auto& [agent, pair] : pairs_) {
      if (now >= expiry(pair)) agents.push_back(agent);
    }
    return agents;
  }

  // Agents that a renewal is due for; it is taken as sent.
  std::vector<AgentIndex> due(Instant now) {
    std::vector<AgentIndex> agents;
    for (auto& [agent, pair] : pairs_) {
      if (now < pair.renewed + terms_.heartbeat) continue;
      pair.renewed = now;
      agents.push_back(agent);
    }
    return agents;
  }

  Instant next_deadline() const {
    Instant next = Instant::never();
    for (const auto& [agent, pair] : pairs_) {
      next = std::min({next, expiry(pair), pair.renewed + terms_.heartbeat});
    }
    return next;
  }

  // Ends the part of `app`; a pair without jobs and apps is over. Returns the agents that took part.
  std::vector<AgentIndex> forget_app(AppId app) {
    std::vector<AgentIndex> agents;
    for (auto it = pairs_.begin(); it != pairs_.end();) {
      Pair& pair = it->second;
      if (pair.apps.erase(app) > 0) agents.push_back(it->first);
      std::erase_if(pair.functions, [&](const auto& f) { return f.first == app; });
      it = pair.jobs.empty() && pair.apps.empty() ? pairs_.erase(it) : std::next(it);
    }
    return agents;
  }

  const std::map<AgentIndex, Pair>& pairs() const { return pairs_; }

 private:
  Instant expiry(const Pair& pair) const { return pair.heard + terms_.lease + terms_.heartbeat; }

  LeaseTerms terms_;
  std::uint64_t last_job_;
  std::map<AgentIndex, Pair> pairs_;
};

class Holdings {
 public:
  explicit Holdings(LeaseTerms terms) : terms_(terms) {}

  struct Pair {
    Instant heard;
    std::uint64_t life = 0;
    std::uint64_t seen = 0;  // highest job number received
    bool lapsed = false;
    std::map<std::uint64_t, WorkIndex> jobs;
    std::set<AppId> apps;
  };

  Pair& operator[](AgentIndex agent) { return pairs_[agent]; }
  Pair* find(AgentIndex agent) {
    auto it = pairs_.find(agent);
    return it == pairs_.end() ? nullptr : &it->second;
  }

  // Pairs whose lease ended since the last call.
  std::vector<AgentIndex> lapsed(Instant now) {
    std::vector<AgentIndex> agents;
    for (auto& [agent, pair] : pairs_) {
      if (pair.lapsed || now < pair.heard + terms_.lease) continue;
      pair.lapsed = true;
      agents.push_back(agent);
    }
    return agents;
  }

  // Pairs silent for so long that the values they left here are not waited for any more.
  std::vector<AgentIndex> abandoned(Instant now) const {
    std::vector<AgentIndex> agents;
    for (const auto& [agent, pair] : pairs_) {
      if (pair.lapsed && now >= pair.heard + terms_.lease * kAbandonedLeases) agents.push_back(agent);
    }
    return agents;
  }

  void erase(AgentIndex agent) { pairs_.erase(agent); }

  Instant next_deadline() const {
    Instant next = Instant::never();
    for (const auto& [agent, pair] : pairs_) {
      next = std::min(next, pair.heard + (pair.lapsed ? terms_.lease * kAbandonedLeases : terms_.lease));
    }
    return next;
  }

  std::map<AgentIndex, Pair>& pairs() { return pairs_; }
  const std::map<AgentIndex, Pair>& pairs() const { return pairs_; }

 private:
  static constexpr std::int64_t kAbandonedLeases = 20;
  LeaseTerms terms_;
  std::map<AgentIndex, Pair> pairs_;
};

}  // namespace shoal::scheduler
