// Goal: a million finished tasks cost no memory, and one task costs the agent microseconds.
// Method: one machine, executors that finish at once, a driver that submits, waits and releases in batches. The time is
// printed, not judged: this machine is shared.
#include <gtest/gtest.h>
#include <malloc.h>

#include <chrono>
#include <cstdio>

#include "scheduler/scheduler.h"

namespace shoal::scheduler {
namespace {

class Loop {
 public:
  Loop() : machine_({AgentId(1, 1), seconds(3), seconds(1), seconds(5), {}}, Rng(1)) {
    step(in::Self{{AgentId(1, 1), {RegionId(1, 1)}}, {2, 8'192, "x86_64", {}, {}}});
    step(in::OpenApp{ClientId(1), AppId(1, 1), {}, false, {}});
    step(in::ClientMessage{ClientId(1), client::Register{FunctionId(1, 1), "noop", "python", Bytes("code"), {}}});
  }

  // `count` no-ops with one result each.
  client::Release submit(std::uint64_t count) {
    client::Submit submit;
    client::Release release;
    submit.calls.resize(count);
    for (auto& call : submit.calls) {
      call.task = TaskId(++tasks_);
      call.function = FunctionId(1, 1);
      call.accesses.resize(2);
      call.accesses[0].value = client::Inline{Bytes("0123456789")};
      call.accesses[1].direction = client::Direction::kOut;
      call.accesses[1].kind = client::AccessKind::kDatum;
      call.accesses[1].datum = DatumId(tasks_);
      release.data.push_back(DatumId(tasks_));
    }
    step(in::ClientMessage{ClientId(1), std::move(submit)});
    return release;
  }

  // The same, then the results are released.
  void batch(std::uint64_t count) {
    client::Release release = submit(count);
    while (!running_.empty()) {
      in::AttemptsDone done;
      for (const std::uint64_t attempt : std::exchange(running_, {})) {
        client::AttemptResult& result = done.results.emplace_back();
        result.attempt = attempt;
        result.run_us = 1;
        result.outputs.emplace_back(client::Inline{Bytes("result")});
      }
      step(done);
    }
    step(in::ClientMessage{ClientId(1), std::move(release)});
  }

  void step(const Input& input) {
    outputs_.clear();
    machine_.step(now_, input, outputs_);
    now_ = now_ + microseconds(50);
    for (auto& output : outputs_) {
      auto* launch = std::get_if<out::Launch>(&output);
      if (launch == nullptr) continue;
      for (const auto& attempt : launch->attempts) running_.push_back(attempt.attempt);
    }
  }

  std::int64_t done() {
    outputs_.clear();
    machine_.step(now_, in::Query{1, "apps", {}}, outputs_);
    for (auto& output : outputs_) {
      if (auto* answer = std::get_if<out::Answer>(&output)) return (*answer->result->as_array())[0].int_or("done", -1);
    }
    return -1;
  }
  void check() { machine_.check_invariants(); }

 private:
  Scheduler machine_;
  Instant now_{1};
  std::uint64_t tasks_ = 0;
  std::vector<std::uint64_t> running_;
  std::vector<Output> outputs_;
};

std::size_t heap() {
  return mallinfo2().uordblks;
}

TEST(Throughput, AMillionTasksCostNoMemory) {
#ifdef __SANITIZE_ADDRESS__
  constexpr std::uint64_t kTasks = 100'000;  // the sanitizer makes a minute of the million
#else
  constexpr std::uint64_t kTasks = 1'000'000;
#endif
  constexpr std::uint64_t kBatch = 1'000;
  Loop loop;
  for (std::uint64_t i = 0; i < 50; ++i) loop.batch(kBatch);  // rings and tables have their size now
  const std::size_t before = heap();
  const auto start = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i < kTasks / kBatch; ++i) loop.batch(kBatch);
  const auto spent = std::chrono::steady_clock::now() - start;
  const std::size_t after = heap();
  loop.check();
  EXPECT_EQ(loop.done(), static_cast<std::int64_t>(kTasks + 50 * kBatch));
  EXPECT_LT(after, before + (64U << 10)) << "flat";
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count();
  std::printf("[ measured ] %.2f us per no-op task (with the test's own driver and executors), heap %zu -> %zu bytes\n",
              static_cast<double>(ns) / 1000.0 / static_cast<double>(kTasks), before, after);
}

TEST(Throughput, ATaskThatWaitsTakesABoundedAmountOfMemory) {
  constexpr std::uint64_t kTasks = 200'000;
  Loop loop;
  loop.batch(1'000);
  const std::size_t before = heap();
  for (std::uint64_t i = 0; i < kTasks / 1'000; ++i) loop.submit(1'000);
  const std::size_t each = (heap() - before) / kTasks;
  std::printf("[ measured ] %zu bytes of heap for each task that waits\n", each);
  EXPECT_LT(each, 2'048u);
}

}  // namespace
}  // namespace shoal::scheduler
