// scheduler/impl.h
//
// The reactor of the scheduler machine: one function per event, which calls the parts (masters, queues, worker, peers,
// leases) and turns what they ask for into outputs. It holds no rule of its own beyond the order of calls.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/lease_table.h"
#include "scheduler/master.h"
#include "scheduler/peers.h"
#include "scheduler/ready_queues.h"
#include "scheduler/scheduler.h"
#include "scheduler/worker.h"

namespace shoal::scheduler {

// What is kept of an application that ended, for people.
struct FinishedApp {
  AppId app;
  std::unique_ptr<Master> master;
  std::string state;
  Instant ended;
};

struct Scheduler::Impl {
  Impl(SchedulerConfig config, Rng rng);

  // ---- scheduler.cc: inputs and time ----
  void step(Instant at, const Input& input, std::vector<Output>& outputs);
  void on(const in::Wake&) {}
  void on(const in::Frame& frame);
  void on(const in::Self& self);
  void on(const in::PeerUp& up);
  void on(const in::PeerDown& down);
  void on(const in::Exclude& exclude);
  void on(const in::Above& above);
  void on(const in::OpenApp& open);
  void on(const in::ClientMessage& message);
  void on(const in::GroupMessage& message);
  void on(const in::ClientGone& gone);
  void on(const in::CancelApp& cancel);
  void on(const in::Query& query);
  void on(const in::AttemptsDone& done);
  void on(const in::AttemptBlocked& blocked);
  void on(const in::Fetched& fetched);
  void run_timers();
  Instant earliest_deadline() const;
  void end_app(AppId app, const std::string& why);
  Master* master_of(ClientId client);

  // ---- dispatch.cc: from ready to placed ----
  void drain(Master& master);
  WorkIndex new_work();
  void free_work(WorkIndex index);
  void add_task(Master& master, std::uint32_t task);
  void cancel_work(WorkIndex index);
  void requeue(WorkIndex index);
  void arm_handback(WorkIndex index);
  void delay(WorkIndex index);
  void add_load(WorkIndex index, AgentIndex agent, std::uint64_t wait_us);
  void drop_load(WorkIndex index);
  void find_home(WorkIndex index);
  bool prepare(WorkIndex index, bool here, Assignment& assignment);
  void run_here(WorkIndex index, bool reserve);
  void send_away(WorkIndex index, Place place);
  void add_function(Assign& assign, Grants::Pair& pair, const Assignment& assignment);
  bool is_possible(const Work& work) const;
  void note_homeless(std::uint32_t klass);
  void refuse_homeless();
  void learn(Work& work, const JobResult& result);
  void deliver(WorkIndex index, JobResult& result);

  // ---- pump.cc: who is next ----
  // The first of a lane, which others may keep waiting, or the last, which has the whole lane before it.
  enum class View : std::uint8_t { kHead, kTail };
  enum class Pumped : std::uint8_t { kEmpty, kStuck, kOthersFirst };
  using Heads = std::set<std::pair<ReadyQueues::Order, ReadyQueues::LaneId>>;
  void pump();
  void pump_all(View view, std::set<ReadyQueues::LaneId>& by_choice);
  Pumped pump_lane(ReadyQueues::LaneId lane, View view, const ReadyQueues::Order* until, std::uint64_t given_max,
                   std::set<ReadyQueues::LaneId>& by_choice);
  struct Decision {
    enum class Kind : std::uint8_t {
      kStay,   // no place now
      kHere,   // starts here
      kAhead,  // called here while all units are taken: its inputs travel meanwhile
      kAway,   // given to another agent
      kDelay,  // back in a moment
    };
    Kind kind = Kind::kStay;
    bool by_choice = false;  // kStay: there is room, but it is expected to be complete earlier if it waits
    Place place;
    std::uint64_t wait_us = 0;
    std::uint64_t transfer_us = 0;  // of what it lacks
    AgentIndex source = kNone;
    std::vector<Candidate> candidates;
  };
  void carry_out(WorkIndex index, Decision& decision);

  // ---- placement.cc: where to ----
  // What placement knows of the inputs of one attempt.
  struct Inputs {
    std::map<AgentIndex, std::uint64_t> held;    // bytes by agent
    std::map<AgentIndex, std::uint64_t> coming;  // on their way there
    std::uint64_t total = 0;
  };
  Decision decide(WorkIndex index, View view);
  Decision decide_by_room(WorkIndex index, const Inputs& inputs, bool fits);
  Decision decide_by_completion(WorkIndex index, View view, const Inputs& inputs);
  Inputs inputs_of(const Work& work) const;
  Policy policy_of(const Work& work) const;
  bool able_here(const Work& work) const;
  bool fits_here(const Work& work) const;
  bool may_call(const Work& work, const Candidate& candidate) const;
  // All agents that could run it, the best first.
  std::vector<Candidate> candidates_for(const Work& work, View view, const Inputs& inputs) const;
  void add_candidate(std::vector<Candidate>& to, const Work& work, View view, const Inputs& inputs,
                     const Peer* peer) const;
  AgentIndex source_for(AgentIndex agent, const Inputs& inputs) const;
  std::vector<AgentIndex> able_agents(const Demand& demand) const;
  bool is_home_left(const Work& work) const;
  bool worth_waiting(const ReadyQueues::Class& klass) const;

