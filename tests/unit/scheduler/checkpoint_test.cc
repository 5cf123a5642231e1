// Goal: what a former run saved is not computed again, and never stands in for what is computed from something else.
// Method: a program at an agent that saves, and variants of it at fresh agents that are given what was saved.
#include <gtest/gtest.h>

#include <algorithm>

#include "scheduler/checkpoint_policy.h"
#include "scheduler/fingerprint.h"
#include "tests/unit/scheduler/cluster.h"

namespace shoal::scheduler::testing {
namespace {

using client::Direction;

struct OneAgent {
  OneAgent() { cluster.add("a", {RegionId(1, 1)}, 1); }
  Agent& agent() { return cluster["a"]; }
  Cluster cluster;
};

std::size_t ran_in_all(const Cluster& cluster) {
  std::size_t out = 0;
  for (const auto& [task, agents] : cluster.ran_on) out += agents.size();
  return out;
}

// What a driver's files are for the daemon: the saved contents, back in the arena of another agent.
std::vector<JournalEntry> restore(Agent& from, Agent& to) {
  std::vector<JournalEntry> entries = from.saved;
  for (auto& entry : entries) {
    for (std::size_t i = 0; i < entry.outputs.size(); ++i) {
      auto* shared = std::get_if<client::Shared>(&entry.outputs[i].value);
      if (shared == nullptr) continue;
      const std::string text = from.arena.at(shared->name);
      shared->name = "saved." + std::to_string(entry.task.value()) + "." + std::to_string(i);
      to.arena[shared->name] = text;
    }
  }
  return entries;
}

void chain(App& app, const std::string& first) {
  app.put(1, first);
  app.call("big", {in(1), out(10)});
  app.call("f", {in(10), out(11)});
  app.call("f", {in(1), out(12)});
  app.call("f", {in(11), in(12), out(13)});
}

TEST(Checkpoint, NothingThatWasSavedRunsAgain) {
  OneAgent first;
  App app(first.cluster, "a", {}, true);
  chain(app, "x");
  const std::string wanted = app.get(13);
  ASSERT_EQ(first.agent().saved.size(), 4u);
  EXPECT_TRUE(std::holds_alternative<client::Shared>(first.agent().saved[0].outputs[0].value));
  OneAgent second;
  App again(second.cluster, "a", restore(first.agent(), second.agent()), true);
  chain(again, "x");
  EXPECT_EQ(again.get(13), wanted);
  EXPECT_EQ(again.get(10), app.get(10)) << "large values are there, too";
  EXPECT_EQ(ran_in_all(second.cluster), 0u);
  EXPECT_TRUE(second.agent().saved.empty()) << "it is saved already";
  // The values are this agent's now, and go when nobody needs them.
  again.release({10, 11, 12, 13});
  EXPECT_EQ(second.agent().kept.count(key_of(again.id(), DataName{false, 10, 1})), 0u);
}

TEST(Checkpoint, WhatDependsOnOtherArgumentsRunsAgain) {
  OneAgent first;
  App app(first.cluster, "a", {}, true);
  const auto program = [](App& a, const std::string& second) {
    a.put(1, "x");
    a.put(2, second);
    a.call("f", {in(1), out(10)});
    a.call("big", {in(2), out(11)});
    a.call("f", {in(10), out(12)});
    a.call("f", {in(11), out(13)});
    a.call("f", {access(Direction::kCommutative, 1), in(13)});
    a.call("f", {in(1), out(14)});
  };
  program(app, "y");
  app.get(14);
  OneAgent other;
  App plain(other.cluster, "a");
  program(plain, "z");
  OneAgent second;
  App again(second.cluster, "a", restore(first.agent(), second.agent()), true);
  program(again, "z");
  for (const std::uint64_t datum : {12, 13, 14}) EXPECT_EQ(again.get(datum), plain.get(datum)) << datum;
  EXPECT_FALSE(second.cluster.ran_on.contains(1)) << "it is the same call";
  EXPECT_FALSE(second.cluster.ran_on.contains(3));
  for (const std::uint64_t task : {2, 4, 5, 6}) EXPECT_TRUE(second.cluster.ran_on.contains(task)) << task;
  const auto events = again.events();
  const auto notices =
      std::count_if(events.begin(), events.end(), [](const auto& e) { return e.topic == "app.notice"; });
  EXPECT_EQ(notices, 1);
}

TEST(Checkpoint, AnotherSequenceOfCallsIsTold) {
  OneAgent first;
  App app(first.cluster, "a", {}, true);
  app.call("f", {out(1)});
  app.get(1);
  OneAgent second;
  App again(second.cluster, "a", restore(first.agent(), second.agent()), true);
  again.call("other", {out(1)});
  const std::string told = again.get(1);
  EXPECT_NE(told.find("task 1 (other) was a call of f then"), std::string::npos) << told;
  EXPECT_NE(told.find("checkpoint folder"), std::string::npos) << told;
}

TEST(Checkpoint, TasksOnStreamsRunAgain) {
  OneAgent first;
  App app(first.cluster, "a", {}, true);
  client::Access stream;
  stream.kind = client::AccessKind::kStream;
  stream.direction = Direction::kOut;
  stream.path = "readings";
  app.call("f", {stream, out(1)});
  app.call("f", {in(1), out(2)});
  app.get(2);
  ASSERT_EQ(first.agent().saved.size(), 1u);
  EXPECT_EQ(first.agent().saved[0].task, TaskId(2));
}

TEST(Checkpoint, ValuesOfOtherAgentsAreBroughtHere) {
  Cluster cluster;
  cluster.add("a", {RegionId(1, 1)}, 0);
  cluster.add("b", {RegionId(1, 1)}, 1);
  cluster.introduce_both("a", "b");
  cluster.settle();
  App app(cluster, "a", {}, true);
  chain(app, "x");
  app.get(13);
  cluster.settle();
  Agent& a = cluster["a"];
  ASSERT_EQ(a.saved.size(), 4u);
  const auto big = std::find_if(a.saved.begin(), a.saved.end(), [](const auto& e) { return e.task == TaskId(1); });
  ASSERT_NE(big, a.saved.end());
  EXPECT_EQ(cluster.content(a, big->outputs[0].value), app.get(10));
}

TEST(Fingerprint, SeesArgumentsButNotCode) {
  const auto of = [](const std::string& text) { return fingerprint(client::Value(client::Inline{Bytes(text)})); };
  EXPECT_EQ(of("a"), of("a"));
  EXPECT_NE(of("a"), of("b"));
  EXPECT_EQ(of("cloudpickle one"), of("cloudpickle two"));
  EXPECT_NE(fingerprint(std::vector{in(1)}, {}), fingerprint(std::vector{inout(1)}, {}));
  EXPECT_NE(fingerprint(std::vector{in(1)}, {}), fingerprint(std::vector{in(2)}, {}));
  EXPECT_NE(fingerprint(std::vector{in(1)}, {{DatumId(1), 7}}), fingerprint(std::vector{in(1)}, {{DatumId(1), 8}}));
}

// ---- when ----

std::vector<std::uint64_t> due(CheckpointPolicy policy, const std::vector<std::uint64_t>& order) {
  std::vector<std::uint64_t> out;
  for (const std::uint64_t task : order) {
    if (auto now = policy.finished(TaskId(task))) out.push_back(*now);
  }
  return out;
}

TEST(CheckpointPolicy, CountsFinishedTasks) {
  constexpr std::uint64_t kAll = CheckpointPolicy::kAll;
  EXPECT_EQ(due(*CheckpointPolicy::parse(""), {3, 1}), (std::vector{kAll, kAll}));
  EXPECT_EQ(due(*CheckpointPolicy::parse("finished:3"), {9, 1, 2, 3, 4}), (std::vector{kAll}));
}

TEST(CheckpointPolicy, WritesGroupsOfCallsWhenAllHaveFinished) {
  EXPECT_EQ(due(*CheckpointPolicy::parse("group:3"), {4, 1, 2, 5, 3, 6, 7}), (std::vector<std::uint64_t>{3, 6}));
}

TEST(CheckpointPolicy, KnowsTimes) {
  EXPECT_EQ(CheckpointPolicy::parse("time:2")->period(), seconds(2));
  EXPECT_EQ(CheckpointPolicy::parse("time:50ms")->period(), milliseconds(50));
  EXPECT_EQ(CheckpointPolicy::parse("finished:2")->period(), Duration{});
  EXPECT_TRUE(due(*CheckpointPolicy::parse("time:2"), {1, 2, 3}).empty());
  EXPECT_TRUE(due(*CheckpointPolicy::parse("snapshot"), {1, 2, 3}).empty());
}

TEST(CheckpointPolicy, SaysWhatItDoesNotUnderstand) {
  for (const char* text : {"often", "finished:0", "finished:x", "finished:2s", "time", "time:3y", "group", "group:-1",
                           "snapshot:3", ":", "finished:99999999999999999999"}) {
    auto policy = CheckpointPolicy::parse(text);
    ASSERT_FALSE(policy.has_value()) << text;
    EXPECT_NE(policy.error().message.find("finished:N"), std::string::npos);
  }
}

TEST(CheckpointPolicy, LeavesFunctionsOut) {
  auto policy = CheckpointPolicy::parse("", {"app.one", "two", "__main__.three"});
  EXPECT_TRUE(policy->avoids("__main__.one", "app"));
  EXPECT_FALSE(policy->avoids("__main__.one", "other"));
  EXPECT_TRUE(policy->avoids("module.two", "app"));
  EXPECT_TRUE(policy->avoids("__main__.three", "app"));
  EXPECT_FALSE(policy->avoids("module.three", "app"));
}

}  // namespace
}  // namespace shoal::scheduler::testing
