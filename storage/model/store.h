// storage/model/store.h
//
// The store machine of one agent: which agents keep an object, how safe it is, where it can be read, which
// names point to it. It decides; bytes never pass here (storage/engine keeps them, drivers move them). Pure:
// no clock, no I/O, no threads; equal inputs give equal outputs.
//
// How it works, in five lines:
//   - every holder announces its objects to the two directory agents of its region (rendezvous over the
//   object id) and
//     to its region's head, which announces them to the directory agents of the parent region, and so on to
//     the root;
//   - a look-up asks the local tables, the region's directory, then upwards; silence falls back to asking
//   everyone;
//   - the writer asks for copies, a receipt goes out when the asked level is durable; the first-ranked
//   surviving holder
//     replaces lost copies;
//   - records (names) are decided at the highest region that can be reached, newest epoch wins after a
//   partition;
//   - all announcements are repeated until acknowledged, and again to an agent that restarted; nothing is
//   periodic.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/rng.h"
#include "protocol/base/time.h"
#include "storage/model/io.h"

namespace shoal::storage {

// Largest sizes of everything a peer or a client can fill. At a maximum the answer is kExhausted.
struct StoreLimits {
  std::size_t objects_max = 1'000'000;    // copies kept by this agent
  std::size_t directory_max = 1'000'000;  // objects of others known here
  std::size_t records_max = 100'000;
  std::size_t record_name_bytes_max = 512;
  std::size_t record_value_bytes_max = 64U << 10;
  std::size_t requests_max = 8'192;  // client requests under way, of each kind
  std::size_t searches_max = 8'192;  // look-ups under way, for clients and for other agents
  std::size_t peers_max = 512;
  std::size_t holders_max = 16;           // copies remembered of one object
  std::size_t copies_in_flight_max = 32;  // copies that this agent is waiting for
  std::size_t pulls_in_flight_max = 8;    // copies being made here
  std::size_t pulls_queued_max = 4'096;
  std::size_t listed_max = 10'000;      // records or objects in one answer
  std::size_t batch_objects_max = 256;  // in one announcement
  std::size_t batch_bytes_max = 1U << 20;
};

struct StoreTimeouts {
  Duration ask = milliseconds(300);         // then everyone is asked, not only the directory
  Duration locate = milliseconds(1'500);    // then a look-up answers with what it has
  Duration record_get = milliseconds(900);  // budget for hearing of a newer epoch from other agents
  Duration list = seconds(1);
  Duration decide = milliseconds(800);  // for the regions above to decide about a record, then this region does
  Duration record_set = seconds(5);
  Duration put = seconds(10);            // plus `bytes` at copy_bytes_per_second_min
  Duration copy = seconds(4);            // plus `bytes` at copy_bytes_per_second_min, then another agent is asked
  Duration forget = seconds(1);          // for the holders of a deleted object to confirm
  Duration announce_retry = seconds(1);  // doubles up to announce_retry_max
  Duration announce_retry_max = seconds(4);
  Duration repair_last_copy = milliseconds(500);  // from the loss to the repair when one copy is left
  Duration repair = seconds(5);                   // when more than one is left
  Duration repair_retry = seconds(5);
  std::int64_t copy_bytes_per_second_min = 1 << 20;

  // For links on which everything takes `factor` times as long.
  StoreTimeouts scaled(std::int64_t factor) const;
};

struct StoreConfig {
  AgentId id;
  std::string host;  // this agent's failure domain; empty: the agent is its own
  StoreTimeouts timeouts;
  StoreLimits limits;
};

class Store {
 public:
  // `rng` is used for one number, the session: it tells peers that this is a new life of the agent.
  Store(StoreConfig config, Rng rng);
  ~Store();
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;

  // Takes one input at `now` (never smaller than before) and appends outputs. Fires whatever is due as well.
  // Never blocks, never throws for bad input. Work of one step is bounded; the rest follows through
  // next_deadline() == now.
  void step(Instant now, const Input& input, std::vector<Output>& out);

  // When to call step(in::Wake) at the latest; Instant::never() when there is nothing to wait for.
  Instant next_deadline() const;

  // Aborts when the state contradicts itself. For tests and the simulator; O(state).
  void check_invariants() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::storage
