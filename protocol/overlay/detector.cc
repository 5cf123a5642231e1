#include "protocol/overlay/detector.h"

#include <algorithm>

namespace shoal::overlay {

namespace {
constexpr unsigned kGoodTicksToRecover = 10;
constexpr std::size_t kDeathsKept = 512;
}  // namespace

Detector::Detector(std::int64_t scale) : scale_(scale) {}

Duration Detector::suspect_after(unsigned false_alarms) const {
  return kSuspectAfter * scale_ * health_ * (std::int64_t{1} << std::min(false_alarms, kFalseAlarmsMax));
}

Duration Detector::dead_after() const {
  return kDeadAfter * scale_ * health_;
}

bool Detector::suspect(AgentId agent, Incarnation incarnation, Instant now) {
  return suspicions_.emplace(agent, Suspicion{incarnation, now + dead_after()}).second;
}

bool Detector::clear(AgentId agent) {
  return suspicions_.erase(agent) != 0;
}

void Detector::testify(AgentId agent, Incarnation incarnation, Instant contact) {
  auto it = suspicions_.find(agent);
  if (it == suspicions_.end() || incarnation < it->second.incarnation) return;
  it->second.dead_at = std::max(it->second.dead_at, contact + suspect_after(0) + dead_after());
}

std::vector<Detector::Due> Detector::take_due(Instant now) {
  std::vector<Due> due;
  for (auto it = suspicions_.begin(); it != suspicions_.end();) {
    if (it->second.dead_at <= now) {
      due.push_back({it->first, it->second.incarnation});
      it = suspicions_.erase(it);
    } else {
      ++it;
    }
  }
  return due;
}

void Detector::postpone(const Due& due, Instant now) {
  suspect(due.agent, due.incarnation, now);
}

Instant Detector::next() const {
  Instant next = Instant::never();
  for (const auto& [agent, suspicion] : suspicions_) next = std::min(next, suspicion.dead_at);
  return next;
}

void Detector::note_death(Instant now) {
  deaths_.push_back(now);
  if (deaths_.size() > kDeathsKept) deaths_.pop_front();
}

std::size_t Detector::recent_deaths(Instant now) {
  while (!deaths_.empty() && now - deaths_.front() > kDeathWindow * scale_) deaths_.pop_front();
  return deaths_.size();
}

void Detector::note_tick(Duration lateness) {
  if (lateness > kLateTick * scale_) {
    health_ = std::min(health_ + 1, kHealthMax);
    good_ticks_ = 0;
  } else if (++good_ticks_ >= kGoodTicksToRecover) {
    health_ = std::max(health_ - 1, 1U);
    good_ticks_ = 0;
  }
}

void Detector::forgive(Duration lateness) {
  for (auto& [agent, suspicion] : suspicions_) suspicion.dead_at = suspicion.dead_at + lateness;
}

}  // namespace shoal::overlay
