// storage/engine/journals.h
//
// Append-only files of small records: | length 4 B | crc 4 B | bytes |. Buffered, written within 5 ms, synced
// within 50 ms, so that a busy journal costs a few system calls a second and not one per record.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "storage/engine/completions.h"

namespace shoal::storage {

// Thread-safe. Its thread starts with the first append.
class Journals {
 public:
  Journals(std::string dir, bool sync, std::uint64_t reserve_bytes, Completions& completions);
  ~Journals();  // writes and syncs what is buffered
  Journals(const Journals&) = delete;
  Journals& operator=(const Journals&) = delete;

  void append(const std::string& name, const Bytes& record, std::uint64_t completion);
  Result<std::vector<Bytes>> read(const std::string& name);
  void remove(const std::string& name);

 private:
  using Clock = std::chrono::steady_clock;
  struct Journal {
    Fd fd;
    std::uint64_t size = 0;  // written so far
    std::string buffer;
    std::vector<std::uint64_t> buffered;  // completions of what is in the buffer
    std::vector<std::uint64_t> written;   // and of what is written but not synced
  };
  static Result<> check_name(const std::string& name);
  std::string path(const std::string& name) const { return dir_ + "/" + name + ".log"; }
  Result<> open(const std::string& name, Journal& journal) const;
  void write(const std::string& name, Journal& journal);
  void sync_all();
  void run();

  std::string dir_;
  bool sync_;
  std::uint64_t reserve_bytes_;
  Completions& completions_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, Journal> journals_;
  std::size_t buffered_bytes_ = 0;
  Clock::time_point write_by_ = Clock::time_point::max();
  Clock::time_point sync_by_ = Clock::time_point::max();
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace shoal::storage
