// Goal: executors run attempts as declared and notice when they are given more than there is room for.
// Method: launch attempts directly and read the results.
#include "tools/sim/executor.h"

#include <gtest/gtest.h>

namespace shoal::sim {
namespace {

struct ExecutorTest : ::testing::Test {
  EventQueue queue;
  Arena arena;
  ExecutionLedger ledger;
  std::vector<client::AttemptResult> results;
  std::vector<std::string> violations;
  Executor executor{queue,
                    Rng(5),
                    arena,
                    ledger,
                    2,
                    Executor::Events{[this](client::AttemptResult r) { results.push_back(std::move(r)); },
                                     [this](std::string rule, std::string) { violations.push_back(std::move(rule)); },
                                     [](const Payload&) {}, [](const Payload&) {}}};

  static client::Attempt attempt(std::uint64_t id, const char* function) {
    client::Attempt out;
    out.attempt = id;
    out.app = AppId(9, 9);
    out.task = TaskId(id);
    for (const auto& spec : catalogue()) {
      if (spec.name == function) out.function = spec.id;
    }
    client::Argument result;
    result.direction = client::Direction::kOut;
    out.arguments.push_back(result);
    return out;
  }
  void launch(std::vector<client::Attempt> attempts) {
    scheduler::out::Launch message;
    message.attempts = std::move(attempts);
    executor.launch(message);
  }
  void run() {
    while (queue.run_next()) {
    }
  }
};

TEST_F(ExecutorTest, OutputsAreAFunctionOfTheInputs) {
  launch({attempt(1, "step"), attempt(2, "step")});
  run();
  ASSERT_EQ(results.size(), 2u);
  const auto first = arena.read(results[0].outputs.at(0));
  const auto second = arena.read(results[1].outputs.at(0));
  EXPECT_EQ(first->content, output_content(attempt(1, "step").function, {}, 0));
  EXPECT_EQ(first->content, second->content);
  EXPECT_NE(first->execution, second->execution);
}

TEST_F(ExecutorTest, LargeOutputsLieInTheArena) {
  launch({attempt(1, "bulk")});
  run();
  EXPECT_TRUE(std::holds_alternative<client::Shared>(results.at(0).outputs.at(0)));
  EXPECT_EQ(arena.files(), 1u);
}

TEST_F(ExecutorTest, MoreThanTheUnitsIsAViolation) {
  launch({attempt(1, "long"), attempt(2, "long")});
  EXPECT_TRUE(violations.empty());
  launch({attempt(3, "long")});
  EXPECT_EQ(violations, std::vector<std::string>{"S8"});
}

TEST_F(ExecutorTest, ShortAttemptsMayQueue) {
  std::vector<client::Attempt> many;
  for (std::uint64_t i = 1; i <= 100; ++i) many.push_back(attempt(i, "tick"));
  launch(many);
  run();
  EXPECT_TRUE(violations.empty());
  EXPECT_EQ(results.size(), 100u);
}

TEST_F(ExecutorTest, AKilledAttemptSaysSo) {
  launch({attempt(1, "long")});
  executor.kill({{1}, true});
  run();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].outcome, client::Outcome::kTimedOut);
}

TEST_F(ExecutorTest, ALostProcessTakesItsAttemptsWithIt) {
  launch({attempt(1, "long"), attempt(2, "long")});
  Rng rng(1);
  executor.lose_process(rng);
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].outcome, client::Outcome::kExecutorLost);
  run();
  EXPECT_EQ(results.size(), 2u);
}

TEST_F(ExecutorTest, NothingIsHeardAfterACrash) {
  launch({attempt(1, "step")});
  executor.crash();
  run();
  EXPECT_TRUE(results.empty());
}

TEST_F(ExecutorTest, AMissingInputIsReported) {
  client::Attempt broken = attempt(1, "step");
  client::Argument input;
  input.value = client::Shared{"nowhere", 20'000};
  broken.arguments.push_back(input);
  launch({broken});
  run();
  EXPECT_EQ(results.at(0).outcome, client::Outcome::kInputMissing);
}

}  // namespace
}  // namespace shoal::sim