  // ---- pairs.cc: other agents ----
  void on_assign(AgentIndex from, Assign& assign);
  void take_job(AgentIndex from, Holdings::Pair& pair, Assignment&& job);
  void on_report(AgentIndex from, Report& report);
  void on_renew(AgentIndex from, const Renew& renew);
  void on_renew_ack(AgentIndex from, const RenewAck& ack);
  void on_revoke(AgentIndex from, const Revoke& revoke);
  void on_free(const Free& free);
  void on_app_gone(AppId app);
  void on_steal(AgentIndex from, const Steal& steal);
  void result_to(AgentIndex upstream, std::uint64_t job, JobResult result);
  void return_job(WorkIndex index, const std::string& why, bool impossible = false);
  void lose(AgentIndex agent, bool values);
  void drop_upstream(AgentIndex agent);
  void abandon(AgentIndex agent);
  void renew_leases();
  void ask_for_work();
  Room room_for(AgentIndex agent) const;
  void free_value(AppId app, const GraphEvents::Freed& freed);
  void flush();
  template <class Message>
  void send(AgentIndex agent, Kind kind, const Message& message);

  // ---- gossip.cc ----
  State state() const;
  void update_gossip();
  void tell_state();
  void tell_summaries();
  bool is_head() const { return address.path.size() > 1 && !above_head; }
  // What lies above this region (seen by its head), or in it and below.
  Summary summary_of(bool above) const;
  std::uint64_t free_on(bool above) const;

  // ---- queries.cc ----
  Result<wire::Dynamic> answer(const in::Query& query);
  Result<wire::Dynamic> list_apps() const;
  wire::Dynamic totals() const;
  Result<wire::Dynamic> list_tasks(const wire::Dynamic& params) const;
  Result<wire::Dynamic> explain(const wire::Dynamic& params) const;
  Result<wire::Dynamic> trace(const wire::Dynamic& params) const;
  Result<wire::Dynamic> places(const wire::Dynamic& params) const;
  const Master* find_app(const wire::Dynamic& params, std::string& state) const;
  // explain.cc
  std::string why_waiting(const Master& master, const Task& task) const;
  std::string why_queued(const Work& work) const;

  SchedulerConfig config;
  Rng rng;
  std::uint64_t life;  // tells this process from an earlier one of the same agent
  Instant now;
  std::vector<Output>* out = nullptr;  // of the step that runs
  wire::Address address;
  Resources resources;
  std::optional<wire::Address> above_head;

  Agents agents;
  WorkTable works;
  ReadyQueues queues;
  Estimates estimates;
  Worker worker;
  Peers peers;
  Grants grants;
  Holdings holdings;
  std::map<AppId, std::unique_ptr<Master>> masters;
  std::map<ClientId, AppId> clients;
  std::deque<FinishedApp> finished;
  TaskCounts forgotten;  // of apps that are not in `finished` any more

  std::uint64_t works_made = 0;
  std::set<std::pair<Instant, WorkIndex>> delayed;
  std::set<std::pair<Instant, WorkIndex>> handbacks;  // delegated jobs that go back unless they find a place
  std::set<std::uint32_t> homeless;                   // classes no known agent can ever run
  std::map<AgentIndex, Instant> doomed;               // said to be dead, without proof
  std::map<AgentIndex, Assign> assigns;               // of this step
  std::map<AgentIndex, Report> reports;
  std::map<AgentIndex, Revoke> revokes;
  std::map<std::pair<AgentIndex, AppId>, Free> frees;

  Instant deadline = Instant::never();
  Instant gossip_at;                     // the next state: not before
  Instant state_due = Instant::never();  // when the state is told unless it is as before again
  Instant summaries_at;                  // the next summaries: not before
  Instant summaries_due = Instant::never();
  Instant reconsider_at = Instant::never();  // when work that waits by choice is looked at again
  Instant steal_at;                          // when to ask for work; zero while there is no reason to
  bool gossiped = false;
  bool peers_changed = false;
  bool resources_changed = false;
  State last_state;
  Bytes last_state_bytes;
  std::pair<Bytes, Bytes> last_summaries;
};

}  // namespace shoal::scheduler
