// scheduler/messages.h
//
// What schedulers of two agents say to each other. One of the two is the upstream side (a master, or a delegate) and
// hands out work under a lease; the other is the downstream side and does it, or spreads it further.
//
//   upstream                                downstream
//     ── Assign (jobs, functions) ──────────►
//     ◄───────────────────────── Report ────   results, room for more
//     ── Renew every heartbeat (job ids) ───►   all leases of the pair at once
//     ◄────────────────────── RenewAck ─────   ids it does not know: lost on the way
//     ── Revoke, Free, AppGone ─────────────►
//     ◄─────────────────────── Steal ───────   idle, asks for work
#pragma once

#include <string>
#include <vector>

#include "protocol/wire/address.h"
#include "protocol/wire/client.h"
#include "scheduler/graph.h"
#include "scheduler/io.h"
#include "scheduler/resources.h"

namespace shoal::scheduler {

enum class Kind : std::uint16_t {
  kAssign = static_cast<std::uint16_t>(wire::Plane::kScheduler) << 8 | 1,
  kReport = static_cast<std::uint16_t>(wire::Plane::kScheduler) << 8 | 2,
  kRenew = static_cast<std::uint16_t>(wire::Plane::kScheduler) << 8 | 3,
  kRenewAck = static_cast<std::uint16_t>(wire::Plane::kScheduler) << 8 | 4,
  kRevoke = static_cast<std::uint16_t>(wire::Plane::kScheduler) << 8 | 5,
  kFree = static_cast<std::uint16_t>(wire::Plane::kScheduler) << 8 | 6,
  kAppGone = static_cast<std::uint16_t>(wire::Plane::kScheduler) << 8 | 7,
  kSteal = static_cast<std::uint16_t>(wire::Plane::kScheduler) << 8 | 8,
};

// An input that is not inline: where the argument with this position (depth first, from 0) gets its value from. A
// persistent object has no name and no holders: who runs the attempt asks the store.
struct RemoteInput {
  std::uint32_t argument = 0;
  DataName name;
  std::uint64_t bytes = 0;
  std::vector<wire::Address> holders;
  ObjectId object = {};
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.argument, self.name, self.bytes, self.holders, self.object);
  }
};
// An object's key belongs to one application, so that its copy goes when the application ends.
inline ValueKey key_of(AppId app, const RemoteInput& input) {
  return input.object.is_zero() ? key_of(app, input.name) : "object/" + input.object.hex() + "#" + app.hex();
}

// One attempt to run a task, on its way to whoever runs it.
struct Assignment {
  std::uint64_t job = 0;  // of the upstream side; never used twice, so a late result of a former attempt is no match
  AppId app;
  TaskId task;
  Instance instance;
  FunctionId function;
  Demand demand;
  std::vector<client::Argument> arguments;
  std::vector<RemoteInput> inputs;
  std::vector<DataName> outputs;  // of written arguments, in the order of AttemptResult::outputs
  std::uint64_t timeout_ms = 0;
  std::vector<std::string> command;
  std::string working_dir;
  bool fail_by_exit_value = true;
  bool priority = false;
  std::uint64_t mean_us = 0;           // what an attempt of this function takes, as far as upstream knows
  bool spread = false;                 // not to be run here but spread over what lies behind this agent
  std::vector<RegionId> left_regions;  // that had no room: not to be sent back there
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.job, self.app, self.task, self.instance, self.function, self.demand, self.arguments, self.inputs,
      self.outputs, self.timeout_ms, self.command, self.working_dir, self.fail_by_exit_value, self.priority,
      self.mean_us, self.spread, self.left_regions);
  }
};

// What a function needs to run, and the application it belongs to. Sent once to each agent.
struct FunctionSpec {
  AppId app;
  std::string python;
  client::Function function;
  EnvironmentId environment = {};     // zero: none
  wire::Address environment_at = {};  // who has its bundle
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.app, self.python, self.function, self.environment, self.environment_at);
  }
};

// How much more the sender would take now, in 64ths of a unit. Jobs up to `seen` are accounted for.
struct Room {
  std::uint64_t seen = 0;
  std::uint64_t here64 = 0;
  std::uint64_t behind64 = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.seen, self.here64, self.behind64);
  }
};

struct Assign {
  std::uint64_t life = 0;  // of the upstream agent: drawn at its start
  std::vector<FunctionSpec> functions;
  std::vector<Assignment> jobs;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.life, self.functions, self.jobs);
  }
};

struct JobResult {
  std::uint64_t job = 0;
  client::Outcome outcome = client::Outcome::kDone;
  std::string message;
  Bytes error;
  std::vector<OutputValue> outputs;
  std::uint64_t run_us = 0;
  wire::Address ran_on;
  std::vector<DataName> missing;  // with kInputMissing
  bool unknown_function = false;  // with kReturned: send it again
  bool moved = false;             // with kReturned: somebody idle asked for it
  bool impossible = false;        // with kReturned, of a gateway: nobody behind it could ever run this
  std::uint64_t fetch_bytes = 0;  // of its inputs that had to be brought to the worker, and how long that took
  std::uint64_t fetch_us = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.job, self.outcome, self.message, self.error, self.outputs, self.run_us, self.ran_on, self.missing,
      self.unknown_function, self.moved, self.impossible, self.fetch_bytes, self.fetch_us);
  }
};

struct Report {
  std::uint64_t life = 0;  // of the downstream agent
  std::vector<JobResult> results;
  Room room;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.life, self.results, self.room);
  }
};

struct Renew {
  std::uint64_t life = 0;
  std::vector<std::uint64_t> jobs;  // given out at least one heartbeat ago and not reported
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.life, self.jobs);
  }
};

struct RenewAck {
  std::uint64_t life = 0;
  std::vector<std::uint64_t> unknown;
  Room room;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.life, self.unknown, self.room);
  }
};

struct Revoke {
  std::vector<std::uint64_t> jobs;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.jobs);
  }
};

struct Free {
  AppId app;
  std::vector<DataName> names;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.app, self.names);
  }
};

struct AppGone {
  AppId app;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.app);
  }
};

struct Steal {
  Room room;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.room);
  }
};

}  // namespace shoal::scheduler
