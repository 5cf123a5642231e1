#include "storage/engine/key_value.h"

#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <chrono>
#include <utility>

#include "protocol/base/check.h"
#include "storage/engine/posix.h"

namespace shoal::storage {
namespace {

constexpr std::size_t kGroupBytesMax = 4U << 20;
constexpr std::size_t kGroupBatchesMax = 4'096;
constexpr auto kRelaxedSyncDelay = std::chrono::milliseconds(50);

Error error_of(const rocksdb::Status& status, const std::string& dir) {
  if (status.IsNoSpace()) {
    return {Code::kExhausted, fmt::format("the disk of {} is full; free some space: reads go on", dir)};
  }
  if (status.IsCorruption()) {
    return {Code::kCorrupt,
            fmt::format("the key-value files in {} are damaged ({}); restore them or let this agent rejoin "
                        "with an empty directory",
                        dir, status.ToString())};
  }
  if (status.IsIOError() && status.ToString().find("Read-only") != std::string::npos) {
    return {Code::kDenied, fmt::format("{} is on a read-only file system; choose another directory", dir)};
  }
  return {Code::kFailed, fmt::format("the key-value store in {}: {}", dir, status.ToString())};
}

// Small on purpose: an agent on a gateway has tens of MiB, and an idle one must not write.
rocksdb::Options small_options() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.write_buffer_size = 2U << 20;
  options.max_write_buffer_number = 2;
  options.arena_block_size = 64U << 10;
  options.max_total_wal_size = 8U << 20;
  options.target_file_size_base = 4U << 20;
  options.max_bytes_for_level_base = 16U << 20;
  options.max_background_jobs = 2;
  options.max_open_files = 64;
  options.table_cache_numshardbits = 2;
  options.keep_log_file_num = 2;
  options.max_log_file_size = 256U << 10;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.skip_stats_update_on_db_open = true;
  options.skip_checking_sst_file_sizes_on_db_open = true;
  options.max_manifest_file_size = 1U << 20;
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.track_and_verify_wals_in_manifest = true;
  options.compression = rocksdb::kNoCompression;
  options.delayed_write_rate = 16U << 20;

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(1U << 20, 0);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.cache_index_and_filter_blocks = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

}  // namespace

struct KeyValueStore::Database {
  std::unique_ptr<rocksdb::DB> db;
};

Result<std::unique_ptr<KeyValueStore>> KeyValueStore::open(KeyValueConfig config) {
  rocksdb::DB* raw = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(small_options(), config.dir, &raw);
  if (!status.ok()) return tl::unexpected<Error>(error_of(status, config.dir));
  auto database = std::make_unique<Database>();
  database->db.reset(raw);
  return std::unique_ptr<KeyValueStore>(new KeyValueStore(std::move(config), std::move(database)));
}

KeyValueStore::KeyValueStore(KeyValueConfig config, std::unique_ptr<Database> database)
    : config_(std::move(config)), database_(std::move(database)), committer_([this] { run(); }) {}

KeyValueStore::~KeyValueStore() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  committer_.join();
}

void KeyValueStore::commit(std::vector<Write> batch, Durability durability, Done done) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({std::move(batch), durability, std::move(done)});
  }
  wake_.notify_one();
}

Result<> KeyValueStore::commit_and_wait(std::vector<Write> batch) {
  std::mutex mutex;
  std::condition_variable finished;
  std::optional<Result<>> outcome;
  commit(std::move(batch), Durability::kDisk, [&](const Result<>& result) {
    const std::lock_guard lock(mutex);
    outcome = result;
    finished.notify_one();
  });
  std::unique_lock lock(mutex);
  finished.wait(lock, [&] { return outcome.has_value(); });
  return *outcome;
}

