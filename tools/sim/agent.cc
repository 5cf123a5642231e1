#include "tools/sim/agent.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "tools/sim/describe.h"

namespace shoal::sim {
namespace {

constexpr std::int64_t kMillion = 1'000'000;

}  // namespace

SimAgent::SimAgent(World& world, std::uint32_t index, AgentOptions options)
    : world_(world),
      index_(index),
      options_(std::move(options)),
      rng_(world.stream("agent").split(options_.config.id.bytes())),
      disk_(world.queue(), world.stream("disk").split(options_.config.id.bytes()),
            Disk::Events{[this](Ticket ticket) { on_durable(ticket); }, [this] { crash(false); }}),
      executor_(world.queue(), world.stream("executor").split(options_.config.id.bytes()), arena_, world.ledger(),
                options_.config.resources.computing_units,
                Executor::Events{[this](client::AttemptResult result) {
                                   take(node::in::Scheduler(scheduler::in::AttemptsDone{{std::move(result)}}));
                                 },
                                 [this](std::string rule, std::string what) {
                                   world_.violate(std::move(rule), options_.config.name + ": " + what);
                                 },
                                 [this](const Payload& payload) {
                                   for (Observer* observer : world_.observers()) observer->on_read(index_, payload);
                                 },
                                 [this](const Payload& payload) {
                                   for (Observer* observer : world_.observers()) observer->on_made(index_, payload);
                                 }}) {
  executor_.plant(world.options().bug);
  if (world.options().bug == Bug::kLoseSyncedWrites) disk_.lie_about_syncs();
}

// ---- life ----

void SimAgent::start() {
  if (power_ == Power::kOn || gone_) return;
  power_ = Power::kOn;
  ++life_;
  boot_ = world_.now();
  local_boot_ = Instant{static_cast<std::int64_t>(rng_.below(3'600'000'000ULL))};  // monotonic clocks start anywhere
  busy_until_ = boot_;
  node::NodeConfig config = options_.config;
  if (world_.options().bug == Bug::kOvercommit) config.resources.computing_units *= 2;
  core_ = world_.options().cores(std::move(config), recovered_under(world_.options().bug, disk_.contents()),
                                 rng_.split("core" + std::to_string(life_)));
  take(node::in::Start{});
  for (Observer* observer : world_.observers()) observer->on_started(index_);
}

void SimAgent::crash(bool host_vanishes) {
  if (power_ != Power::kOn) {
    if (host_vanishes) power_ = Power::kVanished;
    return;
  }
  power_ = host_vanishes ? Power::kVanished : Power::kOff;
  ++life_;
  disk_.crash(rng_);
  executor_.crash();
  arena_.clear();
  kept_.clear();
  held_.clear();
  inbox_.clear();
  drain_scheduled_ = false;
  wake_at_ = Instant::never();
  wake_queued_ = Instant::never();
  world_.network().on_process_gone(index_, host_vanishes);
  // The core is replaced at the next start, not here: a crash may be caused by one of its own effects.
  for (Observer* observer : world_.observers()) observer->on_stopped(index_);
}

void SimAgent::lose_everything() {
  crash(true);
  disk_.wipe();
  gone_ = true;
}

void SimAgent::leave() {
  if (up()) take(node::in::Leave{});
}

void SimAgent::pause(Duration length) {
  busy_until_ = std::max(busy_until_, world_.now() + length);
}

void SimAgent::resume() {
  busy_until_ = std::min(busy_until_, world_.now());
  world_.queue().after({}, [this, life = life_] {
    if (life == life_) drain();
  });
}

void SimAgent::slow_down(Duration per_step, std::int64_t executor_factor) {
  step_cost_ = per_step;
  executor_.set_slowness(executor_factor);
}

bool SimAgent::paused() const {
  return busy_until_ > world_.now() + milliseconds(500);
}

// ---- clock ----

Instant SimAgent::local_now() const {
  const std::int64_t elapsed = (world_.now() - boot_).us;
  return local_boot_ + microseconds(elapsed + elapsed * options_.drift_ppm / kMillion);
}

// The first instant of the world at which this agent's clock shows at least `local`.
Instant SimAgent::global_at(Instant local) const {
  if (local == Instant::never()) return local;
  const std::int64_t elapsed = std::max<std::int64_t>(0, (local - local_boot_).us);
  return boot_ + microseconds(elapsed - elapsed * options_.drift_ppm / (kMillion + options_.drift_ppm) +
                              (options_.drift_ppm != 0 ? 2 : 0));
}

void SimAgent::arm(Instant local_at) {
  wake_at_ = global_at(local_at);
  if (wake_at_ >= wake_queued_ || wake_at_ == Instant::never()) return;
  wake_queued_ = std::max(wake_at_, world_.now());
  world_.queue().at(wake_queued_, [this, life = life_] {
    if (life == life_) on_wake_event();
  });
}

// One wake event is usually in the queue; when the core has asked for a later time since, it is put off.
void SimAgent::on_wake_event() {
  if (wake_queued_ > world_.now()) return;
  wake_queued_ = Instant::never();
  if (wake_at_ == Instant::never()) return;
  if (wake_at_ > world_.now()) {
    wake_queued_ = wake_at_;
    world_.queue().at(wake_at_, [this, life = life_] {
      if (life == life_) on_wake_event();
    });
    return;
  }
  wake_at_ = Instant::never();
  take(node::in::Wake{});
}

// ---- inputs and effects ----

void SimAgent::take(node::Input input) {
  if (!up()) return;
  if (inbox_.empty() && busy_until_ <= world_.now()) {
    step(input);
    return;
  }
  inbox_.push_back(std::move(input));
  if (drain_scheduled_) return;
  drain_scheduled_ = true;
  world_.queue().at(busy_until_, [this, life = life_] {
    if (life == life_) drain();
  });
}

void SimAgent::drain() {
  drain_scheduled_ = false;
  while (up() && !inbox_.empty() && busy_until_ <= world_.now() && !world_.stopped()) {
    const node::Input input = std::move(inbox_.front());
    inbox_.pop_front();
    step(input);
  }
  if (inbox_.empty() || drain_scheduled_ || !up()) return;
  drain_scheduled_ = true;
  world_.queue().at(busy_until_, [this, life = life_] {
    if (life == life_) drain();
  });
}

void SimAgent::step(const node::Input& input) {
  world_.trace().add_input(index_, world_.now(), input);
  const bool traced = world_.traces(index_);
  if (traced) {
    std::printf("%12lld #%llu (its clock: %lld)  in  %s\n", static_cast<long long>(world_.now().us),
                static_cast<unsigned long long>(world_.queue().executed()), static_cast<long long>(local_now().us),
                describe(input).c_str());
  }
  std::vector<node::Effect> effects = std::move(world_.effects());
  effects.clear();
  core_->step(local_now(), input, effects);
  if (step_cost_.us > 0) busy_until_ = std::max(busy_until_, world_.now() + step_cost_);
  const std::uint64_t life = life_;
  for (const auto& effect : effects) {
    world_.trace().add_effect(index_, effect);
    if (traced) std::printf("%12s       out %s\n", "", describe(effect).c_str());
    carry_out(effect);
    if (life != life_) break;
  }
  world_.effects() = std::move(effects);
}

void SimAgent::carry_out(const node::Effect& effect) {
  struct Visitor {
    SimAgent& self;
    void operator()(const node::out::Send& send) const {
      if (!self.disk_.is_durable(send.after) && self.world_.options().bug != Bug::kDropAfterTicket) {
        self.held_.push_back(send);
      } else {
        self.transmit(send);
      }
    }
    void operator()(const node::out::Dial& dial) const {
      self.world_.network().dial(self.index_, dial.neighbour, dial.endpoint);
    }
    void operator()(const node::out::HangUp& hang_up) const {
      if (auto peer = self.world_.index(hang_up.neighbour)) self.world_.network().hang_up(self.index_, *peer);
    }
    void operator()(const node::out::WakeAt& wake) const { self.arm(wake.at); }
    void operator()(const node::out::Persist& persist) const { self.disk_.persist(persist); }
    void operator()(const node::out::Scheduler& effect) const { self.carry_out_scheduler(effect); }
    void operator()(const node::out::Storage& effect) const { self.carry_out_storage(effect); }
    void operator()(const node::out::Answer& answer) const {
      for (Observer* observer : self.world_.observers()) observer->on_answer(self.index_, answer);
    }
    void operator()(const node::out::AddressChanged&) const {}
    void operator()(const node::out::MemberGone&) const {}
    void operator()(const node::out::Trace& trace) const {
      for (Observer* observer : self.world_.observers()) observer->on_trace(self.index_, trace.event);
    }
    void operator()(const node::out::Stopped&) const {
      // The daemon has said good-bye and exits; give its last frames time to leave.
      self.left_ = true;
      self.world_.queue().after(milliseconds(100), [&agent = self, life = self.life_] {
        if (life != agent.life_) return;
        agent.crash(false);
        agent.gone_ = true;
      });
    }
  };
  std::visit(Visitor{*this}, effect);
}

// S9: nothing leaves before the write it depends on is durable.
void SimAgent::transmit(const node::out::Send& send) {
  if (!disk_.is_durable(send.after)) {
    world_.violate("S9", options_.config.name + " sends a frame before ticket " + std::to_string(send.after.value()) +
                             " is durable");
  }
  if (send.after != Ticket() && !disk_.was_issued(send.after)) {
    world_.violate("S9", options_.config.name + " sends a frame after a ticket that it never persisted");
  }
  for (Observer* observer : world_.observers()) observer->on_send(index_, send.envelope);
  if (auto peer = world_.index(send.neighbour)) world_.network().send(index_, *peer, send.envelope);
}

void SimAgent::on_durable(Ticket ticket) {
  std::vector<node::out::Send> ready;
  std::erase_if(held_, [&](node::out::Send& send) {
    if (!disk_.is_durable(send.after)) return false;
    ready.push_back(std::move(send));
    return true;
  });
  for (const auto& send : ready) transmit(send);
  take(node::in::Durable{ticket});
}

}  // namespace shoal::sim
