// Goal: commands run with their parameters, streams and files in place, their exit value counts as declared, and
// nothing of them stays behind. Method: the shell and core utilities through the real pool.
#include <gmock/gmock.h>

#include "agent/executor/executor_pool.h"
#include "protocol/wire/blob.h"
#include "tests/unit/executor/harness.h"

namespace shoal::executor {
namespace {

using client::AccessKind;
using client::Direction;
using client::Outcome;
using ::testing::HasSubstr;

class CommandTest : public ::testing::Test {
 protected:
  static client::Attempt command(std::uint64_t number, std::vector<std::string> words) {
    client::Attempt out;
    out.attempt = number;
    out.app = AppId(3, 4);
    out.task = TaskId(number);
    out.command = std::move(words);
    return out;
  }
  static client::Attempt shell(std::uint64_t number, const std::string& script) {
    return command(number, {"sh", "-c", script});
  }

  static client::Argument argument(const std::string& name, AccessKind kind, Direction direction, client::Value value) {
    client::Argument out;
    out.name = name;
    out.kind = kind;
    out.direction = direction;
    out.value = std::move(value);
    return out;
  }
  static client::Argument exit_value() {
    return argument("$0", AccessKind::kDatum, Direction::kOut, client::Nothing{});
  }

  void launch(client::Attempt attempt) {
    scheduler::out::Launch launch;
    launch.language = "command";
    launch.attempts.push_back(std::move(attempt));
    bench_.pool->launch(std::move(launch));
  }
  const client::AttemptResult& finish(client::Attempt attempt) {
    const std::uint64_t number = attempt.attempt;
    launch(std::move(attempt));
    return bench_.wait_for(number);
  }
  static std::int64_t exit_of(const client::Value& value) {
    auto number = wire::from_blob<std::int64_t>(std::get<client::Inline>(value).bytes);
    EXPECT_TRUE(number.has_value());
    return number.value_or(-1000);
  }

