// What the scheduler gives out: to its drivers unchanged, to the overlay as load and summaries.
#include <utility>

#include "agent/node/impl.h"
#include "protocol/base/overloaded.h"

namespace shoal::node {

void Node::Impl::bridge(Instant now, scheduler::Output& output, std::vector<Effect>& out) {
  std::visit(
      Overloaded{
          [&](scheduler::out::Send& frame) { send(std::move(frame.envelope), Ticket(), out); },
          [&](scheduler::out::StateChanged& changed) {
            run_overlay(now, overlay::in::LocalState{std::move(changed.state)}, out);
          },
          [&](scheduler::out::SummariesChanged& changed) {
            run_overlay(now, overlay::in::Summaries{std::move(changed.upward), std::move(changed.downward)}, out);
          },
          [&](scheduler::out::Answer& answer) { out.emplace_back(out::Answer{answer.id, std::move(answer.result)}); },
          [&](auto& for_driver) { out.emplace_back(out::Scheduler(std::move(for_driver))); }},
      output);
}

}  // namespace shoal::node
