// Goal: what is to outlive the agent does, and only that. Method: a shell that leaves a process in the background.
#include "agent/executor/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <optional>
#include <string>

namespace shoal::executor {
namespace {

// Whether what a shell leaves in the background still runs when the shell has ended. It holds the write end of a pipe.
bool leftover_runs(bool outlives) {
  auto reactor = std::move(*agent::Reactor::create());
  auto pipe = make_pipe();
  auto said = make_pipe();
  EXPECT_TRUE(pipe && said);
  SpawnSpec spec;
  spec.command = {"/bin/sh", "-c", "sleep 600 >&2 & echo $!"};
  spec.stdout_fd = said->write.get();
  spec.stderr_fd = pipe->write.get();
  spec.outlives = outlives;
  std::optional<Ending> ended;
  auto process = Process::spawn(*reactor, spec, [&](const Ending& ending) { ended = ending; });
  EXPECT_TRUE(process) << process.error().message;
  pipe->write.reset();
  const Instant last = agent::Reactor::now() + seconds(10);
  while (!ended && agent::Reactor::now() < last) reactor->run_once(last);
  EXPECT_TRUE(ended && ended->ok());
  char text[32] = {};
  EXPECT_GT(::read(said->read.get(), text, sizeof(text) - 1), 0);
  pollfd watched{pipe->read.get(), POLLIN, 0};
  const bool runs = ::poll(&watched, 1, outlives ? 0 : 10'000) == 0;  // else the last holder of the pipe is gone
  if (runs) ::kill(static_cast<pid_t>(std::stol(text)), SIGKILL);
  return runs;
}

TEST(Process, LeavesNothingRunningUnlessItIsToOutliveTheAgent) {
  EXPECT_FALSE(leftover_runs(false));
  EXPECT_TRUE(leftover_runs(true));
}

TEST(Process, OneThatWasDetachedRunsOn) {
  auto reactor = std::move(*agent::Reactor::create());
  auto pipe = make_pipe();
  SpawnSpec spec;
  spec.command = {"/bin/sleep", "600"};
  spec.stdout_fd = pipe->write.get();
  spec.outlives = true;
  pid_t pid = -1;
  {
    auto process = Process::spawn(*reactor, spec, [](const Ending&) { FAIL(); });
    ASSERT_TRUE(process);
    pid = (*process)->pid();
    (*process)->detach();
  }
  EXPECT_EQ(::kill(pid, 0), 0);
  ::kill(pid, SIGKILL);
  pipe->write.reset();
  pollfd watched{pipe->read.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&watched, 1, 10'000), 1);
}

}  // namespace
}  // namespace shoal::executor
