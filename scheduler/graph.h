// scheduler/graph.h
//
// The task graph of one application: which version of which datum every access means (read after write, a new version
// for every write, so that no write waits for a reader), which tasks are ready, what a failure does to the rest, how
// long a value lives, and how a lost value is made again. It knows nothing of agents beyond their index, of time, or
// of retries: the master decides that a task is finished or has failed for good.
//
// Events of the last calls collect in `events()` until the caller clears them.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "protocol/base/result.h"
#include "scheduler/data.h"
#include "scheduler/journal.h"
#include "scheduler/limits.h"

namespace shoal::scheduler {

// What becomes of the outputs and successors of a task that ends without success.
enum class FailMode : std::uint8_t {
  kDiscard,           // RETRY used up, FAIL: outputs fail, successors are cancelled and fail alike
  kIgnore,            // outputs are what the task left, or the old content; successors run
  kCancelSuccessors,  // written content is kept, successors are cancelled
  kKeep,              // group exception, cancelled: written content is kept, results fail
};

struct GraphEvents {
  struct Freed {  // a value that nobody needs any more
    DataName name;
    bool borrowed = false;
    std::vector<AgentIndex> holders;
  };
  struct Cancelled {  // a task that ended because of another one
    TaskId id;
    std::uint32_t function = 0;
    std::uint32_t group = kNone;
    std::uint32_t work = kNone;     // to be revoked
    std::uint32_t failure = kNone;  // holds one reference for the receiver, see drop_failure()
    bool recompute = false;
  };
  struct Source {  // an arena file that the program handed over
    DataName name;
    client::Value value;
  };
  std::vector<Source> sources;
  std::vector<std::uint32_t> ready;    // tasks
  std::vector<std::uint32_t> raised;   // ready tasks whose path_rank grew
  std::vector<std::uint32_t> settled;  // watched versions that are final
  std::vector<Freed> freed;
  std::vector<Cancelled> cancelled;
};

class Graph {
 public:
  Graph(AppId app, const Limits& limits);

  // ---- the program ----
  // Adds a task and resolves its accesses. The record is kWaiting, or in events().ready; if it can never run (an input
  // that failed, an unknown datum) it ends up in events().cancelled. `group` is opaque.
  std::uint32_t submit(const client::TaskCall& call, std::uint32_t function, std::uint32_t group);
  // Tells what tasks that were just added, in their order, make of the paths of those whose results they read. Exact
  // among them; of older tasks only as many are looked at as keep the cost of a task constant, the nearest first, so a
  // path counts some hundreds of tasks and not more.
  void extend_paths(const std::vector<std::uint32_t>& added);
  // First or new version of a datum. kExhausted at data_max.
  Result<> put(DatumId datum, const client::Value& value);
  void release(DatumId datum);
  void release_file(const std::string& path);
  // The version that a wait means; kNone when there is no such datum or the file was never accessed.
  std::uint32_t current(DatumId datum) const;
  std::uint32_t current_file(const std::string& path) const;

  // ---- the end of tasks ----
  // `outputs` are in the order of written accesses. kInvalid, changing nothing, when their number does not fit.
  Result<> complete(std::uint32_t task, const std::vector<OutputValue>& outputs, AgentIndex ran_on);
  // Ends a task without success. `failure` comes from make_failure.
  void fail(std::uint32_t task, FailMode mode, std::uint32_t failure, const std::vector<OutputValue>& kept,
            AgentIndex ran_on);
  // Ends every task that `wanted(task)` names, as kKeep.
  template <class F>
  void cancel_if(F wanted, std::uint32_t failure) {
    std::vector<std::uint32_t> victims;
    for (std::uint32_t i = 0; i < tasks_.end(); ++i) {
      if (unfinished(tasks_[i]) && wanted(tasks_[i])) victims.push_back(i);
    }
    cancel(victims, failure);
  }

  // ---- values ----
  // Follows aliases to the version that has the value.
  std::uint32_t resolve(std::uint32_t version) const;
  // True when all inputs of a ready task have values. Otherwise what is lost is being made again (or the task was
  // cancelled because it cannot be), and the task comes back through events().ready.
  bool ensure_inputs(std::uint32_t task);
  // The same for one version that a wait needs: true when it has a value or has failed.
  bool ensure(std::uint32_t version);
  void hold(std::uint32_t version);
  void unhold(std::uint32_t version);
  void watch(std::uint32_t version) { versions_[version].watched = true; }
  void add_holder(std::uint32_t version, AgentIndex agent);
  void set_local(std::uint32_t version, client::Value value);
  // Nobody can be reached who has it. It is made again when it is needed.
  void lost(std::uint32_t version);
  // A holder did not deliver. Twice, and the value counts as lost.
  void missed(std::uint32_t version);
  // Frees what unhold() left without a reader.
  void sweep() { collect(); }
  // All that `agent` held is gone.
  void agent_lost(AgentIndex agent);

  // Whether a task reads what mark_changed() said, directly or through other tasks that were marked.
  bool reads_changed(std::uint32_t task) const;
  // What it writes is not what it wrote in the run that is being repeated.
  void mark_changed(std::uint32_t task);

