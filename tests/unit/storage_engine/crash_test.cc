// Goal: nothing acknowledged is lost by kill -9 at any moment.
// Method: a child process writes keys, small and large objects, erases and journals, and reports each
// acknowledgement through a pipe; the parent kills it after a random number of reports, opens the directory
// and looks for all of them.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "tests/unit/storage_engine/fixture.h"

namespace shoal::storage::testing {
namespace {

constexpr std::uint64_t kErasedFlag = 1ULL << 62;

std::size_t size_of(std::uint64_t n) {
  return n % 3 == 0 ? 60'000 + n % 1'000 : 200 + n % 100;
}

// Writes until killed. Number n: a key, an object, a journal record; every fifth object is erased again.
[[noreturn]] void child(const EngineConfig& config, std::uint64_t from, int report) {
  auto opened = Engine::open(config);
  if (!opened) ::_exit(3);
  Engine& engine = **opened;
  std::map<std::uint64_t, int> parts;
  std::uint64_t next = from;
  for (;;) {
    while (parts.size() < 16) {
      const std::uint64_t n = next++;
      parts[n] = 3;
      engine.persist({{"k" + std::to_string(n), content_of(n, 40)}}, n);
      engine.put_async(manifest_of(object_id(n), size_of(n)), content_of(n, size_of(n)), n);
      engine.append("journal", Bytes(std::to_string(n)), n);
    }
    pollfd event{engine.event_fd(), POLLIN, 0};
    ::poll(&event, 1, 1'000);
    std::vector<Completion> finished;
    engine.poll_completions(finished);
    for (const Completion& one : finished) {
      if (!one.result) ::_exit(4);
      std::uint64_t said = one.id;
      if ((one.id & kErasedFlag) == 0) {
        if (--parts[one.id] > 0) continue;
        parts.erase(one.id);
        if (one.id % 5 == 0) engine.erase(object_id(one.id), one.id | kErasedFlag);
      }
      if (::write(report, &said, sizeof said) != sizeof said) ::_exit(5);
    }
  }
}

TEST_F(EngineTest, KillNineAtRandomMoments) {
  constexpr int kRounds = 50;
  config.segment_bytes = 1U << 20;
  std::set<std::uint64_t> written;
  std::set<std::uint64_t> erased;
  std::uint64_t random = 20'261'122;
  std::uint64_t from = 1;
  for (int round = 0; round < kRounds; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::close(pipe_ends[0]);
      child(config, from, pipe_ends[1]);
    }
    ::close(pipe_ends[1]);
    random = mix64(random + 1);
    std::uint64_t reports_left = random % 60;
    bool killed = false;
    std::uint64_t said = 0;
    while (::read(pipe_ends[0], &said, sizeof said) == sizeof said) {
      from = std::max(from, (said & ~kErasedFlag) + 1'000);
      ((said & kErasedFlag) != 0 ? erased : written).insert(said & ~kErasedFlag);
      if (!killed && reports_left-- == 0) {
        ::kill(pid, SIGKILL);
        killed = true;
      }
    }
    ::close(pipe_ends[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself with " << WEXITSTATUS(status);
    from = (from / 1'000 + 1) * 1'000;
  }

  open();
  const auto keys = engine->load("k");
  ASSERT_TRUE(keys);
  const auto journal = engine->read_journal("journal");
  ASSERT_TRUE(journal) << journal.error().message;
  const std::set<std::string> journalled(journal->begin(), journal->end());
  ASSERT_GT(written.size(), 100U);
  for (std::uint64_t n : written) {
    ASSERT_TRUE(keys->contains("k" + std::to_string(n))) << n;
    EXPECT_EQ(keys->at("k" + std::to_string(n)), content_of(n, 40));
    EXPECT_TRUE(journalled.contains(std::to_string(n))) << n;
    auto content = engine->get(object_id(n));
    if (erased.contains(n)) {
      EXPECT_FALSE(content) << n << " was erased";
    } else if (n % 5 != 0 || content) {  // an erase may have happened without being acknowledged
      ASSERT_TRUE(content) << n << ": " << content.error().message;
      EXPECT_EQ(*content, content_of(n, size_of(n)));
    }
  }
}

}  // namespace
}  // namespace shoal::storage::testing
