// Goal: virtual time has one total order, whatever order actions were scheduled in.
// Method: schedule out of order, at equal instants and into the past, and look at the order of execution.
#include "tools/sim/event_queue.h"

#include <gtest/gtest.h>

namespace shoal::sim {
namespace {

TEST(EventQueue, RunsByInstantThenBySequence) {
  EventQueue queue;
  std::vector<int> order;
  queue.at(Instant{20}, [&] { order.push_back(3); });
  queue.at(Instant{10}, [&] { order.push_back(1); });
  queue.at(Instant{10}, [&] { order.push_back(2); });
  while (queue.run_next()) {
  }
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(queue.now(), Instant{20});
  EXPECT_EQ(queue.executed(), 3u);
}

TEST(EventQueue, ThePastIsNow) {
  EventQueue queue;
  Instant seen;
  queue.at(Instant{50}, [&] { queue.at(Instant{10}, [&] { seen = queue.now(); }); });
  while (queue.run_next()) {
  }
  EXPECT_EQ(seen, Instant{50});
}

TEST(EventQueue, ReusesSlotsOfFinishedActions) {
  EventQueue queue;
  int runs = 0;
  std::function<void()> again = [&] {
    if (++runs < 1000) queue.after(microseconds(1), again);
  };
  queue.after(microseconds(1), again);
  while (queue.run_next()) EXPECT_LE(queue.size(), 1u);
  EXPECT_EQ(runs, 1000);
}

}  // namespace
}  // namespace shoal::sim
