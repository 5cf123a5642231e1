// tools/sim/values.h
//
// Values of simulated tasks. A value is a number that stands for its content, with the life story that the invariants
// ask about: which execution of which task made it. Small values carry all that in their inline bytes; large ones are
// entries of an arena that only pretends to hold so many bytes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/wire/client.h"

namespace shoal::sim {

struct Payload {
  std::uint64_t content = 0;
  std::uint64_t execution = 0;  // unique per run of an attempt; 0: given by a driver
  AppId app;
  TaskId task;
  std::uint32_t output = 0;
  Instance instance;
  Instant finished;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.content, self.execution, self.app, self.task, self.output, self.instance, self.finished);
  }
};

// What a simulated function does; the executor, the workload's oracle and the resource ledger agree on it.
struct FunctionSpec {
  FunctionId id;
  std::string name;
  std::int64_t run_us = 0;         // mean
  std::uint32_t units = 1;         // computing units it declares
  std::uint64_t output_bytes = 0;  // 0: small
  std::uint32_t failures_max = 0;  // first runs of some tasks that raise
};
const std::vector<FunctionSpec>& catalogue();
const FunctionSpec* find_function(FunctionId id);

// Content of output `k` of `function` on these inputs. A commutative parameter is added to, so order does not show.
std::uint64_t output_content(FunctionId function, const std::vector<std::uint64_t>& inputs, std::uint32_t k);
std::uint64_t commutative_content(FunctionId function, const std::vector<std::uint64_t>& inputs, std::uint64_t before);

// Shared-memory files of one agent, and the reading of any local value.
class Arena {
 public:
  // A value of `bytes` bytes (inline when small enough).
  client::Value make(const Payload& payload, std::uint64_t bytes);
  std::optional<Payload> read(const client::Value& value) const;
  std::uint64_t size_of(const client::Value& value) const;
  void erase(const client::Value& value);
  void clear() { files_.clear(); }
  std::size_t files() const { return files_.size(); }

 private:
  struct File {
    Payload payload;
    std::uint64_t bytes = 0;
  };
  std::map<std::string, File> files_;
  std::uint64_t last_ = 0;
};

}  // namespace shoal::sim
