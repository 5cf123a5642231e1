// tools/sim/world.h
//
// One simulated world: agents, the network between them, virtual time, and the seeded streams of randomness that decide
// everything else. Same options, same seed: the same world, to the last bit. Stops at the first violated invariant.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tools/sim/bugs.h"
#include "tools/sim/core.h"
#include "tools/sim/event_queue.h"
#include "tools/sim/executor.h"
#include "tools/sim/network.h"
#include "tools/sim/trace_hash.h"

namespace shoal::sim {

class SimAgent;

struct WorldOptions {
  std::uint64_t seed = 1;
  Bug bug = Bug::kNone;
  NetworkOptions network;
  CoreFactory cores;                         // real nodes when empty
  std::optional<std::uint32_t> trace_agent;  // print its inputs and effects
  std::uint64_t until_event = 0;             // stop before the event after this one; 0: never
};

struct Violation {
  std::string rule;  // "S1" … "Q8", or "abort"
  std::string what;
  std::uint64_t event = 0;  // during which it was seen; 0: when the run was judged as a whole
  Instant at;
};

// Who wants to know what agents do: workload and checks.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_started(std::uint32_t /*agent*/) {}
  virtual void on_stopped(std::uint32_t /*agent*/) {}  // its process is gone, for whatever reason
  virtual void on_client(std::uint32_t /*agent*/, const scheduler::out::ToClient& /*message*/) {}
  virtual void on_store(std::uint32_t /*agent*/, const node::out::Storage& /*reply*/) {}
  virtual void on_answer(std::uint32_t /*agent*/, const node::out::Answer& /*answer*/) {}
  virtual void on_trace(std::uint32_t /*agent*/, const std::string& /*event*/) {}
  virtual void on_read(std::uint32_t /*agent*/, const Payload& /*payload*/) {}  // a small value, by an attempt
  virtual void on_made(std::uint32_t /*agent*/, const Payload& /*payload*/) {}  // an output, by an attempt
  virtual void on_send(std::uint32_t /*agent*/, const wire::Envelope& /*envelope*/) {}
};

struct AgentOptions {
  node::NodeConfig config;
  std::uint32_t site = 0;      // for latency
  std::int32_t drift_ppm = 0;  // of its clock
};

class World : public Hosts {
 public:
  explicit World(WorldOptions options);
  ~World() override;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // A new machine, switched off. Its id must be new; an endpoint in use passes on to it.
  SimAgent& add_agent(AgentOptions options);
  SimAgent& agent(std::uint32_t index) { return *agents_[index]; }
  const SimAgent& agent(std::uint32_t index) const { return *agents_[index]; }
  std::uint32_t agents() const { return static_cast<std::uint32_t>(agents_.size()); }

  EventQueue& queue() { return queue_; }
  Instant now() const { return queue_.now(); }
  Network& network() { return network_; }
  TraceHash& trace() { return trace_; }
  ExecutionLedger& ledger() { return ledger_; }
  const WorldOptions& options() const { return options_; }
  // An independent stream for `purpose`: draws in one never shift another.
  Rng stream(std::string_view purpose) const { return root_.split(purpose); }
  void observe(Observer& observer) { observers_.push_back(&observer); }
  const std::vector<Observer*>& observers() const { return observers_; }

  // Agents from here to `target` as frames would travel; nullopt when there is no way now.
  std::optional<std::vector<std::uint32_t>> route(std::uint32_t from, const wire::Address& target) const;

  // Runs until `deadline`, a violation, or the event limit. True when the deadline was reached.
  bool run_until(Instant deadline);
  // Notes the first violation; the run stops after the current event.
  void violate(std::string rule, std::string what);
  const std::optional<Violation>& violation() const { return violation_; }
  bool stopped() const { return violation_.has_value() || limit_reached_; }

  std::vector<node::Effect>& effects() { return effects_; }
  bool traces(std::uint32_t agent) const { return options_.trace_agent == agent; }

  // -- Hosts --
  bool process_up(std::uint32_t agent) const override;
  bool host_up(std::uint32_t agent) const override;
  bool paused(std::uint32_t agent) const override;
  std::uint64_t life(std::uint32_t agent) const override;
  AgentId id(std::uint32_t agent) const override;
  std::optional<std::uint32_t> index(AgentId agent) const override;
  void deliver(std::uint32_t agent, node::Input input) override;

 private:
  WorldOptions options_;
  Rng root_;
  EventQueue queue_;
  TraceHash trace_;
  Network network_;
  ExecutionLedger ledger_;
  std::vector<std::unique_ptr<SimAgent>> agents_;
  std::unordered_map<AgentId, std::uint32_t> index_;  // looked up, never iterated
  std::vector<Observer*> observers_;
  std::vector<node::Effect> effects_;  // scratch of the step being carried out
  std::optional<Violation> violation_;
  std::uint64_t bugs_before_ = 0;
  bool limit_reached_ = false;
  bool in_event_ = false;
  std::uint64_t events_here_ = 0;  // at the current instant
};

}  // namespace shoal::sim
