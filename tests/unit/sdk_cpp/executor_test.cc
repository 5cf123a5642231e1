// Goal: a C++ program is its own executor: an agent's pool starts it, and its tasks run, fail, crash and are cancelled
// as the protocol says. Method: the real pool and the program beside these tests; attempts written by hand.
#include <gmock/gmock.h>

#include "protocol/base/hash.h"
#include "tests/unit/executor/harness.h"
#include "tests/unit/sdk_cpp/program/tasks.h"

namespace shoal::executor {
namespace {

using client::Outcome;
using ::testing::HasSubstr;

class CppExecutorTest : public ::testing::Test {
 protected:
  CppExecutorTest()
      : bench_([this](ExecutorConfig& config) {
          std::filesystem::create_directories(arena_.path());
          config.welcome.arena = arena_.path();
          config.welcome.inline_max = 1000;
        }) {}

  template <class T>
  static client::Argument in(const T& value) {
    client::Argument out;
    out.value = client::Inline{sdk::pack(value)};
    return out;
  }
  static client::Argument result() {
    client::Argument out;
    out.direction = client::Direction::kOut;
    out.kind = client::AccessKind::kDatum;
    out.name = "$0";
    return out;
  }

  void launch(std::uint64_t number, const std::string& task, std::vector<client::Argument> arguments) {
    scheduler::out::Launch launch;
    launch.language = "c++";
    launch.python = SDK_CPP_PROGRAM;
    const FunctionId function(1, hash64(task));
    launch.functions.push_back({function, task, "c++", {}, {}});
    client::Attempt attempt;
    attempt.attempt = number;
    attempt.app = AppId(5, 6);
    attempt.task = TaskId(number);
    attempt.function = function;
    attempt.arguments = std::move(arguments);
    launch.attempts.push_back(std::move(attempt));
    bench_.pool->launch(std::move(launch));
  }
  const client::AttemptResult& finish(std::uint64_t number, const std::string& task,
                                      std::vector<client::Argument> arguments) {
    launch(number, task, std::move(arguments));
    return bench_.wait_for(number);
  }
  template <class T>
  T value_of(const client::Value& value) {
    sdk::Arena arena(arena_.path(), 0, 1000);
    return sdk::unpack<T>(arena.load(value));
  }

  TempDir arena_;
  PoolBench bench_;
};

TEST_F(CppExecutorTest, RunsATask) {
  const auto& done = finish(1, "add", {in(2), in(3), result()});
  ASSERT_EQ(done.outcome, Outcome::kDone) << done.message;
  EXPECT_EQ(value_of<int>(done.outputs.at(0)), 5);
}

TEST_F(CppExecutorTest, OutputsComeInOrderOfTheParametersThatWrite) {
  auto list = in(std::vector<int>{1});
  list.direction = client::Direction::kInOut;
  const auto& done = finish(1, "append", {list, in(2)});
  ASSERT_EQ(done.outputs.size(), 1U) << done.message;
  EXPECT_EQ(value_of<std::vector<int>>(done.outputs[0]), (std::vector<int>{1, 2}));
}

TEST_F(CppExecutorTest, LargeResultsAreFilesOfTheArena) {
  const auto& done = finish(1, "repeat", {in(std::string("abc")), in(1000), result()});
  ASSERT_EQ(done.outputs.size(), 1U) << done.message;
  ASSERT_TRUE(std::holds_alternative<client::Shared>(done.outputs[0]));
  EXPECT_EQ(value_of<std::string>(done.outputs[0]).size(), 3000U);
}

TEST_F(CppExecutorTest, AnExceptionHasItsText) {
  const auto& failed = finish(1, "fail_when_negative", {in(-4), result()});
  EXPECT_EQ(failed.outcome, Outcome::kException);
  EXPECT_EQ(failed.message, "negative value -4");
  EXPECT_FALSE(failed.error.empty());
  EXPECT_EQ(finish(2, "fail_when_negative", {in(4), result()}).outcome, Outcome::kDone);
  EXPECT_EQ(bench_.pool->counters().executors_started, 1U);
}

TEST_F(CppExecutorTest, WrongArgumentsAndUnknownTasksAreAnswers) {
  EXPECT_THAT(finish(1, "add", {in(1)}).message, HasSubstr("takes 2 arguments"));
  EXPECT_THAT(finish(2, "add", {in(std::string("x")), in(1), result()}).message, HasSubstr("expected fields"));
  EXPECT_THAT(finish(3, "subtract", {}).message, HasSubstr("has no task 'subtract'"));
}

TEST_F(CppExecutorTest, ACrashIsNamed) {
  const auto& lost = finish(1, "crash", {});
  EXPECT_EQ(lost.outcome, Outcome::kExecutorLost);
  EXPECT_THAT(lost.message, HasSubstr("signal 11"));
  EXPECT_EQ(finish(2, "add", {in(1), in(1), result()}).outcome, Outcome::kDone);
}

TEST_F(CppExecutorTest, CancelStopsARunningTask) {
  launch(1, "wait_for_file", {in(arena_.at("never"))});
  ASSERT_TRUE(
      bench_.until([&] { return bench_.pool->counters().executors == 1 && bench_.pool->counters().queued == 0; }));
  bench_.pool->kill({{1}, false});
  EXPECT_EQ(bench_.wait_for(1).outcome, Outcome::kCancelled);
}

TEST_F(CppExecutorTest, ManyShortTasks) {
  for (std::uint64_t n = 1; n <= 1000; ++n) launch(n, "add", {in(static_cast<int>(n)), in(1), result()});
  ASSERT_TRUE(bench_.until([&] { return bench_.results.size() == 1000; }));
  for (std::uint64_t n = 1; n <= 1000; ++n) {
    EXPECT_EQ(value_of<int>(bench_.results[n].outputs.at(0)), static_cast<int>(n) + 1);
  }
}

TEST_F(CppExecutorTest, AProgramThatIsNotThereIsNamed) {
  scheduler::out::Launch launch;
  launch.language = "c++";
  launch.python = "/no/such/program";
  launch.functions.push_back({FunctionId(1, 1), "add", "c++", {}, {}});
  client::Attempt attempt;
  attempt.attempt = 1;
  attempt.function = FunctionId(1, 1);
  launch.attempts.push_back(attempt);
  bench_.pool->launch(std::move(launch));
  EXPECT_THAT(bench_.wait_for(1).message, HasSubstr("check that the program is installed"));
}

}  // namespace
}  // namespace shoal::executor
