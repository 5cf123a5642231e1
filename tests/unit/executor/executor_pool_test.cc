// Goal: every attempt that is launched gets exactly one result that says what happened, whatever becomes of the process
// that runs it, and no process outlives the pool.
// Method: the real pool, server and processes; executors are a fake SDK (fake/shoal/executor.py) that does what an
// attempt's first argument says.
#include "agent/executor/executor_pool.h"

#include <gmock/gmock.h>

#include "tests/unit/executor/harness.h"

namespace shoal::executor {
namespace {

using client::Outcome;
using ::testing::HasSubstr;

TEST(ExecutorPool, StartsNothingBeforeTheFirstTask) {
  PoolBench bench;
  for (int i = 0; i < 3; ++i) bench.reactor->run_once(Instant{0});
  EXPECT_EQ(bench.pool->processes_alive(), 0U);
}

TEST(ExecutorPool, RunsAttemptsAndReusesExecutors) {
  PoolBench bench;
  const auto& result = bench.finish(1, "echo hello");
  EXPECT_EQ(result.outcome, Outcome::kDone);
  EXPECT_EQ(PoolBench::text_of(result), "hello");
  const std::string pid = PoolBench::text_of(bench.finish(2, "pid"));
  for (std::uint64_t n = 3; n < 20; ++n) EXPECT_EQ(PoolBench::text_of(bench.finish(n, "pid")), pid);
  EXPECT_EQ(bench.pool->counters().executors_started, 1U) << "one attempt at a time needs one executor";
}

TEST(ExecutorPool, SendsAFunctionOncePerExecutor) {
  PoolBench bench;
  bench.finish(1, "echo");
  bench.finish(2, "echo");
  EXPECT_EQ(PoolBench::text_of(bench.finish(3, "functions")), "1");
}

TEST(ExecutorPool, ManyShortAttemptsAreSharedByAllExecutorsAndNoMoreThanUnits) {
  PoolBench bench;
  std::vector<client::Attempt> attempts;
  for (std::uint64_t n = 1; n <= 2000; ++n) attempts.push_back(PoolBench::attempt(n, "pid"));
  bench.pool->launch(PoolBench::launch_of(std::move(attempts)));
  ASSERT_TRUE(bench.until([&] { return bench.results.size() == 2000; }));
  std::set<std::string> pids;
  for (const auto& [n, result] : bench.results) pids.insert(PoolBench::text_of(result));
  EXPECT_EQ(pids.size(), 2U);
  EXPECT_EQ(bench.pool->counters().executors, 2U);
}

TEST(ExecutorPool, NothingWaitsBehindALongAttemptWhileAnExecutorIsFree) {
  PoolBench bench;
  bench.finish(1, "echo");
  bench.launch(2, "sleep");
  std::vector<client::Attempt> attempts;
  for (std::uint64_t n = 100; n < 200; ++n) attempts.push_back(PoolBench::attempt(n, "echo"));
  bench.pool->launch(PoolBench::launch_of(std::move(attempts)));
  EXPECT_TRUE(bench.until([&] { return bench.results.size() >= 100; }));
  EXPECT_GT(bench.pool->counters().recalled, 0U) << "the function was thought to be short";
  bench.pool->kill({{2}, false});
  EXPECT_EQ(bench.wait_for(2).outcome, Outcome::kCancelled);
}

TEST(ExecutorPool, AnExceptionIsTheTasksAndTheExecutorLives) {
  PoolBench bench;
  EXPECT_EQ(bench.finish(1, "no_such_action").outcome, Outcome::kException);
  bench.finish(2, "echo");
  EXPECT_EQ(bench.pool->counters().executors_lost, 0U);
}

TEST(ExecutorPool, ASegfaultLosesTheExecutorAndNamesTheSignal) {
  PoolBench bench;
  const auto& result = bench.finish(1, "segv");
  EXPECT_EQ(result.outcome, Outcome::kExecutorLost);
  EXPECT_THAT(result.message, HasSubstr("signal 11"));
  EXPECT_THAT(result.message, HasSubstr("task 1"));
  EXPECT_EQ(bench.finish(2, "echo").outcome, Outcome::kDone) << "a new one is started on demand";
}

TEST(ExecutorPool, AnExitInsideATaskNamesTheCode) {
  PoolBench bench;
  EXPECT_THAT(bench.finish(1, "exit 3").message, HasSubstr("exited with code 3"));
}

TEST(ExecutorPool, KilledFromOutsideIsLost) {
  PoolBench bench;
  const pid_t pid = std::stoi(PoolBench::text_of(bench.finish(1, "pid")));
  bench.launch(2, "sleep");
  bench.reactor->run_once(Instant{0});
  ::kill(pid, SIGKILL);
  const auto& result = bench.wait_for(2);
  EXPECT_EQ(result.outcome, Outcome::kExecutorLost);
  EXPECT_THAT(result.message, HasSubstr("signal 9"));
}

TEST(ExecutorPool, AResultSentJustBeforeTheEndCounts) {
  PoolBench bench;
  EXPECT_EQ(PoolBench::text_of(bench.finish(1, "last_words")), "said");
  ASSERT_TRUE(bench.until([&] { return bench.pool->counters().executors == 0; }));
  EXPECT_EQ(bench.pool->counters().executors_lost, 0U);
  EXPECT_EQ(bench.finish(2, "echo").outcome, Outcome::kDone);
}

// Short attempts are handed over together, and their results come together: when one of them kills the process, the
// pool cannot know which. Each is run again alone, so that only the culprit is blamed.
TEST(ExecutorPool, OnlyTheCulpritOfABatchIsBlamed) {
  PoolBench bench([](ExecutorConfig& config) { config.computing_units = 1; });
  for (std::uint64_t n = 1; n <= 3; ++n) bench.finish(n, "echo");
  std::vector<client::Attempt> attempts;
  for (std::uint64_t n = 10; n < 30; ++n) attempts.push_back(PoolBench::attempt(n, n == 20 ? "segv" : "echo"));
  bench.pool->launch(PoolBench::launch_of(std::move(attempts)));
  ASSERT_TRUE(bench.until([&] { return bench.results.size() == 23; }));
  for (std::uint64_t n = 10; n < 30; ++n) {
    EXPECT_EQ(bench.results[n].outcome, n == 20 ? Outcome::kExecutorLost : Outcome::kDone) << n;
  }
}

TEST(ExecutorPool, CancelInterruptsPythonAndKeepsTheProcess) {
  PoolBench bench;
  const std::string pid = PoolBench::text_of(bench.finish(1, "pid"));
  const std::string file = bench.dir.at("asleep");
  bench.launch(2, "sleep " + file);
  ASSERT_TRUE(bench.until([&] { return !read_all(file).empty(); }));
  bench.pool->kill({{2}, false});
  EXPECT_EQ(bench.wait_for(2).outcome, Outcome::kCancelled);
  EXPECT_EQ(PoolBench::text_of(bench.finish(3, "pid")), pid);
}

TEST(ExecutorPool, CancelBeforeTheStartRunsNothing) {
  PoolBench bench([](ExecutorConfig& config) { config.computing_units = 1; });
  bench.launch(1, "sleep");
  bench.launch(2, "echo");
  bench.pool->kill({{2, 77}, false});  // 77 is unknown: ignored
  EXPECT_EQ(bench.wait_for(2).outcome, Outcome::kCancelled);
  bench.pool->kill({{1}, true});
  EXPECT_EQ(bench.wait_for(1).outcome, Outcome::kTimedOut);
}

TEST(ExecutorPool, CancelOfAStubbornAttemptKillsItAndItsChildren) {
  PoolBench bench([](ExecutorConfig& config) {
    config.interrupt_grace = milliseconds(50);
    config.kill_grace = milliseconds(50);
  });
  const std::string file = bench.dir.at("child");
  bench.launch(1, "stubborn " + file);
  ASSERT_TRUE(bench.until([&] { return !read_all(file).empty(); }));
  const pid_t child = std::stoi(read_all(file));
  bench.pool->kill({{1}, false});
  EXPECT_EQ(bench.wait_for(1).outcome, Outcome::kCancelled);
  EXPECT_TRUE(bench.until([&] { return !process_exists(child); }));
  EXPECT_EQ(bench.finish(2, "echo").outcome, Outcome::kDone);
}

TEST(ExecutorPool, AnExecutorThatDoesNotReportItsTimeOutIsStopped) {
  PoolBench bench([](ExecutorConfig& config) { config.timeout_grace = milliseconds(20); });
  auto attempt = PoolBench::attempt(1, "sleep");
  attempt.timeout_ms = 30;
  bench.pool->launch(PoolBench::launch_of({attempt}));
  const auto& result = bench.wait_for(1);
  EXPECT_EQ(result.outcome, Outcome::kTimedOut);
  EXPECT_THAT(result.message, HasSubstr("30 ms"));
}

TEST(ExecutorPool, ChildrenOfALostExecutorDieWithIt) {
  PoolBench bench;
  const std::string file = bench.dir.at("child");
  const pid_t executor = std::stoi(PoolBench::text_of(bench.finish(1, "pid")));
  bench.launch(2, "children " + file);
  ASSERT_TRUE(bench.until([&] { return !read_all(file).empty(); }));
  ::kill(executor, SIGKILL);
  EXPECT_EQ(bench.wait_for(2).outcome, Outcome::kExecutorLost);
  const pid_t child = std::stoi(read_all(file));
  EXPECT_TRUE(bench.until([&] { return !process_exists(child); }));
}

TEST(ExecutorPool, ABlockedAttemptLendsItsPlaceAndReturnsTheRest) {
  PoolBench bench([](ExecutorConfig& config) { config.computing_units = 1; });
  for (std::uint64_t n = 1; n <= 3; ++n) bench.finish(n, "echo");
  const std::string gate = bench.dir.at("gate");
  bench.pool->launch(PoolBench::launch_of({PoolBench::attempt(10, "block " + gate), PoolBench::attempt(11, "echo")}));
  EXPECT_EQ(bench.wait_for(11).outcome, Outcome::kReturned);
  ASSERT_EQ(bench.blocked.size(), 1U);
  EXPECT_EQ(bench.blocked[0].attempt, 10U);
  EXPECT_EQ(bench.finish(12, "echo").outcome, Outcome::kDone) << "an extra executor runs it";
  EXPECT_EQ(bench.pool->counters().executors, 2U);
  std::ofstream(gate) << "open";
  EXPECT_EQ(PoolBench::text_of(bench.wait_for(10)), "unblocked");
  EXPECT_FALSE(bench.blocked.back().blocked);
}

TEST(ExecutorPool, OutputIsAttributedToItsTaskAndKept) {
  PoolBench bench;
  bench.finish(1, "print one");
  bench.finish(2, "print two");
  ASSERT_TRUE(bench.until([&] { return bench.outputs.size() == 2; }));
  EXPECT_EQ(bench.outputs[0].task, TaskId(1));
  EXPECT_EQ(bench.outputs[0].text, "one\n");
  EXPECT_EQ(bench.outputs[1].task, TaskId(2));
  EXPECT_EQ(read_all(bench.pool->log().path_of(AppId(1, 2))), "[1] one\n[2] two\n");
}

// Goal: the log is read in parts, by task and stream, across its renaming, without a line lost or given twice.
TEST(OutputLog, IsReadInPartsAcrossItsRenaming) {
  TempDir dir;
  OutputLog log(dir.path(), 200, nullptr);
  const AppId app(1, 2);
  std::vector<std::string> seen;
  std::string cursor;
  const auto read = [&](std::size_t bytes_max) {
    auto part = log.read_part(app, cursor, bytes_max, [&](const OutputLog::Line& line) {
      seen.push_back(std::to_string(line.task.value()) + "/" + std::to_string(line.stream) + "/" +
                     std::string(line.text));
    });
    cursor = part.cursor;
    return part.more;
  };
  EXPECT_FALSE(read(1000)) << "there is no file yet";
  log.write({app, TaskId(7), 1, "one\ntwo\n"});
  log.write({app, TaskId(8), 2, "no end of line"});
  while (read(20)) continue;
  EXPECT_EQ(seen, (std::vector<std::string>{"7/1/one", "7/1/two", "8/2/no end of line"}));
  seen.clear();
  for (int n = 0; n < 20; ++n) {
    log.write({app, TaskId(9), 1, std::string(20, 'x') + "\n"});
    while (read(1000)) continue;
  }
  EXPECT_EQ(seen.size(), 20U);
  EXPECT_TRUE(std::filesystem::exists(log.path_of(app) + ".1"));
}

TEST(ExecutorPool, LogsAreBounded) {
  PoolBench bench([](ExecutorConfig& config) { config.log_bytes_max = 1000; });
  for (std::uint64_t n = 1; n <= 40; ++n) bench.finish(n, "print " + std::string(90, 'x'));
  const std::string log = bench.pool->log().path_of(AppId(1, 2));
  EXPECT_LE(read_all(log).size(), 1000U);
  EXPECT_LE(read_all(log + ".1").size(), 1000U);
  EXPECT_GT(read_all(log + ".1").size(), 500U);
}

TEST(ExecutorPool, AnExecutorWithoutStdoutGoesOn) {
  PoolBench bench;
  EXPECT_EQ(PoolBench::text_of(bench.finish(1, "close")), "closed");
  EXPECT_EQ(bench.finish(2, "echo").outcome, Outcome::kDone);
}

TEST(ExecutorPool, RelativeFilesLieInTheFileArea) {
  PoolBench bench;
  auto attempt = PoolBench::attempt(1, "file content");
  client::Argument out;
  out.direction = client::Direction::kOut;
  out.kind = client::AccessKind::kFile;
  out.value = client::FilePath{"app/sub/f1"};
  attempt.arguments.push_back(out);
  bench.pool->launch(PoolBench::launch_of({attempt}));
  EXPECT_EQ(PoolBench::text_of(bench.wait_for(1)), bench.dir.at("files/app/sub/f1"));
  EXPECT_EQ(read_all(bench.dir.at("files/app/sub/f1")), "content");

  attempt.attempt = 2;
  attempt.arguments.back().value = client::FilePath{"../../etc/passwd"};
  bench.pool->launch(PoolBench::launch_of({attempt}));
  EXPECT_THAT(bench.wait_for(2).message, HasSubstr("leads out of the agent's file area"));
}

TEST(ExecutorPool, EnvironmentsShareNoProcessAndSeeTheirOwnPaths) {
  PoolBench bench;
  const auto finish_in = [&](std::uint64_t number, std::uint64_t id, const std::string& action) {
    auto launch = PoolBench::launch_of({PoolBench::attempt(number, action)});
    environment::Surroundings surroundings;
    surroundings.id = launch.environment = EnvironmentId(0, id);
    if (id != 0) {
      surroundings.modules = {"/modules/" + std::to_string(id)};
      surroundings.libraries = {"/libraries"};
      surroundings.variables = {{"FLAVOUR", "number " + std::to_string(id)}};
    }
    bench.pool->launch(std::move(launch), surroundings);
    return PoolBench::text_of(bench.wait_for(number));
  };
  const std::set<std::string> processes = {finish_in(1, 0, "pid"), finish_in(2, 1, "pid"), finish_in(3, 2, "pid")};
  EXPECT_EQ(processes.size(), 3u);
  EXPECT_EQ(finish_in(4, 2, "pid"), finish_in(5, 2, "pid")) << "one environment keeps its process";
  EXPECT_EQ(finish_in(6, 1, "getenv FLAVOUR"), "number 1");
  EXPECT_EQ(finish_in(7, 2, "getenv FLAVOUR"), "number 2");
  EXPECT_EQ(finish_in(8, 0, "getenv FLAVOUR"), "");
  EXPECT_EQ(finish_in(9, 1, "getenv SHOAL_ENVIRONMENT"), EnvironmentId(0, 1).hex());
  EXPECT_THAT(finish_in(10, 1, "getenv LD_LIBRARY_PATH"), ::testing::StartsWith("/libraries"));
  EXPECT_THAT(finish_in(11, 2, "getenv PYTHONPATH"),
              ::testing::StartsWith(std::string(SHOAL_FAKE_SDK_DIR) + ":/modules/2"));
  EXPECT_TRUE(bench.pool->environments_in_use().empty()) << "nothing runs in them now";
}

// ---- starting ----

TEST(ExecutorPool, AMissingInterpreterFailsTheTaskWithAdvice) {
  PoolBench bench;
  auto launch = PoolBench::launch_of({PoolBench::attempt(1, "echo")});
  launch.python = "/no/such/python9";
  bench.pool->launch(std::move(launch));
  const auto& result = bench.wait_for(1);
  EXPECT_EQ(result.outcome, Outcome::kNotStarted);
  EXPECT_THAT(result.message, HasSubstr("'/no/such/python9' is not installed here"));
  EXPECT_THAT(result.message, HasSubstr("check that this interpreter"));
  EXPECT_EQ(bench.finish(2, "echo").outcome, Outcome::kDone) << "other interpreters are not affected";
}

TEST(ExecutorPool, AnInterpreterWithoutTheSdkSaysSo) {
  PoolBench bench([](ExecutorConfig& config) { config.python_path = {"/nonexistent"}; });
  ::setenv("PYTHONPATH", "", 1);
  const auto& result = bench.finish(1, "echo");
  EXPECT_EQ(result.outcome, Outcome::kNotStarted);
  EXPECT_THAT(result.message, HasSubstr("No module named"));
}

TEST(ExecutorPool, WithoutAZygoteExecutorsAreStartedOneByOne) {
  ::setenv("FAKE_ZYGOTE", "broken", 1);
  PoolBench bench;
  EXPECT_EQ(bench.finish(1, "echo direct").outcome, Outcome::kDone);
  bench.finish(2, "print from a direct one");
  ASSERT_TRUE(bench.until([&] { return !bench.outputs.empty() && bench.outputs.back().task == TaskId(2); }));
  ::unsetenv("FAKE_ZYGOTE");
  EXPECT_THAT(bench.finish(3, "exit 4").message, HasSubstr("exited with code 4"));
}

TEST(ExecutorPool, AHangingZygoteIsReplaced) {
  ::setenv("FAKE_ZYGOTE", "hangs", 1);
  PoolBench bench([](ExecutorConfig& config) { config.start_grace = milliseconds(400); });
  EXPECT_EQ(bench.finish(1, "echo").outcome, Outcome::kDone);
  ::unsetenv("FAKE_ZYGOTE");
}

TEST(ExecutorPool, AnUnknownFunctionOrLanguageIsAnAnswerNotACrash) {
  PoolBench bench;
  auto launch = PoolBench::launch_of({PoolBench::attempt(1, "echo")});
  launch.functions.clear();
  bench.pool->launch(std::move(launch));
  EXPECT_THAT(bench.wait_for(1).message, HasSubstr("is not known to the agent"));
  auto fortran = PoolBench::launch_of({PoolBench::attempt(2, "echo")});
  fortran.language = "fortran";
  bench.pool->launch(std::move(fortran));
  EXPECT_THAT(bench.wait_for(2).message, HasSubstr("'fortran'"));
}

TEST(ExecutorPool, StrangersAreNotExecutors) {
  PoolBench bench;
  RawClient stranger(bench.dir.at("socket"));
  stranger.send(hello_frame("executor"));
  EXPECT_TRUE(bench.until([&] { return !stranger.receive(); }));
  EXPECT_THAT(stranger.reply()->message, HasSubstr("did not start that executor"));

  RawClient driver(bench.dir.at("socket"));
  driver.send(hello_frame() + framed(client::Kind::kDone, client::Done{{client::AttemptResult{}}}));
  EXPECT_TRUE(bench.until([&] { return !driver.receive(); }));
  EXPECT_THAT(driver.reply()->message, HasSubstr("only executors"));
}

// ---- ending ----

TEST(ExecutorPool, IdleExecutorsEndAndComeBackOnDemand) {
  PoolBench bench([](ExecutorConfig& config) { config.idle_max = milliseconds(30); });
  bench.finish(1, "echo");
  EXPECT_TRUE(bench.until([&] { return bench.pool->processes_alive() == 0; })) << bench.pool->processes_alive();
  EXPECT_EQ(bench.finish(2, "echo").outcome, Outcome::kDone);
}

TEST(ExecutorPool, ShutdownLeavesNoProcessAndNoDescriptor) {
  const std::size_t before = open_descriptors();
  {
    PoolBench bench([](ExecutorConfig& config) { config.kill_grace = milliseconds(50); });
    const std::string file = bench.dir.at("child");
    bench.launch(1, "children " + file);
    bench.launch(2, "stubborn " + file + "2");
    ASSERT_TRUE(bench.until([&] { return !read_all(file).empty() && !read_all(file + "2").empty(); }));
    bench.pool->shutdown(agent::Reactor::now() + milliseconds(200));
    EXPECT_EQ(bench.pool->processes_alive(), 0U);
    EXPECT_TRUE(bench.until([&] {
      return !process_exists(std::stoi(read_all(file))) && !process_exists(std::stoi(read_all(file + "2")));
    }));
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(ExecutorPool, DestroyedWithoutShutdownItLeavesNothingEither) {
  const std::size_t before = open_descriptors();
  pid_t pid = 0;
  {
    PoolBench bench;
    pid = std::stoi(PoolBench::text_of(bench.finish(1, "pid")));
    bench.launch(2, "sleep");
    bench.reactor->run_once(Instant{0});
    bench.pool.reset();
    EXPECT_TRUE(bench.until([&] { return !process_exists(pid); }));
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace shoal::executor
