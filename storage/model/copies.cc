// Receipts, replication and repair: how many copies an object should have, where, and what was proved.
#include <algorithm>
#include <utility>

#include "protocol/base/check.h"
#include "storage/model/placement.h"
#include "storage/model/store_impl.h"
#include "storage/model/tombstone.h"

namespace shoal::storage {
namespace {

constexpr std::uint32_t kReplicasMax = 16;
constexpr std::size_t kTypeBytesMax = 256;
constexpr std::uint32_t kPlaceHopsMax = 8;

}  // namespace

// ---- levels ----

const char* level_name(Level level) {
  switch (level) {
    case Level::kMemory: return "memory";
    case Level::kProcess: return "process";
    case Level::kLocal: return "local";
    case Level::kRegion: return "region";
    case Level::kParent: return "parent";
    case Level::kCloud: return "cloud";
  }
  return "unknown";
}

Result<> Store::Impl::possible(Level level, std::string_view what) const {
  if (level <= Level::kLocal) return {};
  const std::string asked = std::string(what) + " cannot reach level '" + level_name(level) + "': ";
  if (level > Level::kCloud) return fail(Code::kInvalid, "the level asked for is unknown; use local, region, parent or cloud");
  if (self.path.empty()) {
    return fail(Code::kUnavailable, asked + "this agent has not joined a region yet. Wait for 'local' or try again later");
  }
  const bool alone = home.size() < 2;
  if (level == Level::kRegion && alone) {
    return fail(Code::kUnavailable, asked + "no other agent of this region is up. Wait for 'local', or add an agent");
  }
  if (level == Level::kParent && !has_parent()) {
    return fail(Code::kUnavailable, asked + "this region is the root and has no parent. Wait for 'region' or 'cloud'");
  }
  if (level == Level::kCloud && !has_parent() && alone) {
    return fail(Code::kUnavailable, asked + "this region is the root, and no other agent of it is up. Wait for 'local'");
  }
  return {};
}

std::size_t Store::Impl::home_copies(const Known& known) const {
  const auto& holders = known.manifest.holders;
  return static_cast<std::size_t>(std::count_if(holders.begin(), holders.end(), [this](const wire::Address& holder) {
    return holder.agent == config.id || is_peer_home(holder.agent);
  }));
}

// A region of one agent cannot hold a second copy; there the copy in the parent region stands for it.
bool Store::Impl::satisfied(const Known& known, Level level) const {
  if (level <= Level::kLocal) return known.here;
  const bool in_region = home_copies(known) >= 2;
  if (level == Level::kRegion || (level == Level::kCloud && !has_parent())) return in_region;
  if (!in_region && home.size() > 1) return false;
  bool in_parent = false;
  bool in_root = false;
  for (const wire::Address& holder : known.manifest.holders) {
    const std::int32_t depth = ancestor_depth(holder);
    in_parent = in_parent || (depth >= 0 && depth == home_depth() - 1);
    in_root = in_root || depth == 0;
  }
  return level == Level::kParent ? in_parent : in_parent && in_root;
}

Level Store::Impl::reached(const Known& known) const {
  if (has_parent()) {
    if (satisfied(known, Level::kCloud)) return Level::kCloud;
    if (satisfied(known, Level::kParent)) return Level::kParent;
  }
  return satisfied(known, Level::kRegion) ? Level::kRegion : Level::kLocal;
}

Duration Store::Impl::with_transfer(Duration base, std::uint64_t bytes) const {
  const auto per_second = static_cast<std::uint64_t>(config.timeouts.copy_bytes_per_second_min);
  return base + seconds(static_cast<std::int64_t>(std::min<std::uint64_t>(bytes / per_second, 86'400)));
}

Result<> Store::Impl::acceptable(const Manifest& manifest) const {
  if (manifest.object.is_zero()) return fail(Code::kInvalid, "the object has no id");
  if (manifest.policy.replicas == 0 || manifest.policy.replicas > kReplicasMax) {
    return fail(Code::kInvalid, "replicas=" + std::to_string(manifest.policy.replicas) + " is not possible; use 1 to " +
                                    std::to_string(kReplicasMax));
  }
  if (manifest.policy.wait_for > Level::kCloud) return fail(Code::kInvalid, "the level to wait for is unknown");
  if (manifest.type.size() > kTypeBytesMax) return fail(Code::kInvalid, "the object's type name is longer than 256 bytes");
  return {};
}

// ---- put ----

void Store::Impl::on(const in::Put& put) {
  const ObjectId object = put.manifest.object;
  auto it = objects.find(object);
  const bool had = it != objects.end() && it->second.here;
  auto refuse = [&](Error error) {
    ++counters.refused;
    if (!had) emit(out::Erase{object});
    emit(out::PutDone{put.request, tl::unexpected<Error>(std::move(error))});
  };
  if (auto ok = acceptable(put.manifest); !ok) return refuse(ok.error());
  const Level level = put.manifest.policy.wait_for;
  if (auto ok = possible(level, "the object"); !ok) return refuse(ok.error());
  if (!had && here_count >= config.limits.objects_max) {
    return refuse({Code::kExhausted, "this agent keeps its maximum of objects; delete some or use another agent"});
  }
  if (puts.size() >= config.limits.requests_max) {
    return refuse({Code::kExhausted, "too many writes wait for their receipts; wait for some of them first"});
  }
  Known& known = objects[object];
  if (known.manifest.object != object) known.manifest = Manifest{object, put.manifest.bytes, {}, put.manifest.policy, {}, {}};
  known.manifest.bytes = put.manifest.bytes;
  known.manifest.type = put.manifest.type;
  Policy& policy = known.manifest.policy;
  policy.replicas = std::max(policy.replicas, put.manifest.policy.replicas);
  policy.wait_for = std::max(policy.wait_for, level);
  policy.ephemeral = policy.ephemeral && put.manifest.policy.ephemeral;
  if (auto tombstone = records.find(tombstone_name(object)); tombstone != records.end()) {
    known.manifest.birth = std::max(known.manifest.birth, tombstone->second.record.epoch);
  }
  known.fresh = true;
  if (!known.here) {
    auto& holders = known.manifest.holders;
    if (holders.size() >= config.limits.holders_max) holders.pop_back();
    holders.insert(holders.begin(), self);
    set_here(object, known, true);
  }
  changed(object, known);

  if (satisfied(known, level)) {
    const auto copies = static_cast<std::uint32_t>(known.manifest.holders.size());
    emit(out::PutDone{put.request, Receipt{object, std::max(level, reached(known)), copies}});
  } else {
    const std::uint64_t id = ++last_number;
    const Instant deadline = now + with_transfer(config.timeouts.put, known.manifest.bytes);
    puts[id] = PendingPut{put.request, object, level, deadline};
    jobs[object].puts.push_back(id);
    arm(TimerKind::kPut, deadline, id);
  }
  review(object, true);
}

void Store::Impl::settle_puts(ObjectId object) {
  auto job = jobs.find(object);
  auto known = objects.find(object);
  if (job == jobs.end() || known == objects.end()) return;
  const std::vector<std::uint64_t> waiting = job->second.puts;
  for (std::uint64_t id : waiting) {
    const PendingPut& put = puts.at(id);
    if (!satisfied(known->second, put.level)) continue;
    const auto copies = static_cast<std::uint32_t>(known->second.manifest.holders.size());
    finish_put(id, Receipt{object, std::max(put.level, reached(known->second)), copies});
  }
}

void Store::Impl::expire_put(std::uint64_t id) {
  auto it = puts.find(id);
  if (it == puts.end()) return;
  const PendingPut& put = it->second;
  const Known& known = objects.at(put.object);
  std::string message = std::string("level '") + level_name(put.level) + "' was not reached in time; the object is kept at level '" +
                        level_name(reached(known)) + "' with " + std::to_string(known.manifest.holders.size()) +
                        " copies, and the rest is made up when agents can be reached";
  const std::string& trouble = jobs.at(put.object).trouble;
  if (!trouble.empty()) message += ". Last trouble: " + trouble;
  finish_put(id, fail(Code::kTimeout, std::move(message)));
}

void Store::Impl::finish_put(std::uint64_t id, Result<Receipt> receipt) {
  auto it = puts.find(id);
  const PendingPut put = it->second;
  disarm(TimerKind::kPut, put.deadline, id);
  puts.erase(it);
  auto& waiting = jobs.at(put.object).puts;
  waiting.erase(std::remove(waiting.begin(), waiting.end(), id), waiting.end());
  emit(out::PutDone{put.request, std::move(receipt)});
  drop_job_if_idle(put.object);
}

// ---- what is here ----

void Store::Impl::set_here(ObjectId object, Known& known, bool here) {
  SHOAL_CHECK(known.manifest.object == object && known.here != here, "an object comes or goes twice");
  known.here = here;
  if (here) {
    ++here_count;
    here_bytes += known.manifest.bytes;
  } else {
    --here_count;
    here_bytes -= known.manifest.bytes;
    known.former.clear();
  }
}

// The local copy is no more (deleted or damaged): whoever waits for it hears why, the directory hears it is gone.
void Store::Impl::forget_copy(ObjectId object, const Error& why) {
  auto it = objects.find(object);
  if (it == objects.end() || !it->second.here) return;
  if (auto job = jobs.find(object); job != jobs.end()) {
    while (!job->second.pending.empty()) end_pending(object, job->second, job->second.pending.begin()->first);
    for (auto& [depth, above_copy] : job->second.above) end_above(above_copy);
    const std::vector<std::uint64_t> waiting = job->second.puts;
    for (std::uint64_t id : waiting) finish_put(id, tl::unexpected<Error>(why));
    if (auto left = jobs.find(object); left != jobs.end()) {
      disarm(TimerKind::kReview, left->second.review, object.high(), object.low());
      jobs.erase(left);
    }
  }
  Known& known = it->second;
  set_here(object, known, false);
  auto& holders = known.manifest.holders;
  holders.erase(std::remove_if(holders.begin(), holders.end(), [this](const auto& one) { return one.agent == config.id; }),
                holders.end());
  announce_gone(object, config.id);
  if (holders.empty()) objects.erase(it);
}

// Strikes out holders that are down or must confirm anew, and refreshes addresses after this agent moved.
void Store::Impl::prune_holders(ObjectId object, Known& known) {
  bool moved = false;
  auto& holders = known.manifest.holders;
  for (auto it = holders.begin(); it != holders.end();) {
    if (it->agent == config.id) {
      moved = moved || *it != self;
      *it = self;
      ++it;
      continue;
    }
    const bool away = is_home(*it) && !is_peer_home(it->agent);
    if (away || walk_state.recheck.contains(it->agent)) {
      if (known.former.size() < config.limits.holders_max) known.former.push_back(*it);
      it = holders.erase(it);
      continue;
    }
    ++it;
  }
  if (moved && !self.path.empty()) changed(object, known);
}

void Store::Impl::added_holder(ObjectId object, Known& known, const wire::Address& holder) {
  if (merge_holders(holder.agent, known, {holder})) changed(object, known);
  settle_puts(object);
}

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
  const bool region_too_small = !policy.ephemeral && home.size() < policy.replicas &&
                                known.manifest.holders.size() < policy.replicas;
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
                                            [this](const auto& one) { return one.path.size() > self.path.size(); });
  std::size_t missing = policy.ephemeral || total >= policy.replicas ? 0 : policy.replicas - total;
  if (policy.wait_for >= Level::kRegion && !for_region_below && at_home < 2) missing = std::max<std::size_t>(missing, 1);
  missing = std::min(missing, home.size() - std::min(home.size(), at_home));
  const std::set<std::int32_t> depths = for_region_below ? std::set<std::int32_t>{} : depths_wanted(known);
  const std::size_t asked = jobs.contains(object) ? jobs.at(object).pending.size() : 0;
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
  if (unplaced > 0 && !starved.contains({total, object})) {
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
      job.trouble = "no agent of the parent region can be reached";
      schedule_review(object, urgent(job) ? config.timeouts.ask : config.timeouts.repair_retry);
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
  auto it = objects.find(copied.object);
  if (copied.tombstone && buried_by(copied.tombstone->name) == copied.object) {
    accept(*copied.tombstone, Origin::kDirectory);
    it = objects.find(copied.object);
  }
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
  if (const Record* tombstone = tombstone_for(manifest)) {
    answer.tombstone = *tombstone;
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
    send(place.requester, msg::Copied{place.manifest.object, place.depth, code, "no agent of the parent region can be reached", {}});
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

// ---- making copies here ----

void Store::Impl::queue_pull(Manifest manifest, std::optional<std::pair<wire::Address, std::int32_t>> requester) {
  constexpr std::size_t kRequestersMax = 16;
  const ObjectId object = manifest.object;
  auto [it, added] = pulls.try_emplace(object);
  if (added) {
    it->second.manifest = std::move(manifest);
    pull_queue.push_back(object);
  }
  if (requester && it->second.requesters.size() < kRequestersMax) it->second.requesters.push_back(std::move(*requester));
  pump_pulls();
}

void Store::Impl::pump_pulls() {
  while (!pull_queue.empty() && pulls_in_flight < config.limits.pulls_in_flight_max) {
    const ObjectId object = pull_queue.front();
    pull_queue.pop_front();
    PullJob& pull = pulls.at(object);
    pull.started = true;
    ++pulls_in_flight;
    emit(out::Pull{pull.manifest});
  }
}

void Store::Impl::on(const in::Pulled& pulled) {
  auto it = pulls.find(pulled.object);
  if (it == pulls.end() || !it->second.started) return;
  const PullJob pull = std::move(it->second);
  pulls.erase(it);
  --pulls_in_flight;
  msg::Copied answer{pulled.object, -1, 0, {}, {}};
  if (!pulled.result) {
    answer.code = static_cast<std::uint8_t>(pulled.result.error().code);
    answer.message = pulled.result.error().message;
  } else if (const Record* tombstone = tombstone_for(pull.manifest)) {
    emit(out::Erase{pulled.object});
    answer.code = static_cast<std::uint8_t>(Code::kNotFound);
    answer.message = "the object was deleted";
    answer.tombstone = *tombstone;
  } else {
    Known& known = objects[pulled.object];
    if (known.manifest.object != pulled.object) {
      known.manifest = pull.manifest;
      known.manifest.holders.clear();
    }
    if (!known.here) {
      const auto& holders = pull.manifest.holders;
      merge_holders(AgentId(), known, holders);
      if (known.manifest.holders.size() >= config.limits.holders_max) known.manifest.holders.pop_back();
      known.manifest.holders.push_back(self);
      known.manifest.bytes = pull.manifest.bytes;
      set_here(pulled.object, known, true);
    }
    changed(pulled.object, known);
    if (!pull.requesters.empty()) review(pulled.object, false);
  }
  for (const auto& [requester, depth] : pull.requesters) {
    answer.depth = depth;
    send(requester, answer);
  }
  pump_pulls();
}

// Damage in the local copy: it is struck from the directory at once; the bad bytes are dropped only when another copy
// is found, because a damaged copy is worth more than none.
void Store::Impl::on(const in::Corrupt& corrupt) {
  auto it = objects.find(corrupt.object);
  if (it == objects.end() || !it->second.here) return;
  Search search;
  search.purpose = Search::Purpose::kHeal;
  search.object = corrupt.object;
  search.failed.insert(config.id);
  search.found = it->second.manifest;
  auto& holders = search.found->holders;
  holders.erase(std::remove_if(holders.begin(), holders.end(), [this](const auto& one) { return one.agent == config.id; }),
                holders.end());
  for (const wire::Address& former : it->second.former) holders.push_back(former);
  forget_copy(corrupt.object, {Code::kCorrupt, "the copy on this agent's disk is damaged"});
  start_search(std::move(search), config.timeouts.locate);
}

}  // namespace shoal::storage