  PoolBench bench_;
};

TEST_F(CommandTest, ExitValueIsTheResult) {
  auto attempt = shell(1, "exit 0");
  attempt.arguments.push_back(exit_value());
  EXPECT_EQ(exit_of(finish(attempt).outputs.at(0)), 0);
  attempt = shell(2, "exit 3");
  attempt.arguments.push_back(exit_value());
  attempt.fail_by_exit_value = false;
  const auto& tolerated = finish(attempt);
  EXPECT_EQ(tolerated.outcome, Outcome::kDone);
  EXPECT_EQ(exit_of(tolerated.outputs.at(0)), 3);
}

TEST_F(CommandTest, AFailureNamesTheCodeAndWhatWasSaid) {
  const auto& result = finish(shell(1, "echo first >&2; echo no such record >&2; exit 3"));
  EXPECT_EQ(result.outcome, Outcome::kException);
  EXPECT_EQ(result.message, "'sh' exited with code 3: no such record");
  EXPECT_THAT(finish(shell(2, "kill -11 $$")).message, HasSubstr("was killed by signal 11"));
}

TEST_F(CommandTest, AMissingProgramIsToldFromOneThatExits127) {
  EXPECT_EQ(finish(command(1, {"no-such-program-here", "x"})).message,
            "'no-such-program-here' is not installed here (no such file, or its interpreter is missing)");
  EXPECT_EQ(finish(shell(2, "exit 127")).message, "'sh' exited with code 127");
  std::ofstream(bench_.dir.at("data")) << "not a program";
  EXPECT_THAT(finish(command(3, {bench_.dir.at("data")})).message, HasSubstr("may not be executed"));
  EXPECT_THAT(finish(command(4, {})).message, HasSubstr("command of the task is empty"));
}

TEST_F(CommandTest, AMissingWorkingDirectoryIsNamed) {
  auto attempt = shell(1, "pwd");
  attempt.working_dir = "/no/such/dir";
  EXPECT_THAT(finish(attempt).message, HasSubstr("cannot enter the working directory '/no/such/dir'"));
}

TEST_F(CommandTest, StandardStreamsComeFromAndGoToFiles) {
  std::ofstream(bench_.dir.at("in")) << "b\na\n";
  auto attempt = command(1, {"sh", "-c", "sort; echo oops >&2"});
  attempt.arguments = {argument("i", AccessKind::kStdin, Direction::kIn, client::FilePath{bench_.dir.at("in")}),
                       argument("o", AccessKind::kStdout, Direction::kOut, client::FilePath{"app/out"}),
                       argument("e", AccessKind::kStderr, Direction::kOut, client::FilePath{"app/err"}), exit_value()};
  const auto& result = finish(attempt);
  ASSERT_EQ(result.outputs.size(), 3U);
  EXPECT_EQ(std::get<client::FilePath>(result.outputs[0]).path, bench_.dir.at("files/app/out"));
  EXPECT_EQ(read_all(bench_.dir.at("files/app/out")), "a\nb\n");
  EXPECT_EQ(read_all(bench_.dir.at("files/app/err")), "oops\n");
  EXPECT_TRUE(bench_.outputs.empty());
}

TEST_F(CommandTest, OutputWithoutAFileGoesToTheLog) {
  finish(shell(5, "echo to the log; printf 'no end of line'"));
  EXPECT_EQ(read_all(bench_.pool->log().path_of(AppId(3, 4))), "[5] to the log\n[5] no end of line\n");
}

TEST_F(CommandTest, ParametersStandInTheCommand) {
  auto attempt = command(1, {"cp", "{{source}}", "{{target}}"});
  std::ofstream(bench_.dir.at("source")) << "payload";
  attempt.arguments = {argument("source", AccessKind::kFile, Direction::kIn, client::FilePath{bench_.dir.at("source")}),
                       argument("target", AccessKind::kFile, Direction::kOut, client::FilePath{"app/t"})};
  EXPECT_EQ(finish(attempt).outcome, Outcome::kDone);
  EXPECT_EQ(read_all(bench_.dir.at("files/app/t")), "payload");

  attempt = shell(2, "echo n={{n}} x={{x}} s={{s}}");
  attempt.arguments = {
      argument("n", AccessKind::kDatum, Direction::kIn, client::Inline{wire::to_blob(std::int64_t{-7})}),
      argument("x", AccessKind::kDatum, Direction::kIn, client::Inline{wire::to_blob(0.5)}),
      argument("s", AccessKind::kDatum, Direction::kIn, client::Inline{wire::to_blob(std::string("text"))})};
  finish(attempt);
  EXPECT_THAT(read_all(bench_.pool->log().path_of(AppId(3, 4))), HasSubstr("[2] n=-7 x=0.5 s=text\n"));

  EXPECT_THAT(finish(shell(3, "echo {{absent}}")).message, HasSubstr("no such parameter"));
  attempt = shell(4, "echo {{object}}");
  attempt.arguments = {argument("object", AccessKind::kDatum, Direction::kIn,
                                client::Inline{wire::make_blob(wire::BlobCodec::kPickle, "x")})};
  EXPECT_THAT(finish(attempt).message, HasSubstr("cannot be put into a command"));
}

TEST_F(CommandTest, AnUpdatedFileIsCopiedFirstSoAFailureDamagesNothing) {
  std::ofstream(bench_.dir.at("mine")) << "original";
  auto attempt = shell(1, "echo changed > {{f}}; exit 1");
  attempt.arguments = {argument("f", AccessKind::kFile, Direction::kInOut, client::FilePath{bench_.dir.at("mine")})};
  attempt.arguments[0].items = {argument("", AccessKind::kFile, Direction::kOut, client::FilePath{"app/new"})};
  EXPECT_EQ(finish(attempt).outcome, Outcome::kException);
  EXPECT_EQ(read_all(bench_.dir.at("mine")), "original");
  EXPECT_EQ(read_all(bench_.dir.at("files/app/new")), "changed\n");
}

TEST_F(CommandTest, AnOutputFileThatWasNotWrittenIsAFailure) {
  auto attempt = shell(1, "true");
  attempt.arguments = {argument("f", AccessKind::kFile, Direction::kOut, client::FilePath{"app/never"})};
  EXPECT_THAT(finish(attempt).message, HasSubstr("without writing its output file"));
}

TEST_F(CommandTest, ATimeLimitStopsTheWholeProcessGroup) {
  const std::string file = bench_.dir.at("child");
  auto attempt = shell(1, "sleep 1000 & echo $! > " + file + "; wait");
  attempt.timeout_ms = 300;
  const auto& result = finish(attempt);
  EXPECT_EQ(result.outcome, Outcome::kTimedOut);
  EXPECT_EQ(result.message, "'sh' exceeded its time limit of 300 ms");
  const pid_t child = std::stoi(read_all(file));
  EXPECT_TRUE(bench_.until([&] { return !process_exists(child); }));
}

TEST_F(CommandTest, CancelReachesChildrenAndTheStubborn) {
  const std::string file = bench_.dir.at("child");
  launch(shell(1, "trap '' TERM; sh -c 'echo $$ > " + file + "; sleep 1000'; sleep 1000"));
  ASSERT_TRUE(bench_.until([&] { return !read_all(file).empty(); }));
  const pid_t child = std::stoi(read_all(file));
  bench_.pool->kill({{1}, false});
  EXPECT_EQ(bench_.wait_for(1).outcome, Outcome::kCancelled);
  EXPECT_TRUE(bench_.until([&] { return !process_exists(child); }));
}

TEST_F(CommandTest, WhatItLeavesRunningEndsWithIt) {
  const std::string file = bench_.dir.at("child");
  finish(shell(1, "sleep 1000 & echo $! > " + file));
  const pid_t child = std::stoi(read_all(file));
  EXPECT_TRUE(bench_.until([&] { return !process_exists(child); }));
}

TEST_F(CommandTest, NoMoreRunAtATimeThanThereAreUnits) {
  for (std::uint64_t n = 1; n <= 20; ++n) launch(shell(n, "sleep 0.01"));
  std::size_t most = 0;
  ASSERT_TRUE(bench_.until([&] {
    most = std::max(most, bench_.pool->counters().commands);
    return bench_.results.size() == 20;
  }));
  EXPECT_EQ(most, 2U);
}

TEST_F(CommandTest, RunsWithoutNewPrivilegesAndWithoutCoreFiles) {
  EXPECT_EQ(bench_.pool->confinement_level(), 1);
  finish(shell(1, "grep NoNewPrivs /proc/self/status; ulimit -c"));
  EXPECT_EQ(read_all(bench_.pool->log().path_of(AppId(3, 4))), "[1] NoNewPrivs:\t1\n[1] 0\n");
}

}  // namespace
}  // namespace shoal::executor
