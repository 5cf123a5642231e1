// Goal: tasks run where they are expected to be complete first; inputs travel while tasks wait; the way is no longer
// and no more bytes move than by chance.
// Method: agents in virtual time, in which runs and transfers take their time; the yardstick are random schedules.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/unit/scheduler/timed.h"

namespace shoal::scheduler::testing {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;

struct Figures {
  Duration makespan;
  std::uint64_t moved = 0;
};

// Two agents have 24 values of 1 to 50 MB, each made on one of them by lot; 96 tasks read one or two of them.
Figures random_inputs(const std::string& policy, std::uint64_t program, std::uint64_t seed) {
  Rng lot(program);
  Timed timed({2, 2}, policy, seed);
  std::vector<std::uint64_t> values;
  values.reserve(24);
  for (int i = 0; i < 24; ++i) {
    const auto bytes = static_cast<std::uint64_t>(lot.between(1'000'000, 50'000'000));
    values.push_back(timed.task(milliseconds(10), {}, bytes, lot.below(2) == 0 ? "a" : "b"));
  }
  timed.finish();
  timed.moved = 0;
  for (int i = 0; i < 96; ++i) {
    std::vector<std::uint64_t> reads{values[lot.below(values.size())]};
    if (lot.below(2) == 0) reads.push_back(values[lot.below(values.size())]);
    timed.task(milliseconds(lot.between(20, 120)), reads, 0, {}, false, "work");
  }
  return {timed.finish(), timed.moved};
}

TEST(Placement, BeatsRandomSchedulesOnTwoAgents) {
  for (std::uint64_t program = 1; program <= 5; ++program) {
    const Figures ours = random_inputs("completion", program, 1);
    Duration best = seconds(1'000'000);
    std::uint64_t moved = 0;
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      const Figures random = random_inputs("random", program, 100 * seed);
      best = std::min(best, random.makespan);
      moved += random.moved / 20;
    }
    std::printf(
        "[ measured ] program %d: makespan %.2f of the best of 20 random schedules, bytes moved %.2f of theirs\n",
        static_cast<int>(program), static_cast<double>(ours.makespan.us) / static_cast<double>(best.us),
        static_cast<double>(ours.moved) / static_cast<double>(moved));
    EXPECT_LE(ours.makespan.us * 100, best.us * 115);
    EXPECT_LE(ours.moved * 10, moved * 6);
  }
}

TEST(Placement, EverySeedOfTheDefaultPolicyGivesTheSameSchedule) {
  const Figures once = random_inputs("completion", 7, 1);
  const Figures again = random_inputs("completion", 7, 99);
  EXPECT_EQ(once.makespan.us, again.makespan.us);
  EXPECT_EQ(once.moved, again.moved);
}

TEST(Placement, WorkWaitsForItsInputsHostRatherThanMoveThem) {
  Timed timed({1, 1}, "completion", 1);
  const auto large = timed.task(milliseconds(10), {}, 500 * kMiB, "b");  // five seconds away
  timed.finish();
  for (int i = 0; i < 5; ++i) timed.task(milliseconds(100), {large}, 0);
  const Duration took = timed.finish();
  EXPECT_EQ(timed.moved, 0u) << "half a second of waiting is less than five of transfer";
  EXPECT_LT(took.us, milliseconds(600).us);
}

TEST(Placement, ALongQueueIsWorthATransfer) {
  Timed timed({1, 1}, "completion", 1);
  const auto value = timed.task(milliseconds(10), {}, 20 * kMiB, "b");  // a fifth of a second away
  timed.finish();
  for (int i = 0; i < 20; ++i) timed.task(milliseconds(100), {value}, 0);
  const Duration took = timed.finish();
  EXPECT_EQ(timed.moved, 20 * kMiB) << "once";
  EXPECT_LT(took.us, milliseconds(1'400).us) << "both work: one would have taken two seconds";
}

TEST(Placement, InputsTravelWhileTheTaskWaits) {
  std::vector<std::uint64_t> values;
  values.reserve(10);
  Timed both({1, 1}, "completion", 1);
  for (int i = 0; i < 10; ++i) values.push_back(both.task(milliseconds(10), {}, 5 * kMiB, "b"));
  both.finish();
  // Each is 52 ms away and runs 60 ms at the agent that has not got it.
  for (const auto value : values) both.task(milliseconds(60), {value}, 0, "a");
  const Duration took = both.finish();
  EXPECT_LT(took.us, milliseconds(52 + 10 * 60 + 40).us) << "the unit waits for the first transfer only";
}

TEST(Placement, AFasterAgentIsWorthWaitingFor) {
  Timed timed({1, 1}, "completion", 1);
  timed.slowness = [](const std::string& agent, Duration run) { return agent == "a" ? run * 10 : run; };
  for (int i = 0; i < 4; ++i) timed.task(milliseconds(20), {}, 0);  // seen on both
  timed.finish();
  timed.runs.clear();
  for (int i = 0; i < 10; ++i) timed.task(milliseconds(20), {}, 0);
  const Duration took = timed.finish();
  std::map<std::string, int> count;
  for (const auto& run : timed.runs) ++count[run.agent];
  EXPECT_LE(count["a"], 1);
  EXPECT_LE(took.us, milliseconds(260).us);
}

TEST(Explain, SaysWhyThereAndWhyNotYet) {
  Timed timed({1, 1}, "", 1);
  const auto large = timed.task(milliseconds(10), {}, 500 * kMiB, "b");
  timed.finish();
  std::vector<std::uint64_t> tasks;
  tasks.reserve(3);
  for (int i = 0; i < 3; ++i) tasks.push_back(timed.task(milliseconds(100), {large}, 0));
  timed.advance(milliseconds(50));
  const auto waiting = timed.query("explain", {{"task", tasks[2]}});
  EXPECT_EQ(waiting.text_or("scheduler", ""), "completion");
  const std::string why = waiting.text_or("why", "");
  EXPECT_NE(why.find("expected to be complete there first"), std::string::npos) << why;
  EXPECT_NE(why.find("524 MB travel"), std::string::npos) << why;
  const auto* candidates = waiting["candidates"].as_array();
  ASSERT_NE(candidates, nullptr);
  ASSERT_EQ(candidates->size(), 2u);
  EXPECT_EQ((*candidates)[0].int_or("missing_bytes", -1), 0);
  EXPECT_EQ((*candidates)[1].int_or("missing_bytes", -1), static_cast<std::int64_t>(500 * kMiB));
  EXPECT_GT((*candidates)[1].int_or("transfer_us", 0), 5'000'000);
  timed.finish();
  const auto done = timed.query("explain", {{"task", tasks[0]}});
  EXPECT_NE(done.text_or("why", "").find("next best: this agent"), std::string::npos) << done.text_or("why", "");
  EXPECT_EQ(done["candidates"].as_array()->size(), 2u);
}

}  // namespace
}  // namespace shoal::scheduler::testing
