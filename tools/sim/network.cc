#include "tools/sim/network.h"

#include <algorithm>
#include <utility>

#include "protocol/base/check.h"
#include "protocol/base/hash.h"

namespace shoal::sim {
namespace {

constexpr std::int64_t kBytesPerMs = 12'500;       // 100 Mbit/s between sites and inside them
constexpr std::int64_t kDataBytesPerMs = 100'000;  // bulk data goes over links of its own

std::uint64_t address_size(const wire::Address& address) {
  return 1 + 18 + 1 + 18 * address.path.size();
}

}  // namespace

std::uint64_t wire_size(const wire::Envelope& envelope) {
  const std::uint64_t body_header = envelope.body.size() < 256 ? 2 : envelope.body.size() < 65536 ? 3 : 5;
  return 1 + 1 + 3 + 1 + address_size(envelope.source) + address_size(envelope.target) + body_header +
         envelope.body.size();
}

Network::Network(EventQueue& queue, Hosts& hosts, Rng rng, NetworkOptions options)
    : queue_(queue), hosts_(hosts), rng_(rng), options_(options) {}

void Network::place(std::uint32_t agent, std::uint32_t site, const std::string& endpoint) {
  if (agent >= peers_.size()) {
    peers_.resize(agent + 1);
    sites_.resize(agent + 1);
    traffic_.resize(agent + 1);
  }
  sites_[agent] = site;
  if (!endpoint.empty()) listeners_[endpoint] = agent;
}

Network::Link* Network::find(std::uint32_t a, std::uint32_t b) const {
  const auto& peers = peers_[a];
  auto it = std::lower_bound(peers.begin(), peers.end(), b,
                             [](const Neighbour& peer, std::uint32_t agent) { return peer.agent < agent; });
  return it != peers.end() && it->agent == b ? it->link : nullptr;
}

Network::Link& Network::open(std::uint32_t from, std::uint32_t to) {
  if (free_links_.empty()) free_links_.push_back(&links_.emplace_back());
  Link& link = *free_links_.back();
  free_links_.pop_back();
  link = Link();
  link.id = ++last_link_;
  link.ends = {std::min(from, to), std::max(from, to)};
  link.dialler = from;
  for (const auto& [here, there] : {std::pair(from, to), std::pair(to, from)}) {
    auto& peers = peers_[here];
    peers.insert(std::upper_bound(peers.begin(), peers.end(), there,
                                  [](std::uint32_t agent, const Neighbour& peer) { return agent < peer.agent; }),
                 {there, &link});
  }
  return link;
}

bool Network::drops(std::uint32_t from, std::uint32_t to) const {
  for (const auto& [name, partition] : partitions_) {
    const bool from_inside = partition.side.count(from) != 0;
    const bool to_inside = partition.side.count(to) != 0;
    if (from_inside == to_inside) continue;
    if (!partition.one_way || from_inside) return true;
  }
  return false;
}

bool Network::separated(std::uint32_t a, std::uint32_t b) const {
  return drops(a, b) || drops(b, a);
}

bool Network::linked(std::uint32_t from, std::uint32_t to) const {
  const Link* link = find(from, to);
  return link != nullptr && link->up[link->side(from)];
}

std::vector<std::uint32_t> Network::neighbours(std::uint32_t agent) const {
  std::vector<std::uint32_t> out;
  out.reserve(peers_[agent].size());
  for (const Neighbour& peer : peers_[agent]) out.push_back(peer.agent);
  return out;
}

// Inside a site a fraction of a millisecond, between sites a few to 25 ms that belong to the pair, plus jitter.
Duration Network::latency(std::uint32_t from, std::uint32_t to) {
  std::int64_t base = 150;
  if (sites_[from] != sites_[to]) {
    const auto [low, high] = std::minmax(sites_[from], sites_[to]);
    const std::uint64_t pair = std::uint64_t{low} << 32 | high;
    base = 2'000 + static_cast<std::int64_t>(mix64(pair) % 23'000);
  }
  return microseconds(base + static_cast<std::int64_t>(rng_.below(static_cast<std::uint64_t>(base / 2 + 100))));
}

