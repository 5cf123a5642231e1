// storage/model/io.h
//
// What the store machine takes in and gives out: which agents keep an object, how safe it is, where it can be read,
// which names point to it. Bytes never pass here; drivers move them (storage/engine on disk, the data link between
// agents) when the machine says so.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/wire/address.h"
#include "protocol/wire/dynamic.h"

namespace shoal::storage {

// How safe an acknowledged write is; each level includes the ones before it.
enum class Level : std::uint8_t { kMemory = 0, kProcess = 1, kLocal = 2, kRegion = 3, kParent = 4, kCloud = 5 };

struct Policy {
  std::uint32_t replicas = 2;      // copies on different agents, the writer's included
  Level wait_for = Level::kLocal;  // the receipt that the caller waits for
  bool ephemeral = false;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.replicas, self.wait_for, self.ephemeral);
  }
  friend bool operator==(const Policy&, const Policy&) = default;
};

struct Receipt {
  ObjectId object;
  Level level = Level::kMemory;
  std::uint32_t copies = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.object, self.level, self.copies);
  }
};

// The small description kept next to an object's bytes.
struct Manifest {
  ObjectId object;  // first 16 bytes of the SHA-256 of the content
  std::uint64_t bytes = 0;
  std::string type;  // "python", "bytes", "file", "directory", a class name
  Policy policy;
  std::vector<wire::Address> holders;      // known copies, the writer first; repaired as agents come and go
  std::vector<std::uint64_t> births = {};  // one number for each put; a delete kills those that it saw, so a put that
                                           // did not know of the delete wins
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.object, self.bytes, self.type, self.policy, self.holders, self.births);
  }
};

// A mutable name: an alias of an object, a stream's registration, a catalogue entry. The newest epoch wins.
struct Record {
  std::string name;  // "alias/…", "stream/…"
  Bytes value;
  Epoch epoch;     // grows with every write
  AgentId writer;  // breaks ties of one epoch
  bool deleted = false;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.name, self.value, self.epoch, self.writer, self.deleted);
  }
};

namespace in {
struct Wake {};
struct Frame {  // plane kStorage
  wire::Envelope envelope;
};
struct Self {
  wire::Address address;
  std::optional<wire::Address> above;  // head of this region when it has a parent region and is not this agent; for a
                                       // head: itself, and `parents` are asked directly
};
struct PeerUp {
  wire::Address address;
  std::string host;    // failure domain: label "host", else the agent's own id
  bool above = false;  // member of the parent region (seen by a head)
};
struct PeerDown {
  AgentId agent;
  bool left = false;
};
struct Recovered {  // at start: everything the engine holds
  std::vector<Manifest> manifests;
  std::vector<Record> records;
};
// -- requests; `request` comes back in out::Put etc. --
struct Put {  // the bytes are on this agent's disk, durable, under this manifest's id (Level::kLocal holds)
  std::uint64_t request = 0;
  Manifest manifest;
};
struct Locate {
  std::uint64_t request = 0;
  ObjectId object;
  std::vector<AgentId> failed = {};  // holders that just could not serve it: look for others
};
struct Delete {
  std::uint64_t request = 0;
  ObjectId object;
};
struct SetRecord {
  std::uint64_t request = 0;
  std::string name;
  Bytes value;
  bool must_be_new = false;       // kExists if the name is taken
  std::optional<Epoch> expected;  // compare-and-set: kStale unless this is the current epoch
  bool remove = false;
  Level wait_for = Level::kLocal;
};
struct GetRecord {
  std::uint64_t request = 0;
  std::string name;
};
struct ListRecords {
  std::uint64_t request = 0;
  std::string prefix;
};
struct Pulled {  // a copy asked for by Pull is durable here, or could not be had
  ObjectId object;
  Result<> result;
};
struct Persisted {  // a record asked for by PersistRecord is durable
  std::uint64_t ticket = 0;
};
struct Corrupt {  // the engine found damage in the local copy: forget it, get another
  ObjectId object;
};
struct Leave {};  // this agent is leaving for good: what it would still accept could not be repeated to anybody
struct Query {    // "objects", "locate", …
  std::uint64_t id = 0;
  std::string method;
  wire::Dynamic params;
};
}  // namespace in
using Input = std::variant<in::Wake, in::Frame, in::Self, in::PeerUp, in::PeerDown, in::Recovered, in::Put, in::Locate,
                           in::Delete, in::SetRecord, in::GetRecord, in::ListRecords, in::Pulled, in::Persisted,
                           in::Corrupt, in::Leave, in::Query>;

namespace out {
struct Send {
  wire::Envelope envelope;
};
struct Pull {  // copy this object from one of its holders to the local engine, checked; Pulled follows
  Manifest manifest;
};
struct PersistManifest {  // holders or policy changed
  Manifest manifest;
};
struct PersistRecord {
  std::uint64_t ticket = 0;  // Persisted follows
  Record record;
};
struct Erase {
  ObjectId object;
};
struct PutDone {
  std::uint64_t request = 0;
  Result<Receipt> receipt;
};
struct Located {  // where it can be read now, best first (this agent if it has a copy)
  std::uint64_t request = 0;
  Result<Manifest> manifest;
};
struct DeleteDone {
  std::uint64_t request = 0;
  Result<> result;
};
struct RecordSet {
  std::uint64_t request = 0;
  Result<Record> record;
};
struct RecordGot {
  std::uint64_t request = 0;
  Result<Record> record;
};
struct RecordsListed {
  std::uint64_t request = 0;
  std::vector<Record> records;
};
struct Answer {
  std::uint64_t id = 0;
  Result<wire::Dynamic> result;
};
}  // namespace out
using Output =
    std::variant<out::Send, out::Pull, out::PersistManifest, out::PersistRecord, out::Erase, out::PutDone, out::Located,
                 out::DeleteDone, out::RecordSet, out::RecordGot, out::RecordsListed, out::Answer>;

}  // namespace shoal::storage