void KeyValueStore::run() {
  bool unsynced = false;  // something written with kProcess only
  std::chrono::steady_clock::time_point sync_by;
  for (;;) {
    std::vector<Queued> group;
    bool stopping = false;
    {
      std::unique_lock lock(mutex_);
      auto work = [this] { return stopping_ || !queue_.empty(); };
      if (unsynced) {
        wake_.wait_until(lock, sync_by, work);
      } else {
        wake_.wait(lock, work);
      }
      std::size_t bytes = 0;
      while (!queue_.empty() && group.size() < kGroupBatchesMax && bytes < kGroupBytesMax) {
        for (const Write& write : queue_.front().batch)
          bytes += write.key.size() + (write.value ? write.value->size() : 0);
        group.push_back(std::move(queue_.front()));
        queue_.pop_front();
      }
      stopping = stopping_ && queue_.empty();
    }
    bool sync = false;
    for (const Queued& queued : group) sync = sync || queued.durability == Durability::kDisk;
    if (!group.empty()) {
      const Result<> result = write(group, sync && config_.sync);
      for (const Queued& queued : group) queued.done(result);
      if (sync) {
        unsynced = false;
      } else if (!unsynced) {
        unsynced = true;
        sync_by = std::chrono::steady_clock::now() + kRelaxedSyncDelay;
      }
    }
    if (unsynced && (stopping || std::chrono::steady_clock::now() >= sync_by)) {
      const Result<> ignored = sync_log();  // nobody was promised more; the next synced write reports
      (void)ignored;
      unsynced = false;
    }
    if (stopping) return;
  }
}

Result<> KeyValueStore::sync_log() {
  if (!config_.sync) return {};
  const rocksdb::Status status = database_->db->SyncWAL();
  if (status.ok()) return {};
  return tl::unexpected<Error>(error_of(status, config_.dir));
}

Result<> KeyValueStore::write(const std::vector<Queued>& group, bool sync) {
  rocksdb::WriteBatch batch;
  for (const Queued& queued : group) {
    for (const Write& one : queued.batch) {
      if (one.value) {
        batch.Put(one.key, *one.value);
      } else {
        batch.Delete(one.key);
      }
    }
  }
  if (batch.Count() == 0) return {};
  // Refused before RocksDB notices: a write that fails half-way closes it for all writers.
  const std::uint64_t free = free_bytes(config_.dir);
  if (free < config_.reserve_bytes + 2 * batch.GetDataSize()) {
    failed_ = true;
    return fail(Code::kExhausted,
                fmt::format("the disk of {} is full ({} bytes left); free some space: reads go on", config_.dir, free));
  }
  if (failed_) {
    const rocksdb::Status resumed = database_->db->Resume();
    if (!resumed.ok()) return tl::unexpected<Error>(error_of(resumed, config_.dir));
    failed_ = false;
  }
  rocksdb::WriteOptions options;
  options.sync = sync;
  const rocksdb::Status status = database_->db->Write(options, &batch);
  if (status.ok()) return {};
  failed_ = true;
  // After a failed fsync nobody knows what is on the disk: restarting is safe, going on is not.
  SHOAL_CHECK(status.IsNoSpace() || !status.IsIOError(), "the disk failed while the key-value log was written");
  return tl::unexpected<Error>(error_of(status, config_.dir));
}

Result<std::optional<std::string>> KeyValueStore::get(std::string_view key) const {
  std::string value;
  const rocksdb::Status status =
      database_->db->Get(rocksdb::ReadOptions(), rocksdb::Slice(key.data(), key.size()), &value);
  if (status.ok()) return std::optional<std::string>(std::move(value));
  if (status.IsNotFound()) return std::optional<std::string>();
  return tl::unexpected<Error>(error_of(status, config_.dir));
}

Result<> KeyValueStore::scan(std::string_view prefix,
                             const std::function<bool(std::string_view, std::string_view)>& each) const {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(database_->db->NewIterator(options));
  for (it->Seek(rocksdb::Slice(prefix.data(), prefix.size())); it->Valid(); it->Next()) {
    const std::string_view key(it->key().data(), it->key().size());
    if (!key.starts_with(prefix)) break;
    if (!each(key, std::string_view(it->value().data(), it->value().size()))) break;
  }
  if (!it->status().ok()) return tl::unexpected<Error>(error_of(it->status(), config_.dir));
  return {};
}

}  // namespace shoal::storage
