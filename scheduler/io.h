// scheduler/io.h
//
// What the scheduler machine takes in and gives out. Every agent has one machine that plays all roles: master of the
// applications opened here, worker for its region, and delegate that spreads work which came from another region over
// its own. It sees values only by name and size.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/wire/address.h"
#include "protocol/wire/client.h"
#include "scheduler/journal.h"
#include "scheduler/requirement.h"

namespace shoal::scheduler {

// A value that is not inline, as agents name it to each other: "<app hex>/<datum>/<version>" for data of an
// application, "object/<hex>" for an object of the store, "file/<app hex>/<n>" for a file.
using ValueKey = std::string;

// What an agent can run. Gossiped (encoded) as Member::state.
struct Resources {
  std::uint32_t computing_units = 0;  // total; one per core by default
  std::uint64_t memory_mb = 0;
  std::string architecture;  // as uname -m says
  std::map<std::string, std::string> labels;
  std::vector<std::string> languages;             // "python", "command", "c++"
  std::map<std::string, std::string> facts = {};  // what the agent found out; a label of the same key counts instead
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.computing_units, self.memory_mb, self.architecture, self.labels, self.languages, self.facts);
  }
};

namespace in {
struct Wake {};
struct Frame {  // plane kScheduler
  wire::Envelope envelope;
};
struct Self {  // address and resources of this agent; repeated when they change
  wire::Address address;
  Resources resources;
};
struct PeerUp {  // a member of the home region (`above` false), or, seen from a head, of the parent region
  wire::Address address;
  std::string name;
  bool above = false;
  bool speaks_for_child = false;  // a child region's head: `state` is that region's summary
  Bytes state;                    // scheduler::encode_state of that agent
};
struct PeerDown {
  AgentId agent;
  bool proven = false;  // dead beyond doubt: end its leases now
};
struct Exclude {  // a person wants no attempt placed on that agent from here, or wants it again; what runs there goes
                  // on
  AgentId agent;
  bool excluded = true;
};
struct Above {  // this region's head, through which the parent region can be asked for help; summary of what is there
  std::optional<wire::Address> head;
  Bytes summary;
};
// -- clients of this agent --
struct OpenApp {
  ClientId client;
  AppId app;
  client::Hello hello;
  bool journal = false;              // finished tasks are told by out::Journal
  std::vector<JournalEntry> replay;  // those that finished under a master that is lost, or in a former run
  bool save = false;                 // finished tasks are told by out::Save, with their values on this host
  std::map<EnvironmentId, std::vector<Requirement>> environments = {};  // of hello.environments: what each asks for
};
struct ClientMessage {
  ClientId client;
  std::variant<client::Register, client::Submit, client::PutData, client::Wait, client::Barrier, client::Release>
      message;
};
struct GroupMessage {
  ClientId client;
  client::Kind kind = client::Kind::kOpenGroup;  // kOpenGroup, kCloseGroup, kCancelGroup
  std::string group;
};
struct ClientGone {  // a driver went away: its unfinished tasks are cancelled, its data freed
  ClientId client;
};
struct CancelApp {
  AppId app;
};
struct Query {  // "apps", "tasks", "explain", …: answered by Answer
  std::uint64_t id = 0;
  std::string method;
  wire::Dynamic params;
};
// -- drivers of this agent --
struct AttemptsDone {
  std::vector<client::AttemptResult> results;  // outputs above kInlineMax are Shared arena names
};
struct AttemptBlocked {
  std::uint64_t attempt = 0;
  bool blocked = false;
};
struct Fetched {  // a value asked for by Fetch is local now (or cannot be had)
  ValueKey key;
  bool ok = false;
  std::string message;
  client::Value value;  // where it is on this host
};
}  // namespace in
using Input = std::variant<in::Wake, in::Frame, in::Self, in::PeerUp, in::PeerDown, in::Exclude, in::Above, in::OpenApp,
                           in::ClientMessage, in::GroupMessage, in::ClientGone, in::CancelApp, in::Query,
                           in::AttemptsDone, in::AttemptBlocked, in::Fetched>;

namespace out {
struct Send {
  wire::Envelope envelope;
};
struct ToClient {
  ClientId client;
  std::variant<client::Values, client::Reply, client::Event> message;
};
struct Launch {  // start these on an executor of that language; functions go ahead of their first attempt
  std::string language;
  std::string python;  // interpreter; empty: the agent's
  std::vector<client::Function> functions;
  std::vector<client::Attempt> attempts;
  EnvironmentId environment = {};     // to run in; zero: the agent's own
  wire::Address environment_at = {};  // who has its bundle
};
struct Kill {  // cancelled or timed out: AttemptsDone follows with kCancelled or kTimedOut
  std::vector<std::uint64_t> attempts;
  bool timed_out = false;
};
struct Fetch {  // bring a value here; Fetched follows
  ValueKey key;
  std::uint64_t bytes = 0;
  std::vector<wire::Address> holders;  // in order of preference
};
struct Keep {  // an output of a local attempt, or a value a driver put, now has this name for other agents
  ValueKey key;
  client::Value value;
  bool borrowed = false;  // the user's own file: served, never deleted
};
struct Drop {  // nobody needs these any more
  std::vector<ValueKey> keys;
};
struct StateChanged {  // gossip this as Member::state
  Bytes state;
};
struct SummariesChanged {  // a head only: what to tell upward and downward
  Bytes upward;
  Bytes downward;
};
struct Answer {
  std::uint64_t id = 0;
  Result<wire::Dynamic> result;
};
struct Journal {  // a task has finished: whoever is to continue the application if this agent is lost has to know
  AppId app;
  JournalEntry entry;
};
struct Save {  // a task has finished, and what it left is on this host until the effects that follow
  AppId app;
  JournalEntry
      entry;  // outputs that are held without a value could not be brought here: they are made again when needed
};
}  // namespace out
using Output = std::variant<out::Send, out::ToClient, out::Launch, out::Kill, out::Fetch, out::Keep, out::Drop,
                            out::StateChanged, out::SummariesChanged, out::Answer, out::Journal, out::Save>;

}  // namespace shoal::scheduler
