// Goal: ready tasks go in the order of the chosen scheduler, and no application keeps another one waiting.
// Method: one agent with one unit in virtual time; what counts is the order in which attempts start.
#include <gtest/gtest.h>

#include <algorithm>

#include "scheduler/policy.h"
#include "tests/unit/scheduler/timed.h"

namespace shoal::scheduler::testing {
namespace {

std::vector<std::uint64_t> started(const Timed& timed) {
  std::vector<std::uint64_t> tasks;
  tasks.reserve(timed.runs.size());
  for (const auto& run : timed.runs) tasks.push_back(run.task);
  return tasks;
}

using Order = std::vector<std::uint64_t>;

TEST(Order, LongestPathFirst) {
  Timed timed({1}, "", 1);
  timed.task(milliseconds(10), {}, 0);  // 1: starts at once
  timed.submit();
  for (int i = 0; i < 3; ++i) timed.task(milliseconds(10), {}, 0);  // 2, 3, 4
  const auto head = timed.task(milliseconds(10), {}, 0);            // 5
  const auto middle = timed.task(milliseconds(10), {head}, 0);      // 6
  timed.task(milliseconds(10), {middle}, 0);                        // 7
  timed.finish();
  EXPECT_EQ(started(timed), (Order{1, 5, 6, 2, 3, 4, 7}));
}

TEST(Order, APathThatGrowsLaterCounts) {
  Timed timed({1}, "completion", 1);
  timed.task(milliseconds(10), {}, 0);
  timed.submit();
  for (int i = 0; i < 3; ++i) timed.task(milliseconds(10), {}, 0);  // 2, 3, 4
  timed.submit();
  std::uint64_t last = 4;
  for (int i = 0; i < 5; ++i) {
    last = timed.task(milliseconds(10), {last}, 0);  // 5 … 9, one submission each
    timed.submit();
  }
  timed.finish();
  EXPECT_EQ(started(timed), (Order{1, 4, 5, 6, 7, 8, 2, 3, 9}));
}

TEST(Order, DurationsWeighPathsNotTheirLength) {
  Timed timed({1}, "completion", 1);
  timed.task(milliseconds(400), {}, 0, {}, false, "long");
  timed.task(milliseconds(10), {}, 0, {}, false, "short");
  timed.finish();  // both are known now
  timed.runs.clear();
  timed.task(milliseconds(10), {}, 0);
  timed.submit();
  const auto a = timed.task(milliseconds(10), {}, 0, {}, false, "short");
  timed.task(milliseconds(10), {a}, 0, {}, false, "short");
  const auto b = timed.task(milliseconds(400), {}, 0, {}, false, "long");
  timed.finish();
  EXPECT_EQ(timed.runs[1].task, b);
}

TEST(Order, PriorityGoesBeforeEveryPath) {
  Timed timed({1}, "completion", 1);
  timed.task(milliseconds(10), {}, 0);
  timed.submit();
  std::uint64_t last = timed.task(milliseconds(10), {}, 0);
  for (int i = 0; i < 200; ++i) last = timed.task(milliseconds(10), {last}, 0);
  const auto urgent = timed.task(milliseconds(10), {}, 0, {}, true);
  timed.finish();
  EXPECT_EQ(timed.runs[1].task, urgent);
}

TEST(Order, OfNamedSchedulers) {
  const auto order = [](const std::string& policy) {
    Timed timed({1}, policy, 1);
    timed.task(milliseconds(10), {}, 0);
    timed.submit();
    timed.task(milliseconds(10), {}, 0);                 // 2
    const auto a = timed.task(milliseconds(10), {}, 0);  // 3
    timed.task(milliseconds(10), {a}, 0);                // 4
    timed.task(milliseconds(10), {}, 0, {}, true);       // 5: urgent
    timed.task(milliseconds(10), {}, 0);                 // 6
    timed.finish();
    return started(timed);
  };
  EXPECT_EQ(order("fifo"), (Order{1, 5, 2, 3, 6, 4}));
  EXPECT_EQ(order("lifo"), (Order{1, 5, 6, 3, 4, 2}));
  EXPECT_EQ(order("locality"), (Order{1, 5, 2, 3, 6, 4}));
  EXPECT_EQ(order("critical-path"), (Order{1, 5, 3, 2, 6, 4}));
  EXPECT_EQ(order("random"), (Order{1, 5, 2, 3, 6, 4}));
}

// A path is looked at for as many tasks as keep the cost of one constant: here some eighty, which is further than its
// rival's.
TEST(Order, AChainOfHundredsSubmittedOneByOneStaysAhead) {
  Timed timed({1}, "completion", 1);
  timed.task(milliseconds(10), {}, 0);
  timed.submit();
  const auto rival = timed.task(milliseconds(10), {}, 0);
  std::uint64_t last = rival;
  for (int i = 0; i < 20; ++i) last = timed.task(milliseconds(10), {last}, 0);
  timed.submit();
  const auto head = timed.task(milliseconds(10), {}, 0);
  last = head;
  for (int i = 0; i < 300; ++i) {
    last = timed.task(milliseconds(10), {last}, 0);
    timed.submit();
  }
  timed.finish();
  EXPECT_EQ(timed.runs[1].task, head);
}

TEST(Shares, ALateApplicationIsNotKeptWaitingByAFullQueue) {
  Timed timed({2}, "", 1);
  for (int i = 0; i < 5'000; ++i) timed.task(milliseconds(10), {}, 0);
  timed.advance(milliseconds(100));
  timed.open("a", 2);
  const std::size_t before = timed.runs.size();
  for (int i = 0; i < 10; ++i) timed.task(milliseconds(10), {}, 0);
  timed.submit();
  const Instant since = timed.now;
  timed.advance(milliseconds(150));
  Instant last;
  int of_two = 0;
  for (std::size_t i = before; i < timed.runs.size(); ++i) {
    if (timed.runs[i].app == 2) ++of_two, last = timed.runs[i].end;
  }
  EXPECT_EQ(of_two, 10);
  EXPECT_LE((last - since).us, milliseconds(125).us) << "half of the units are its share";
}

TEST(Shares, AreOfTimeNotOfTasks) {
  Timed timed({1}, "", 1);
  for (int i = 0; i < 1'000; ++i) timed.task(milliseconds(10), {}, 0);
  timed.open("a", 2);
  for (int i = 0; i < 100; ++i) timed.task(milliseconds(100), {}, 0);
  timed.advance(seconds(4));
  std::map<std::uint64_t, std::int64_t> used;
  for (const auto& run : timed.runs) used[run.app] += (run.end - run.start).us;
  EXPECT_GT(used[1] * 4, used[2] * 3);
  EXPECT_GT(used[2] * 4, used[1] * 3);
}

TEST(Shares, PriorityCountsInsideAnApplication) {
  Timed timed({1}, "", 1);
  for (int i = 0; i < 1'000; ++i) timed.task(milliseconds(10), {}, 0, {}, true);
  timed.open("a", 2);
  for (int i = 0; i < 3; ++i) timed.task(milliseconds(10), {}, 0);
  timed.advance(milliseconds(400));
  EXPECT_EQ(std::count_if(timed.runs.begin(), timed.runs.end(), [](const auto& run) { return run.app == 2; }), 3);
}

TEST(PolicyNames, AreReadAndClassesOfCompssTranslated) {
  EXPECT_EQ(parse_policy("")->policy, Policy::kCompletion);
  EXPECT_EQ(parse_policy("", Policy::kFifo)->policy, Policy::kFifo);
  EXPECT_EQ(parse_policy("priority")->policy, Policy::kCriticalPath);
  EXPECT_FALSE(parse_policy("lifo")->translated);
  const std::string package = "es.bsc.compss.scheduler.";
  for (const auto& [name, policy] :
       std::vector<std::pair<std::string, Policy>>{{"lookahead.locality.LocalityTS", Policy::kLocality},
                                                   {"lookahead.fifo.FifoTS", Policy::kFifo},
                                                   {"lookahead.lifo.LifoTS", Policy::kLifo},
                                                   {"lookahead.mt.lifo.LifoTS", Policy::kLifo},
                                                   {"lookahead.successors.locality.LocalityTS", Policy::kLocality},
                                                   {"lookahead.successors.fifo.FifoTS", Policy::kFifo},
                                                   {"lookahead.successors.constraintsfifo.X", Policy::kFifo},
                                                   {"orderstrict.fifo.FifoTS", Policy::kFifo},
                                                   {"fullgraph.multiobjective.MOScheduler", Policy::kCompletion}}) {
    const auto choice = parse_policy(package + name);
    ASSERT_TRUE(choice) << name;
    EXPECT_EQ(choice->policy, policy) << name;
    EXPECT_TRUE(choice->translated);
  }
  for (const char* bad : {"fast", "es.bsc.compss.scheduler.predefined.PredefinedTS", "FIFO", "es.bsc.fifo.X"}) {
    const auto choice = parse_policy(bad);
    ASSERT_FALSE(choice) << bad;
    EXPECT_EQ(choice.error().code, Code::kInvalid);
    EXPECT_NE(choice.error().message.find(policy_names()), std::string::npos);
  }
}

}  // namespace
}  // namespace shoal::scheduler::testing
