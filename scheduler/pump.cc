// Who is next: gives out what there is room for, to each application in turn, its most urgent work first.
#include "scheduler/impl.h"

namespace shoal::scheduler {

void Scheduler::Impl::pump() {
  worker.pump(now);
  reconsider_at = Instant::never();
  std::uint64_t seen = ~queues.awakenings();
  // A placement can make other work ready, because an input turned out to be lost.
  while (queues.size() > 0 && seen != queues.awakenings()) {
    seen = queues.awakenings();
    std::set<ReadyQueues::LaneId> by_choice;
    pump_all(View::kHead, by_choice);
    // Those that wait for one agent although another has room: is the queue so long that the last should go there?
    if (!by_choice.empty()) pump_all(View::kTail, by_choice);
    if (!by_choice.empty()) reconsider_at = now + config.heartbeat / 4;
  }
}

// `by_choice` names the lanes that wait by choice: filled by the heads, read (and cleared of others) by the tails.
void Scheduler::Impl::pump_all(View view, std::set<ReadyQueues::LaneId>& by_choice) {
  std::map<AppId, Heads> lanes;
  std::set<std::pair<std::uint64_t, AppId>> turns;
  for (const auto& [app, share] : queues.shares()) {
    for (const ReadyQueues::LaneId& lane : share.active) {
      if (view == View::kHead || by_choice.contains(lane)) lanes[app].emplace(queues.order(lane, works), lane);
    }
    if (lanes.contains(app)) turns.emplace(share.given, app);
  }
  while (!turns.empty()) {
    const AppId app = turns.begin()->second;
    turns.erase(turns.begin());
    const std::uint64_t given_max = turns.empty() ? ~0ULL : turns.begin()->first;
    Heads& heads = lanes[app];
    const auto given = [&] {
      auto it = queues.shares().find(app);
      return it == queues.shares().end() ? 0 : it->second.given;
    };
    while (!heads.empty() && given() <= given_max) {
      const ReadyQueues::LaneId lane = heads.begin()->second;
      heads.erase(heads.begin());
      const ReadyQueues::Order* until = heads.empty() ? nullptr : &heads.begin()->first;
      const Pumped pumped = pump_lane(lane, view, until, given_max, by_choice);
      if (pumped == Pumped::kOthersFirst) heads.emplace(queues.order(lane, works), lane);
    }
    if (!heads.empty()) turns.emplace(given(), app);
  }
}

// Works on one lane until it is empty or stuck, or somebody else is first.
Scheduler::Impl::Pumped Scheduler::Impl::pump_lane(ReadyQueues::LaneId lane, View view, const ReadyQueues::Order* until,
                                                   std::uint64_t given_max, std::set<ReadyQueues::LaneId>& by_choice) {
  while (queues.size(lane) > 0) {
    if (until != nullptr && queues.order(lane, works) > *until) return Pumped::kOthersFirst;
    const AppId app = queues[lane.klass].app;
    if (queues.shares().at(app).given > given_max) return Pumped::kOthersFirst;
    const WorkIndex index = view == View::kHead ? queues.head(lane, works) : queues.tail(lane, works);
    Decision decision = decide(index, view);
    if (decision.kind == Decision::Kind::kStay) {
      if (decision.by_choice) by_choice.insert(lane);
      if (works[index].master != nullptr) {
        note_homeless(lane.klass);
        return Pumped::kStuck;
      }
      if (is_possible(works[index])) return Pumped::kStuck;
      queues.take(index, works);
      return_job(index, "no agent known to this delegate could ever run it", true);
      free_work(index);
      continue;
    }
    queues.take(index, works);
    const ReadyQueues::Class& klass = queues[lane.klass];
    works[index].charged_us = std::max<std::uint64_t>(klass.demand.units, 1) * klass.run_us(kNone, kNeutralRunUs);
    queues.charge(app, works[index].charged_us);
    carry_out(index, decision);
  }
  by_choice.erase(lane);
  return Pumped::kEmpty;
}

void Scheduler::Impl::carry_out(WorkIndex index, Decision& decision) {
  Work& work = works[index];
  work.source = decision.source;
  work.candidates = std::move(decision.candidates);
  const AgentIndex agent = decision.kind == Decision::Kind::kAway ? decision.place.agent : kSelf;
  if (decision.kind != Decision::Kind::kDelay && !(decision.kind == Decision::Kind::kAway && decision.place.behind)) {
    add_load(index, agent, decision.wait_us);
    if (decision.transfer_us > 0) {
      estimates.add_transfer(agent, decision.transfer_us, now);
      work.transfers = true;
      if (work.master != nullptr) work.master->expect_inputs(work.task, agent, work.coming);
    }
  }
  switch (decision.kind) {
    case Decision::Kind::kStay:
      return;
    case Decision::Kind::kDelay:
      delay(index);
      return;
    case Decision::Kind::kHere:
    case Decision::Kind::kAhead:
      run_here(index, decision.kind == Decision::Kind::kHere);
      return;
    case Decision::Kind::kAway:
      send_away(index, decision.place);
      return;
  }
}

}  // namespace shoal::scheduler
