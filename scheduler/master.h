// scheduler/master.h
//
// The master of one application: its functions, its graph, its failure policies, and what its driver waits for. It
// decides what a finished attempt means; where attempts run is the business of the dispatcher, which is told through
// `effects()` after every call.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/agents.h"
#include "scheduler/graph.h"
#include "scheduler/groups.h"
#include "scheduler/journal.h"
#include "scheduler/messages.h"
#include "scheduler/policy.h"
#include "scheduler/trace.h"
#include "scheduler/values.h"

namespace shoal::scheduler {

// What the last calls ask of the dispatcher. Cleared by it.
struct MasterEffects {
  struct Need {  // a value that a wait wants here
    std::uint32_t version = kNone;
  };
  struct Keep {  // a value on this host that other agents may ask for
    DataName name;
    client::Value value;
    bool borrowed = false;
  };
  bool empty() const {
    return ready.empty() && raised.empty() && revoke.empty() && needs.empty() && freed.empty() && keep.empty() &&
           replies.empty() && journal.empty() && saves.empty();
  }
  std::vector<std::uint32_t> ready;   // tasks to be run (the dispatcher sets Task::work)
  std::vector<std::uint32_t> raised;  // tasks that are ready already, and are to go earlier
  std::vector<std::uint32_t> revoke;  // work records of tasks that ended otherwise
  std::vector<Need> needs;
  std::vector<GraphEvents::Freed> freed;
  std::vector<Keep> keep;
  std::vector<out::ToClient> replies;
  std::vector<JournalEntry> journal;  // tasks that finished
  std::vector<JournalEntry> saves;    // those whose values are all on this host
};

// What is to become of the work record of an attempt that ended.
enum class Verdict : std::uint8_t {
  kEnded,  // the task is final, or comes back as ready
  kAgain,  // run it again as soon as there is a place
  kLater,  // run it again after a heartbeat: what it lacked may be back then
};

class Master {
 public:
  struct Function {
    client::Function spec;
    client::TaskOptions options;
    Demand demand;
    std::string refusal;           // why its constraints are no constraints
    std::uint32_t klass = kNone;   // of the ready queues
    std::uint64_t klass_made = 0;  // and which one of those in that place
    std::uint64_t mean_us = 0;     // of its attempts anywhere; 0: none yet
  };

  Master(AppId app, ClientId client, client::Hello hello, const Limits& limits, Instant now);

  // The agents that could run such a task, this one first: asked when a task is to run on every one of them.
  using Able = std::function<std::vector<AgentIndex>(const Demand&)>;
  void set_able(Able able) { able_ = std::move(able); }
  // Which of `agents` is next for a task that is to be spread evenly.
  AgentIndex in_turn(const std::vector<AgentIndex>& agents) { return agents[spread_++ % agents.size()]; }

  // What each of the environments of the application asks of an agent.
  void set_environments(std::map<EnvironmentId, std::vector<Requirement>> environments) {
    environments_ = std::move(environments);
  }
  // The one that a function with these options runs in; zero: none.
  EnvironmentId environment_of(const client::TaskOptions& options) const;
  // What a task of `function` asks for when it is called with these options.
  Result<Demand> demand_of(const Function& function, const client::TaskOptions& options) const;

  // How its ready tasks are ordered and placed.
  void set_policy(Policy policy) { policy_ = policy; }
  Policy policy() const { return policy_; }

  // From now on finished tasks are journalled. Tasks of `replay` are not run: they finished under another master.
  void journal(std::vector<JournalEntry> replay);
  // From now on finished tasks are told with their values, which are brought to this host for that. A replay is of a
  // former run then: a call with other arguments runs again, and so does what depends on it.
  void save() { saves_ = journals_ = true; }

  // The time of the calls that follow.
  void set_now(Instant now) { now_ = now; }

