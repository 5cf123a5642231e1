// Suspicion, death, and the doubt whether it is not this agent that is cut off.
#include <algorithm>
#include <utility>

#include "protocol/overlay/core.h"

namespace shoal::overlay {

using message::Kind;

// Looks at every watched link and every suspicion, and finds out when to look again before the next tick.
void Core::watch() {
  watch_at_ = Instant::never();
  if (!admitted_) return;
  Instant next = Instant::never();
  std::vector<AgentId> silent;
  for (const auto& [peer, link] : links_.all()) {
    if (!link.watched || detector_.suspects(peer)) continue;
    const Instant patience = link.heard + detector_.suspect_after(link.false_alarms);
    if (now_ >= patience) {
      silent.push_back(peer);
    } else {
      next = std::min(next, patience);
    }
  }
  for (AgentId peer : silent) raise_suspicion(peer);
  for (const Detector::Due& due : detector_.take_due(now_)) judge(due);
  for (auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment == nullptr || !attachment->isolated) continue;
    // Alone is not cut off: everyone else left, or is proven dead.
    if (attachment->region.living().size() <= 1 || anyone_answers(*attachment)) set_isolated(*attachment, false);
  }
  next = std::min(next, detector_.next());
  // The next tick looks anyway.
  if (next < tick_at_) watch_at_ = next;
  constexpr std::uint64_t kForgetFalseAlarmTicks = 30;
  if (ticks_ % kForgetFalseAlarmTicks != 0) return;
  for (const auto& [peer, link] : links_.all()) {
    if (link.false_alarms > 0 && link.up()) --links_.find(peer)->false_alarms;
  }
}

void Core::raise_suspicion(AgentId agent) {
  const Member* member = find_member(agent);
  if (member == nullptr || agent == config_.id) return;
  const Incarnation incarnation = member->incarnation;
  if (!detector_.suspect(agent, incarnation, now_)) return;
  ++counters_.suspicions;
  watch_at_ = std::min(watch_at_, detector_.next());
  for (auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment == nullptr) continue;
    take_claim(*attachment, {agent, incarnation, Status::kSuspect, false, config_.id}, config_.id);
  }
}

void Core::judge(const Detector::Due& due) {
  for (auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment == nullptr) continue;
    const Member* member = attachment->region.find(due.agent);
    if (member == nullptr || member->incarnation > due.incarnation) continue;
    const std::size_t deaths = detector_.recent_deaths(now_) + detector_.size() + 1;
    const std::size_t usual = std::max(kDeathsAlways, attachment->region.living().size() * kDeathsPercent / 100);
    if (deaths > usual && !anyone_answers(*attachment)) {
      set_isolated(*attachment, true);
      detector_.postpone(due, now_);
      continue;
    }
    declare_dead(*attachment, due.agent, due.incarnation, false);
    detector_.note_death(now_);
  }
}

bool Core::anyone_answers(const Attachment& at) const {
  for (const auto& [peer, link] : links_.all()) {
    if (link.up() && link.watched && now_ - link.heard < kSuspectAfter * scale_ && at.region.find(peer) != nullptr)
      return true;
  }
  return false;
}

void Core::set_isolated(Attachment& at, bool isolated) {
  if (at.isolated == isolated) return;
  at.isolated = isolated;
  if (at.scope == Scope::kHome) emit(out::Isolated{isolated});
}

void Core::declare_dead(Attachment& at, AgentId agent, Incarnation incarnation, bool proven) {
  take_claim(at, {agent, incarnation, Status::kDead, proven, config_.id}, config_.id);
}

// Any frame proves that its sender lives and that this agent is not cut off.
void Core::note_contact(AgentId neighbour) {
  Link* link = links_.find(neighbour);
  if (link == nullptr) return;
  link->heard = std::max(link->heard, now_);
  if (detector_.size() != 0 && detector_.clear(neighbour)) {
    link->false_alarms = std::min(link->false_alarms + 1, kFalseAlarmsMax);
  }
  for (auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment != nullptr && attachment->isolated && attachment->region.find(neighbour) != nullptr) {
      set_isolated(*attachment, false);
    }
  }
}

// Tells the observer of a suspect when this agent last heard of it, if it watches the suspect too.
void Core::answer_suspicion(Attachment& at, const message::Claim& claim) {
  const Link* link = links_.find(claim.agent);
  if (link == nullptr || !link->up() || !link->watched || link->heard > now_ || claim.observer.is_zero()) return;
  const Member* member = at.region.find(claim.agent);
  if (member == nullptr || member->incarnation < claim.incarnation) return;
  const Duration age = now_ - link->heard;
  if (age > kSuspectAfter * scale_) return;
  send(claim.observer, Kind::kHeard, message::Heard{at.region.id(), claim.agent, member->incarnation, age});
}

void Core::on_heard(const message::Heard& heard) {
  if (at(heard.region) == nullptr || heard.age < Duration{} || heard.age > kSuspectAfter * scale_) return drop();
  detector_.testify(heard.agent, heard.incarnation, now_ - heard.age);
}

}  // namespace shoal::overlay
