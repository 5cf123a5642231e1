// Goal: what a failing task does to its outputs, its successors and its application, for every policy, is what the
// COMPSs table says; and the original error reaches whoever waits.
// Method: one agent in virtual time; the outcomes of single attempts are planned, all others succeed.
#include <gtest/gtest.h>

#include "tests/unit/scheduler/cluster.h"

namespace shoal::scheduler::testing {
namespace {

using client::Direction;
using client::Kind;
using client::OnFailure;
using client::Outcome;

class Failure : public ::testing::Test {
 protected:
  Failure() {
    cluster.add("a", {RegionId(1, 1)}, 4);
    app.emplace(cluster, "a");
  }
  Agent& agent() { return cluster["a"]; }
  void plan(std::uint64_t task, int times, const client::AttemptResult& result) {
    for (int i = 0; i < times; ++i) cluster.planned[task].push_back(result);
  }
  // x -> 1 (fails) -> 2, 3 (INOUT), 4 (reads 2's content); 9 is independent.
  void chain(OnFailure on_failure) {
    app->put(1, "x");
    app->call("f", {inout(1), out(10)}, policy(on_failure));
    app->call("f", {inout(1)});
    app->call("f", {inout(1)});
    app->call("f", {in(1), out(11)});
    app->call("f", {in(10), out(12)});
    app->call("f", {out(13)});
  }
  std::size_t executions(std::uint64_t task) { return cluster.ran_on[task].size(); }

