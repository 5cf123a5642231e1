// agent/elastic/pool.h
//
// The agents that applications asked for: how many, for whom, and how far each has got.
//
//   request ─► creating ─(provider)─► joining ─(member)─► ready ─(free)─► draining ─(idle)─► ending ─► gone
//
// An agent belongs to the application that asked for it, and ends with it; while it is there it works for everybody in
// its region. What it was created for is written down before, so that an agent that starts again after a crash ends
// what it left behind.
//
// Thread-safety: none; works in turns of the reactor.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/elastic/provider.h"
#include "agent/reactor/reactor.h"
#include "protocol/base/id.h"
#include "protocol/base/result.h"

namespace shoal::elastic {

struct PoolConfig {
  std::uint32_t agents_max = 0;  // 0: none is made
  std::string directory;         // of one entry an agent
  std::string prefix;            // of their names; no other agent's name begins so
  Duration join_time_max = seconds(600);
};

// What the pool asks of the agent that it is part of.
struct Hooks {
  // Makes a token for one more agent of this region.
  std::function<void(std::function<void(Result<std::string>)>)> token;
  // Whether an agent of that name is a live member that can be given tasks.
  std::function<bool(const std::string& name)> joined;
  // No task is to be placed there from now on.
  std::function<void(const std::string& name)> close;
  // Tells whether nothing runs or waits there; true also for one that is gone.
  std::function<void(const std::string& name, std::function<void(bool)>)> idle;
  // The pool knows it no more.
  std::function<void(const std::string& name)> gone;
};

// How a request ended.
struct Outcome {
  std::uint32_t done = 0;
  std::uint32_t failed = 0;
  std::string why;  // the last failure
};

class Pool {
 public:
  using Done = std::function<void(const Outcome&)>;

  Pool(agent::Reactor& reactor, PoolConfig config, Hooks hooks);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  // Before anything else. Ends what an earlier process left behind.
  void open(std::unique_ptr<Provider> provider);

  // Begins to create up to `count` agents for the application; returns how many, fewer at the maximum. `done` when all
  // of them are ready or have failed; never from here.
  std::uint32_t request(AppId app, std::uint32_t count, Done done);
  // Begins to end up to `count` of the application's agents, the youngest first; returns how many.
  std::uint32_t free(AppId app, std::uint32_t count, Done done);
  // The application has ended: its agents end, whatever they are doing.
  void app_ended(AppId app);
  // An agent ended by itself.
  void ended(const std::string& name, const std::string& why);
  // This agent stops: nothing is begun or told any more.
  void abandon();

  std::uint32_t ready() const;
  std::uint32_t size() const { return static_cast<std::uint32_t>(agents_.size()); }
  std::uint32_t agents_max() const { return config_.agents_max; }
  std::string describe() const;  // for people: "local, 1 of at most 4 agents ready"

 private:
  enum class State : std::uint8_t { kCreating, kJoining, kReady, kDraining, kEnding };
  // Agents that one call waits for.
  struct Request {
    Outcome outcome;
    std::uint32_t left = 0;
    Done done;
  };
  struct Elastic {
    AppId app;
    State state = State::kCreating;
    Instant deadline = Instant::never();
    std::uint64_t number = 0;          // younger ones have larger ones
    std::shared_ptr<Request> waiting;  // who is told of the next end of a way
    bool asking = false;               // whether it is idle
    std::uint32_t idle_seen = 0;
  };

  void start(const std::string& name);
  void fail_creation(const std::string& name, const std::string& why);
  void end(const std::string& name);
  void settle(Elastic& agent, bool ok, const std::string& why);
  void on_timer();
  void look_at_drained(const std::string& name);
  void arm();

  agent::Reactor& reactor_;
  const PoolConfig config_;
  const Hooks hooks_;
  std::unique_ptr<Provider> provider_;
  std::map<std::string, Elastic> agents_;
  std::uint64_t last_number_ = 0;
  bool abandoned_ = false;
  agent::Reactor::TimerId timer_ = 0;
};

}  // namespace shoal::elastic