Duration Network::transfer_time(std::uint32_t from, std::uint32_t to, std::uint64_t bytes) {
  return latency(from, to) * 2 + microseconds(static_cast<std::int64_t>(bytes) * 1000 / kDataBytesPerMs);
}

Instant Network::next_arrival(Link& link, std::size_t to_side, std::uint64_t bytes) {
  const std::uint32_t from = link.ends[1 - to_side];
  Instant& line_free = link.line_free[to_side];
  line_free = std::max(queue_.now(), line_free) + microseconds(static_cast<std::int64_t>(bytes) * 1000 / kBytesPerMs);
  Instant at = line_free + latency(from, link.ends[to_side]);
  if (rng_.chance(options_.stall_per_million)) at = at + milliseconds(rng_.between(200, 1800));
  at = std::max({at, link.arrival[to_side], link.clogged_until});
  link.arrival[to_side] = at;
  return at;
}

void Network::send(std::uint32_t from, std::uint32_t to, const wire::Envelope& envelope) {
  Link* link = find(from, to);
  if (link == nullptr || !link->up[link->side(from)]) {
    ++refused_;
    return;
  }
  ++traffic_[from].frames;
  traffic_[from].bytes += wire_size(envelope);
  ++sent_;
  ++in_flight_;
  const std::size_t to_side = link->side(to);
  if (!partitions_.empty() && separated(from, to)) {
    link->stalled[to_side].push_back(envelope);
    watch_cut(*link);
    return;
  }
  transmit(*link, to_side, envelope);
}

void Network::inject(std::uint32_t from, std::uint32_t to, wire::Envelope envelope) {
  Link* link = find(from, to);
  if (link == nullptr || separated(from, to)) return;
  ++sent_;
  ++in_flight_;
  transmit(*link, link->side(to), std::move(envelope));
}

void Network::transmit(Link& link, std::size_t to_side, wire::Envelope envelope) {
  const Instant at = next_arrival(link, to_side, wire_size(envelope));
  queue_.at(at, [this, &link, id = link.id, to_side, envelope = std::move(envelope)]() mutable {
    arrive(link, id, to_side, std::move(envelope));
  });
}

void Network::arrive(Link& link, std::uint64_t id, std::size_t to_side, wire::Envelope envelope) {
  --in_flight_;
  if (link.id != id || !link.up[to_side] || !hosts_.process_up(link.ends[to_side])) {
    ++lost_;
    return;
  }
  ++delivered_;
  hosts_.deliver(link.ends[to_side], node::in::Frame{hosts_.id(link.ends[1 - to_side]), std::move(envelope)});
}

// ---- opening ----

void Network::dial(std::uint32_t from, AgentId expected, const std::string& endpoint) {
  auto listener = listeners_.find(endpoint);
  const std::uint32_t to = listener != listeners_.end() ? listener->second : from;
  if (to == from) {  // nobody ever listened there
    const auto life = hosts_.life(from);
    queue_.after(options_.dial_timeout,
                 [this, from, life, expected, to] { dial_failed(from, life, expected, to, false); });
    return;
  }
  if (linked(from, to) || !dialling_.emplace(from, to).second) return;
  queue_.after(latency(from, to), [this, from, life = hosts_.life(from), to, expected, started = queue_.now()] {
    knock(from, life, to, expected, started);
  });
}

