// tests/unit/overlay/harness.h
//
// A small world for overlays alone: virtual time, links as the transport has them (one per pair, FIFO,
// refused or silent failures), disks that remember what they had time to write. Everything is drawn from one
// seed. The simulator (tools/sim) does this for whole agents with many more faults; here a test reads in a
// few lines what an overlay promises.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "protocol/overlay/overlay.h"

namespace shoal::overlay {

enum class Death : std::uint8_t {
  kLoud,    // the process is killed: its host closes the connections and refuses new ones
  kSilent,  // the machine is gone: nothing answers
};

struct Event {  // one output that a test may ask about
  Instant at;
  AgentId agent;
  Output output;
};

class World {
 public:
  explicit World(std::uint64_t seed = 1) : rng_(seed) {}

  // Starts an agent; ids are made from `number` and ascend with it.
  AgentId start(std::uint64_t number, std::vector<AgentId> contacts, const std::string& child_region = "",
                bool dialable = true);
  static AgentId id(std::uint64_t number) { return AgentId(0, number); }
  void kill(AgentId agent, Death death);
  void restart(AgentId agent);  // with what it had persisted
  void wipe(AgentId agent) { hosts_.at(agent).disk.clear(); }
  void leave(AgentId agent) { input(agent, in::Leave{}); }
  void input(AgentId agent, Input input);
  // Frames and dials between the two sides stall until heal(); links break after `keep_alive`.
  void partition(std::set<AgentId> side);
  void heal();
  void stalls_per_million(std::uint32_t n) { stalls_per_million_ = n; }

  void run_for(Duration d);
  // Runs until `condition` holds, at most `limit`; false if it never did.
  bool run_until(const std::function<bool()>& condition, Duration limit);

  Overlay& operator[](AgentId agent) { return *hosts_.at(agent).overlay; }
  bool running(AgentId agent) const { return hosts_.at(agent).overlay != nullptr; }
  std::vector<AgentId> running() const;
  bool linked(AgentId a, AgentId b) const;
  Instant now() const { return now_; }
  const std::vector<Event>& events() const { return events_; }
  const std::map<std::string, Bytes>& disk(AgentId agent) { return hosts_.at(agent).disk; }
  // Sends an envelope as a neighbour with that id would.
  void inject(AgentId to, AgentId neighbour, const wire::Envelope& envelope);
  // Puts a probe frame on its way and returns how many hops it took, or nullopt if it was lost.
  std::optional<int> route(AgentId from, const wire::Address& target);

  // Where and why the last such frame was lost.
  const std::string& loss() const { return loss_; }

  // Everyone that runs has the same living members, exactly `expected`, in the home region.
  bool agree(const std::vector<AgentId>& expected);
  // The one head that all of `region` name, if they agree and it agrees too.
  std::optional<AgentId> common_head(const std::vector<AgentId>& region);

  std::uint64_t trace_hash() const { return trace_hash_; }
  std::uint64_t frames() const { return frames_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  struct Host {
    OverlayConfig config;
    std::unique_ptr<Overlay> overlay;
    std::map<std::string, Bytes> disk;
    bool silent = false;
    std::uint64_t life = 0;
    Instant wake = Instant::never();
    Instant durable_at{};  // when everything persisted so far is on disk
  };
  struct Pair {
    std::uint64_t generation = 0;
    bool up = false;
    std::map<AgentId, Instant> arrival;
    std::map<AgentId, std::uint64_t> dials;  // by each end: a hang-up forgets only its own
  };
  using Key = std::pair<AgentId, AgentId>;
  static Key key_of(AgentId a, AgentId b) { return a < b ? Key{a, b} : Key{b, a}; }

  void boot(AgentId agent);
  void step(AgentId agent, const Input& input);
  void carry_out(AgentId agent, Output& output);
  void forward(AgentId from, wire::Envelope envelope);
  void dial(AgentId from, AgentId to, const std::string& endpoint);
  void break_link(AgentId a, AgentId b, std::optional<AgentId> not_told);
  bool separated(AgentId a, AgentId b) const;
  void arm(AgentId agent);
  void at(Instant when, std::function<void()> action);
  void note(AgentId agent, std::uint64_t what);

  Rng rng_;
  Instant now_{};
  std::map<std::pair<Instant, std::uint64_t>, std::function<void()>> queue_;
  std::uint64_t sequence_ = 0;
  std::map<AgentId, Host> hosts_;
  std::map<Key, Pair> pairs_;
  std::set<AgentId> side_;
  std::uint64_t partitions_ = 0;
  std::vector<std::function<void()>> stalled_;
  std::vector<Event> events_;
  std::map<std::pair<RegionId, Epoch>, AgentId> heads_;
  std::uint32_t stalls_per_million_ = 0;
  std::uint64_t trace_hash_ = 0;
  std::uint64_t frames_ = 0;
  std::uint64_t bytes_ = 0;
  std::optional<int> probe_hops_;
  std::string loss_;
};

}  // namespace shoal::overlay
