// Frames in and out: to the machine that owns the plane, to the next hop, or back to this same agent.
#include <algorithm>
#include <utility>

#include "agent/node/impl.h"
#include "protocol/base/check.h"

namespace shoal::node {
namespace {

// One step may make machines of this agent talk to each other; a longer exchange than this is a loop.
constexpr int kLoopbackMax = 10'000;

}  // namespace

void Node::Impl::receive(Instant now, const in::Frame& frame, std::vector<Effect>& out) {
  const wire::Envelope& envelope = frame.envelope;
  if (envelope.target.agent != config.id) {
    auto hop = overlay.next_hop(envelope.target);
    if (!hop || *hop == frame.neighbour || envelope.hops >= wire::Envelope::kHopsMax) {
      ++frames_dropped;
      return;
    }
    wire::Envelope onward = envelope;
    ++onward.hops;
    out.emplace_back(out::Send{*hop, std::move(onward), Ticket()});
    return;
  }
  switch (envelope.plane()) {
    case wire::Plane::kOverlay:
      run_overlay(now, overlay::in::Frame{frame.neighbour, envelope}, out);
      return;
    case wire::Plane::kScheduler:
      run_scheduler(now, scheduler::in::Frame{envelope}, out);
      return;
    case wire::Plane::kStorage:
      run_store(now, storage::in::Frame{envelope}, out);
      return;
    case wire::Plane::kStreams:
    case wire::Plane::kClient:
    case wire::Plane::kData:
      break;  // drivers take these before the core sees them
  }
  ++frames_dropped;
}

void Node::Impl::send(wire::Envelope envelope, Ticket after, std::vector<Effect>& out) {
  if (envelope.source.agent.is_zero()) envelope.source = overlay.address();
  if (envelope.target.agent == config.id) {
    loopback.push_back(std::move(envelope));
    return;
  }
  auto hop = overlay.next_hop(envelope.target);
  if (!hop) {
    ++frames_dropped;  // whoever sent it repeats it or gives up at its own time-out
    return;
  }
  out.emplace_back(out::Send{*hop, std::move(envelope), std::max(after, life_persisted)});
}

void Node::Impl::drain_loopback(Instant now, std::vector<Effect>& out) {
  for (int turn = 0; !loopback.empty(); ++turn) {
    SHOAL_CHECK(turn < kLoopbackMax, "machines of one agent keep sending to each other");
    wire::Envelope envelope = std::move(loopback.front());
    loopback.pop_front();
    receive(now, in::Frame{config.id, std::move(envelope)}, out);
  }
}

}  // namespace shoal::node
