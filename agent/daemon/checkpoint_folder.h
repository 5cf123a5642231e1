// agent/daemon/checkpoint_folder.h
//
// The journal of a run as a folder that the next run of the program starts from:
//
//   DIR/journal          storage/engine/record_file.h; a record is a CheckpointRecord, the last one of a task counts
//   DIR/values/SHA-256   what does not fit into a record: values, files, archives of directories, by their content
//
// A value is durable before the record that names it. On opening, every value is checked against its name; one that is
// gone or damaged is left out, and whoever needs it makes it again. Values that no record names are removed. Blocks;
// one thread at a time.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "agent/daemon/value_table.h"
#include "protocol/base/result.h"
#include "scheduler/journal.h"
#include "storage/engine/record_file.h"

namespace shoal::daemon {

// What one output of a task is made of, beside its record.
struct SavedValue {
  std::uint32_t output = 0;
  ValueTable::Form form = ValueTable::Form::kMemory;
  std::string name;    // of a file or directory, without what is before it
  std::string digest;  // of its content, in hexadecimal
  std::uint64_t bytes = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.output, self.form, self.name, self.digest, self.bytes);
  }
};

struct CheckpointRecord {
  scheduler::JournalEntry entry;  // outputs that are held have no value here
  std::vector<SavedValue> values;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.entry, self.values);
  }
};

class CheckpointFolder {
 public:
  static constexpr std::uint32_t kFormat = 1;

  struct Opened;
  // Makes the folder if there is none. Errors as RecordFile::open; kCorrupt for records that say what cannot be.
  static Result<Opened> open(const std::string& dir);

  // Copies what is at `path` to where a record may name it.
  Result<SavedValue> save(const std::string& path, ValueTable::Form form, const std::string& name);
  // Durable when it returns. After kFailed nothing more can be written.
  Result<> append(const std::vector<CheckpointRecord>& records);

  const std::string& dir() const { return dir_; }
  std::string path_of(const SavedValue& value) const { return values_dir() + "/" + value.digest; }

 private:
  CheckpointFolder(std::string dir, storage::RecordFile journal) : dir_(std::move(dir)), journal_(std::move(journal)) {}
  std::string values_dir() const { return dir_ + "/values"; }
  bool is_whole(const SavedValue& value) const;
  void remove_all_but(const std::set<std::string>& named) const;

  std::string dir_;
  storage::RecordFile journal_;
  bool fresh_values_ = false;  // not durable yet
};

struct CheckpointFolder::Opened {
  CheckpointFolder folder;
  std::vector<CheckpointRecord> records;  // one of each task; `values` has what is there and whole
  std::uint64_t cut_bytes = 0;            // of a journal with a torn or damaged end
  std::size_t lost_values = 0;
};

}  // namespace shoal::daemon
