// storage/engine/completions.h
//
// What has finished, from the engine's threads to the thread that owns the engine: a list and an eventfd.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "storage/engine/engine.h"
#include "storage/engine/posix.h"

namespace shoal::storage {

// Thread-safe.
class Completions {
 public:
  Completions();
  int fd() const { return event_.get(); }
  void push(std::uint64_t id, Result<> result);  // id 0 is dropped
  void poll(std::vector<Completion>& out);

 private:
  Fd event_;
  std::mutex mutex_;
  std::vector<Completion> finished_;
};

}  // namespace shoal::storage