  std::uint32_t make_failure(Failure failure);
  void drop_failure(std::uint32_t failure);
  Failure& failure(std::uint32_t index) { return failures_[index]; }
  const Failure& failure(std::uint32_t index) const { return failures_[index]; }

  Task& task(std::uint32_t index) { return tasks_[index]; }
  const Task& task(std::uint32_t index) const { return tasks_[index]; }
  const Version& version(std::uint32_t index) const { return versions_[index]; }
  void mark_kept(std::uint32_t version) { versions_[version].kept = true; }
  // The record of an unfinished task; kNone if there is none.
  std::uint32_t find(TaskId id) const;
  std::uint32_t tasks_end() const { return tasks_.end(); }
  static bool unfinished(const Task& task) {
    return task.state != TaskState::kAbsent && task.state != TaskState::kKept;
  }
  GraphEvents& events() { return events_; }
  // Names of all values held anywhere, for dropping an application. Borrowed files are left out.
  std::vector<GraphEvents::Freed> all_values() const;

  std::size_t live_tasks() const { return tasks_.live(); }
  std::size_t live_versions() const { return versions_.live(); }
  std::size_t kept_tasks() const { return kept_.size(); }
  void check_invariants() const;

 private:
  struct Ending {
    std::uint32_t task;
    FailMode mode;
    std::uint32_t failure;
    bool transitive;  // successors of everything it wrote end as well
  };

  // graph.cc: access analysis
  void visit(std::uint32_t task, const client::Access& access);
  void track(std::uint32_t task, const client::Access& access, bool leaf);
  void track_literal(std::uint32_t task, const client::Access& access);
  void join_group(std::uint32_t task, std::uint32_t datum, bool exclusive, Ref& ref);
  std::uint32_t datum_of(const client::Access& access, bool create);
  std::uint32_t source(std::uint32_t datum, const client::Value& value, bool file, bool borrowed);
  std::uint32_t new_version(std::uint32_t datum, std::uint32_t producer);
  void make_current(std::uint32_t datum, std::uint32_t version);
  void depend(std::uint32_t task, std::uint32_t version);
  void await(std::uint32_t task, Version& version);
  bool still_waits(const Successor& successor) const;
  bool own_read(const Task& task, std::uint32_t version, std::uint32_t& read) const;
  void doom(std::uint32_t task, Failure failure);
  void try_start(std::uint32_t task);
  void release_datum(std::uint32_t datum);

  // graph_path.cc: what a task makes of the path of each task that it reads from; those that are older than `first` and
  // grew are appended to `older`. The number of accesses looked at.
  std::size_t raise_producers(std::uint32_t task, TaskId first, std::vector<std::uint32_t>& older);

  // graph_end.cc: the end of tasks and of values
  void cancel(const std::vector<std::uint32_t>& tasks, std::uint32_t failure);
  void run_endings();
  void end_task(const Ending& ending, const std::vector<OutputValue>& kept, AgentIndex ran_on);
  void end_output(const Ending& ending, const Ref& ref, const OutputValue* kept, AgentIndex ran_on,
                  std::uint32_t successors_failure);
  bool is_current(std::uint32_t version) const;
  void erase(std::uint32_t version);
  void set_value(std::uint32_t version, const OutputValue& output, AgentIndex ran_on);
  void set_ready(std::uint32_t version);
  void follow(std::uint32_t version, std::uint32_t source);
  void fail_version(std::uint32_t version, std::uint32_t failure, FailMode successors);
  void end_successors(std::uint32_t version, FailMode mode, std::uint32_t failure);
  void leave_groups(std::uint32_t task);
  void finish_group(std::uint32_t group);
  void retire(std::uint32_t task, bool keep);
  void forget_task(std::uint32_t task);
  bool is_lossy(const Version& version) const;
  void consider(std::uint32_t version);
  void drop_value(Version& version);
  void collect();

  // graph_lineage.cc: making lost values again
  void remake(std::uint32_t version);
  void revive(std::uint32_t task, std::vector<std::uint32_t>& next);
  void fail_lost(std::uint32_t version);

  AppId app_;
  Limits limits_;
  Slab<Task> tasks_;
  Slab<Version> versions_;
  Slab<Datum> data_;
  Slab<AccessGroup> groups_;
  Slab<Failure> failures_;
  std::unordered_map<DatumId, std::uint32_t> by_id_;
  std::unordered_map<std::string, std::uint32_t> by_path_;
  std::unordered_map<TaskId, std::uint32_t> by_task_;
  std::map<TaskId, std::uint32_t> kept_;  // finished tasks that can make their outputs again
  std::uint64_t files_ = 0;
  std::uint64_t anonymous_ = 0;
  std::uint64_t retained_bytes_ = 0;
  std::vector<Ending> endings_;
  std::vector<std::uint32_t> doomed_;
  std::vector<std::uint32_t> deleted_;  // data to release once the task that is being added reads them
  GraphEvents events_;
};

}  // namespace shoal::scheduler
