// agent/daemon/impl.h
//
// The drivers of one agent and what connects them to its core. Every file of this folder named *_bridge.cc or
// *_requests.cc holds the members of one concern.
#pragma once

#include <spdlog/spdlog.h>

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/compss/service.h"
#include "agent/daemon/app_checkpoint.h"
#include "agent/daemon/app_guard.h"
#include "agent/daemon/app_runner.h"
#include "agent/daemon/daemon.h"
#include "agent/daemon/environments.h"
#include "agent/daemon/home.h"
#include "agent/daemon/requester.h"
#include "agent/daemon/transfer.h"
#include "agent/daemon/value_table.h"
#include "agent/daemon/worker_thread.h"
#include "agent/elastic/pool.h"
#include "agent/executor/client_server.h"
#include "agent/executor/executor_pool.h"
#include "agent/gateway/gateway.h"
#include "agent/gateway/http_caller.h"
#include "agent/node/node.h"
#include "agent/reactor/reactor.h"
#include "edge/edge.h"
#include "protocol/identity/realm.h"
#include "protocol/link/transport.h"
#include "storage/engine/engine.h"
#include "streams/broker/broker.h"

namespace shoal::daemon {

// Who is told of an application's output, and how much of each stream it has seen already.
struct Watcher {
  Requester to;
  std::array<std::size_t, 3> skip{};  // by stream number; 0 is unused
};

struct Daemon::Impl {
  using Params = wire::Dynamic;
  using Answer = Result<wire::Dynamic>;
  using Handler = void (Impl::*)(const Requester&, const Params&);

  explicit Impl(settings::Settings settings);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // -- daemon.cc: life --
  Result<> open();
  Result<> open_identity();
  Result<> open_node();
  Result<> open_streams();
  std::unique_ptr<executor::ExecutorPool> open_executors(std::uint32_t computing_units);
  void on_wake();
  int run();
  void on_signal(int number);
  void reload_settings();
  void begin_stop(const std::string& why);
  void finish_stop();
  wire::Dynamic status() const;
  wire::Dynamic::Map describe_member(const overlay::Member& member) const;
  std::string agent_name(const std::string& hex) const;  // for people; the first digits of an unknown id

  // -- core_bridge.cc: the core's inputs and effects --
  void feed(node::Input input);
  void drain();
  void rearm();
  void carry_out(node::Effect& effect);
  void flush_persists();
  void on_engine_events();
  void release_held();
  void send_now(const node::out::Send& send);
  void start_launch(scheduler::out::Launch& launch);
  void on_attempts_done(scheduler::in::AttemptsDone&& done);

  // -- link_bridge.cc: other agents --
  void on_link_events();
  void on_frame(AgentId neighbour, const Bytes& frame);
  bool route(wire::Envelope envelope);  // frames of drivers; false when there is no way now
  void on_join_request(const link::event::JoinRequest& request);
  void renew_certificate();

  // -- value_bridge.cc: values and objects in motion --
  void fetch_value(const scheduler::out::Fetch& fetch);
  void fetch_object(const std::string& key, ObjectId object);
  void pull_object(const storage::out::Pull& pull);
  Result<Transfer::Part> read_part(const std::string& key, std::uint64_t offset, std::uint32_t length);
  Result<Transfer::Part> read_directory_part(const std::string& key, const std::string& path, std::uint64_t offset,
                                             std::uint32_t length);
  void on_packed(const std::string& key, const std::string& archive, const Result<>& packed);
  void drop_value(const std::string& key);
  void unpack_value(const std::string& archive, const std::string& directory,
                    std::function<void(Instant, Result<>)> done);
  void put_object(storage::Manifest manifest, storage::Payload payload, std::function<void(Result<>)> done);

  // -- environment_bridge.cc: environments of applications and what waits for them --
  std::unique_ptr<Environments> open_environments();
  void fetch_bundle(EnvironmentId id, std::vector<wire::Address> holders, const Environments::Fetched& done);
  std::vector<EnvironmentId> environments_in_use() const;
  void with_environments(const AppSpec& spec, const std::vector<wire::Address>& holders, Environments::Built done);
  void hold_launch(scheduler::out::Launch&& launch);
  void release_launches(EnvironmentId id, const Result<environment::Surroundings>& surroundings);
  void kill_attempts(scheduler::out::Kill kill);
  bool can_host(const scheduler::Resources& resources, const AppSpec& spec) const;
  std::vector<wire::Address> other_members() const;
  void request_environment_find(const Requester&, const Params&);
  void request_environment_put(const Requester&, const Params&);
  void request_environment_build(const Requester&, const Params&);
  void request_environment_list(const Requester&, const Params&);
  void request_environment_remove(const Requester&, const Params&);

