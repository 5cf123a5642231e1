// Receipts: what was put here, which copies are proved, and copies that others asked this agent to make.
#include <algorithm>
#include <utility>

#include "protocol/base/check.h"
#include "protocol/base/hash.h"
#include "storage/model/store_impl.h"
#include "storage/model/tombstone.h"

namespace shoal::storage {
namespace {

constexpr std::uint32_t kReplicasMax = 16;
constexpr std::size_t kTypeBytesMax = 256;

}  // namespace

// ---- levels ----

const char* level_name(Level level) {
  switch (level) {
    case Level::kMemory:
      return "memory";
    case Level::kProcess:
      return "process";
    case Level::kLocal:
      return "local";
    case Level::kRegion:
      return "region";
    case Level::kParent:
      return "parent";
    case Level::kCloud:
      return "cloud";
  }
  return "unknown";
}

Result<> Store::Impl::possible(Level level, std::string_view what) const {
  if (leaving) {
    return fail(Code::kUnavailable,
                std::string(what) + " cannot be kept here: this agent is leaving. Use another agent");
  }
  if (level <= Level::kLocal) return {};
  const std::string asked = std::string(what) + " cannot reach level '" + level_name(level) + "': ";
  if (level > Level::kCloud)
    return fail(Code::kInvalid, "the level asked for is unknown; use local, region, parent or cloud");
  if (self.path.empty()) {
    return fail(Code::kUnavailable,
                asked + "this agent has not joined a region yet. Wait for 'local' or try again later");
  }
  const bool alone = home.size() < 2;
  if (level == Level::kRegion && alone) {
    return fail(Code::kUnavailable, asked + "no other agent of this region is up. Wait for 'local', or add an agent");
  }
  if (level == Level::kParent && !has_parent()) {
    return fail(Code::kUnavailable, asked + "this region is the root and has no parent. Wait for 'region' or 'cloud'");
  }
  if (level == Level::kCloud && !has_parent() && alone) {
    return fail(Code::kUnavailable,
                asked + "this region is the root, and no other agent of it is up. Wait for 'local'");
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
  if (manifest.type.size() > kTypeBytesMax)
    return fail(Code::kInvalid, "the object's type name is longer than 256 bytes");
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
  if (known.manifest.object != object)
    known.manifest = Manifest{object, put.manifest.bytes, {}, put.manifest.policy, {}, {}};
  known.manifest.bytes = put.manifest.bytes;
  known.manifest.type = put.manifest.type;
  Policy& policy = known.manifest.policy;
  policy.replicas = std::max(policy.replicas, put.manifest.policy.replicas);
  policy.wait_for = std::max(policy.wait_for, level);
  policy.ephemeral = policy.ephemeral && put.manifest.policy.ephemeral;
  merge_births(known.manifest, {combine64(session, ++last_number) | 1});
  known.fresh = true;
  if (!known.here) {
    auto& holders = known.manifest.holders;
    if (holders.size() >= config.limits.holders_max) holders.pop_back();
    holders.insert(holders.begin(), self);
    set_here(object, known, true);
    heals.erase(object);
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
  std::string message = std::string("level '") + level_name(put.level) +
                        "' was not reached in time; the object is kept at level '" + level_name(reached(known)) +
                        "' with " + std::to_string(known.manifest.holders.size()) +
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

// The local copy is no more (deleted or damaged): whoever waits for it hears why, the directory hears it is
// gone.
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
  holders.erase(
      std::remove_if(holders.begin(), holders.end(), [this](const auto& one) { return one.agent == config.id; }),
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
    if (const Peer* other = is_peer_home(it->agent) ? peer(it->agent) : nullptr; other != nullptr) {
      moved = moved || *it != other->address;
      *it = other->address;
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

// ---- making copies here ----

void Store::Impl::queue_pull(Manifest manifest, std::optional<std::pair<wire::Address, std::int32_t>> requester) {
  constexpr std::size_t kRequestersMax = 16;
  const ObjectId object = manifest.object;
  auto [it, added] = pulls.try_emplace(object);
  if (added) {
    it->second.manifest = std::move(manifest);
    pull_queue.push_back(object);
  }
  if (requester && it->second.requesters.size() < kRequestersMax)
    it->second.requesters.push_back(std::move(*requester));
  pump_pulls();
}

void Store::Impl::pump_pulls() {
  while (!pull_queue.empty() && pulls_in_flight < config.limits.pulls_in_flight_max) {
    const ObjectId object = pull_queue.front();
    pull_queue.pop_front();
    PullJob& pull = pulls.at(object);
    pull.started = true;
    ++pulls_in_flight;
    if (heals.contains(object)) emit(out::Erase{object});  // the damaged bytes, now that there are better ones
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
    heal_later(pulled.object);
  } else if (std::vector<Record> tombstones = tombstones_for(pull.manifest); !tombstones.empty()) {
    emit(out::Erase{pulled.object});
    answer.code = static_cast<std::uint8_t>(Code::kNotFound);
    answer.message = "the object was deleted";
    answer.tombstones = std::move(tombstones);
  } else {
    Known& known = objects[pulled.object];
    if (known.manifest.object != pulled.object) {
      known.manifest = pull.manifest;
      known.manifest.holders.clear();
      strike_buried(known.manifest);
    }
    if (!known.here) {
      if (known.manifest.holders.size() >= config.limits.holders_max) known.manifest.holders.pop_back();
      known.manifest.holders.push_back(self);
      known.manifest.bytes = pull.manifest.bytes;
      set_here(pulled.object, known, true);
      heals.erase(pulled.object);
      merge_holders(AgentId(), known, pull.manifest.holders);
    }
    changed(pulled.object, known);
    review(pulled.object, false);
  }
  for (const auto& [requester, depth] : pull.requesters) {
    answer.depth = depth;
    send(requester, answer);
  }
  pump_pulls();
}

// Damage in the local copy: it is struck from the directory at once; the bad bytes are dropped only when
// another copy is found, because a damaged copy is worth more than none.
void Store::Impl::on(const in::Corrupt& corrupt) {
  auto it = objects.find(corrupt.object);
  if (it == objects.end() || !it->second.here) return;
  Search search;
  search.purpose = Search::Purpose::kHeal;
  search.object = corrupt.object;
  search.failed.insert(config.id);
  search.found = it->second.manifest;
  auto& holders = search.found->holders;
  holders.erase(
      std::remove_if(holders.begin(), holders.end(), [this](const auto& one) { return one.agent == config.id; }),
      holders.end());
  for (const wire::Address& former : it->second.former) holders.push_back(former);
  heals.try_emplace(corrupt.object, 0);
  forget_copy(corrupt.object, {Code::kCorrupt, "the copy on this agent's disk is damaged"});
  start_search(std::move(search), config.timeouts.locate);
}

// The other holders may only be out of reach.
void Store::Impl::heal_later(ObjectId object) {
  constexpr int kHealTries = 10;
  auto it = heals.find(object);
  if (it == heals.end()) return;
  const int tries = it->second++;
  if (tries >= kHealTries) {
    ++counters.lost;
    return;
  }
  arm(TimerKind::kHeal, now + config.timeouts.repair_retry * (std::int64_t{1} << tries), object.high(), object.low());
}

void Store::Impl::heal(ObjectId object) {
  auto known = objects.find(object);
  if (!heals.contains(object) || (known != objects.end() && known->second.here)) return;
  if (searches.size() >= config.limits.searches_max) return heal_later(object);
  Search search;
  search.purpose = Search::Purpose::kHeal;
  search.object = object;
  search.failed.insert(config.id);
  start_search(std::move(search), config.timeouts.locate);
}

}  // namespace shoal::storage
