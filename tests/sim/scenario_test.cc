// Goal: equal seeds give equal worlds, the real nodes break no invariant, and every invariant can see: a planted
// mistake turns it red within a stated number of seeds. Method: run seeds in this process. A hundred mixed seeds and
// the large worlds are tests of their own (CMakeLists.txt); thousands run by `tools/check sim`.
#include "tools/sim/scenario.h"

#include <gtest/gtest.h>

namespace shoal::sim {
namespace {

RunOptions options(const std::string& scenario, std::uint64_t seed, Bug bug = Bug::kNone) {
  RunOptions out;
  out.scenario = scenario;
  out.seed = seed;
  out.bug = bug;
  return out;
}

TEST(Determinism, TwentySeedsTwice) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const RunResult first = run(options("mixed", seed));
    const RunResult second = run(options("mixed", seed));
    EXPECT_EQ(first.hash, second.hash) << "seed " << seed;
    EXPECT_EQ(first.events, second.events) << "seed " << seed;
  }
}

TEST(Scenario, EveryPlaneAloneHolds) {
  for (const char* scenario : {"overlay", "tasks", "store"}) {
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
      const RunResult result = run(options(scenario, seed));
      EXPECT_FALSE(result.violation) << result.violation->rule << ": " << result.violation->what << "\n"
                                     << reproduce_line(options(scenario, seed), result);
    }
  }
}

TEST(Scenario, AViolationIsReproducedByItsLine) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const RunResult found = run(options("mixed", seed, Bug::kDropAfterTicket));
    if (!found.violation) continue;
    RunOptions again = options("mixed", seed, Bug::kDropAfterTicket);
    again.until_event = found.violation->event;
    const RunResult repeated = run(again);
    ASSERT_TRUE(repeated.violation);
    EXPECT_EQ(repeated.violation->what, found.violation->what);
    EXPECT_EQ(repeated.hash, found.hash);
    return;
  }
  FAIL() << "no seed showed the planted mistake";
}

struct Control {
  Bug bug;
  const char* scenario;
  const char* rule;  // that must turn red
  std::uint64_t seeds;
};

class NegativeControl : public ::testing::TestWithParam<Control> {};

TEST_P(NegativeControl, IsNoticed) {
  const Control& control = GetParam();
  std::string others;
  for (std::uint64_t seed = 1; seed <= control.seeds; ++seed) {
    const RunResult result = run(options(control.scenario, seed, control.bug));
    if (!result.violation) continue;
    if (result.violation->rule == control.rule) return;
    others += result.violation->rule + " ";
  }
  FAIL() << bug_name(control.bug) << " did not turn " << control.rule << " red in " << control.seeds
         << " seeds; it turned red: " << others;
}

INSTANTIATE_TEST_SUITE_P(Bugs, NegativeControl,
                         ::testing::Values(Control{Bug::kDropAfterTicket, "overlay", "S9", 5},
                                           Control{Bug::kLoseSyncedWrites, "store", "S3", 20},
                                           Control{Bug::kForgetIncarnation, "overlay", "S5", 20},
                                           Control{Bug::kTwoHeads, "overlay", "S4", 200},
                                           Control{Bug::kUnfencedResults, "tasks", "S2", 200},
                                           Control{Bug::kTwoResults, "tasks", "S1", 40},
                                           Control{Bug::kWrongResults, "tasks", "Q8", 40},
                                           Control{Bug::kOvercommit, "tasks", "S8", 20}),
                         [](const auto& control) {
                           std::string name(bug_name(control.param.bug));
                           for (char& c : name) {
                             if (c == '-') c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace shoal::sim
