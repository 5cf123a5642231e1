// agent/daemon/value_table.h
//
// The values of running applications that lie on this host, by the name other agents know them: files of the
// shared-memory arena, and files of the agent's file area. The agent owns what is kept here and removes it
// when it is dropped; a user's own file is served from where it is and never removed. One thread uses it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "agent/executor/process.h"
#include "protocol/base/result.h"
#include "protocol/wire/client.h"

namespace shoal::daemon {

class ValueTable {
 public:
  // Makes both directories and holds a lock on the arena for as long as this lives. An arena that an earlier life of
  // this agent left behind is emptied, and so are its siblings ("shoal-…" next to it, of this user) that no living
  // agent holds: an agent that was killed and never came back would keep that memory until the host restarts.
  static Result<ValueTable> open(std::string arena_dir, std::string files_dir);
  // Removes the arena. Files stay for the next start to clear.
  ~ValueTable();
  ValueTable(ValueTable&& other) noexcept;
  ValueTable& operator=(ValueTable&&) = delete;
  ValueTable(const ValueTable&) = delete;
  ValueTable& operator=(const ValueTable&) = delete;

  const std::string& arena_dir() const { return arena_dir_; }
  const std::string& files_dir() const { return files_dir_; }

  // From now on `key` names this value. A value kept earlier under the same key is removed.
  void keep(const std::string& key, client::Value value);
  const client::Value* find(const std::string& key) const;
  // The memory of a large value that no process maps any more is kept as a spare for the next value: a client or
  // create() takes it (docs/client-protocol.md, "Spare files"), which is several times faster than new pages. True when
  // there is a new spare.
  bool drop(const std::string& key);
  // Gives the spares back to the host. False when there were none.
  bool release_spares();

  // The file that holds a kept or client-named value; nullopt for inline values and names that leave the
  // arena.
  std::optional<std::string> path_of(const client::Value& value) const;

  // A new empty file for a value that is about to arrive: in the arena, or, for files and directories, in the file area
  // below a folder of its own, where it is called `name`: programs look at the ends of names. A directory arrives as an
  // archive beside that folder.
  enum class Form : std::uint8_t { kMemory, kFile, kDirectory };
  struct Incoming {
    int fd = -1;
    client::Value value;
    std::string archive;  // of a directory: the file behind `fd`
  };
  Result<Incoming> create(const std::string& key, std::uint64_t bytes, Form form = Form::kMemory,
                          const std::string& name = {});
  // A value whose bytes lie in somebody else's file at `path`, which must outlive it: a link to it is this table's.
  Result<client::Value> adopt(const std::string& key, const std::string& path, std::uint64_t bytes, Form form,
                              const std::string& name);
  // A second name for the file of a value, which lasts when the value is dropped, until it is unlinked. Directories and
  // files of other places have none: kUnsupported.
  Result<std::string> hold(const client::Value& value);

  // Removes an incoming value that did not arrive whole, and a folder that is empty then.
  void discard(const client::Value& value) const;

  std::size_t size() const { return values_.size(); }

 private:
  ValueTable(std::string arena_dir, executor::Fd lock, std::string files_dir);
  bool keep_as_spare(const client::Value& value);
  int take_spare(const std::string& path, std::uint64_t bytes) const;
  std::string arena_dir_;
  executor::Fd lock_;  // of the arena's directory
  std::string files_dir_;
  std::unordered_map<std::string, client::Value> values_;
  std::uint64_t created_ = 0;
  std::uint64_t spared_ = 0;
};

}  // namespace shoal::daemon
