// agent/daemon/environments.h
//
// The environments of applications on this agent: brings bundles here from agents that have them, has them built once
// on a thread of its own, and removes what was not used for longest when they take too much room. Everything here is
// called from, and calls back on, the loop's thread.
//
//   absent ──bundle comes──► here ──build──► ready
//      ▲                       │
//      └──────── failed ◄──────┘   remembered for a while: what failed is not tried again for every task
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/daemon/worker_thread.h"
#include "agent/environment/cache.h"
#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/wire/address.h"

namespace shoal::daemon {

class Environments {
 public:
  // Brings the bundle into a file that the callee may move away.
  using Fetched = std::function<void(Result<std::string> path)>;
  struct Ports {
    std::function<void(EnvironmentId, std::vector<wire::Address> holders, Fetched)> fetch;
    std::function<std::vector<EnvironmentId>()> in_use;  // not to be removed
    std::function<Instant()> now;
  };
  using Built = std::function<void(Result<environment::Surroundings>)>;
  using Known = std::function<void(Result<environment::Manifest>)>;

  enum class State : std::uint8_t { kHere, kFetching, kBuilding, kReady, kFailed };

  Environments(agent::Reactor& reactor, std::string dir, environment::Machine machine, std::uint64_t bytes_max,
               Ports ports);

  Result<> open() { return cache_.open(); }

  // Has it built here, if need be with a bundle from one of `holders`; `done` may be called at once.
  void build(EnvironmentId id, std::vector<wire::Address> holders, Built done);
  // As build() would give it, when that needs no waiting; nullptr otherwise. Valid until the next call of anything
  // else.
  const environment::Surroundings* ready(EnvironmentId id);
  // Has the bundle here.
  void bring(EnvironmentId id, std::vector<wire::Address> holders, Known done);
  // Takes over a file as the bundle `id`, after checking it.
  void take(EnvironmentId id, const std::string& path, Known done);

  // What is known of it without asking the disk; nullptr: its bundle was not needed since the agent started.
  const environment::Manifest* manifest(EnvironmentId id) const;
  State state(EnvironmentId id) const;
  // Why it failed last.
  std::string problem(EnvironmentId id) const;
  // The file of a bundle that other agents may read.
  std::string bundle_path(EnvironmentId id) const { return cache_.bundle_path(id); }
  std::string upload_path(const std::string& name) const { return cache_.scratch_path(name); }

  void list(std::function<void(std::vector<environment::Cache::Entry>)> done);
  // kUnavailable while it is in use.
  void remove(EnvironmentId id, std::function<void(Result<>)> done);
  std::uint64_t builds() const { return builds_; }  // since the agent started

 private:
  struct Environment {
    State state = State::kHere;
    std::optional<environment::Manifest> manifest;
    environment::Surroundings surroundings;  // of kReady
    Instant touched;
    Error problem;
    Instant failed;
    std::vector<wire::Address> holders;
    std::vector<Built> builders;  // wait for it
    std::vector<Known> bringers;
  };

  bool failed_lately(const Environment& environment) const;
  void start(EnvironmentId id);
  void fetch(EnvironmentId id);
  void on_bundle(EnvironmentId id, Result<environment::Manifest> manifest);
  void on_built(EnvironmentId id, Result<environment::Manifest> manifest, bool built, Instant began);
  void give_up(EnvironmentId id, Error error);
  bool is_in_use(EnvironmentId id) const;
  void make_room(EnvironmentId just_built);

  environment::Cache cache_;
  environment::Machine machine_;
  std::uint64_t bytes_max_;
  Ports ports_;
  std::map<EnvironmentId, Environment> known_;
  std::uint64_t builds_ = 0;
  WorkerThread thread_;
};

}  // namespace shoal::daemon
