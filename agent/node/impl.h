// agent/node/impl.h
//
// The machines of one agent side by side, and the bridges between them: what one machine gives out that
// concerns another becomes that machine's input. Bridges translate, they never decide.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/node/node.h"
#include "protocol/overlay/overlay.h"
#include "scheduler/scheduler.h"
#include "storage/model/store.h"

namespace shoal::node {

struct Node::Impl {
  Impl(NodeConfig config, Recovered recovered, Rng rng);

  void step(Instant now, Input&& input, std::vector<Effect>& out);

  // -- one call per machine: steps it and bridges what it gives out --
  void run_overlay(Instant now, const overlay::Input& input, std::vector<Effect>& out);
  void run_scheduler(Instant now, const scheduler::Input& input, std::vector<Effect>& out);
  void run_store(Instant now, const storage::Input& input, std::vector<Effect>& out);

  // -- bridge_overlay.cc: membership to its two readers --
  void bridge(Instant now, const overlay::Output& output, std::vector<Effect>& out);
  void on_member_up(Instant now, const overlay::out::MemberUp& up, std::vector<Effect>& out);
  void on_member_down(Instant now, const overlay::out::MemberDown& down, std::vector<Effect>& out);
  void on_position_changed(Instant now, std::vector<Effect>& out);
  wire::Address address_of(overlay::Scope scope, const overlay::Member& member) const;

  // -- bridge_scheduler.cc, bridge_store.cc --
  void bridge(Instant now, scheduler::Output& output, std::vector<Effect>& out);
  void bridge(Instant now, storage::Output& output, std::vector<Effect>& out);

  // -- routing.cc --
  void receive(Instant now, const in::Frame& frame, std::vector<Effect>& out);
  void send(wire::Envelope envelope, Ticket after, std::vector<Effect>& out);
  void drain_loopback(Instant now, std::vector<Effect>& out);

  Ticket persist(std::string key, Bytes value, bool want_ticket, std::vector<Effect>& out);
  void rearm(std::vector<Effect>& out);

  NodeConfig config;
  overlay::Overlay overlay;
  scheduler::Scheduler scheduler;
  storage::Store store;

  std::vector<storage::Output> recovery;           // what the store's recovery asks for, until the agent starts
  Bytes downward;                                  // what the head last told of the regions above
  std::map<Ticket, std::uint64_t> record_tickets;  // persists whose completion the store machine awaits
  std::deque<wire::Envelope> loopback;             // frames between machines of this same agent
  std::uint64_t last_ticket = 0;
  Ticket overlay_persisted;  // of the overlay's newest persist: its votes wait for it
  Ticket life_persisted;     // of this life's number: whatever shows it to others waits for it
  Instant armed = Instant::never();
  std::uint64_t frames_dropped = 0;  // no way to the target, or too many relays
};

}  // namespace shoal::node
