// tools/sim/store_clients.h
//
// Users of the store: put and read objects, set and read names, on any agent, and hold the store to its receipts. The
// ledger knows every acknowledged write and what has been done to its copies since.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tools/sim/world.h"

namespace shoal::sim {

class StoreClients : public Observer {
 public:
  StoreClients(World& world, Rng rng);

  // -- actions at a running agent --
  void put(std::uint32_t agent, storage::Level wait_for);
  void read_some(std::uint32_t agent);
  void delete_some(std::uint32_t agent);
  void set_record(std::uint32_t agent);
  void get_record(std::uint32_t agent);
  // One random action.
  void act(std::uint32_t agent);

  // -- faults ask first --
  // True when every acknowledged object with a copy there has an intact durable copy on another machine that lives or
  // can be restarted (copies whose receipt was only `local` are excused), and no put is under way that counts on it.
  bool survives_without(std::uint32_t agent) const;
  // Excuses receipts of level `local` whose only copies are there.
  void excuse(std::uint32_t agent);
  // Damages one copy that is not the last intact one; false when there is none.
  bool flip_a_bit(std::uint32_t agent);

  // -- after the faults --
  bool idle() const { return waiting_.empty(); }
  // Reads every acknowledged object and name from `agent`; results arrive while the world runs on.
  void audit(std::uint32_t agent);
  // Q4 and the audit: what is still wrong, or empty.
  std::string shortfall() const;
  std::string stuck() const;
  std::uint64_t acknowledged() const { return acknowledged_; }

  void on_store(std::uint32_t agent, const node::out::Storage& reply) override;
  void on_stopped(std::uint32_t agent) override;

 private:
  enum class Kind : std::uint8_t { kPut, kRead, kAuditRead, kDelete, kSet, kGet, kAuditGet };
  struct Waiting {
    Kind kind = Kind::kPut;
    std::uint32_t agent = 0;
    ObjectId object;
    std::string name;
    std::uint64_t written = 0;  // content of a record
    Instant since;
  };
  struct Object {
    std::uint64_t content = 0;
    std::uint64_t bytes = 0;
    storage::Policy policy;
    storage::Level receipt = storage::Level::kMemory;
    bool acknowledged = false;
    bool deleted = false;  // a delete was asked for: it may be there or not
    bool excused = false;
    bool audited = false;
  };
  struct Name {
    Epoch acknowledged;               // newest epoch whose write was acknowledged
    std::set<std::uint32_t> safe_at;  // agents that hold it durably by their word: the writers
    bool audited = false;
    bool excused = false;
  };

  std::uint64_t ask(std::uint32_t agent, Waiting waiting);
  std::vector<std::uint32_t> intact_copies(ObjectId object) const;
  bool is_being_put(ObjectId object) const;
  void on_put(const Waiting& waiting, const Result<storage::Receipt>& receipt);
  void on_located(const Waiting& waiting, const Result<storage::Manifest>& manifest);
  void read_from(Waiting waiting, storage::Manifest manifest, std::size_t holder);
  void on_record_set(const Waiting& waiting, const Result<storage::Record>& record);
  void on_record_got(const Waiting& waiting, const Result<storage::Record>& record);

  World& world_;
  Rng rng_;
  std::map<ObjectId, Object> objects_;
  std::map<std::string, Name> names_;
  std::map<std::uint64_t, Waiting> waiting_;
  std::uint64_t last_request_ = 0;
  std::uint64_t acknowledged_ = 0;
  std::string last_problem_;  // of the audit, for the message
};

}  // namespace shoal::sim
