// storage/engine/record_file.h
//
// One append-only file of records that a person may keep, copy and remove: a checkpoint.
//
//   | kind 8 B | format 4 B | crc of these 4 B |  then records  | length 4 B | crc 4 B | bytes |
//
// A record is durable when append() returns. What a crash left half written is cut when the file is opened, and so is
// everything from a damaged record on: what follows it cannot be told from garbage.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/wire/bytes.h"
#include "storage/engine/posix.h"

namespace shoal::storage {

class RecordFile {
 public:
  static constexpr std::size_t kKindBytes = 8;
  static constexpr std::size_t kRecordBytesMax = 64U << 20;

  struct Opened;
  // Makes the file if there is none, and locks it for as long as this lives. kUnavailable: another process has it;
  // kInvalid: it is of another kind; kUnsupported: its format is newer than `format`.
  static Result<Opened> open(const std::string& path, std::string_view kind, std::uint32_t format);

  // All of them, or, after an error, none: the file is as it was. After an error that says kFailed the file must not be
  // used any more, because what is on disk is not known.
  Result<> append(const std::vector<Bytes>& records);

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return size_; }

 private:
  RecordFile(std::string path, Fd fd, std::uint64_t size) : path_(std::move(path)), fd_(std::move(fd)), size_(size) {}
  std::string path_;
  Fd fd_;
  std::uint64_t size_ = 0;
};

struct RecordFile::Opened {
  RecordFile file;
  std::vector<Bytes> records;
  std::uint64_t cut_bytes = 0;  // of the end, because it was torn or damaged
};

}  // namespace shoal::storage
