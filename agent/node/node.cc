#include "agent/node/node.h"

#include <algorithm>
#include <utility>

#include "agent/node/impl.h"

namespace shoal::node {
namespace {

constexpr std::string_view kOverlayPrefix = "o/";
constexpr std::string_view kManifestPrefix = "s/m/";
constexpr std::string_view kRecordPrefix = "s/r/";

std::map<std::string, Bytes> under(const Recovered& recovered, std::string_view prefix) {
  std::map<std::string, Bytes> out;
  for (auto it = recovered.lower_bound(std::string(prefix)); it != recovered.end() && it->first.starts_with(prefix);
       ++it) {
    out.emplace(it->first.substr(prefix.size()), it->second);
  }
  return out;
}

overlay::TimeoutScale time_scale(Preset preset) {
  switch (preset) {
    case Preset::kLan:
      break;
    case Preset::kWan:
      return overlay::TimeoutScale::kWan;
    case Preset::kRadio:
      return overlay::TimeoutScale::kRadio;
  }
  return overlay::TimeoutScale::kLan;
}

overlay::OverlayConfig overlay_config(const NodeConfig& config) {
  overlay::OverlayConfig out;
  out.id = config.id;
  out.name = config.name;
  out.endpoint = config.endpoint;
  out.curve_key = config.curve_key;
  out.labels = config.labels;
  out.timeouts = time_scale(config.preset);
  for (const auto& contact : config.contacts) {
    out.contacts.push_back({contact.agent, contact.endpoint, contact.curve_key});
  }
  out.child_region = config.child_region;
  out.region_name = config.region_name;
  return out;
}

scheduler::SchedulerConfig scheduler_config(const NodeConfig& config) {
  scheduler::SchedulerConfig out;
  out.id = config.id;
  out.policy = config.policy;
  const auto scale = static_cast<std::int64_t>(time_scale(config.preset));
  out.heartbeat = seconds(1) * scale;
  out.lease = seconds(3) * scale;
  return out;
}

storage::StoreConfig store_config(const NodeConfig& config) {
  storage::StoreConfig out;
  out.id = config.id;
  out.timeouts = out.timeouts.scaled(static_cast<std::int64_t>(time_scale(config.preset)));
  auto host = config.labels.find("host");
  out.host = host != config.labels.end() ? host->second : config.id.hex();
  return out;
}

// What the store machine starts with: everything that Persist effects left under its keys. A value that no
// longer decodes (a foreign or damaged file) is left out: another copy is found through the directory.
storage::in::Recovered recovered_store(const Recovered& recovered) {
  storage::in::Recovered out;
  for (const auto& [key, value] : under(recovered, kManifestPrefix)) {
    if (auto manifest = wire::decode<storage::Manifest>(value)) out.manifests.push_back(std::move(*manifest));
  }
  for (const auto& [key, value] : under(recovered, kRecordPrefix)) {
    if (auto record = wire::decode<storage::Record>(value)) out.records.push_back(std::move(*record));
  }
  return out;
}

}  // namespace

Node::Node(NodeConfig config, Recovered recovered, Rng rng)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(recovered), rng)) {}
Node::~Node() = default;

void Node::step(Instant now, Input input, std::vector<Effect>& out) {
  impl_->step(now, std::move(input), out);
}

std::optional<AgentId> Node::next_hop(const wire::Address& target) const {
  return impl_->overlay.next_hop(target);
}

const wire::Address& Node::address() const {
  return impl_->overlay.address();
}

const overlay::Overlay& Node::overlay() const {
  return impl_->overlay;
}

void Node::check_invariants() const {
  impl_->overlay.check_invariants();
  impl_->scheduler.check_invariants();
  impl_->store.check_invariants();
}

Node::Impl::Impl(NodeConfig node_config, Recovered recovered, Rng rng)
    : config(std::move(node_config)),
      overlay(overlay_config(config), under(recovered, kOverlayPrefix), rng.split("overlay")),
      scheduler(scheduler_config(config), rng.split("scheduler")),
      store(store_config(config), rng.split("store")) {
  store.step(Instant{}, recovered_store(recovered), recovery);
}

