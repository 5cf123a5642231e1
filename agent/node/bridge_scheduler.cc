// What the scheduler gives out: to its drivers unchanged, to the overlay as load and summaries.
#include <utility>

#include "agent/node/impl.h"

namespace shoal::node {

void Node::Impl::bridge(Instant now, scheduler::Output& output, std::vector<Effect>& out) {
  struct Visitor {
    Impl& self;
    Instant now;
    std::vector<Effect>& out;
    void operator()(scheduler::out::Send& send) const { self.send(std::move(send.envelope), Ticket(), out); }
    void operator()(scheduler::out::StateChanged& changed) const {
      self.run_overlay(now, overlay::in::LocalState{std::move(changed.state)}, out);
    }
    void operator()(scheduler::out::SummariesChanged& changed) const {
      self.run_overlay(now, overlay::in::Summaries{std::move(changed.upward), std::move(changed.downward)}, out);
    }
    void operator()(scheduler::out::Answer& answer) const {
      out.emplace_back(out::Answer{answer.id, std::move(answer.result)});
    }
    void operator()(scheduler::out::Journal& journal) const {
      out.emplace_back(out::Persist{Ticket(), out::Lane::kAppended, "j/" + journal.app.hex(), std::move(journal.record)});
    }
    void operator()(auto& for_driver) const { out.emplace_back(out::Scheduler(std::move(for_driver))); }
  };
  std::visit(Visitor{*this, now, out}, output);
}

}  // namespace shoal::node
