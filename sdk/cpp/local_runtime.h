// sdk/cpp/local_runtime.h
//
// The runtime of a program without an agent: a call runs at once, in the calling thread, on the same encoded values
// that an agent would move, so that a program behaves alike in both.
#pragma once

#include <map>
#include <mutex>

#include "shoal/runtime.hpp"

namespace shoal::sdk {

class LocalRuntime final : public Runtime {
 public:
  DatumId new_datum() override;
  client::Value store(Bytes blob) override;
  Bytes load(const client::Value& value) override;
  Bytes take(const client::Shared& value) override { return arena_.take(value); }
  // A failing task's message is kept and told by wait() and barrier().
  void submit(const Registration& task, std::vector<client::Access> accesses) override;
  void put(DatumId datum, client::Value value) override;
  std::vector<client::ValueResult> wait(const std::vector<DatumId>& data,
                                        const std::vector<std::string>& files) override;
  void barrier(const std::string& group) override;
  void release(DatumId datum) noexcept override;
  void group(client::Kind kind, const std::string& name) override;
  // Always throws: store and streams need an agent.
  wire::Dynamic request(const std::string& method, wire::Dynamic::Map params) override;

 private:
  struct Entry {
    client::Value value;
    std::string failure;
  };
  client::Argument argument_of(const client::Access& access) const;

  std::recursive_mutex mutex_;  // a task may call tasks
  Arena arena_;
  std::map<DatumId, Entry> data_;
  std::uint64_t last_datum_ = 0;
  std::string first_failure_;
};

}  // namespace shoal::sdk
