// agent/node/io.h
//
// What the core of one agent takes in and gives out: the seam between the pure machines and the drivers, of
// which there are two sets, the daemon's (agent/daemon) and the simulator's (tools/sim). Inputs and effects
// are values; effects are carried out in order. An effect with `after` is held back by the driver until the
// Persist with that ticket is durable, so "acknowledged before durable" cannot be written by accident.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "protocol/overlay/io.h"
#include "scheduler/io.h"
#include "storage/model/io.h"

namespace shoal::node {

namespace in {
struct Start {};  // once, after construction and recovery
struct Wake {};   // the instant of the last WakeAt has come
struct Frame {    // from the link: `neighbour` is authenticated, everything in the envelope is a claim
  AgentId neighbour;
  wire::Envelope envelope;
};
struct LinkUp {
  AgentId neighbour;
};
struct LinkDown {
  AgentId neighbour;
  bool refused = false;
};
struct Durable {  // the Persist with this ticket, and all before it in its lane, are on disk
  Ticket ticket;
};
struct Leave {};
// Inputs of one machine that come from drivers or clients pass through unchanged.
using Scheduler =
    std::variant<scheduler::in::OpenApp, scheduler::in::ClientMessage, scheduler::in::GroupMessage,
                 scheduler::in::ClientGone, scheduler::in::CancelApp, scheduler::in::Exclude, scheduler::in::Query,
                 scheduler::in::AttemptsDone, scheduler::in::AttemptBlocked, scheduler::in::Fetched>;
using Storage = std::variant<storage::in::Put, storage::in::Locate, storage::in::Delete, storage::in::SetRecord,
                             storage::in::GetRecord, storage::in::ListRecords, storage::in::Pulled,
                             storage::in::Corrupt, storage::in::Query>;
struct OverlayQuery {  // "agents", "topology", "status": answered by out::Answer
  std::uint64_t id = 0;
  std::string method;
};
}  // namespace in
using Input = std::variant<in::Start, in::Wake, in::Frame, in::LinkUp, in::LinkDown, in::Durable, in::Leave,
                           in::Scheduler, in::Storage, in::OverlayQuery>;

namespace out {
struct Send {
  AgentId neighbour;
  wire::Envelope envelope;
  Ticket after;
};
struct Dial {
  AgentId neighbour;
  std::string endpoint;
  Bytes curve_key;
};
struct HangUp {
  AgentId neighbour;
};
struct WakeAt {  // replaces the one before
  Instant at;
};
enum class Lane : std::uint8_t { kSynced = 0, kAppended = 1 };
struct Persist {  // in the agent's key-value store; an empty value erases the key. Durable{ticket} follows if
                  // not 0
  Ticket ticket;
  Lane lane = Lane::kSynced;
  std::string key;
  Bytes value;
};
using Scheduler =
    std::variant<scheduler::out::ToClient, scheduler::out::Launch, scheduler::out::Kill, scheduler::out::Fetch,
                 scheduler::out::Keep, scheduler::out::Drop, scheduler::out::Journal, scheduler::out::Save>;
using Storage = std::variant<storage::out::Pull, storage::out::Erase, storage::out::PutDone, storage::out::Located,
                             storage::out::DeleteDone, storage::out::RecordSet, storage::out::RecordGot,
                             storage::out::RecordsListed>;
struct Answer {  // to scheduler::in::Query, storage::in::Query or in::OverlayQuery with this id
  std::uint64_t id = 0;
  Result<wire::Dynamic> result;
};
struct AddressChanged {
  wire::Address self;
};
struct MemberGone {  // of the home region or the one above: what drivers keep for it is their own to use now
  AgentId agent;
  bool proven = false;  // dead beyond doubt, or it said good-bye
};
struct Trace {  // a state change worth a line in the log and a place in the simulator's trace hash
  std::string event;
};
struct Stopped {};  // the leave that was asked for is announced
}  // namespace out
using Effect = std::variant<out::Send, out::Dial, out::HangUp, out::WakeAt, out::Persist, out::Scheduler, out::Storage,
                            out::Answer, out::AddressChanged, out::MemberGone, out::Trace, out::Stopped>;

}  // namespace shoal::node
