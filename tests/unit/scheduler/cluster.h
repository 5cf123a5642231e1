// tests/unit/scheduler/cluster.h
//
// A handful of scheduler machines in virtual time, with a network that delivers at once (or not at all), executors that
// run tasks as small string programs, and an arena per agent. Every machine's invariants are checked after every step.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "scheduler/messages.h"
#include "scheduler/scheduler.h"

namespace shoal::scheduler::testing {

// What a task does in these tests: every output is the concatenation of all inputs, then the number of the task.
// The name of the function changes that: see Cluster::run.
struct Agent {
  std::string name;
  AgentId id;
  wire::Address address;
  std::unique_ptr<Scheduler> machine;
  bool alive = true;
  bool executes = true;              // finishes attempts by itself
  std::deque<client::Attempt> held;  // launched while `executes` is false
  std::map<std::uint64_t, client::Attempt> running;
  std::map<FunctionId, client::Function> functions;
  std::map<std::string, std::string> arena;  // contents of shared files and of files
  std::map<ValueKey, client::Value> kept;
  std::set<ValueKey> borrowed;
  std::vector<out::Launch> launches;
  std::vector<std::uint64_t> killed;
  std::vector<ValueKey> dropped;
  std::vector<ValueKey> fetched;
  std::vector<out::ToClient> replies;
  std::vector<JournalEntry> journal;
  std::vector<JournalEntry> saved;
  std::map<std::uint64_t, Result<wire::Dynamic>> answers;
  std::uint64_t launched = 0;
  std::uint64_t sent = 0;
  std::uint64_t files = 0;
  Bytes state;
  Bytes upward;
  Bytes downward;
};

class Cluster {
 public:
  Agent& add(const std::string& name, std::vector<RegionId> path, std::uint32_t units,
             std::map<std::string, std::string> labels = {}, std::uint64_t memory_mb = 8192);
  Agent& operator[](const std::string& name) { return *agents_.at(name); }
  // Tells `who` about `peer` as the overlay would.
  void introduce(const std::string& who, const std::string& peer, bool above = false, bool child = false);
  void introduce_both(const std::string& a, const std::string& b) { introduce(a, b), introduce(b, a); }
  // Forwards gossip: the current state of `peer` to `who`.
  void gossip();
  void set_head(const std::string& who, const std::string& head);

  void input(Agent& agent, const Input& message);
  // Lets time pass in steps no longer than the machines ask for.
  void advance(Duration span);
  void settle();  // until no frame is under way
  void kill(const std::string& name) { (*this)[name].alive = false; }
  void cut(const std::string& a, const std::string& b) { cut_.insert({a, b}), cut_.insert({b, a}); }
  void heal() { cut_.clear(); }
  client::AttemptResult run(Agent& agent, const client::Attempt& attempt);
  void finish(Agent& agent, const client::AttemptResult& result);
  // Ends everything that is held back on the agent.
  void release(Agent& agent);
  std::string content(Agent& agent, const client::Value& value);

  Instant now{1'000'000};
  SchedulerConfig config;
  std::map<std::uint64_t, std::deque<client::AttemptResult>> planned;  // by task: results instead of the default
  std::map<std::uint64_t, std::vector<std::string>> ran_on;            // by task
  std::vector<std::pair<std::string, std::string>> frames;             // (from, to) of every frame delivered
  std::function<bool(const wire::Envelope&)> drop;                     // true: the frame is lost
  bool check = true;

 private:
  void carry_out(Agent& agent, std::vector<Output>& outputs);
  Agent* by_id(AgentId id);

  std::map<std::string, std::unique_ptr<Agent>> agents_;
  struct Seen {
    std::string who;
    std::string peer;
    bool above = false;
    bool child = false;
  };
  std::vector<Seen> seen_;
  std::deque<std::pair<std::string, wire::Envelope>> network_;
  std::deque<std::pair<std::string, Input>> inbox_;
  std::set<std::pair<std::string, std::string>> cut_;
  bool settling_ = false;
  std::uint64_t next_id_ = 0;
};

// What a task makes of all that it reads.
std::string step_of(const std::string& inputs, std::uint64_t task);

// One application, opened at an agent.
class App {
 public:
  App(Cluster& cluster, const std::string& agent, std::uint64_t id = 1);
  // In the first of these environments; the others are for functions whose options name them.
  App(Cluster& cluster, const std::string& agent, std::vector<EnvironmentId> environments,
      std::map<EnvironmentId, std::vector<Requirement>> asked);
  // Journalled; `replay` is what a lost master saw finish, or, with `save`, a former run.
  App(Cluster& cluster, const std::string& agent, std::vector<JournalEntry> replay, bool save = false);

  FunctionId function(const std::string& name, client::TaskOptions options = {});
  // Submits one call and returns its number.
  std::uint64_t call(const std::string& function, std::vector<client::Access> accesses,
                     client::TaskOptions options = {});
  void submit(const client::Submit& message);
  void put(std::uint64_t datum, const std::string& text);
  void put_shared(std::uint64_t datum, const std::string& text);
  // The answer, if there is one by now.
  std::uint64_t wait(std::vector<std::uint64_t> data, std::vector<std::string> files = {});
  std::uint64_t barrier(const std::string& group = {});
  void release(std::vector<std::uint64_t> data, std::vector<std::string> files = {});
  void group(client::Kind kind, const std::string& name);
  void close();
  std::optional<client::Values> values(std::uint64_t request);
  std::optional<client::Reply> reply(std::uint64_t request);
  std::vector<client::Event> events();
  // Waits for one datum and gives its text, or "!code: message", or "?" while it is not final.
  std::string get(std::uint64_t datum);
  wire::Dynamic query(const std::string& method, wire::Dynamic::Map params = {});
  std::int64_t count(const std::string& field);
  Agent& agent() { return agent_; }
  AppId id() const { return id_; }
  ClientId client() const { return client_; }

 private:
  Cluster& cluster_;
  Agent& agent_;
  AppId id_;
  ClientId client_;
  std::uint64_t next_task_ = 0;
  std::uint64_t next_request_ = 0;
};

client::Access in(std::uint64_t datum);
client::Access out(std::uint64_t datum);
client::Access inout(std::uint64_t datum);
client::Access access(client::Direction direction, std::uint64_t datum);
client::Access file(client::Direction direction, const std::string& path);
client::Access collection(std::vector<client::Access> items, client::Direction direction = client::Direction::kIn);
client::AttemptResult outcome(client::Outcome outcome, const std::string& message = {},
                              std::vector<std::string> kept = {});
client::TaskOptions policy(client::OnFailure on_failure, std::uint32_t retries = 3);
client::TaskOptions constrained(std::map<std::string, std::string> constraints);

}  // namespace shoal::scheduler::testing
