// agent/daemon/app_checkpoint.h
//
// What an application that is run with a checkpoint folder leaves for its next run. Its driver names the folder when it
// connects; what the folder has is given to the scheduler as a replay, as a guardian does; what finishes from then on
// is written there when the policy says so.
//
//   scheduler ── out::Save ──► Checkpoint ── values, one file each ──► folder (on a thread of its own)
//                                          └─ records, many at a time ─►   durable when the batch is
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/daemon/app_runner.h"
#include "agent/daemon/checkpoint_folder.h"
#include "agent/daemon/requester.h"
#include "agent/executor/client_server.h"
#include "scheduler/checkpoint_policy.h"

namespace shoal::daemon {

struct Checkpoint {
  struct Entry {
    CheckpointRecord record;
    std::uint64_t number = 0;  // in the order of their arrival
    bool saved = false;        // all its values are in the folder
    bool due = false;
  };

  ClientId client;
  client::Hello hello;
  std::string main_module;  // what the policy may call the program's own functions by
  scheduler::CheckpointPolicy policy;
  std::shared_ptr<CheckpointFolder> folder;    // none while it is being opened, and after an error
  std::vector<executor::ClientMessage> early;  // what the driver said before its folder was open
  std::map<TaskId, Entry> waiting;             // not due, or with values that are not saved yet
  std::vector<Entry> ready;                    // for the next batch
  std::set<std::uint64_t> open;                // numbers of what is not durable
  std::uint64_t last_number = 0;
  bool is_open = false;  // the scheduler knows the application
  bool writing = false;
  std::uint64_t unsaved_bytes = 0;
  bool told_lost = false;
  Instant next_period = Instant::never();
  std::multimap<std::uint64_t, Requester> snapshots;  // by the last number that they wait for
  std::vector<client::Value> restored;                // links into the folder, for as long as the program runs
  bool ended = false;
  std::optional<AppState> exit;  // told once everything is durable
};

}  // namespace shoal::daemon
