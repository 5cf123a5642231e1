// streams/broker/outbox.h
//
// What this agent has accepted for a stream that is kept elsewhere, until it is there: a log on disk with a durable
// cursor. Batches leave in order, stamped with a producer id of this agent and stream, so that the receiver rejects
// what it has; operations on writers (close …) travel between them as control batches and keep their place.
//
// After a crash the log continues from the cursor. Its tail may have been lost with the power, so each life writes
// under a new producer epoch: a sequence number is never used for two different batches.
//
// Knows nothing of time, links or retries: the broker decides when to send.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "streams/broker/caller.h"
#include "streams/broker/owned_stream.h"
#include "streams/log/partition_log.h"

namespace shoal::streams {

class Outbox {
 public:
  // Opens the outbox in `directory`, or makes one for `info`. Without `info`, kNotFound if there is none.
  static Result<std::unique_ptr<Outbox>> open(std::string directory, const StreamInfo* info, Services services);

  const StreamInfo& info() const { return meta_.info; }
  Result<> set_info(const StreamInfo& info);

  // Appends records of one publish. kExhausted when full under WhenFull::kBlock: nothing of it was accepted.
  Result<> append(std::map<std::uint32_t, std::vector<Record>>& parts, const ProducerStamp& stamp);
  Result<> append(Operation operation, const std::string& writer);
  // Files to sync for durability `local`.
  std::vector<std::shared_ptr<File>> take_unsynced() { return log_->take_unsynced(); }

  // Writers of local clients, so that a restart can end their leases.
  const std::set<std::string>& writers() const { return meta_.writers; }
  Result<> note_writer(const std::string& writer, bool open);

  bool empty() const { return cursor_.next >= log_->end(); }
  std::int64_t records() const { return log_->end() - cursor_.next; }
  std::uint64_t bytes() const { return empty() ? 0 : log_->bytes(); }
  std::uint64_t dropped() const { return cursor_.dropped; }
  Offset cursor() const { return cursor_.next; }

  // The next batches to send, at most about `bytes_max` of them; nothing when empty.
  Result<std::optional<ForwardMessage>> next(std::size_t bytes_max);
  // Everything before `next` has arrived.
  Result<> advance(Offset next);
  // Gives up everything; returns the number of records.
  std::int64_t abandon();

  void check_invariants() const;

 private:
  struct Meta {  // the file "meta"
    std::uint32_t version = 1;
    StreamInfo info;
    std::int64_t producer = 0;
    std::int16_t epoch = 0;
    std::set<std::string> writers;
    template <class Self, class F>
    static void fields(Self& self, F&& f) {
      f(self.version, self.info, self.producer, self.epoch, self.writers);
    }
  };
  struct Cursor {  // the file "cursor": two copies, written in turn
    Offset next = 0;
    std::uint64_t dropped = 0;
  };

  Outbox(std::string directory, Services services) : directory_(std::move(directory)), services_(services) {}
  Result<> load_cursor();
  Result<> save_cursor();
  Result<> save_meta(Sync sync);
  Result<> make_room(std::size_t bytes);
  Result<> write(Bytes batch);
  std::uint64_t bound() const;

  const std::string directory_;
  Services services_;
  Meta meta_;
  Cursor cursor_;
  std::shared_ptr<File> cursor_file_;
  bool second_copy_ = false;
  std::unique_ptr<PartitionLog> log_;
  std::map<std::uint32_t, std::int32_t> sequences_;  // next, by partition of the stream
};

}  // namespace shoal::streams