  // -- app_mirror.cc, app_guardian.cc: applications that outlive their master --
  std::optional<wire::Address> choose_guardian(AppId app, const AppSpec& spec) const;
  void start_mirror(AppId app, AppSpec spec);
  void open_mirror(AppId app, const wire::Address& guardian);
  void on_mirror_answer(AppId app, std::uint64_t turn, std::size_t safe, Answer answer);
  void tell_guardian(AppId app, const Mirror& mirror);
  client::Event guardian_event(AppId app, const Mirror& mirror, bool moved) const;
  void move_watchers(AppId app);
  void on_journal(scheduler::out::Journal&& journal);
  void pump_mirror(AppId app);
  void release_output(AppId app, Mirror& mirror);
  std::size_t held_back(AppId app) const;
  void end_mirror(AppId app);
  void give_up_app(AppId app, const std::string& why);
  void on_mirror_timer();
  void on_guardian_gone(AgentId agent);
  void request_guard_open(const Requester& from, const Params& params);
  void request_guard_append(const Requester& from, const Params& params);
  void request_guard_close(const Requester& from, const Params& params);
  void on_master_gone(AgentId agent, bool proven);
  void on_guard_timer();
  void take_over_from(AgentId agent);
  void go_on_with(AppId app, Guarded orphan, const Result<environment::Surroundings>& surroundings);

  // -- app_checkpoint.cc: applications that leave something for their next run --
  void open_checkpoint(ClientId client, AppId app, const client::Hello& hello);
  void on_checkpoint_open(AppId app, Result<CheckpointFolder::Opened>& opened);
  void open_app(ClientId client, AppId app, const client::Hello& hello, std::vector<scheduler::JournalEntry> replay);
  struct Restored;
  void restore_values(Checkpoint& checkpoint, std::vector<CheckpointRecord>& records, Restored& restored);
  void begin_restored(AppId app, Restored& restored);
  void on_save(scheduler::out::Save&& save);
  void save_entry(AppId app, scheduler::JournalEntry&& entry);
  struct Source;
  std::vector<Source> hold_values(AppId app, Checkpoint& checkpoint, const scheduler::JournalEntry& entry);
  void save_values(AppId app, TaskId task, std::vector<Source> sources);
  void on_values_saved(AppId app, TaskId task, const std::vector<Source>& sources);
  static void make_due(Checkpoint& checkpoint, std::uint64_t up_to);
  void pump_checkpoint(AppId app);
  void on_checkpoint_written(AppId app, const std::vector<std::uint64_t>& numbers, const Result<>& written);
  void on_checkpoint_timer();
  void end_checkpoint(AppId app);
  void finish_checkpoint(AppId app);
  void notify_driver(ClientId client, const std::string& message);

  // -- journal_requests.cc --
  void request_app_journal(const Requester&, const Params&);
  void request_app_once(const Requester&, const Params&);
  void request_app_snapshot(const Requester&, const Params&);

  // -- client_bridge.cc: local processes --
  void on_client_event(executor::ClientEvent&& event);
  void on_client_message(ClientId client, executor::ClientMessage& message);
  void on_hello(const executor::ClientConnected& connected);
  void on_client_gone(ClientId client);
  void on_scheduler_output(node::out::Scheduler& output);
  void reply(const Requester& to, Answer answer);
  void send_event(const Requester& to, const client::Event& event);

  // -- requests.cc: everything that is asked by name --
  void on_request(const Requester& from, const std::string& method, const Params& params);
  void ask_agent(const wire::Address& agent, const std::string& method, wire::Dynamic::Map params, Duration timeout,
                 std::function<void(Answer)> done);
  void on_client_plane(const wire::Envelope& envelope);
  void expire_asks();
  Result<wire::Address> find_agent(const std::string& text) const;

  // -- agent_requests.cc --
  void request_status(const Requester&, const Params&);
  void request_agents(const Requester&, const Params&);
  void request_topology(const Requester&, const Params&);
  void gather_topology(bool down, std::function<void(Answer)> done);
  void learn_names(const wire::Dynamic& region);
  void name_agents(wire::Dynamic::Array rows, std::function<void(wire::Dynamic::Array)> done);
  void request_stop(const Requester&, const Params&);
  void request_leave(const Requester&, const Params&);
  void request_token(const Requester&, const Params&);
  void make_token(const std::string& child_region, std::int64_t life_ms,
                  std::function<void(Result<identity::JoinToken>)> done);
  void request_doctor(const Requester&, const Params&);
  void request_clock(const Requester&, const Params&);
  void check_members(const Requester&, wire::Dynamic::Array checks);

  // -- metrics.cc: over HTTP --
  Result<> open_gateway();
  void collect_metrics(std::function<void(std::string text)> done);
  std::string describe_metrics(const wire::Dynamic& task_totals) const;
  std::string why_not_ready() const;

