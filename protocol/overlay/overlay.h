// protocol/overlay/overlay.h
//
// The overlay machine of one agent: who is alive, who speaks for whom, how to reach anyone. It composes the
// parts of this folder (member table, links, failure detector, gossip, election, admission, routing) behind
// one step function. Pure: no clock, no sockets, no randomness of its own. It must not know about tasks,
// objects or streams; their load and summaries pass through it as opaque bytes.
//
// One thread. Everything a peer can make it hold has a bound (limits.h); at the bound it refuses and counts.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/rng.h"
#include "protocol/overlay/io.h"
#include "protocol/wire/dynamic.h"

namespace shoal::overlay {

// How patient this agent is: every interval and time-out of the overlay is multiplied by it.
enum class TimeoutScale : std::uint8_t { kLan = 1, kWan = 3, kRadio = 10 };

// A place to ask for admission to a region.
struct Contact {
  AgentId agent;
  std::string endpoint;
  Bytes curve_key;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.agent, self.endpoint, self.curve_key);
  }
  friend bool operator==(const Contact&, const Contact&) = default;
};

struct OverlayConfig {
  AgentId id;
  std::string name;
  std::string endpoint;  // where others can dial this agent; empty: it only dials out
  Bytes curve_key;
  std::map<std::string, std::string> labels;
  TimeoutScale timeouts = TimeoutScale::kLan;
  // With contacts the agent joins their region, or, with `child_region` set, founds or joins the region of
  // that name below theirs. Without contacts it founds a root region called `region_name`.
  std::vector<Contact> contacts;
  std::string child_region;
  std::string region_name = "root";
};

class Overlay {
 public:
  // `recovered` holds the pairs of this agent's earlier out::Persist, by key; others are ignored. A restart
  // is construction with them: the agent returns to its region under a higher incarnation.
  Overlay(OverlayConfig config, std::map<std::string, Bytes> recovered, Rng rng);
  ~Overlay();
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;

  // Takes one input at `now` (never smaller than before) and appends what follows from it to `out`, in order.
  // Total: hostile frames are dropped and counted, never an abort.
  void step(Instant now, const Input& input, std::vector<Output>& out);

  // When to send the next in::Wake; never() if there is nothing to wait for (before Start, after Leave).
  Instant next_deadline() const;

  // The neighbour with a live link to hand a frame for `target` to; nullopt when there is no way now or
  // `target` is this agent. A live link is direct; otherwise the frame is relayed inside a shared region, or
  // goes down through the guest that speaks for the next region of the path, or up through the head.
  std::optional<AgentId> next_hop(const wire::Address& target) const;

  // This agent and the path of regions above it; the path is empty until a region is joined or founded.
  const wire::Address& address() const;

  bool is_head() const;                 // of the home region
  std::optional<AgentId> head() const;  // of the home region, as far as is known
  Epoch head_epoch() const;             // of the newest head known; 0 before the first
  bool isolated() const;                // cut off by its own judgement (out::Isolated)

  // Members that are not dead and have not left (status alive or suspect), this agent included. kParent is
  // empty unless this agent is a head that is attached.
  const std::map<AgentId, Member>& members(Scope scope) const;

  // For people: "status", "agents" or "topology"; a map with the key "error" for any other method.
  wire::Dynamic report(std::string_view method) const;

  // Aborts when the state contradicts itself. For tests and the simulator.
  void check_invariants() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::overlay
