// tools/sim/agent.h
//
// One simulated machine and the drivers of its agent: takes inputs in order, steps the core, carries out its effects
// (network, disk, executors, data transfers, clock). Everything a daemon does except real I/O.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tools/sim/core.h"
#include "tools/sim/disk.h"
#include "tools/sim/executor.h"
#include "tools/sim/world.h"

namespace shoal::sim {

enum class Power : std::uint8_t {
  kOff,  // process not running, host up: connections are refused
  kOn,
  kVanished,  // host gone: silence
};

class SimAgent {
 public:
  SimAgent(World& world, std::uint32_t index, AgentOptions options);

  // -- life --
  void start();  // with what the disk holds; nothing happens when already running or gone for good
  void crash(bool host_vanishes);
  void lose_everything();  // the disk is gone, and with it the identity: this agent never returns
  void leave();
  void pause(Duration length);
  void resume();
  void slow_down(Duration per_step, std::int64_t executor_factor);

  bool up() const { return power_ == Power::kOn; }
  bool host_up() const { return power_ != Power::kVanished; }
  bool paused() const;
  bool left() const { return left_; }
  bool gone() const { return gone_; }  // left, or lost everything
  std::uint64_t life() const { return life_; }

  // An input from the network, the disk, an executor or a local client, now. Waits while the process is busy.
  void take(node::Input input);

  std::uint32_t index() const { return index_; }
  std::uint32_t site() const { return options_.site; }
  const node::NodeConfig& config() const { return options_.config; }
  Core& core() { return *core_; }
  const Core& core() const { return *core_; }
  Disk& disk() { return disk_; }
  const Disk& disk() const { return disk_; }
  Executor& executor() { return executor_; }
  Arena& arena() { return arena_; }
  const std::map<scheduler::ValueKey, client::Value>& kept() const { return kept_; }

  // Writes object bytes and manifest; `done` runs once both are durable, unless the process is gone by then.
  void store_object(const storage::Manifest& manifest, std::uint64_t content, std::function<void()> done);
  // Reads every object's bytes, as the engine does now and then: damage is found and told to the core.
  void scrub();
  // Copies `object` from `holder` to this agent: content and bytes, or nullopt when it cannot be had from there.
  using Read = std::function<void(std::optional<StoredObject>)>;
  void read_object(ObjectId object, const wire::Address& holder, Read read);

 private:
  void step(const node::Input& input);
  void drain();
  void carry_out(const node::Effect& effect);
  void transmit(const node::out::Send& send);
  void on_durable(Ticket ticket);
  void arm(Instant local_at);
  void on_wake_event();
  Instant local_now() const;
  Instant global_at(Instant local) const;

  // -- data plane (agent_data.cc) --
  void report_damaged(ObjectId object);
  void carry_out_scheduler(const node::out::Scheduler& effect);
  void carry_out_storage(const node::out::Storage& effect);
  void fetch(scheduler::out::Fetch wanted, std::size_t holder);
  void pull(storage::Manifest wanted, std::size_t holder);
  // Carries `bytes` from `holder` to here; `done(index)` when it got through, `done(nullopt)` when not.
  void transfer(const wire::Address& holder, std::uint64_t bytes,
                std::function<void(std::optional<std::uint32_t>)> done);

  World& world_;
  const std::uint32_t index_;
  AgentOptions options_;
  Rng rng_;
  Disk disk_;
  Arena arena_;
  Executor executor_;
  std::unique_ptr<Core> core_;

  Power power_ = Power::kOff;
  bool left_ = false;
  bool gone_ = false;
  std::uint64_t life_ = 0;
  Instant boot_;        // world time of the start
  Instant local_boot_;  // what its clock showed then

  std::deque<node::Input> inbox_;  // while it is paused or slow
  bool drain_scheduled_ = false;
  Instant busy_until_;
  Duration step_cost_;

  Instant wake_at_ = Instant::never();      // what the core asked for, world time
  Instant wake_queued_ = Instant::never();  // the earliest wake event in the queue
  std::vector<node::out::Send> held_;       // until their ticket is durable
  std::map<scheduler::ValueKey, client::Value> kept_;
};

}  // namespace shoal::sim
