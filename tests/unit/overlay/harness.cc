#include "tests/unit/overlay/harness.h"

#include <gtest/gtest.h>

#include "protocol/base/hash.h"

namespace shoal::overlay {

namespace {
constexpr std::uint16_t kProbeKind = 0x0600;
constexpr Duration kKeepAliveOfTransport = seconds(12);
}  // namespace

AgentId World::start(std::uint64_t number, std::vector<AgentId> contacts, const std::string& child_region,
                     bool dialable) {
  const AgentId agent = id(number);
  Host host;
  host.config.id = agent;
  host.config.name = "agent-" + std::to_string(number);
  if (dialable) host.config.endpoint = "tcp://host" + std::to_string(number) + ":7700";
  host.config.curve_key = Bytes(std::string(32, static_cast<char>('a' + number % 26)));
  host.config.child_region = child_region;
  for (AgentId contact : contacts) {
    const OverlayConfig& config = hosts_.at(contact).config;
    host.config.contacts.push_back({contact, config.endpoint, config.curve_key});
  }
  hosts_[agent] = std::move(host);
  boot(agent);
  return agent;
}

void World::boot(AgentId agent) {
  Host& host = hosts_.at(agent);
  ++host.life;
  host.silent = false;
  host.durable_at = now_;
  host.overlay = std::make_unique<Overlay>(host.config, host.disk,
                                           rng_.split("agent").split(agent.hex() + std::to_string(host.life)));
  step(agent, in::Start{});
}

void World::kill(AgentId agent, Death death) {
  Host& host = hosts_.at(agent);
  host.overlay.reset();
  ++host.life;
  host.silent = death == Death::kSilent;
  host.wake = Instant::never();
  for (auto& [key, pair] : pairs_) {
    if (!pair.up || (key.first != agent && key.second != agent)) continue;
    const AgentId peer = key.first == agent ? key.second : key.first;
    if (death == Death::kLoud) {
      break_link(agent, peer, agent);
    } else {
      const std::uint64_t generation = pair.generation;
      at(now_ + kKeepAliveOfTransport, [this, agent, peer, generation] {
        if (pairs_[key_of(agent, peer)].generation == generation) break_link(agent, peer, agent);
      });
    }
  }
}

void World::restart(AgentId agent) {
  if (running(agent)) kill(agent, Death::kLoud);
  boot(agent);
}

void World::input(AgentId agent, Input input) {
  step(agent, input);
}

void World::partition(std::set<AgentId> side) {
  side_ = std::move(side);
  const std::uint64_t name = ++partitions_;
  at(now_ + kKeepAliveOfTransport, [this, name] {
    if (partitions_ != name || side_.empty()) return;
    std::vector<Key> cut;
    for (auto& [key, pair] : pairs_) {
      if (pair.up && separated(key.first, key.second)) cut.push_back(key);
    }
    for (const Key& key : cut) break_link(key.first, key.second, std::nullopt);
  });
}

void World::heal() {
  side_.clear();
  ++partitions_;
  auto stalled = std::exchange(stalled_, {});
  for (auto& action : stalled) action();
}

void World::run_for(Duration d) {
  const Instant end = now_ + d;
  while (!queue_.empty() && queue_.begin()->first.first <= end) {
    now_ = queue_.begin()->first.first;
    auto action = std::move(queue_.begin()->second);
    queue_.erase(queue_.begin());
    action();
  }
  now_ = end;
}

bool World::run_until(const std::function<bool()>& condition, Duration limit) {
  const Instant end = now_ + limit;
  while (!condition()) {
    if (now_ >= end) return false;
    run_for(milliseconds(50));
  }
  return true;
}

std::vector<AgentId> World::running() const {
  std::vector<AgentId> agents;
  for (const auto& [id, host] : hosts_) {
    if (host.overlay) agents.push_back(id);
  }
  return agents;
}

bool World::linked(AgentId a, AgentId b) const {
  auto it = pairs_.find(key_of(a, b));
  return it != pairs_.end() && it->second.up;
}

void World::inject(AgentId to, AgentId neighbour, const wire::Envelope& envelope) {
  step(to, in::Frame{neighbour, envelope});
}

std::optional<int> World::route(AgentId from, const wire::Address& target) {
  probe_hops_.reset();
  loss_ = "on a link";
  wire::Envelope probe;
  probe.kind = kProbeKind;
  probe.source = (*this)[from].address();
  probe.target = target;
  forward(from, probe);
  run_for(milliseconds(500));
  return probe_hops_;
}

bool World::agree(const std::vector<AgentId>& expected) {
  const std::set<AgentId> wanted(expected.begin(), expected.end());
  for (AgentId agent : expected) {
    if (!running(agent)) return false;
    const auto& members = (*this)[agent].members(Scope::kHome);
    std::set<AgentId> living;
    for (const auto& [id, member] : members) {
      if (member.home == (*this)[agent].address().path.back()) living.insert(id);
      if (member.status != Status::kAlive) return false;
    }
    if (living != wanted) return false;
  }
  return true;
}

std::optional<AgentId> World::common_head(const std::vector<AgentId>& region) {
  std::optional<AgentId> common;
  for (AgentId agent : region) {
    const auto head = (*this)[agent].head();
    if (!head || (common && *common != *head)) return std::nullopt;
    common = head;
  }
  if (!common || !running(*common) || !(*this)[*common].is_head()) return std::nullopt;
  for (AgentId agent : region) {
    if (agent != *common && (*this)[agent].is_head()) return std::nullopt;
  }
  return common;
}

void World::step(AgentId agent, const Input& input) {
  Host& host = hosts_.at(agent);
  if (!host.overlay) return;
  std::vector<Output> outputs;
  host.overlay->step(now_, input, outputs);
  host.overlay->check_invariants();
  for (Output& output : outputs) carry_out(agent, output);
  arm(agent);
}

void World::carry_out(AgentId agent, Output& output) {
  note(agent, output.index());
  Host& host = hosts_.at(agent);
  if (auto* send = std::get_if<out::Send>(&output)) {
    if (!send->after_persist || host.durable_at <= now_) return forward(agent, std::move(send->envelope));
    at(host.durable_at, [this, agent, life = host.life, envelope = std::move(send->envelope)]() mutable {
      if (hosts_.at(agent).life == life) forward(agent, std::move(envelope));
    });
  } else if (auto* dialled = std::get_if<out::Dial>(&output)) {
    dial(agent, dialled->neighbour, dialled->endpoint);
  } else if (auto* hang_up = std::get_if<out::HangUp>(&output)) {
    if (linked(agent, hang_up->neighbour)) {
      break_link(agent, hang_up->neighbour, agent);
    } else {
      ++pairs_[key_of(agent, hang_up->neighbour)].dials[agent];
    }
  } else if (auto* persist = std::get_if<out::Persist>(&output)) {
    host.durable_at = std::max(host.durable_at, now_ + microseconds(rng_.between(1000, 9000)));
    at(host.durable_at, [this, agent, life = host.life, key = persist->key, value = persist->value] {
      if (hosts_.at(agent).life == life) hosts_.at(agent).disk[key] = value;
    });
  } else {
    if (auto* changed = std::get_if<out::HeadChanged>(&output); changed != nullptr && changed->self) {
      const auto& path = hosts_.at(agent).overlay->address().path;
      const auto [it, first] = heads_.emplace(std::pair(path.back(), changed->epoch), agent);
      EXPECT_TRUE(first || it->second == agent)
          << "two heads in epoch " << changed->epoch.value() << ": " << it->second.low() << " and " << agent.low();
    }
    events_.push_back({now_, agent, std::move(output)});
  }
}

void World::forward(AgentId from, wire::Envelope envelope) {
  const auto hop = hosts_.at(from).overlay->next_hop(envelope.target);
  if (!hop || !linked(from, *hop) || envelope.hops >= wire::Envelope::kHopsMax) {
    if (envelope.kind == kProbeKind) {
      loss_ = "at " + std::to_string(from.low()) + " to " + (hop ? std::to_string(hop->low()) : "nowhere") + " after " +
              std::to_string(envelope.hops);
    }
    return;
  }
  const AgentId to = *hop;
  const Bytes encoded = wire::encode(envelope);
  ++frames_;
  bytes_ += encoded.size();
  note(from, hash64(encoded));
  auto send = [this, from, to, envelope = std::move(envelope)]() mutable {
    Pair& pair = pairs_[key_of(from, to)];
    const std::uint64_t generation = pair.generation;
    Duration delay = microseconds(rng_.between(200, 900));
    if (rng_.chance(stalls_per_million_)) delay = delay + seconds(1);
    pair.arrival[to] = std::max(pair.arrival[to], now_ + delay);
    const std::uint64_t life = hosts_.at(to).life;
    at(pair.arrival[to], [this, from, to, generation, life, envelope = std::move(envelope)]() mutable {
      if (pairs_[key_of(from, to)].generation != generation || hosts_.at(to).life != life || !running(to)) return;
      if (envelope.target.agent != to) {
        ++envelope.hops;
        return forward(to, std::move(envelope));
      }
      if (envelope.kind == kProbeKind) {
        probe_hops_ = envelope.hops + 1;
      } else {
        step(to, in::Frame{from, envelope});
      }
    });
  };
  if (separated(from, to)) {
    const std::uint64_t generation = pairs_[key_of(from, to)].generation;
    stalled_.push_back([this, from, to, generation, send = std::move(send)]() mutable {
      if (pairs_[key_of(from, to)].generation == generation) send();
    });
  } else {
    send();
  }
}

void World::dial(AgentId from, AgentId to, const std::string& endpoint) {
  Pair& pair = pairs_[key_of(from, to)];
  if (pair.up) return;
  const std::uint64_t attempt = ++pair.dials[from];
  const std::uint64_t life = hosts_.at(from).life;
  const auto same = [this, from, to, attempt, life] {
    Pair& p = pairs_[key_of(from, to)];
    return p.dials[from] == attempt && !p.up && hosts_.at(from).life == life;
  };
  const bool exists = hosts_.count(to) != 0 && hosts_.at(to).config.endpoint == endpoint;
  if (!exists || separated(from, to) || hosts_.at(to).silent) {
    at(now_ + seconds(5), [this, from, to, same] {
      if (same()) step(from, in::LinkDown{to, false});
    });
    return;
  }
  at(now_ + microseconds(rng_.between(500, 2000)), [this, from, to, same] {
    if (!same()) return;
    if (!running(to)) return step(from, in::LinkDown{to, true});
    Pair& p = pairs_[key_of(from, to)];
    p.up = true;
    ++p.generation;
    p.arrival.clear();
    step(to, in::LinkUp{from});
    step(from, in::LinkUp{to});
  });
}

void World::break_link(AgentId a, AgentId b, std::optional<AgentId> not_told) {
  Pair& pair = pairs_[key_of(a, b)];
  if (!pair.up) return;
  pair.up = false;
  ++pair.generation;
  for (const auto& [end, other] : {std::pair(a, b), std::pair(b, a)}) {
    if (not_told && *not_told == end) continue;
    at(now_ + microseconds(100), [this, end = end, other = other, life = hosts_.at(end).life] {
      if (hosts_.at(end).life == life && !linked(end, other)) step(end, in::LinkDown{other, false});
    });
  }
}

bool World::separated(AgentId a, AgentId b) const {
  return !side_.empty() && side_.count(a) != side_.count(b);
}

void World::arm(AgentId agent) {
  Host& host = hosts_.at(agent);
  const Instant due = host.overlay->next_deadline();
  if (due == host.wake) return;
  host.wake = due;
  if (due == Instant::never()) return;
  at(std::max(due, now_), [this, agent, due, life = host.life] {
    Host& h = hosts_.at(agent);
    if (h.life != life || h.wake != due) return;
    h.wake = Instant::never();
    step(agent, in::Wake{});
  });
}

void World::at(Instant when, std::function<void()> action) {
  queue_.emplace(std::pair(when, ++sequence_), std::move(action));
}

void World::note(AgentId agent, std::uint64_t what) {
  trace_hash_ = combine64(trace_hash_, combine64(static_cast<std::uint64_t>(now_.us), combine64(agent.low(), what)));
}

}  // namespace shoal::overlay