  // -- compss_requests.cc: the REST interface of COMPSs' agents --
  gateway::Control compss_control();
  compss::Actions compss_actions();
  Result<compss::Started> start_over_rest(const compss::StartApplication& request);
  Result<AppSpec> rest_spec(AppId app, const compss::StartApplication& request) const;
  std::vector<compss::Resource> compss_resources() const;
  Result<overlay::Member> find_member(const compss::NodeRequest& request) const;
  Result<std::string> add_resources(const compss::NodeRequest& request);
  Result<std::string> remove_resources(const compss::NodeRequest& request);
  Result<std::string> remove_node(const compss::NodeRequest& request);
  Result<std::string> lost_node(const compss::NodeRequest& request);
  void exclude(const overlay::Member& member, bool excluded);
  void on_rest_app_end(const AppState& state);
  void stop_with_others(const std::vector<std::string>& forward_to);

  // -- elastic_requests.cc: agents that applications ask for --
  void open_elastic();
  void request_elastic(const Requester& from, const Params& params,
                       const std::function<std::uint32_t(AppId, std::uint32_t, const std::string&)>& act);
  void request_elastic_grow(const Requester&, const Params&);
  void request_elastic_shrink(const Requester&, const Params&);
  Result<AppId> app_asking(const Requester& from) const;
  const overlay::Member* elastic_member(const std::string& agent) const;
  bool elastic_joined(const std::string& agent) const;
  void ask_whether_idle(const std::string& agent, std::function<void(bool)> done);
  void on_elastic_outcome(AppId app, ClientId client, const std::string& group, const char* what,
                          const elastic::Outcome& outcome);

  // -- app_requests.cc --
  Result<std::string> launch_app(AppId app, AppSpec spec, const environment::Surroundings& surroundings);
  void request_app_start(const Requester&, const Params&);
  void request_app_attach(const Requester&, const Params&);
  void request_app_find(const Requester&, const Params&);
  void request_app_list(const Requester&, const Params&);
  void request_app_query(const Requester&, const Params&);
  void request_app_cancel(const Requester&, const Params&);
  Result<AppId> resolve_app(const std::string& text) const;
  Result<AppStart> prepare_start(AppId app, const AppSpec& spec, const environment::Surroundings& surroundings);
  void start_app(const Requester& from, AppSpec spec, const environment::Surroundings& surroundings);
  void show_output(AppId app, int stream, std::string_view text);
  void show_to(Watcher& watcher, AppId app, int stream, std::string_view text);
  void show_exit(const AppState& state);
  void on_app_output(AppId app, int stream, std::string_view text);
  void on_app_exit(const AppState& state);
  void tell_progress();
  void query_scheduler(const std::string& method, wire::Dynamic::Map params, std::function<void(Answer)> done);

  // -- log_requests.cc --
  void request_app_logs(const Requester&, const Params&);
  void request_app_task_logs(const Requester&, const Params&);
  void request_task_log(const Requester&, const Params&);
  Answer own_task_log(const Params&) const;
  void gather_task_logs(const Requester&, const Params&, AppId app, const wire::Dynamic& places, bool running);

  // -- store_requests.cc --
  void request_store_put(const Requester&, const Params&);
  void request_store_get(const Requester&, const Params&);
  void request_store_locate(const Requester&, const Params&);
  void request_store_delete(const Requester&, const Params&);
  void request_store_set_alias(const Requester&, const Params&);
  void request_store_get_alias(const Requester&, const Params&);
  void request_store_delete_alias(const Requester&, const Params&);
  void request_store_list(const Requester&, const Params&);
  void deliver_object(const Requester& to, const storage::Manifest& manifest, bool inline_bytes);
  void with_object(const Requester& from, const Params& params, std::function<void(ObjectId)> then);
  template <class In, class Out>
  void call_store(In input, std::function<void(Out&)> done);
  void on_storage_output(node::out::Storage& output);

  // -- stream_bridge.cc --
  void request_streams(const Requester&, const std::string& method, const Params&);
  void request_edge(const Requester&, const std::string& method, const Params&);
  void carry_out(std::vector<streams::Output>& outputs);
  void carry_out(std::vector<edge::Output>& outputs);
  void wake_streams();
  void wake_streams_and_drain();

