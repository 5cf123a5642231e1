// Goal: a C++ program served by an agent gets what it would compute alone: values, files, large results, nested tasks,
// failures. Method: the program beside these tests as a driver of its own process, against the real server and pool
// (mini_agent.h).
#include "tests/unit/sdk_cpp/mini_agent.h"

#include <fcntl.h>
#include <gmock/gmock.h>

namespace shoal::executor {
namespace {

TEST(SdkAgent, AProgramRunsThroughAnAgent) {
  MiniAgent agent(SDK_CPP_PROGRAM);
  const Fd out(::open(agent.dir().at("out").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  std::optional<Ending> ending;
  SpawnSpec spec;
  spec.command = {SDK_CPP_PROGRAM, agent.dir().path()};
  spec.environment = {{"SHOAL_SOCKET", agent.socket()}};
  spec.stdout_fd = out.get();
  spec.stderr_fd = STDERR_FILENO;
  auto driver = Process::spawn(agent.reactor(), spec, [&](const Ending& e) { ending = e; });
  ASSERT_TRUE(driver.has_value());
  ASSERT_TRUE(run_until(agent.reactor(), [&] { return ending.has_value(); }));
  EXPECT_TRUE(ending->ok()) << describe(*ending);
  EXPECT_EQ(
      read_all(agent.dir().at("out")),
      "sum 10\nlist 5\nout produced\nlarge 100000\nnested 13\nfiles 16\nmany 249500\nfailure negative value -1\n");
  EXPECT_GT(agent.apps_served(), 10U) << "nested calls are applications of their own";
  EXPECT_GT(agent.released(), 100U);
}

TEST(SdkAgent, WithoutTheAgentTheProgramSaysWhatToDo) {
  auto reactor = make_reactor();
  TempDir dir;
  const Fd err(::open(dir.at("err").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  std::optional<Ending> ending;
  SpawnSpec spec;
  spec.command = {SDK_CPP_PROGRAM, "--shoal-executor"};
  spec.environment = {{"SHOAL_SOCKET", dir.at("nobody")}};
  spec.stderr_fd = err.get();
  auto driver = Process::spawn(*reactor, spec, [&](const Ending& e) { ending = e; });
  ASSERT_TRUE(run_until(*reactor, [&] { return ending.has_value(); }));
  EXPECT_EQ(describe(*ending), "exited with code 1");
  EXPECT_THAT(read_all(dir.at("err")), ::testing::HasSubstr("start one with `shoal up`"));
}

}  // namespace
}  // namespace shoal::executor
