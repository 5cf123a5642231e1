// storage/engine/key_value.h
//
// The door to RocksDB, and the one committer thread that groups writers: many batches, one synced write.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "storage/engine/engine.h"

namespace shoal::storage {

// One key of a batch; without a value it is erased.
struct Write {
  std::string key;
  std::optional<std::string> value;
};

struct KeyValueConfig {
  std::string dir;
  bool sync = true;
  std::uint64_t reserve_bytes = 0;  // refuse writes when less is free: RocksDB must still be able to flush
};

// Thread-safe.
class KeyValueStore {
 public:
  using Done = std::function<void(const Result<>&)>;

  static Result<std::unique_ptr<KeyValueStore>> open(KeyValueConfig config);
  ~KeyValueStore();  // commits what is queued
  KeyValueStore(const KeyValueStore&) = delete;
  KeyValueStore& operator=(const KeyValueStore&) = delete;

  // Applies the batch atomically, after all that was queued before. `done` runs on the committer thread: it
  // must be short.
  void commit(std::vector<Write> batch, Durability durability, Done done);
  // The same, waiting for it.
  Result<> commit_and_wait(std::vector<Write> batch);

  Result<std::optional<std::string>> get(std::string_view key) const;
  // Calls `each` for every pair under `prefix` in order until it returns false.
  Result<> scan(std::string_view prefix,
                const std::function<bool(std::string_view key, std::string_view value)>& each) const;

 private:
  struct Database;
  struct Queued {
    std::vector<Write> batch;
    Durability durability = Durability::kDisk;
    Done done;
  };
  KeyValueStore(KeyValueConfig config, std::unique_ptr<Database> database);
  void run();
  Result<> write(const std::vector<Queued>& group, bool sync);
  Result<> sync_log();

  KeyValueConfig config_;
  std::unique_ptr<Database> database_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Queued> queue_;
  bool stopping_ = false;
  bool failed_ = false;  // committer only: the last write found the disk full
  std::thread committer_;
};

}  // namespace shoal::storage