  // Parts, in the order of construction; the ones below use the ones above.
  settings::Settings settings;
  Home home;
  int lock_fd = -1;
  identity::AgentIdentity identity;
  identity::TokenBook tokens;
  std::unique_ptr<agent::Reactor> reactor;
  std::unique_ptr<storage::Engine> engine;
  std::unique_ptr<link::Transport> transport;
  std::optional<ValueTable> values;
  std::unique_ptr<Transfer> transfer;
  struct DirectoryArchive {
    std::string path;
    bool ready = false;
    std::optional<Error> error;
  };
  std::map<std::string, DirectoryArchive> archives;  // of directories that other agents asked for, by their key
  std::unique_ptr<executor::ClientServer> clients;
  std::unique_ptr<executor::ExecutorPool> executors;
  std::unique_ptr<streams::Broker> broker;
  std::unique_ptr<edge::Edge> edge;
  std::unique_ptr<AppRunner> apps;
  std::unique_ptr<WorkerThread> worker;
  std::unique_ptr<WorkerThread> checkpoint_worker;  // waits for disks
  std::unique_ptr<Environments> environments;
  std::unique_ptr<node::Node> node;
  std::unique_ptr<gateway::Gateway> gateway;  // none: settings
  std::unique_ptr<gateway::HttpCaller> caller;
  std::unique_ptr<elastic::Pool> elastic;
  std::map<std::string, AgentId> elastic_closed;  // those that get no more tasks, by name

  std::deque<node::Input> inputs;
  std::vector<node::Effect> effects;
  bool draining = false;
  Instant node_wake = Instant::never();
  agent::Reactor::TimerId wake_timer = 0;
  agent::Reactor::TimerId renewal_timer = 0;
  agent::Reactor::TimerId progress_timer = 0;
  agent::Reactor::TimerId mirror_timer = 0;
  agent::Reactor::TimerId guard_timer = 0;
  agent::Reactor::TimerId spare_timer = 0;
  agent::Reactor::TimerId checkpoint_timer = 0;

  std::vector<storage::KeyValue> persist_batch;
  std::vector<Ticket> persist_tickets;
  std::map<std::uint64_t, std::vector<Ticket>> persists_under_way;  // by completion
  std::map<std::uint64_t, std::function<void(Result<>)>> engine_calls;
  std::deque<node::out::Send> held;  // until their ticket is durable
  Ticket durable;
  std::uint64_t last_completion = 0;

  std::uint64_t last_call = 0;
  std::uint64_t last_archive = 0;
  std::map<std::uint64_t, std::function<void(node::out::Storage&)>> store_calls;
  std::map<std::uint64_t, std::function<void(Answer)>> query_calls;
  struct Ask {
    std::function<void(Answer)> done;
    Instant deadline;
  };
  std::map<std::uint64_t, Ask> asks;               // requests to other agents
  std::map<ClientId, Requester> remote_clients;    // stand-ins, at broker and edge, for clients of other agents
  std::set<ClientId> drivers;                      // clients that opened an app
  std::map<AppId, std::vector<Watcher>> watchers;  // of an app's output and end
  std::map<AppId, Mirror> mirrors;                 // of applications that are to outlive this agent
  std::map<AppId, Guarded> guarded;                // applications of other agents
  std::map<AppId, std::vector<scheduler::JournalEntry>> replays;      // until the driver that runs again connects
  std::map<AppId, std::vector<scheduler::JournalEntry>> once_values;  // that a driver which runs again is to find
  std::map<AppId, Checkpoint> checkpoints;
  std::map<AgentId, Instant> doubted_masters;  // silent, and from when on they count as lost
  // What is to happen at the end of an application that was started over REST; `tell` is AppSpec::tell_end.
  struct RestApp {
    std::string tell;
    bool stop = false;
    std::vector<std::string> forward_to;
  };
  std::map<AppId, RestApp> rest_apps;
  std::set<AgentId> excluded;  // nothing is placed there from here
  std::map<ClientId, AppId> app_of_driver;
  std::map<AppId, std::set<EnvironmentId>> app_environments;                        // of drivers that run here
  std::map<ClientId, std::string> uploads;                                          // half a bundle of each client
  std::map<EnvironmentId, std::vector<scheduler::out::Launch>> held_launches;       // until it is built
  std::map<EnvironmentId, std::vector<scheduler::out::Launch>> stranded_functions;  // of launches that it failed
  std::map<AgentId, std::string> far_names;  // of agents beyond the own regions, as they said; at most kFarNamesMax
  static constexpr std::size_t kFarNamesMax = 10'000;
  std::map<FunctionId, std::string> function_names;       // of attempts that run here, for people
  std::map<std::uint64_t, std::string> attempts_running;  // attempt → function

  std::string name;
  std::string python;  // interpreter of executors; empty: none that runs
  Instant started;
  bool stopping = false;
  Instant stop_deadline = Instant::never();
  int exit_code = 0;
  bool stopped = false;
  std::uint64_t frames_refused = 0;
};

// An application's number for COMPSs' interface: the first digits of its id, few enough for a number of JSON.
std::uint64_t app_number(AppId app);

// The wall clock, for certificates and display.
WallTime wall_now();

// Memory of this process that is in RAM now.
std::uint64_t resident_bytes();

}  // namespace shoal::daemon