  // ---- the program ----
  void on(const client::Register& message);
  void on(const client::Submit& message);
  void on(const client::PutData& message);
  void on(const client::Wait& message);
  void on(const client::Barrier& message);
  void on(const client::Release& message);
  void on_group(client::Kind kind, const std::string& group);
  // Ends everything: for a driver that is gone, or by order.
  void cancel_all(const std::string& why);

  // ---- the dispatcher ----
  // The attempt that a ready task needs next. False when an input is lost: the task comes back when it is there again
  // (or was cancelled because it never will be).
  bool prepare(std::uint32_t task, const Agents& agents, bool here, Assignment& out);
  // How much of its inputs is where, and on its way where, for placement. Only for tasks with large inputs.
  void input_bytes(std::uint32_t task, std::map<AgentIndex, std::uint64_t>& held,
                   std::map<AgentIndex, std::uint64_t>& coming, std::uint64_t& total) const;
  // What `agent` lacks of the task's inputs is on its way there: appended to `versions`, until unexpect_inputs.
  void expect_inputs(std::uint32_t task, AgentIndex agent, std::vector<std::uint32_t>& versions);
  void unexpect_inputs(AgentIndex agent, const std::vector<std::uint32_t>& versions);
  void started(std::uint32_t task);
  // Why the task that ended last ran where it did.
  void note_candidates(TaskId task, std::vector<Candidate> candidates);
  // An attempt ran on this host: what it fetched can be used from here.
  void adopt_inputs(std::uint32_t task, const LocalValues& values);
  Verdict finished(std::uint32_t task, JobResult& result, AgentIndex ran_on, const Agents& agents);
  // No agent can ever run it.
  void refuse(std::uint32_t task, Code code, const std::string& why);
  void lost_attempt() { ++counts_.lost; }
  void agent_lost(AgentIndex agent);
  // The end of a Fetch for a wait.
  void fetched(std::uint32_t version, bool ok, const client::Value& value);

  AppId app() const { return app_; }
  ClientId client() const { return client_; }
  const client::Hello& hello() const { return hello_; }
  Graph& graph() { return graph_; }
  const Graph& graph() const { return graph_; }
  Function& function(std::uint32_t index) { return functions_[index]; }
  const Function& function(std::uint32_t index) const { return functions_[index]; }
  const client::TaskOptions& options(const Task& task) const {
    return task.options ? *task.options : functions_[task.function].options;
  }
  // Whether it is one of the many of a task that runs on every agent.
  static bool is_replica(TaskId task);
  // "task 7 (module.f)"
  std::string describe(TaskId task, std::uint32_t function) const;
  MasterEffects& effects() { return effects_; }
  // Frees everything but what people may still ask about.
  void drop_graph();
  const Trace& trace() const { return trace_; }
  const TaskCounts& counts() const { return counts_; }
  std::string state() const;
  bool app_failed() const { return !fatal_.empty(); }
  Instant started_at() const { return started_at_; }
  std::string first_error() const;
  void check_invariants() const;

 private:
  struct WaitItem {
    std::uint32_t version = kNone;
    bool open = false;
    DatumId datum;
    std::string path;
  };
  struct PendingWait {
    std::uint64_t request = 0;
    std::size_t open = 0;
    std::vector<WaitItem> items;
  };
  struct Waiting {  // an item of a wait
    std::uint64_t wait = 0;
    std::uint32_t item = 0;
    friend auto operator<=>(const Waiting&, const Waiting&) = default;
  };
  struct PendingBarrier {
    std::uint64_t request = 0;
    std::uint32_t group = kNone;
  };