  Cluster cluster;
  std::optional<App> app;
};

TEST_F(Failure, RetryRunsOnceAndThreeTimesMoreThenEndsTheApplication) {
  plan(1, 10, outcome(Outcome::kException, "ZeroDivisionError"));
  chain(OnFailure::kRetry);
  EXPECT_EQ(executions(1), 4u);
  EXPECT_EQ(executions(2) + executions(3) + executions(4) + executions(5), 0u);
  EXPECT_EQ(app->count("failed"), 1);
  EXPECT_EQ(app->count("cancelled"), 4);
  const auto values = app->values(app->wait({1, 11, 12}));
  ASSERT_TRUE(values);
  for (const auto& value : values->values) {
    EXPECT_EQ(value.code, static_cast<std::uint8_t>(Code::kFailed));
    EXPECT_EQ(value.error, "pickled ZeroDivisionError") << "the original error, at any distance";
    EXPECT_NE(value.message.find("task 1 (f) failed on agent"), std::string::npos);
    EXPECT_NE(value.message.find("after 4 executions: ZeroDivisionError"), std::string::npos);
  }
  EXPECT_EQ(app->get(13), "6") << "what does not depend on it is not touched";
  ASSERT_EQ(app->events().size(), 1u);
  EXPECT_EQ(app->events()[0].topic, "task.failed");
}

TEST_F(Failure, RetrySucceedsAsSoonAsOneExecutionDoes) {
  plan(1, 3, outcome(Outcome::kException, "flaky"));
  chain(OnFailure::kRetry);
  EXPECT_EQ(executions(1), 4u);
  EXPECT_EQ(app->get(11), "x1234");
  EXPECT_EQ(app->reply(app->barrier())->code, 0);
  EXPECT_TRUE(app->events().empty());
}

TEST_F(Failure, FailRunsOnceAndEndsTheApplication) {
  plan(1, 10, outcome(Outcome::kException, "boom"));
  chain(OnFailure::kFail);
  EXPECT_EQ(executions(1), 1u);
  EXPECT_EQ(app->count("cancelled"), 4);
  const auto reply = app->reply(app->barrier());
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->code, static_cast<std::uint8_t>(Code::kFailed));
  EXPECT_EQ(reply->error, "pickled boom");
  EXPECT_EQ(app->reply(app->barrier())->code, 0) << "a failure is reported once";
}

TEST_F(Failure, AFailureThatAWaitReportedIsNotReportedAgain) {
  plan(1, 1, outcome(Outcome::kException, "boom"));
  app->call("f", {out(1)}, policy(OnFailure::kFail));
  EXPECT_EQ(app->get(1).substr(0, 7), "!failed");
  EXPECT_EQ(app->reply(app->barrier())->code, 0);
}

TEST_F(Failure, AFailureAnswersBarriersAtOnce) {
  agent().executes = false;
  app->call("f", {out(1)}, policy(OnFailure::kFail));
  app->call("f", {out(2)});
  const auto request = app->barrier();
  auto failure = outcome(Outcome::kException, "boom");
  failure.attempt = agent().held[0].attempt;
  cluster.finish(agent(), failure);
  ASSERT_TRUE(app->reply(request));
  EXPECT_EQ(app->reply(request)->error, "pickled boom");
}

TEST_F(Failure, IgnoreKeepsWhatTheTaskLeftAndRunsSuccessors) {
  plan(1, 1, outcome(Outcome::kException, "boom", {"left", "default"}));
  chain(OnFailure::kIgnore);
  EXPECT_EQ(executions(1), 1u);
  EXPECT_EQ(app->get(11), "left234");
  EXPECT_EQ(app->get(12), "default5");
  EXPECT_EQ(app->count("cancelled"), 0);
  EXPECT_EQ(app->reply(app->barrier())->code, 0);
}

TEST_F(Failure, IgnoreWithoutOutputsLeavesOldContentAndNothing) {
  plan(1, 1, outcome(Outcome::kException, "boom"));
  chain(OnFailure::kIgnore);
  EXPECT_EQ(app->get(11), "x234");
  const auto values = app->values(app->wait({10}));
  EXPECT_EQ(values->values[0].code, 0);
  EXPECT_TRUE(std::holds_alternative<client::Nothing>(values->values[0].value));
}

TEST_F(Failure, CancelSuccessorsKeepsContentAndTheApplicationGoesOn) {
  plan(1, 1, outcome(Outcome::kException, "boom", {"left", ""}));
  agent().executes = true;
  chain(OnFailure::kCancelSuccessors);
  EXPECT_EQ(executions(1), 1u);
  EXPECT_EQ(app->count("done") + app->count("cancelled") + app->count("failed"), 6);
  EXPECT_EQ(app->reply(app->barrier())->code, 0);
}

TEST_F(Failure, CancelSuccessorsIsTransitiveAndReadersGetTheKeptContent) {
  agent().executes = false;
  chain(OnFailure::kCancelSuccessors);
  auto failure = outcome(Outcome::kException, "boom", {"left", ""});
  failure.outputs[1] = client::Nothing{};
  failure.attempt = agent().held[0].attempt;
  cluster.finish(agent(), failure);
  cluster.release(agent());
  EXPECT_EQ(executions(2) + executions(3) + executions(4) + executions(5), 0u);
  EXPECT_EQ(app->count("cancelled"), 4);
  EXPECT_EQ(app->get(1), "left") << "the content that the failing task left, not that of cancelled ones";
  EXPECT_EQ(app->get(10).substr(0, 7), "!failed");
  EXPECT_EQ(app->get(11).substr(0, 34), "!cancelled: cancelled because task") << app->get(11);
  EXPECT_EQ(app->get(13), "6");
  EXPECT_EQ(app->reply(app->barrier())->code, 0) << "the application goes on";
  app->call("f", {inout(1)});
  EXPECT_EQ(app->get(1), "left7") << "later calls use the kept content";
}

TEST_F(Failure, CancelSuccessorsMeansThoseThatAreCalledLaterToo) {
  plan(1, 1, outcome(Outcome::kException, "boom", {"left", "nothing"}));
  client::TaskOptions options;
  options.on_failure = OnFailure::kCancelSuccessors;
  app->put(1, "x");
  app->call("f", {inout(1), out(10)}, options);
  EXPECT_EQ(app->get(10), "nothing") << "the task has ended";
  app->call("f", {in(10), out(11)});
  app->call("f", {in(11), out(12)});
  app->call("f", {inout(1)});
  EXPECT_EQ(app->get(11).substr(0, 10), "!cancelled") << app->get(11);
  EXPECT_EQ(app->get(12).substr(0, 10), "!cancelled");
  EXPECT_EQ(app->get(1), "left4") << "content that it changed is there to be used";
  EXPECT_EQ(executions(2) + executions(3), 0u);
  EXPECT_EQ(app->reply(app->barrier())->code, 0);
}

TEST_F(Failure, SuccessorsSubmittedAfterAFailureFailAlike) {
  plan(1, 1, outcome(Outcome::kException, "boom"));
  app->call("f", {out(1)}, policy(OnFailure::kFail));
  app->call("f", {in(1), out(2)});
  EXPECT_EQ(app->get(2), app->get(1));
  EXPECT_EQ(executions(2), 0u);
}

TEST_F(Failure, TimeOutsCountAsFailures) {
  plan(1, 10, outcome(Outcome::kTimedOut));
  client::TaskOptions options = policy(OnFailure::kRetry);
  options.timeout_ms = 50;
  app->call("f", {out(1)}, options);
  EXPECT_EQ(executions(1), 4u);
  EXPECT_NE(app->get(1).find("ran longer than its time-out of 50 ms"), std::string::npos);
}

TEST_F(Failure, AnExecutorThatCannotInterruptAnAttemptIsKilled) {
  agent().executes = false;
  client::TaskOptions options = policy(OnFailure::kFail);
  options.timeout_ms = 100;
  app->call("f", {out(1)}, options);
  cluster.advance(seconds(4));
  EXPECT_TRUE(agent().killed.empty()) << "it has its own chance first";
  cluster.advance(seconds(2));
  EXPECT_EQ(agent().killed.size(), 1u);
  EXPECT_NE(app->get(1).find("time-out"), std::string::npos);
}

TEST_F(Failure, AnExecutorThatDiesThreeTimesFailsItsTaskByName) {
  plan(1, 10, outcome(Outcome::kExecutorLost, "signal 11"));
  app->call("f", {out(1)}, policy(OnFailure::kRetry, 100));
  EXPECT_EQ(executions(1), 3u);
  EXPECT_NE(app->get(1).find("task 1 (f) ended its executor 3 times"), std::string::npos);
  EXPECT_NE(app->get(1).find("signal 11"), std::string::npos);
}

TEST_F(Failure, OneCrashIsNoFailure) {
  plan(1, 2, outcome(Outcome::kExecutorLost, "signal 9"));
  app->call("f", {out(1)}, policy(OnFailure::kFail));
  EXPECT_EQ(app->get(1), "1");
}

TEST_F(Failure, OutputsThatDoNotFitAreAFailure) {
  plan(1, 1, outcome(Outcome::kDone, "", {"a", "b"}));
  app->call("f", {out(1)}, policy(OnFailure::kFail));
  EXPECT_NE(app->get(1).find("2 outputs were reported, which do not fit the call"), std::string::npos);
}

TEST_F(Failure, ArenaFilesOfFailedExecutionsAreFreed) {
  auto failure = outcome(Outcome::kException, "boom");
  failure.outputs.emplace_back(client::Shared{"a.x", 1'000'000});
  plan(1, 4, failure);
  app->call("big", {out(1)});
  EXPECT_EQ(agent().dropped.size(), 4u);
  EXPECT_TRUE(agent().kept.empty());
}

TEST_F(Failure, AMemberOfACommutativeGroupFails) {
  app->put(1, "x");
  plan(2, 1, outcome(Outcome::kException, "boom"));
  agent().executes = false;
  app->call("f", {access(Direction::kCommutative, 1)});
  app->call("f", {access(Direction::kCommutative, 1)}, policy(OnFailure::kIgnore));
  app->call("f", {access(Direction::kCommutative, 1)});
  cluster.release(agent());
  EXPECT_EQ(app->get(1), "x13");
  plan(4, 1, outcome(Outcome::kException, "boom"));
  app->call("f", {access(Direction::kCommutative, 1)}, policy(OnFailure::kFail));
  app->call("f", {in(1), out(2)});
  EXPECT_EQ(app->get(2).substr(0, 7), "!failed");
}

// ---- groups ----

TEST_F(Failure, AGroupExceptionCancelsTheOtherMembersOfEveryEnclosingGroup) {
  app->put(1, "x");
  agent().executes = false;
  app->group(Kind::kOpenGroup, "outer");
  app->call("f", {out(2)});  // 1: member of outer only
  app->group(Kind::kOpenGroup, "inner");
  app->call("f", {inout(1), out(3)});  // 2: raises
  app->call("f", {in(3), out(4)});     // 3: waits
  app->group(Kind::kCloseGroup, "inner");
  const auto inner = app->barrier("inner");
  app->group(Kind::kCloseGroup, "outer");
  app->call("f", {out(5)});  // 4: in no group
  auto exception = outcome(Outcome::kGroupException, "enough", {"left", ""});
  exception.outputs[1] = client::Nothing{};
  exception.attempt = agent().held[1].attempt;
  cluster.finish(agent(), exception);
  EXPECT_EQ(agent().killed.size(), 1u) << "the running member of the outer group";
  ASSERT_TRUE(app->reply(inner));
  EXPECT_EQ(app->reply(inner)->error, "pickled enough");
  EXPECT_EQ(app->reply(app->barrier("outer"))->error, "pickled enough");
  cluster.release(agent());
  EXPECT_EQ(app->get(1), "left") << "what it wrote is kept";
  EXPECT_EQ(app->get(2).substr(0, 10), "!cancelled");
  EXPECT_EQ(app->get(5), "4");
  EXPECT_EQ(app->reply(app->barrier())->code, 0) << "the application goes on";
  EXPECT_EQ(app->reply(app->barrier("inner"))->code, static_cast<std::uint8_t>(Code::kNotFound))
      << "and forgets the group";
}

TEST_F(Failure, AGroupExceptionIsNeverRetriedAndWithoutAGroupOnlyTold) {
  plan(1, 1, outcome(Outcome::kGroupException, "enough"));
  app->call("f", {out(1)}, policy(OnFailure::kRetry));
  EXPECT_EQ(executions(1), 1u);
  EXPECT_EQ(app->reply(app->barrier())->code, 0);
  EXPECT_EQ(app->events().size(), 1u);
}

TEST_F(Failure, GroupBarriersWaitForTheirMembersOnly) {
  agent().executes = false;
  app->call("f", {out(1)});
  app->group(Kind::kOpenGroup, "g");
  app->call("f", {out(2)});
  app->group(Kind::kCloseGroup, "g");
  const auto request = app->barrier("g");
  cluster.finish(agent(), cluster.run(agent(), client::Attempt(agent().held[1])));
  ASSERT_TRUE(app->reply(request));
  EXPECT_EQ(app->reply(request)->code, 0);
  EXPECT_EQ(agent().held.size(), 1u);
}

TEST_F(Failure, GroupsCanBeCancelled) {
  agent().executes = false;
  app->put(1, "x");
  app->group(Kind::kOpenGroup, "g");
  app->call("f", {inout(1)});
  app->call("f", {inout(1), out(2)});
  app->group(Kind::kCloseGroup, "g");
  app->call("f", {in(1), out(3)});
  app->group(Kind::kCancelGroup, "g");
  cluster.release(agent());
  EXPECT_EQ(app->get(3), "x3") << "others see the content from before";
  EXPECT_EQ(app->get(2).substr(0, 10), "!cancelled");
  EXPECT_EQ(app->reply(app->barrier("g"))->code, 0);
}

TEST_F(Failure, AGroupNameCanBeUsedAgain) {
  for (int i = 0; i < 3; ++i) {
    app->group(Kind::kOpenGroup, "g");
    app->call("f", {out(static_cast<std::uint64_t>(i) + 1)});
    app->group(Kind::kCloseGroup, "g");
  }
  EXPECT_EQ(app->reply(app->barrier("g"))->code, 0);
}

// ---- refusals ----

TEST_F(Failure, UnknownConstraintsAreRefusedByName) {
  app->call("f", {out(1)}, constrained({{"gpu_count", "1"}}));
  EXPECT_NE(app->get(1).find("the constraint \"gpu_count\" is not known here; accepted are computing_units"),
            std::string::npos)
      << app->get(1);
  app->call("f", {out(2)}, constrained({{"computing_units", "two"}}));
  EXPECT_NE(app->get(2).find("computing_units=\"two\" is not a whole number"), std::string::npos) << app->get(2);
}

TEST_F(Failure, ConstraintsNobodyMeetsAreRefusedAfterAWhileNamingWhatIsMissingAndWhatExists) {
  app->call("f", {out(1)}, constrained({{"computing_units", "64"}, {"label.gpu", "yes"}}));
  cluster.advance(seconds(4));
  EXPECT_EQ(app->get(1), "?") << "agents may just be joining";
  cluster.advance(seconds(2));
  const std::string error = app->get(1);
  EXPECT_EQ(error.substr(0, 8), "!invalid");
  EXPECT_NE(error.find("computing_units=64, label.gpu=yes"), std::string::npos) << error;
  EXPECT_NE(error.find("this agent: 4 units, 8192 MB, x86_64"), std::string::npos) << error;
}

TEST_F(Failure, AnAgentThatJoinsInTimeIsUsed) {
  app->call("f", {out(1)}, constrained({{"label.gpu", "yes"}}));
  cluster.advance(seconds(3));
  cluster.add("b", {RegionId(1, 1)}, 1, {{"gpu", "yes"}});
  cluster.introduce_both("a", "b");
  cluster.advance(seconds(3));
  EXPECT_EQ(app->get(1), "1");
  EXPECT_EQ(cluster.ran_on[1], std::vector<std::string>{"b"});
}

TEST_F(Failure, TooManyUnfinishedTasksAreRefused) {
  Cluster small;
  small.config.limits.tasks_max = 3;
  Agent& a = small.add("a", {RegionId(1, 1)}, 1);
  a.executes = false;
  App program(small, "a");
  for (std::uint64_t i = 1; i <= 4; ++i) program.call("f", {out(i)});
  EXPECT_NE(program.get(4).find("3 tasks of the application are unfinished"), std::string::npos) << program.get(4);
  small.release(a);
  EXPECT_EQ(program.get(3), "3");
}

TEST_F(Failure, ALongChainIsCancelledWithoutDeepRecursion) {
  cluster.check = false;
  agent().executes = false;
  app->put(1, "x");
  for (int i = 0; i < 50'000; ++i) app->call("f", {inout(1)}, policy(OnFailure::kFail));
  auto failure = outcome(Outcome::kException, "boom");
  failure.attempt = agent().held[0].attempt;
  cluster.finish(agent(), failure);
  EXPECT_EQ(app->count("cancelled"), 49'999);
  agent().machine->check_invariants();
  EXPECT_EQ(app->get(1).substr(0, 7), "!failed");
}

// A task that waits for two inputs is cancelled when one of them fails. The record is used again by a later task,
// which must not be taken for the former when the other input arrives.
TEST_F(Failure, TheOtherInputsOfACancelledTaskStartNobodyElse) {
  agent().executes = false;
  app->call("f", {out(1)}, policy(OnFailure::kFail));  // 1: fails
  app->call("f", {out(2)});                            // 2: takes long
  app->call("f", {out(3)});                            // 3: takes longer
  app->call("f", {in(1), in(2), out(4)});              // 4: cancelled because of 1, still waits for 2
  ASSERT_EQ(agent().held.size(), 3u);
  const client::Attempt first = agent().held[0];
  const client::Attempt second = agent().held[1];
  const client::Attempt third = agent().held[2];
  agent().held.clear();
  client::AttemptResult failed = outcome(Outcome::kException, "boom");
  failed.attempt = first.attempt;
  cluster.finish(agent(), failed);
  ASSERT_EQ(app->count("cancelled"), 1);
  app->call("f", {in(3), out(5)});  // 5: in the place of 4, waits for 3 alone
  cluster.finish(agent(), cluster.run(agent(), second));
  EXPECT_TRUE(agent().held.empty()) << "task 5 was started without its input";
  cluster.finish(agent(), cluster.run(agent(), third));
  ASSERT_EQ(agent().held.size(), 1u) << "task 5 was forgotten";
  agent().executes = true;
  cluster.release(agent());
  EXPECT_EQ(app->get(5), "35");
}

}  // namespace
}  // namespace shoal::scheduler::testing
