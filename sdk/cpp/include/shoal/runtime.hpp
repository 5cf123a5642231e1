// sdk/cpp/include/shoal/runtime.hpp
//
// What stands between shoal.hpp's templates and the rest of the library: a task with its types erased, and the runtime
// that calls go to. Programs include shoal.hpp, not this.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/wire/blob.h"
#include "protocol/wire/client.h"
#include "protocol/wire/dynamic.h"

namespace shoal::sdk {

// Where values beyond a message's size lie: files of the agent's shared-memory directory.
class Arena {
 public:
  Arena() = default;  // of a program without an agent: everything inline
  Arena(std::string directory, std::uint64_t client, std::uint64_t inline_max)
      : directory_(std::move(directory)), client_(client), inline_max_(inline_max) {}

  // Throws shoal::Failure when the shared memory is full.
  client::Value store(Bytes blob);
  // Throws shoal::Failure when the value is not there or not readable.
  Bytes load(const client::Value& value) const;
  // Loads a file that the agent gave away, and removes it.
  Bytes take(const client::Shared& value) const;

 private:
  std::string directory_;
  std::uint64_t client_ = 0;
  std::uint64_t inline_max_ = ~std::uint64_t{0};
  std::uint64_t created_ = 0;
};

// A task function, callable with what an executor gets. Throws what the function throws.
using Invoker = std::function<std::vector<client::Value>(const std::vector<client::Argument>&, Arena&)>;

struct Registration {
  FunctionId function;
  std::string name;
  client::TaskOptions options;
  Invoker invoke;
};

// Makes a task known to this program, for calls and for its executors. Names are unique in a program.
std::shared_ptr<Registration> register_task(const std::string& name, Invoker invoke);

// Carries out what a program asks for: through its agent, or, without one, at once in the calling thread. Thread-safe.
class Runtime {
 public:
  virtual ~Runtime() = default;
  virtual DatumId new_datum() = 0;
  virtual client::Value store(Bytes blob) = 0;
  virtual Bytes load(const client::Value& value) = 0;
  virtual Bytes take(const client::Shared& value) = 0;
  virtual void submit(const Registration& task, std::vector<client::Access> accesses) = 0;
  virtual void put(DatumId datum, client::Value value) = 0;
  virtual std::vector<client::ValueResult> wait(const std::vector<DatumId>& data,
                                                const std::vector<std::string>& files) = 0;
  virtual void barrier(const std::string& group) = 0;
  virtual void release(DatumId datum) noexcept = 0;
  virtual void group(client::Kind kind, const std::string& name) = 0;
  virtual wire::Dynamic request(const std::string& method, wire::Dynamic::Map params) = 0;
};

// The runtime of this program; inside a task, that of the running attempt. Opened at its first use.
Runtime& runtime();

// A value of the program or of a task's result, released when the last handle is gone.
class Datum {
 public:
  explicit Datum(Runtime& owner) : owner_(owner), id_(owner.new_datum()) {}
  ~Datum() { owner_.release(id_); }
  Datum(const Datum&) = delete;
  Datum& operator=(const Datum&) = delete;
  DatumId id() const { return id_; }
  Runtime& owner() const { return owner_; }

 private:
  Runtime& owner_;
  DatumId id_;
};

// Throws what a failed ValueResult stands for.
void check(const client::ValueResult& result);

// True when the arguments ask this process to be an executor; run_executor then never returns.
bool wants_executor(int argc, char** argv);
[[noreturn]] void run_executor();
// Ends the runtime of the program: waits for all tasks. Rethrows the first failure that nobody saw.
void close_program();

std::string absolute_path(const std::string& path);

}  // namespace shoal::sdk
