// Goal: a program that runs again after the loss of its master gives what it gave before, and what its journal has is
// not run again. Method: a program at an agent, whose journal is cut at every length and given to the same program at a
// fresh agent.
#include <gtest/gtest.h>

#include "tests/unit/scheduler/cluster.h"

namespace shoal::scheduler::testing {
namespace {

using client::Direction;
using client::OnFailure;
using client::Outcome;

// Values small and large, in place and new, a file, a group, and what reads them.
void program(App& app) {
  app.put(1, "x");
  app.call("f", {inout(1), out(10)});
  app.call("big", {in(10), out(11)});
  app.call("f", {in(11), out(12)});
  app.call("f", {file(Direction::kOut, "/user/a")});
  app.call("f", {file(Direction::kInOut, "/user/a"), out(13)});
  app.call("f", {access(Direction::kCommutative, 1)});
  app.call("f", {access(Direction::kCommutative, 1)});
  app.call("f", {in(1), in(12), out(14)});
  app.call("void", {in(14)});
  app.call("big", {inout(12)});
  app.call("f", {in(12), out(15)});
}
constexpr std::uint64_t kTasks = 11;
constexpr std::uint64_t kGroupTasks = 2;

std::vector<std::string> results(App& app) {
  std::vector<std::string> out;
  for (const std::uint64_t datum : {1, 10, 11, 12, 13, 14, 15}) out.push_back(app.get(datum));
  return out;
}

std::size_t executions(const Cluster& cluster) {
  std::size_t out = 0;
  for (const auto& [task, agents] : cluster.ran_on) out += agents.size();
  return out;
}

struct World {
  World() { cluster.add("a", {RegionId(1, 1)}, 1); }
  Cluster cluster;
};

TEST(Journal, EveryPrefixLeadsToTheSameResults) {
  World first;
  App app(first.cluster, "a", std::vector<JournalEntry>());
  program(app);
  const auto wanted = results(app);
  const std::vector<JournalEntry> journal = first.cluster["a"].journal;
  ASSERT_EQ(journal.size(), kTasks - kGroupTasks) << "members of groups are not journalled";
  for (std::size_t length = 0; length <= journal.size(); ++length) {
    World second;
    const std::vector<JournalEntry> prefix(journal.begin(), journal.begin() + static_cast<std::ptrdiff_t>(length));
    App again(second.cluster, "a", prefix);
    program(again);
    EXPECT_EQ(results(again), wanted) << length;
    EXPECT_EQ(again.count("done"), static_cast<std::int64_t>(kTasks)) << length;
    EXPECT_EQ(second.cluster["a"].journal.size(), journal.size()) << "the next guardian gets all of it, at " << length;
    std::size_t inline_known = 0;
    for (const auto& entry : prefix) {
      const bool held = std::any_of(entry.outputs.begin(), entry.outputs.end(), [](const auto& o) { return o.held; });
      const bool ran = second.cluster.ran_on.contains(entry.task.value());
      if (!held) ++inline_known;
      EXPECT_FALSE(ran && !held) << "task " << entry.task.value() << " ran again at " << length;
    }
    EXPECT_LE(executions(second.cluster), kTasks - inline_known) << length;
  }
}

TEST(Journal, ALargeResultIsMadeAgainOnlyWhenItIsNeeded) {
  World first;
  App app(first.cluster, "a", std::vector<JournalEntry>());
  const auto run = [](App& a) {
    a.call("big", {out(1)});
    a.call("f", {in(1), out(2)});
  };
  run(app);
  const std::string small = app.get(2);
  World second;
  App again(second.cluster, "a", first.cluster["a"].journal);
  run(again);
  EXPECT_EQ(again.get(2), small);
  EXPECT_EQ(executions(second.cluster), 0u);
  EXPECT_EQ(again.get(1), app.get(1));
  EXPECT_EQ(executions(second.cluster), 1u);
}

TEST(Journal, FailuresAreRunAgainAndNotWritten) {
  World first;
  first.cluster.planned[1].assign(4, outcome(Outcome::kException, "boom"));
  App app(first.cluster, "a", std::vector<JournalEntry>());
  app.call("f", {out(1)}, policy(OnFailure::kFail));
  app.call("f", {out(2)});
  EXPECT_NE(app.get(1).find("boom"), std::string::npos);
  EXPECT_EQ(app.get(2), "2");
  ASSERT_EQ(first.cluster["a"].journal.size(), 1u);
  EXPECT_EQ(first.cluster["a"].journal[0].task, TaskId(2));
}

TEST(Journal, AProgramThatDivergesIsToldWhere) {
  World first;
  App app(first.cluster, "a", std::vector<JournalEntry>());
  app.call("f", {out(1)});
  EXPECT_EQ(app.get(1), "1");
  World second;
  App again(second.cluster, "a", first.cluster["a"].journal);
  again.call("other", {out(1)});
  EXPECT_NE(again.get(1).find("task 1 (other) was a call of f then"), std::string::npos);
  World third;
  App wider(third.cluster, "a", first.cluster["a"].journal);
  wider.call("f", {out(1), out(2)});
  EXPECT_NE(wider.get(1).find("task 1 (f) had other results then"), std::string::npos);
}

TEST(Journal, NothingIsWrittenUnlessAsked) {
  World world;
  App app(world.cluster, "a");
  program(app);
  results(app);
  EXPECT_TRUE(world.cluster["a"].journal.empty());
}

}  // namespace
}  // namespace shoal::scheduler::testing