void Network::knock(std::uint32_t from, std::uint64_t life, std::uint32_t to, AgentId expected, Instant started) {
  const Instant give_up = started + options_.dial_timeout;
  const auto fails = [&](Instant at, bool refused) {
    queue_.at(at, [this, from, life, expected, to, refused] { dial_failed(from, life, expected, to, refused); });
  };
  if (hosts_.life(from) != life || !hosts_.process_up(from)) {
    dialling_.erase({from, to});
  } else if (!hosts_.host_up(to) || separated(from, to)) {
    fails(give_up, false);
  } else if (!hosts_.process_up(to)) {
    fails(queue_.now() + latency(to, from), true);
  } else if (hosts_.id(to) != expected) {
    fails(queue_.now() + latency(to, from), false);  // its key is not the one that was asked for
  } else if (hosts_.paused(to)) {
    if (queue_.now() >= give_up) return fails(queue_.now(), false);
    queue_.after(milliseconds(250),
                 [this, from, life, to, expected, started] { knock(from, life, to, expected, started); });
  } else {
    dialling_.erase({from, to});
    establish(from, to);
  }
}

void Network::dial_failed(std::uint32_t from, std::uint64_t life, AgentId expected, std::uint32_t to, bool refused) {
  if (to != from) dialling_.erase({from, to});
  if (hosts_.life(from) != life || !hosts_.process_up(from) || (to != from && linked(from, to))) return;
  // Proof of death must still hold when it is told: a process that came up in between is not dead.
  const bool still_refused = refused && !hosts_.process_up(to);
  hosts_.deliver(from, node::in::LinkDown{expected, still_refused});
}

void Network::establish(std::uint32_t from, std::uint32_t to) {
  if (Link* old = find(from, to)) {
    const std::size_t to_side = old->side(to);
    if (old->up[to_side] && old->up[1 - to_side]) return;  // both dialled: the second one is closed after greeting
    if (old->opening) return;
    if (old->up[to_side]) close_end(*old, old->id, to_side, false);
    // The dialler's own end may linger when the other side lost its first.
    if (Link* rest = find(from, to); rest != nullptr && rest->up[rest->side(from)]) {
      close_end(*rest, rest->id, rest->side(from), false);
    }
    if (Link* rest = find(from, to)) forget(*rest);
  }
  Link& link = open(from, to);
  link.opening = true;
  link.up[link.side(to)] = true;
  const std::size_t from_side = link.side(from);
  const Instant heard = queue_.now() + latency(to, from);
  link.arrival[from_side] = heard;
  queue_.at(heard, [this, &link, id = link.id, from, to, from_side, life = hosts_.life(from)] {
    if (hosts_.life(from) != life || !hosts_.process_up(from)) return;
    if (link.id != id || !link.opening) {
      if (!linked(from, to)) hosts_.deliver(from, node::in::LinkDown{hosts_.id(to), false});
      return;
    }
    link.opening = false;
    link.up[from_side] = true;
    hosts_.deliver(from, node::in::LinkUp{hosts_.id(to)});
  });
  hosts_.deliver(to, node::in::LinkUp{hosts_.id(from)});
}

// ---- closing ----

void Network::forget(Link& link) {
  for (auto& waiting : link.stalled) {
    in_flight_ -= waiting.size();
    lost_ += waiting.size();
    waiting.clear();
  }
  for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
    std::erase_if(peers_[link.ends[side]],
                  [other = link.ends[1 - side]](const Neighbour& peer) { return peer.agent == other; });
  }
  link.id = 0;
  free_links_.push_back(&link);
}

void Network::close_end(Link& link, std::uint64_t id, std::size_t side, bool refused) {
  if (link.id != id || !link.up[side]) return;
  link.up[side] = false;
  const std::uint32_t agent = link.ends[side];
  const AgentId neighbour = hosts_.id(link.ends[1 - side]);
  if (!link.up[1 - side]) forget(link);
  if (hosts_.process_up(agent)) hosts_.deliver(agent, node::in::LinkDown{neighbour, refused});
}

// The end at `side` learns at `at`, after all frames on their way, that the other end is closed. With `probe` the
// dialling side tries again at once and may be told by the host that nothing listens any more.
void Network::close_later(Link& link, std::size_t side, Instant at, bool probe) {
  at = std::max(at, link.arrival[side]);
  link.arrival[side] = at;
  const std::uint32_t here = link.ends[side];
  const std::uint32_t there = link.ends[1 - side];
  queue_.at(at, [this, &link, id = link.id, side, here, there, probe, dialler = link.dialler] {
    const bool refused =
        probe && dialler == here && !hosts_.process_up(there) && hosts_.host_up(there) && !separated(here, there);
    close_end(link, id, side, refused);
  });
}

