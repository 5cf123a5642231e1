// storage/engine/engine.h
//
// The disk of one agent: a key-value lane, objects, and append-only journals under one directory. RocksDB and
// the segment files stay behind this door. It keeps what it acknowledged through kill -9 and power cuts,
// checks every byte that it reads by copy, and never decides where data should be (storage/model does).
//
//   DIR/marker            format name and version; a directory without it that is not empty is refused
//   DIR/lock              flock + pid: one engine per directory
//   DIR/kv/               RocksDB: node lane "n/…", object index "o/<id>", manifests "m/<id>"
//   DIR/segments/N.seg    bytes of objects above inline_bytes_max, append-only
//   DIR/journals/NAME.log app journals
//
// Threads: all methods may be called from any thread. Nothing is called back on foreign threads: what
// finishes is put in a list, event_fd() becomes readable, and the owner takes it with poll_completions().
// Completion numbers are the caller's; 0 means "do not tell me".
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/wire/bytes.h"
#include "storage/model/io.h"

namespace shoal::storage {

// Names content: the first 16 bytes of its SHA-256 (protocol/identity has it; the engine links no crypto).
using Hasher = std::function<ObjectId(std::string_view content)>;

struct EngineConfig {
  std::string dir;                             // made if missing; its parent must exist
  std::uint64_t segment_bytes = 64ULL << 20;   // a larger object gets a segment of its own
  std::uint32_t inline_bytes_max = 16U << 10;  // up to here objects live in RocksDB
  std::uint64_t reserve_bytes = 4ULL << 20;    // object writes are refused when less would stay free on the disk
  bool sync = true;                            // false: survives kill -9 but not a power cut (tests, throw-away agents)
  Hasher hasher;                               // needed only for Verify::kYes
};

struct Completion {
  std::uint64_t id = 0;
  Result<> result;
};

struct KeyValue {
  std::string key;  // the node lane adds "n/" on disk and takes it off again
  Bytes value;      // empty: erase the key
};

// How far a persist must have come before its completion.
enum class Durability : std::uint8_t {
  kDisk = 0,     // survives a power cut
  kProcess = 1,  // survives kill -9; synced with the next kDisk batch, within 50 ms at the latest
};

struct FileSource {
  std::string path;
};
using Payload = std::variant<Bytes, FileSource>;

enum class Verify : std::uint8_t {
  kNo = 0,
  kYes = 1
};  // kYes: hash the content, kCorrupt unless it is the manifest's id

// A read-only view of an object's content, valid while this lives, also after erase or compaction. Its
// checksums were checked when it was made the first time in this process, not at every read.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  std::string_view content() const;
  // Where the content is, for handing to another process: -1 for an inline object. Owned by the Mapping.
  int fd() const { return fd_; }
  std::uint64_t offset() const { return offset_; }
  std::uint64_t length() const { return length_; }

 private:
  friend class Engine;
  int fd_ = -1;
  std::uint64_t offset_ = 0;
  std::uint64_t length_ = 0;
  void* base_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  Bytes inline_;
};

struct Usage {
  std::uint64_t objects = 0;
  std::uint64_t object_bytes = 0;   // of live objects
  std::uint64_t segment_bytes = 0;  // on disk, dead ones included
  std::uint64_t segments = 0;
  std::uint64_t disk_free_bytes = 0;
};

class Engine {
 public:
  // Opens or creates the store in `config.dir`. kUnavailable: another process has it (named); kInvalid: the
  // directory holds something else; kUnsupported: written by a newer version; kDenied: not writable;
  // kExhausted: no space.
  static Result<std::unique_ptr<Engine>> open(EngineConfig config);
  ~Engine();  // finishes what is queued, then closes
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Readable while completions wait (an eventfd; owned by the engine).
  int event_fd() const;
  // Appends what has finished since the last call and clears event_fd().
  void poll_completions(std::vector<Completion>& out);

  // ---- key-value lane ----
  // Applies the batch atomically. Batches take effect and complete in the order of the calls. kExhausted:
  // disk full, nothing was applied.
  void persist(std::vector<KeyValue> batch, std::uint64_t completion, Durability durability = Durability::kDisk);
  // All pairs whose key starts with `prefix`, as far as they are applied.
  Result<std::map<std::string, Bytes>> load(std::string_view prefix) const;

  // ---- objects ----
  // Stores content and manifest. Completes when both are durable. Storing an id again keeps the content and
  // replaces the manifest. A FileSource must not change until completion.
  void put_async(Manifest manifest, Payload content, std::uint64_t completion, Verify verify = Verify::kNo);
  // Replaces the manifest of an object that is here; kNotFound otherwise.
  void put_manifest(Manifest manifest, std::uint64_t completion);
  // Forgets the object; no error if it is not here. In order with put_async.
  void erase(ObjectId object, std::uint64_t completion);

  // The content, every checksum checked: kNotFound, or kCorrupt when the bytes are not what was written.
  Result<Bytes> get(ObjectId object) const;
  // `length` bytes from `offset` (less at the end), checked: for sending an object in pieces.
  Result<Bytes> get_range(ObjectId object, std::uint64_t offset, std::uint64_t length) const;
  Result<Mapping> map(ObjectId object) const;
  bool contains(ObjectId object) const;
  Result<Manifest> manifest(ObjectId object) const;
  std::vector<Manifest> manifests() const;
  Usage usage() const;

  // Moves the live objects out of segments that are more than half dead and deletes those. Also done by
  // itself after erases. Completes when done.
  void compact(std::uint64_t completion);

  // ---- journals ----
  // Adds one record to the end of the journal. Written within 5 ms or at 256 KiB (survives kill -9 then), on
  // disk and completed within 50 ms. The name may hold letters, digits, '.', '_' and '-'.
  void append(const std::string& journal, const Bytes& record, std::uint64_t completion);
  // All whole records; a torn tail is cut off silently, damage inside is kCorrupt. Empty for an unknown
  // journal.
  Result<std::vector<Bytes>> read_journal(const std::string& journal) const;
  void remove_journal(const std::string& journal);

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::storage
