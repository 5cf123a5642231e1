// Replication and repair: what copies are missing, who makes them up, and where.
#include <algorithm>
#include <utility>

#include "storage/model/placement.h"
#include "storage/model/store_impl.h"
#include "storage/model/tombstone.h"

namespace shoal::storage {
namespace {

constexpr std::uint32_t kPlaceHopsMax = 8;

}  // namespace

// ---- review: what is missing, and who makes it up ----

// The agent that put the object arranges its copies; afterwards the first-ranked holder of the region does.
bool Store::Impl::responsible(ObjectId object, const Known& known) const {
  auto job = jobs.find(object);
  if (known.fresh || (job != jobs.end() && urgent(job->second))) return true;
  std::vector<Candidate> holders;
  for (const wire::Address& holder : known.manifest.holders) {
    if (holder.agent == config.id || is_peer_home(holder.agent)) holders.push_back({holder.agent, 1});
  }
  return rank(placement_key(object), std::move(holders)).front() == config.id;
}

std::set<std::int32_t> Store::Impl::depths_wanted(const Known& known) const {
  std::set<std::int32_t> depths;
  if (!has_parent()) return depths;
  const Policy& policy = known.manifest.policy;
  const bool region_too_small =
      !policy.ephemeral && home.size() < policy.replicas && known.manifest.holders.size() < policy.replicas;
  if (region_too_small || policy.wait_for >= Level::kParent) depths.insert(home_depth() - 1);
  if (policy.wait_for == Level::kCloud) depths.insert(0);
  for (const wire::Address& holder : known.manifest.holders) depths.erase(ancestor_depth(holder));
  return depths;
}

void Store::Impl::review(ObjectId object, bool due) {
  auto it = objects.find(object);
  if (it == objects.end() || !it->second.here || self.path.empty()) return;
  Known& known = it->second;
  const Policy& policy = known.manifest.policy;
  const std::size_t at_home = home_copies(known);
  const std::size_t total = known.manifest.holders.size();
  // A copy kept for a region below leaves it to that region to have copies of its own.
  const bool for_region_below = std::any_of(known.manifest.holders.begin(), known.manifest.holders.end(),
                                            [this](const auto& one) { return is_below(one); });
  std::size_t missing = policy.ephemeral || total >= policy.replicas ? 0 : policy.replicas - total;
  if (policy.wait_for >= Level::kRegion && !for_region_below && at_home < 2)
    missing = std::max<std::size_t>(missing, 1);
  missing = std::min(missing, home.size() - std::min(home.size(), at_home));
  const std::set<std::int32_t> depths = for_region_below ? std::set<std::int32_t>{} : depths_wanted(known);
  const std::size_t asked = jobs.contains(object) ? jobs.at(object).pending.size() : 0;
  if (missing == 0 && depths.empty()) known.fresh = false;
  if (missing <= asked && depths.empty()) return drop_job_if_idle(object);
  if (!responsible(object, known)) return drop_job_if_idle(object);

  Job& job = jobs[object];
  const bool at_once = known.fresh || urgent(job);
  if (!at_once && (!due || now < settled_at)) {
    return schedule_review(object, total < 2 ? config.timeouts.repair_last_copy : config.timeouts.repair);
  }
  if (!at_once) ++counters.repairs;
  const std::size_t unplaced = missing > asked ? arrange_home(object, known, job, missing - asked) : 0;
  arrange_above(object, known, job, depths);
  if (unplaced > 0 && !job.avoid.empty() && !starved.contains({total, object})) {
    job.avoid.clear();
    schedule_review(object, config.timeouts.repair_retry);
  }
}

void Store::Impl::schedule_review(ObjectId object, Duration delay) {
  Job& job = jobs.at(object);
  const Instant when = std::max(now + delay, settled_at);
  if (job.review <= when) return;
  disarm(TimerKind::kReview, job.review, object.high(), object.low());
  job.review = when;
  arm(TimerKind::kReview, when, object.high(), object.low());
}

// Home agents that could take a copy, best first: those who had one, then other hosts, then the rest.
std::vector<AgentId> Store::Impl::copy_targets(ObjectId object, const Known& known, const Job& job) const {
  std::set<std::string> hosts{config.host};
  for (const wire::Address& holder : known.manifest.holders) {
    if (const Peer* other = peer(holder.agent)) hosts.insert(other->host);
  }
  for (const auto& [agent, deadline] : job.pending) {
    if (const Peer* other = peer(agent)) hosts.insert(other->host);
  }
  auto free = [&](AgentId agent) {
    const auto& holders = known.manifest.holders;
    const bool holds = std::any_of(holders.begin(), holders.end(), [&](const auto& one) { return one.agent == agent; });
    return is_peer_home(agent) && !holds && !job.pending.contains(agent) && !job.avoid.contains(agent);
  };
  std::vector<AgentId> targets;
  std::set<AgentId> taken;
  for (const wire::Address& former : known.former) {
    if (free(former.agent) && taken.insert(former.agent).second) targets.push_back(former.agent);
  }
  std::vector<Candidate> candidates;
  for (AgentId agent : home) {
    if (free(agent) && !taken.contains(agent)) candidates.push_back({agent, 1});
  }
  const std::vector<AgentId> ranked = rank(placement_key(object), std::move(candidates));
  for (AgentId agent : ranked) {
    if (hosts.insert(peer(agent)->host).second && taken.insert(agent).second) targets.push_back(agent);
  }
  for (AgentId agent : ranked) {
    if (taken.insert(agent).second) targets.push_back(agent);
  }
  return targets;
}

// Returns how many copies found no agent.
std::size_t Store::Impl::arrange_home(ObjectId object, Known& known, Job& job, std::size_t missing) {
  for (AgentId target : copy_targets(object, known, job)) {
    if (missing == 0) break;
    if (copies_in_flight >= config.limits.copies_in_flight_max) {
      starved.insert({known.manifest.holders.size(), object});
      break;
    }
    const Instant deadline = now + with_transfer(config.timeouts.copy, known.manifest.bytes);
    job.pending[target] = deadline;
    pending_at.insert({target, object});
    ++copies_in_flight;
    arm(TimerKind::kCopies, deadline, object.high(), object.low());
    send(peer(target)->address, msg::Replicate{known.manifest, self, -1});
    --missing;
  }
  return missing;
}

void Store::Impl::arrange_above(ObjectId object, Known& known, Job& job, const std::set<std::int32_t>& depths) {
  for (std::int32_t depth : depths) {
    if (job.above[depth].deadline != Instant::never()) continue;
    const bool way_up = is_head() ? !parents.empty() : !upward(placement_key(object), 1).empty();
    if (!way_up) {
      job.trouble = "no agent of the parent region can be reached";  // the walk comes back when one can
      continue;
    }
    if (copies_in_flight >= config.limits.copies_in_flight_max) {
      starved.insert({known.manifest.holders.size(), object});
      return;
    }
    Job::Above& above_copy = job.above[depth];
    above_copy.deadline = now + with_transfer(config.timeouts.copy, known.manifest.bytes);
    ++copies_in_flight;
    arm(TimerKind::kCopies, above_copy.deadline, object.high(), object.low());
    place_above(msg::Place{known.manifest, self, depth, above_copy.attempts, 0});
  }
}

// One step up for a Place: a head chooses the agent, everyone else hands it to the head.
void Store::Impl::place_above(const msg::Place& place) {
  const std::uint64_t key = placement_key(place.manifest.object);
  if (!is_head()) {
    for (AgentId head : upward(key, 1)) send(peer(head)->address, place);
    return;
  }
  std::vector<Candidate> candidates;
  for (AgentId agent : parents) candidates.push_back({agent, 1});
  const std::vector<AgentId> ranked = rank(key, std::move(candidates));
  const AgentId chosen = ranked[place.attempt % ranked.size()];
  if (place.depth == home_depth() - 1) {
    send(peer(chosen)->address, msg::Replicate{place.manifest, place.requester, place.depth});
  } else {
    send(peer(chosen)->address, place);
  }
}

void Store::Impl::end_pending(ObjectId object, Job& job, AgentId agent) {
  if (job.pending.erase(agent) == 0) return;
  pending_at.erase({agent, object});
  --copies_in_flight;
}

void Store::Impl::end_above(Job::Above& above_copy) {
  if (above_copy.deadline == Instant::never()) return;
  above_copy.deadline = Instant::never();
  ++above_copy.attempts;
  --copies_in_flight;
}

void Store::Impl::expire_copies(ObjectId object) {
  auto it = jobs.find(object);
  if (it == jobs.end()) return;
  Job& job = it->second;
  std::vector<AgentId> late;
  for (const auto& [agent, deadline] : job.pending) {
    if (deadline <= now) late.push_back(agent);
  }
  bool any = !late.empty();
  for (AgentId agent : late) {
    end_pending(object, job, agent);
    job.avoid.insert(agent);
    job.trouble = "agent " + agent.brief() + " did not finish its copy in time";
  }
  for (auto& [depth, above_copy] : job.above) {
    if (above_copy.deadline > now) continue;
    end_above(above_copy);
    job.trouble = "the region above did not finish its copy in time";
    any = true;
  }
  if (any) review(object, true);
  pump_starved();
}

void Store::Impl::pump_starved() {
  while (!starved.empty() && copies_in_flight < config.limits.copies_in_flight_max) {
    const ObjectId object = starved.begin()->second;
    starved.erase(starved.begin());
    review(object, true);
  }
}

void Store::Impl::drop_job_if_idle(ObjectId object) {
  auto it = jobs.find(object);
  if (it == jobs.end()) return;
  Job& job = it->second;
  const bool above_asked = std::any_of(job.above.begin(), job.above.end(),
                                       [](const auto& one) { return one.second.deadline != Instant::never(); });
  if (!job.pending.empty() || !job.puts.empty() || above_asked) return;
  disarm(TimerKind::kReview, job.review, object.high(), object.low());
  jobs.erase(it);
}

// ---- messages ----

void Store::Impl::on_message(const wire::Address& from, const msg::Copied& copied) {
  for (const Record& tombstone : copied.tombstones) {
    if (buried_by(tombstone.name)) accept(tombstone);
  }
  auto it = objects.find(copied.object);
  if (it == objects.end() || !it->second.here) return;
  const bool at_home = copied.depth < 0;
  if (at_home ? !is_peer_home(from.agent) : copied.code == 0 && ancestor_depth(from) != copied.depth) return;
  if (auto job = jobs.find(copied.object); job != jobs.end()) {
    if (at_home) {
      end_pending(copied.object, job->second, from.agent);
    } else if (auto above_copy = job->second.above.find(copied.depth); above_copy != job->second.above.end()) {
      end_above(above_copy->second);
    }
    if (copied.code != 0) {
      if (at_home) job->second.avoid.insert(from.agent);
      job->second.trouble = "agent " + from.agent.brief() + ": " + copied.message;
    }
  }
  if (copied.code == 0) {
    added_holder(copied.object, it->second, from);
    review(copied.object, true);
  } else if (jobs.contains(copied.object)) {
    if (at_home) {
      review(copied.object, true);
    } else {  // not at once: the way up may be missing for a while
      schedule_review(copied.object, config.timeouts.ask);
    }
  }
  pump_starved();
}

void Store::Impl::on_message(const wire::Address& from, const msg::Replicate& replicate) {
  const Manifest& manifest = replicate.manifest;
  msg::Copied answer{manifest.object, replicate.depth, 0, {}, {}};
  auto refuse = [&](const Error& error) {
    ++counters.refused;
    answer.code = static_cast<std::uint8_t>(error.code);
    answer.message = error.message;
    send(replicate.requester, answer);
  };
  if (replicate.requester.path.empty() || replicate.requester.agent == config.id) {
    ++counters.bad_frames;
    return;
  }
  if (auto ok = acceptable(manifest); !ok) return refuse(ok.error());
  if (std::vector<Record> tombstones = tombstones_for(manifest); !tombstones.empty()) {
    answer.tombstones = std::move(tombstones);
    return refuse({Code::kNotFound, "the object was deleted"});
  }
  auto it = objects.find(manifest.object);
  if (it != objects.end() && it->second.here) {
    std::vector<Record> ignored;
    merge_entry(from, manifest, ignored);
    send(replicate.requester, answer);
    return;
  }
  if (here_count + pulls.size() >= config.limits.objects_max) {
    return refuse({Code::kExhausted, "it keeps its maximum of objects"});
  }
  if (!pulls.contains(manifest.object) && pulls.size() >= config.limits.pulls_queued_max) {
    return refuse({Code::kExhausted, "it has too many copies to make"});
  }
  queue_pull(manifest, std::pair{replicate.requester, replicate.depth});
}

void Store::Impl::on_message(const wire::Address& from, const msg::Place& place) {
  (void)from;
  if (!acceptable(place.manifest) || place.requester.path.empty() || place.hops >= kPlaceHopsMax) {
    ++counters.bad_frames;
    return;
  }
  const bool reachable = has_parent() && (is_head() ? !parents.empty() : above && is_peer_home(above->agent));
  if (place.depth < 0 || place.depth >= home_depth() || !reachable) {
    const auto code = static_cast<std::uint8_t>(Code::kUnavailable);
    send(place.requester,
         msg::Copied{place.manifest.object, place.depth, code, "no agent of the parent region can be reached", {}});
    return;
  }
  msg::Place onward = place;
  ++onward.hops;
  place_above(onward);
}

void Store::Impl::on_message(const wire::Address& from, const msg::Lost& lost) {
  if (!above || from.agent != above->agent || lost.agent == config.id) return;
  walk_state.recheck_next.insert(lost.agent);
  start_walk();
}

}  // namespace shoal::storage