void Network::hang_up(std::uint32_t from, std::uint32_t to) {
  Link* link = find(from, to);
  if (link == nullptr) return;
  const std::size_t side = link->side(from);
  if (!link->up[side]) return;
  link->up[side] = false;
  if (link->opening || !link->up[1 - side]) return forget(*link);
  const bool cut = separated(from, to);
  close_later(*link, 1 - side, queue_.now() + (cut ? options_.keep_alive : latency(from, to)), false);
}

void Network::on_process_gone(std::uint32_t agent, bool silent) {
  for (const std::uint32_t peer : neighbours(agent)) {
    Link* link = find(agent, peer);
    const std::size_t side = link->side(agent);
    link->up[side] = false;
    if (!link->up[1 - side]) {
      forget(*link);
      continue;
    }
    link->opening = false;
    const bool unheard = silent || separated(agent, peer);
    const Duration delay = unheard ? options_.keep_alive + milliseconds(rng_.between(0, 8000)) : latency(agent, peer);
    close_later(*link, 1 - side, queue_.now() + delay, !unheard);
  }
}

void Network::reset(Link& link) {
  for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
    if (link.up[side]) close_later(link, side, queue_.now() + latency(link.ends[0], link.ends[1]), false);
  }
}

// ---- faults ----

void Network::partition(std::uint64_t name, std::set<std::uint32_t> side, bool one_way) {
  auto& made = partitions_[name] = Partition{std::move(side), one_way};
  for (const std::uint32_t inside : made.side) {
    for (const std::uint32_t peer : neighbours(inside)) {
      if (made.side.count(peer) != 0) continue;
      Link* link = find(inside, peer);
      // Acknowledgements of one direction travel in the other, so a one-way cut resets the connection soon.
      if (one_way) {
        reset(*link);
      } else {
        watch_cut(*link);
      }
    }
  }
}

// Both ends give a link up when nothing has come through for the keep-alive time.
void Network::watch_cut(Link& link) {
  if (link.cut_since != Instant::never()) return;
  link.cut_since = queue_.now();
  const Duration patience = options_.keep_alive + milliseconds(rng_.between(0, 3000));
  queue_.after(patience, [this, &link, id = link.id, since = link.cut_since] {
    if (link.id != id || link.cut_since != since || !separated(link.ends[0], link.ends[1])) return;
    close_end(link, id, 0, false);
    close_end(link, id, 1, false);
  });
}

void Network::heal(std::uint64_t name) {
  if (partitions_.erase(name) == 0) return;
  for (std::uint32_t agent = 0; agent < peers_.size(); ++agent) {
    for (const std::uint32_t peer : neighbours(agent)) {
      if (peer > agent) flush(*find(agent, peer));
    }
  }
}

void Network::heal_all() {
  while (!partitions_.empty()) heal(partitions_.begin()->first);
}

void Network::flush(Link& link) {
  if (separated(link.ends[0], link.ends[1])) return;
  link.cut_since = Instant::never();
  for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
    std::vector<wire::Envelope> waiting = std::move(link.stalled[side]);
    link.stalled[side].clear();
    for (auto& envelope : waiting) transmit(link, side, std::move(envelope));
  }
}

void Network::reset_links(std::uint32_t agent, std::uint32_t at_most) {
  std::vector<std::uint32_t> peers = neighbours(agent);
  rng_.shuffle(peers);
  if (peers.size() > at_most) peers.resize(at_most);
  for (const std::uint32_t peer : peers) reset(*find(agent, peer));
}

void Network::clog(std::uint32_t agent, Instant until) {
  for (const std::uint32_t peer : neighbours(agent)) {
    Link* link = find(agent, peer);
    link->clogged_until = std::max(link->clogged_until, until);
  }
}

}  // namespace shoal::sim
