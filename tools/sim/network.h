// tools/sim/network.h
//
// Links between agents as the daemon's driver has them: at most one per pair, dialled by one side, FIFO in each
// direction. Nothing is lost on a link while it is up: loss shows as a stall, a partition as a long stall and, after
// the keep-alive time, as LinkDown; what was still on its way is gone then. Carries no authority: `neighbour` is
// always the true sender, as CURVE makes it.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/node/io.h"
#include "protocol/base/rng.h"
#include "tools/sim/event_queue.h"

namespace shoal::sim {

// What the network asks of the machines it connects. Agents are numbered from 0 in order of creation.
class Hosts {
 public:
  virtual ~Hosts() = default;
  virtual bool process_up(std::uint32_t agent) const = 0;
  virtual bool host_up(std::uint32_t agent) const = 0;
  virtual bool paused(std::uint32_t agent) const = 0;
  virtual std::uint64_t life(std::uint32_t agent) const = 0;  // grows with every start of its process
  virtual AgentId id(std::uint32_t agent) const = 0;
  virtual std::optional<std::uint32_t> index(AgentId agent) const = 0;
  virtual void deliver(std::uint32_t agent, node::Input input) = 0;
};

struct NetworkOptions {
  std::uint32_t stall_per_million = 1000;  // messages that a lost packet delays by about a second
  Duration keep_alive = seconds(12);       // silence after which an end gives a link up
  Duration dial_timeout = seconds(5);
};

struct Traffic {
  std::uint64_t frames = 0;
  std::uint64_t bytes = 0;
};

class Network {
 public:
  Network(EventQueue& queue, Hosts& hosts, Rng rng, NetworkOptions options);

  // A place for agent `agent`: latency depends on the two places. An empty endpoint cannot be dialled.
  void place(std::uint32_t agent, std::uint32_t site, const std::string& endpoint);

  // -- effects of agents --
  void send(std::uint32_t from, std::uint32_t to, const wire::Envelope& envelope);
  void dial(std::uint32_t from, AgentId expected, const std::string& endpoint);
  void hang_up(std::uint32_t from, std::uint32_t to);

  // -- what happens to machines --
  // The process is gone. Its host tells the peers, unless it vanished as well.
  void on_process_gone(std::uint32_t agent, bool silent);

  // -- faults --
  // Separates the agents of `side` from all others until healed. One way: only what `side` sends is lost.
  void partition(std::uint64_t name, std::set<std::uint32_t> side, bool one_way);
  void heal(std::uint64_t name);
  void heal_all();
  void reset_links(std::uint32_t agent, std::uint32_t at_most);
  void clog(std::uint32_t agent, Instant until);
  // Puts a frame on a link of `from` that its core never sent: a neighbour that has turned hostile.
  void inject(std::uint32_t from, std::uint32_t to, wire::Envelope envelope);

  // -- questions --
  bool linked(std::uint32_t from, std::uint32_t to) const;
  bool separated(std::uint32_t a, std::uint32_t b) const;
  std::vector<std::uint32_t> neighbours(std::uint32_t agent) const;
  // Time to carry `bytes` from one agent to a neighbour on the data link.
  Duration transfer_time(std::uint32_t from, std::uint32_t to, std::uint64_t bytes);
  const Traffic& traffic(std::uint32_t agent) const { return traffic_[agent]; }
  // Sent = delivered + lost + in flight, at every moment.
  bool balanced() const { return sent_ == delivered_ + lost_ + in_flight_; }
  std::uint64_t refused() const { return refused_; }
  std::uint64_t delivered() const { return delivered_; }

 private:
  // Events that concern a link carry its address and its id: the place is used again, the id never is.
  struct Link {
    std::uint64_t id = 0;  // 0: the place is free
    std::array<std::uint32_t, 2> ends{};
    std::uint32_t dialler = 0;
    std::array<bool, 2> up{};
    bool opening = false;                                // the dialler has not heard of its success yet
    std::array<Instant, 2> arrival{};                    // of the last frame towards that end: FIFO
    std::array<Instant, 2> line_free{};                  // when the line towards that end has sent all it was given
    std::array<std::vector<wire::Envelope>, 2> stalled;  // behind a partition
    Instant clogged_until;
    Instant cut_since = Instant::never();
    std::size_t side(std::uint32_t agent) const { return ends[0] == agent ? 0 : 1; }
  };
  struct Partition {
    std::set<std::uint32_t> side;
    bool one_way = false;
  };
  struct Neighbour {
    std::uint32_t agent;
    Link* link;
  };

  Link* find(std::uint32_t a, std::uint32_t b) const;
  Link& open(std::uint32_t from, std::uint32_t to);
  bool drops(std::uint32_t from, std::uint32_t to) const;
  Duration latency(std::uint32_t from, std::uint32_t to);
  Instant next_arrival(Link& link, std::size_t to_side, std::uint64_t bytes);
  void transmit(Link& link, std::size_t to_side, wire::Envelope envelope);
  void arrive(Link& link, std::uint64_t id, std::size_t to_side, wire::Envelope envelope);
  void knock(std::uint32_t from, std::uint64_t life, std::uint32_t to, AgentId expected, Instant started);
  void dial_failed(std::uint32_t from, std::uint64_t life, AgentId expected, std::uint32_t to, bool refused);
  void establish(std::uint32_t from, std::uint32_t to);
  void close_end(Link& link, std::uint64_t id, std::size_t side, bool refused);
  void close_later(Link& link, std::size_t side, Instant at, bool probe);
  void forget(Link& link);
  void watch_cut(Link& link);
  void reset(Link& link);
  void flush(Link& link);

  EventQueue& queue_;
  Hosts& hosts_;
  Rng rng_;
  NetworkOptions options_;
  std::deque<Link> links_;
  std::vector<Link*> free_links_;
  std::vector<std::vector<Neighbour>> peers_;  // of each agent, ascending
  std::vector<std::uint32_t> sites_;
  std::vector<Traffic> traffic_;
  std::map<std::string, std::uint32_t> listeners_;
  std::set<std::pair<std::uint32_t, std::uint32_t>> dialling_;
  std::map<std::uint64_t, Partition> partitions_;
  std::uint64_t last_link_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t delivered_ = 0;
  std::uint64_t lost_ = 0;
  std::uint64_t in_flight_ = 0;
  std::uint64_t refused_ = 0;
};

// Bytes of an envelope in its encoding, without encoding it.
std::uint64_t wire_size(const wire::Envelope& envelope);

}  // namespace shoal::sim
