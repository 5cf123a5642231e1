// sdk/cpp/agent_runtime.h
//
// The runtime of a program that an agent serves: one connection, one application. Calls are gathered and sent in
// batches: at once when the last batch left a millisecond ago or more, else when there are many, when somebody waits,
// or a millisecond later.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "sdk/cpp/connection.h"
#include "shoal/runtime.hpp"

namespace shoal::sdk {

class AgentRuntime final : public Runtime {
 public:
  // What happens around a wait: an executor lends its computing units meanwhile.
  struct WaitHooks {
    std::function<void()> enter;
    std::function<void()> leave;
  };

  AgentRuntime(const std::string& path, std::optional<std::uint64_t> parent_attempt, WaitHooks hooks);
  ~AgentRuntime() override;
  AgentRuntime(const AgentRuntime&) = delete;
  AgentRuntime& operator=(const AgentRuntime&) = delete;

  DatumId new_datum() override;
  client::Value store(Bytes blob) override;
  Bytes load(const client::Value& value) override;
  Bytes take(const client::Shared& value) override { return arena_.take(value); }
  void submit(const Registration& task, std::vector<client::Access> accesses) override;
  void put(DatumId datum, client::Value value) override;
  std::vector<client::ValueResult> wait(const std::vector<DatumId>& data,
                                        const std::vector<std::string>& files) override;
  void barrier(const std::string& group) override;
  void release(DatumId datum) noexcept override;
  void group(client::Kind kind, const std::string& name) override;
  wire::Dynamic request(const std::string& method, wire::Dynamic::Map params) override;

 private:
  using Lock = std::unique_lock<std::mutex>;

  void flush(Lock& lock);
  void flush_late();
  // Receives until `request` is answered; takes the answer.
  Frame await(Lock& lock, std::uint64_t request);

  Connection connection_;
  WaitHooks hooks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  client::Welcome welcome_;
  Arena arena_;
  std::set<FunctionId> registered_;
  std::vector<client::TaskCall> calls_;
  std::vector<DatumId> released_;
  std::uint64_t last_task_ = 0;
  std::uint64_t last_datum_ = 0;
  std::uint64_t last_request_ = 0;
  std::chrono::steady_clock::time_point last_flush_;
  std::map<std::uint64_t, Frame> answers_;
  bool receiving_ = false;
  bool broken_ = false;
  bool closing_ = false;
  std::thread flusher_;
};

}  // namespace shoal::sdk
