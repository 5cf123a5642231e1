// agent/environment/cache.h
//
// The environments of one agent on its disk: bundles as they came, and what was built of them.
//
//   DIR/bundles/ID.tar     checked when it came
//   DIR/built/ID/          site/ modules/ lib/ bin/, and "platform": the interpreter it was built for
//   DIR/locks/ID           held while it is built or removed; its time says when the environment was last used
//   DIR/scratch/           half-done things; emptied at the start
//
// All functions block, and may be called from any thread and by several processes at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/environment/build.h"
#include "protocol/base/id.h"
#include "protocol/base/result.h"

namespace shoal::environment {

class Cache {
 public:
  struct Entry {
    EnvironmentId id;
    std::string name;  // as its manifest says
    std::uint64_t bytes = 0;
    bool built = false;
    std::int64_t used_unix_ms = 0;
  };

  explicit Cache(std::string dir) : dir_(std::move(dir)) {}

  // Makes the directories and empties scratch/.
  Result<> open() const;

  std::string bundle_path(EnvironmentId id) const;
  std::string built_path(EnvironmentId id) const;
  std::string scratch_path(const std::string& name) const;

  // Takes over the file at `path`, which is on the same file system, as the bundle `id`. kCorrupt when its content is
  // another; the file is gone in every case.
  Result<Manifest> take_bundle(EnvironmentId id, const std::string& path) const;
  // kNotFound: no such bundle here.
  Result<Manifest> manifest(EnvironmentId id) const;
  // Builds it unless it is built for this machine already; `built` tells. kNotFound: no such bundle here.
  Result<Manifest> make_ready(EnvironmentId id, const Machine& machine, bool& built) const;

  void touch(EnvironmentId id) const;
  std::vector<Entry> list() const;
  // Bundle and what was built of it.
  Result<> remove(EnvironmentId id) const;

 private:
  std::string dir_;
};

// Of `entries` those to remove, longest unused first, so that the rest is at most `bytes_max`; never one of `in_use`.
std::vector<EnvironmentId> choose_victims(std::vector<Cache::Entry> entries, const std::vector<EnvironmentId>& in_use,
                                          std::uint64_t bytes_max);

}  // namespace shoal::environment
