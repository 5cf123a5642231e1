// What this agent tells about its load: its state to its region, and, as a head, summaries upward and downward. Sent
// when it changed enough for somebody to decide differently, and never more often than every half second. A queue is
// told at once; units that are taken or free again only once they have stayed so: every telling floods the region, and
// a short task is over before anybody could act on it.
#include <algorithm>

#include "scheduler/impl.h"

namespace shoal::scheduler {

namespace {

constexpr Duration kGossipEvery = milliseconds(500);
constexpr Duration kLoadHold = milliseconds(250);
constexpr Duration kSummariesEvery = seconds(1);

bool differs(std::uint64_t a, std::uint64_t b, std::uint64_t whole) {
  const std::uint64_t distance = a > b ? a - b : b - a;
  return (a == 0) != (b == 0) || distance * 8 >= std::max<std::uint64_t>(whole, 8);
}

// Small changes of what is free are not worth telling.
void round(Summary& summary) {
  const std::uint64_t step = std::max<std::uint64_t>(kUnit64, summary.total64 / 16);
  summary.free64 -= summary.free64 % step;
}

}  // namespace

State Scheduler::Impl::state() const {
  State state;
  state.resources = resources;
  state.used64 = std::min(worker.ledger().used64() + worker.waiting64(), worker.ledger().total64());
  state.queued = queues.size() + worker.waiting();
  if (is_head()) {
    state.above = summary_of(true);
    round(*state.above);
  }
  return state;
}

Summary Scheduler::Impl::summary_of(bool above) const {
  Summary summary;
  if (!above) {
    State self;
    self.resources = resources;
    self.used64 = worker.ledger().used64() + worker.waiting64();
    add(summary, self);
  }
  const RegionId home = address.path.empty() ? RegionId() : address.path.back();
  for (const auto& [agent, peer] : peers.all()) {
    if (peer.above != above || peer.down) continue;
    const bool own = above && !peer.address.path.empty() && peer.address.path.back() == home;
    if (own) continue;  // this region's former head, as the parent region remembers it
    if (!peer.child) add(summary, peer.state);
    if (peer.behind && (above || peer.child)) add(summary, *peer.behind);
  }
  return summary;
}

std::uint64_t Scheduler::Impl::free_on(bool above) const {
  std::uint64_t free = above ? 0 : worker.ledger().free64();
  const RegionId home = address.path.empty() ? RegionId() : address.path.back();
  for (const auto& [agent, peer] : peers.all()) {
    if (peer.above != above || peer.down) continue;
    if (above && !peer.address.path.empty() && peer.address.path.back() == home) continue;
    if (!peer.child) free += peers.room_here(peer, now);
    if (peer.behind && (above || peer.child)) free += peers.room_behind(peer, now);
  }
  return free;
}

void Scheduler::Impl::update_gossip() {
  if (address.path.empty() && resources.architecture.empty() && resources.computing_units == 0)
    return;  // nothing known yet
  const std::uint64_t total64 = worker.ledger().total64();
  const std::uint64_t used64 = std::min(worker.ledger().used64() + worker.waiting64(), total64);
  const std::uint64_t queued = queues.size() + worker.waiting();
  const bool load_changed = differs(used64, last_state.used64, total64);
  const bool queue_changed = differs(queued, last_state.queued, last_state.queued);
  const bool others_changed = peers_changed && is_head();
  if (!gossiped || (queue_changed && queued > last_state.queued)) {
    state_due = std::min(state_due, gossip_at);
  } else if (state_due == Instant::never() && (load_changed || queue_changed || others_changed || resources_changed)) {
    state_due = std::max(gossip_at, now + kLoadHold);
  }
  if (!is_head()) {
    summaries_due = Instant::never();
  } else if (summaries_due == Instant::never() && (load_changed || queue_changed || peers_changed)) {
    summaries_due = std::max(summaries_at, now + kLoadHold);
  }
  resources_changed = false;
  peers_changed = false;
  if (now >= state_due) tell_state();
  if (now >= summaries_due) tell_summaries();
}

void Scheduler::Impl::tell_state() {
  state_due = Instant::never();
  State fresh = state();
  Bytes bytes = encode_state(fresh);
  last_state = std::move(fresh);
  if (gossiped && bytes == last_state_bytes) return;
  gossiped = true;
  gossip_at = now + kGossipEvery;
  last_state_bytes = bytes;
  out->emplace_back(out::StateChanged{std::move(bytes)});
}

void Scheduler::Impl::tell_summaries() {
  summaries_due = Instant::never();
  Summary upward = summary_of(false);
  Summary downward = summary_of(true);
  round(upward);
  round(downward);
  std::pair<Bytes, Bytes> fresh{encode_summary(upward), encode_summary(downward)};
  if (fresh == last_summaries) return;
  summaries_at = now + kSummariesEvery;
  last_summaries = fresh;
  out->emplace_back(out::SummariesChanged{std::move(fresh.first), std::move(fresh.second)});
}

}  // namespace shoal::scheduler