  // The record of the new task; kNone when it came to nothing, or is done already.
  std::uint32_t submit(const client::TaskCall& call);
  void submit_replicas(const client::TaskCall& call, std::uint32_t function, std::uint32_t task);  // master_replicas.cc
  // master_journal.cc
  bool is_repeatable(const Task& task) const;
  bool is_journalled(const Task& task) const;
  bool is_saved(const Task& task) const;
  JournalEntry entry_of(const Task& task, const std::vector<OutputValue>& outputs) const;
  void note_finished(const Task& task, const std::vector<OutputValue>& outputs);
  struct Saving {  // a finished task whose values are not all here
    JournalEntry entry;
    std::size_t open = 0;
  };
  struct Wanted {  // an output of it
    TaskId task;
    std::size_t output = 0;
  };
  std::vector<std::uint32_t> begin_save(const Task& task, const std::vector<OutputValue>& outputs, AgentIndex ran_on);
  void drop_save(const std::vector<std::uint32_t>& wanted);
  void want_for_save(const std::vector<std::uint32_t>& wanted);
  void take_for_save(std::uint32_t version);
  bool may_replay(const client::TaskCall& call, std::uint32_t task);
  void replay(const client::TaskCall& call, std::uint32_t task);
  void refuse_call(const client::TaskCall& call, std::uint32_t function, Code code, std::string why);
  void add_item(PendingWait& wait, std::uint32_t version, DatumId datum, std::string path);
  bool settle_item(Waiting who, WaitItem& item);
  void settle(std::uint32_t version);
  void answer_wait(std::uint64_t wait);
  client::ValueResult result_of(const WaitItem& item);
  void answer_barriers();
  void reply_failure(std::uint64_t request, std::uint32_t failure);
  void reply(std::uint64_t request, Code code, std::string message);
  void drain();
  void count_end(std::uint32_t group);
  void note_fatal(std::uint32_t failure, std::uint32_t group);
  void trace_end(const Task& task, TraceEntry::End end, AgentIndex ran_on, std::uint64_t run_us);
  Verdict judge_failure(std::uint32_t task, JobResult& result, AgentIndex ran_on, const Agents& agents);
  Verdict input_missing(std::uint32_t index, const JobResult& result, const Agents& agents);
  struct FinalFailure {
    FailMode mode = FailMode::kDiscard;
    bool fatal = true;  // ends the application
    Code code = Code::kFailed;
    std::string message;
  };
  void end_failed(std::uint32_t task, FinalFailure failure, JobResult& result, AgentIndex ran_on);
  void discard_outputs(const Task& task, const JobResult& result, AgentIndex ran_on);
  void group_exception(std::uint32_t task, JobResult& result, AgentIndex ran_on, const Agents& agents);
  void announce_failure(const Task& task, const std::string& message);

  // master_build.cc
  struct Cursor;
  bool build(Cursor& cursor, const client::Access& access, client::Argument& argument);

  AppId app_;
  ClientId client_;
  client::Hello hello_;
  Limits limits_;
  Instant started_at_;
  Instant now_;
  Graph graph_;
  TaskGroups groups_;
  Able able_;
  std::map<EnvironmentId, std::vector<Requirement>> environments_;
  Policy policy_ = Policy::kCompletion;
  std::size_t spread_ = 0;
  std::map<std::uint32_t, std::map<AgentIndex, std::uint32_t>> coming_;  // attempts that bring a version to an agent
  bool journals_ = false;
  bool saves_ = false;
  bool told_change_ = false;
  std::unordered_map<TaskId, JournalEntry> replay_;
  std::unordered_map<DatumId, std::uint64_t> put_prints_;  // fingerprints of what the program put, while it saves
  std::unordered_map<TaskId, Saving> saving_;
  std::unordered_map<std::uint32_t, Wanted> wanted_;  // by version
  std::vector<Function> functions_;
  std::unordered_map<FunctionId, std::uint32_t> by_function_;
  std::map<std::uint64_t, PendingWait> waits_;
  std::uint64_t next_wait_ = 0;
  std::unordered_map<std::uint32_t, std::vector<Waiting>> waiting_;  // by version
  std::vector<PendingBarrier> barriers_;
  std::vector<std::uint32_t> fatal_;  // failures that end the application, at most kFatalMax
  std::vector<std::uint32_t> emptied_;
  bool cancelled_ = false;
  std::string error_;  // of an application that ended
  Trace trace_;
  TaskCounts counts_;
  MasterEffects effects_;
};

}  // namespace shoal::scheduler