void Node::Impl::step(Instant now, Input&& input, std::vector<Effect>& out) {
  struct Visitor {
    Impl& self;
    Instant now;
    std::vector<Effect>& out;
    // The overlay first: until it has started it takes nothing in, and the others tell it their load at once.
    void operator()(const in::Start&) const {
      self.run_overlay(now, overlay::in::Start{}, out);
      for (auto& output : std::exchange(self.recovery, {})) self.bridge(now, output, out);
      self.on_position_changed(now, out);
    }
    // Lease and heartbeat work goes first: the overlay before the machines that rely on it.
    void operator()(const in::Wake&) const {
      self.armed = Instant::never();
      if (self.overlay.next_deadline() <= now) self.run_overlay(now, overlay::in::Wake{}, out);
      if (self.scheduler.next_deadline() <= now) self.run_scheduler(now, scheduler::in::Wake{}, out);
      if (self.store.next_deadline() <= now) self.run_store(now, storage::in::Wake{}, out);
    }
    void operator()(const in::Frame& frame) const { self.receive(now, frame, out); }
    void operator()(const in::LinkUp& up) const { self.run_overlay(now, overlay::in::LinkUp{up.neighbour}, out); }
    void operator()(const in::LinkDown& down) const {
      self.run_overlay(now, overlay::in::LinkDown{down.neighbour, down.refused}, out);
    }
    void operator()(const in::Durable& durable) const {
      auto it = self.record_tickets.find(durable.ticket);
      if (it == self.record_tickets.end()) return;
      const std::uint64_t ticket = it->second;
      self.record_tickets.erase(it);
      self.run_store(now, storage::in::Persisted{ticket}, out);
    }
    void operator()(const in::Leave&) const {
      self.run_store(now, storage::in::Leave{}, out);
      self.run_overlay(now, overlay::in::Leave{}, out);
    }
    void operator()(in::Scheduler& request) const {
      std::visit([&](auto& message) { self.run_scheduler(now, std::move(message), out); }, request);
    }
    void operator()(in::Storage& request) const {
      std::visit([&](auto& message) { self.run_store(now, std::move(message), out); }, request);
    }
    void operator()(const in::OverlayQuery& query) const {
      out.emplace_back(out::Answer{query.id, self.overlay.report(query.method)});
    }
  };
  std::visit(Visitor{*this, now, out}, input);
  drain_loopback(now, out);
  rearm(out);
}

void Node::Impl::run_overlay(Instant now, const overlay::Input& input, std::vector<Effect>& out) {
  std::vector<overlay::Output> outputs;
  overlay.step(now, input, outputs);
  for (const auto& output : outputs) bridge(now, output, out);
}

void Node::Impl::run_scheduler(Instant now, const scheduler::Input& input, std::vector<Effect>& out) {
  std::vector<scheduler::Output> outputs;
  scheduler.step(now, input, outputs);
  for (auto& output : outputs) bridge(now, output, out);
}

void Node::Impl::run_store(Instant now, const storage::Input& input, std::vector<Effect>& out) {
  std::vector<storage::Output> outputs;
  store.step(now, input, outputs);
  for (auto& output : outputs) bridge(now, output, out);
}

Ticket Node::Impl::persist(std::string key, Bytes value, bool want_ticket, std::vector<Effect>& out) {
  const Ticket ticket = want_ticket ? Ticket(++last_ticket) : Ticket();
  out.emplace_back(out::Persist{ticket, out::Lane::kSynced, std::move(key), std::move(value)});
  return ticket;
}

void Node::Impl::rearm(std::vector<Effect>& out) {
  const Instant next = std::min({overlay.next_deadline(), scheduler.next_deadline(), store.next_deadline()});
  if (next == armed) return;
  armed = next;
  out.emplace_back(out::WakeAt{next});
}

}  // namespace shoal::node
