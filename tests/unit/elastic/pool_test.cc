// Goal: every agent that is asked for becomes ready or is told to have failed, once, and whatever happens ends.
// Method: a pool on a real reactor with a provider, members and tokens that the test moves by hand.
#include "agent/elastic/pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

namespace shoal::elastic {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr AppId kApp(1, 2);
constexpr AppId kOther(3, 4);

// Remembers what it was asked, and answers when the test says so.
struct FakeProvider : Provider {
  void create(const std::string& name, const std::string& token, Done done) override {
    EXPECT_EQ(token, "token");
    creating[name] = std::move(done);
  }
  void destroy(const std::string& name, Done done) override { destroying[name] = std::move(done); }
  void abandon(const std::vector<std::string>& names) override { abandoned = names; }
  std::string describe() const override { return "fake"; }
  std::map<std::string, Done> creating;
  std::map<std::string, Done> destroying;
  std::vector<std::string> abandoned;
};

class PoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "elastic.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory = pattern;
    reactor = std::move(*agent::Reactor::create());
    open(seconds(60));
  }
  void TearDown() override {
    pool.reset();
    std::filesystem::remove_all(directory);
  }
  void open(Duration join_time_max) {
    Hooks hooks;
    hooks.token = [this](const std::function<void(Result<std::string>)>& done) {
      done(token_error ? Result<std::string>(tl::unexpected<Error>(*token_error)) : Result<std::string>("token"));
    };
    hooks.joined = [this](const std::string& name) { return members.contains(name); };
    hooks.close = [this](const std::string& name) { closed.insert(name); };
    hooks.gone = [this](const std::string& name) { EXPECT_TRUE(gone.insert(name).second) << name; };
    hooks.idle = [this](const std::string&, const std::function<void(bool)>& done) { done(idle); };
    pool.reset();
    pool = std::make_unique<Pool>(*reactor, PoolConfig{2, directory, "e-", join_time_max}, std::move(hooks));
    auto made = std::make_unique<FakeProvider>();
    provider = made.get();
    pool->open(std::move(made));
  }
  Pool::Done note(std::optional<Outcome>& outcome) {
    return [&outcome](const Outcome& told) {
      EXPECT_FALSE(outcome) << "told twice";
      outcome = told;
    };
  }
  template <class Done>
  bool run_until(Done&& done) {
    const Instant last = agent::Reactor::now() + seconds(10);
    while (!done()) {
      if (agent::Reactor::now() > last) return false;
      reactor->run_once(agent::Reactor::now() + milliseconds(20));
    }
    return true;
  }
  void answer(std::map<std::string, Provider::Done>& calls, const std::string& name, const Result<>& result = {}) {
    auto call = calls.extract(name);
    ASSERT_FALSE(call.empty());
    call.mapped()(result);
  }
  void make_ready(const std::string& name) {
    answer(provider->creating, name);
    members.insert(name);
    const std::uint32_t before = pool->ready();
    EXPECT_TRUE(run_until([&] { return pool->ready() == before + 1; }));
  }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
  }

  std::string directory;
  std::unique_ptr<agent::Reactor> reactor;
  std::unique_ptr<Pool> pool;
  FakeProvider* provider = nullptr;
  std::optional<Error> token_error;
  std::set<std::string> members;
  std::set<std::string> closed;
  std::set<std::string> gone;
  bool idle = true;
};

TEST_F(PoolTest, MakesWhatItMayAndTellsWhenAllAreThere) {
  std::optional<Outcome> outcome;
  EXPECT_EQ(pool->request(kApp, 5, note(outcome)), 2U);
  EXPECT_EQ(pool->request(kOther, 1, nullptr), 0U);
  EXPECT_EQ(entries(), 2U);
  make_ready("e-1");
  EXPECT_FALSE(outcome);
  make_ready("e-2");
  ASSERT_TRUE(run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->done, 2U);
  EXPECT_EQ(outcome->failed, 0U);
  EXPECT_EQ(pool->describe(), "fake, 2 of at most 2 agents ready");
}

TEST_F(PoolTest, FreesTheYoungestOfTheApplicationOnceItIsIdle) {
  pool->request(kOther, 1, nullptr);
  pool->request(kApp, 1, nullptr);
  make_ready("e-1");
  make_ready("e-2");
  idle = false;
  std::optional<Outcome> outcome;
  EXPECT_EQ(pool->free(kApp, 7, note(outcome)), 1U);
  EXPECT_THAT(closed, ElementsAre("e-2"));
  EXPECT_EQ(pool->free(kApp, 7, nullptr), 0U) << "it is on its way already";
  int turns = 0;
  EXPECT_TRUE(run_until([&] { return ++turns > 40; }));
  EXPECT_THAT(provider->destroying, IsEmpty());
  idle = true;
  ASSERT_TRUE(run_until([&] { return !provider->destroying.empty(); }));
  EXPECT_FALSE(outcome);
  answer(provider->destroying, "e-2");
  ASSERT_TRUE(run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->done, 1U);
  EXPECT_EQ(pool->size(), 1U);
  EXPECT_EQ(entries(), 1U);
  EXPECT_THAT(gone, ElementsAre("e-2"));
}

TEST_F(PoolTest, FailuresAreToldWithTheirReason) {
  std::optional<Outcome> outcome;
  token_error = Error{Code::kDenied, "no tokens here"};
  EXPECT_EQ(pool->request(kApp, 1, note(outcome)), 1U);
  ASSERT_TRUE(run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->failed, 1U);
  EXPECT_EQ(outcome->why, "no tokens here");
  answer(provider->destroying, "e-1");
  token_error.reset();
  outcome.reset();
  pool->request(kApp, 2, note(outcome));
  answer(provider->creating, "e-2", fail(Code::kFailed, "no machine"));
  answer(provider->creating, "e-3");
  pool->ended("e-3", "it crashed");
  ASSERT_TRUE(run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->failed, 2U);
  EXPECT_EQ(outcome->why, "it crashed");
  answer(provider->destroying, "e-2");
  answer(provider->destroying, "e-3");
  EXPECT_EQ(pool->size(), 0U);
  EXPECT_EQ(entries(), 0U);
}

TEST_F(PoolTest, WhoDoesNotJoinInTimeHasFailed) {
  open(milliseconds(50));
  std::optional<Outcome> outcome;
  pool->request(kApp, 1, note(outcome));
  answer(provider->creating, "e-1");
  ASSERT_TRUE(run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->failed, 1U);
  EXPECT_THAT(provider->destroying, SizeIs(1));
}

TEST_F(PoolTest, WhatAnApplicationAskedForEndsWithIt) {
  pool->request(kApp, 2, [](const Outcome&) { ADD_FAILURE() << "nobody is left to be told"; });
  make_ready("e-1");
  pool->app_ended(kOther);
  EXPECT_THAT(provider->destroying, IsEmpty());
  pool->app_ended(kApp);
  pool->app_ended(kApp);
  EXPECT_THAT(provider->destroying, SizeIs(2));
  answer(provider->creating, "e-2");  // late: it is being ended
  pool->ended("e-1", "asked to");
  answer(provider->destroying, "e-1");
  answer(provider->destroying, "e-2");
  EXPECT_EQ(pool->size(), 0U);
}

TEST_F(PoolTest, OneThatIsFreedBeforeItIsReadyEndsAtOnce) {
  std::optional<Outcome> made;
  std::optional<Outcome> freed;
  pool->request(kApp, 1, note(made));
  EXPECT_EQ(pool->free(kApp, 1, note(freed)), 1U);
  answer(provider->destroying, "e-1");
  ASSERT_TRUE(run_until([&] { return made && freed; }));
  EXPECT_EQ(made->failed, 1U);
  EXPECT_EQ(freed->done, 1U);
}

TEST_F(PoolTest, WhatAnEarlierProcessLeftIsEndedAndWhatCannotBeIsTriedAgain) {
  pool->request(kApp, 2, nullptr);
  pool->abandon();
  EXPECT_THAT(provider->abandoned, ElementsAre("e-1", "e-2"));
  pool->app_ended(kApp);  // its driver goes with this agent
  EXPECT_THAT(provider->destroying, IsEmpty());
  EXPECT_EQ(pool->request(kApp, 1, nullptr), 0U);
  open(seconds(60));
  EXPECT_THAT(provider->destroying, SizeIs(2));
  answer(provider->destroying, "e-1");
  answer(provider->destroying, "e-2", fail(Code::kFailed, "not now"));
  EXPECT_EQ(entries(), 1U);
}

// The command: what it is given, and what becomes of one that fails or never ends.
TEST(CommandProvider, RunsTheProgramAndTellsHowItEnded) {
  std::string pattern = ::testing::TempDir() + "elastic.XXXXXX";
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const std::string& directory = pattern;
  const std::string program = directory + "/make";
  std::ofstream(program) << "#!/bin/sh\necho \"$1 $2 ${SHOAL_TOKEN:-none}\" >> " << directory
                         << "/calls\n[ $2 != bad ] || exit 3\n[ $2 != slow ] || sleep 60\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  auto reactor = std::move(*agent::Reactor::create());
  auto provider = make_command_provider(*reactor, program, directory + "/log", milliseconds(500));
  EXPECT_EQ(provider->describe(), "command " + program);
  std::vector<std::string> ends;
  const auto note = [&](const Result<>& result) { ends.push_back(result ? "ok" : result.error().message); };
  const auto run_until = [&](std::size_t count) {
    const Instant last = agent::Reactor::now() + seconds(10);
    while (ends.size() < count && agent::Reactor::now() < last) reactor->run_once(last);
    return ends.size() == count;
  };
  provider->create("good", "secret", note);
  ASSERT_TRUE(run_until(1));
  provider->destroy("good", note);
  ASSERT_TRUE(run_until(2));
  EXPECT_THAT(ends, ElementsAre("ok", "ok"));
  provider->create("bad", "secret", note);
  ASSERT_TRUE(run_until(3));
  EXPECT_THAT(ends.back(), ::testing::HasSubstr("create bad exited with code 3"));
  provider->create("slow", "secret", note);
  ASSERT_TRUE(run_until(4));
  EXPECT_THAT(ends.back(), ::testing::HasSubstr("took too long"));
  std::ifstream calls(directory + "/calls");
  const std::string text((std::istreambuf_iterator<char>(calls)), {});
  EXPECT_EQ(text, "create good secret\ndestroy good none\ncreate bad secret\ncreate slow secret\n");
  auto absent = make_command_provider(*reactor, directory + "/absent", directory + "/log");
  absent->create("x", "secret", note);
  ASSERT_TRUE(run_until(5));
  EXPECT_THAT(ends.back(), ::testing::HasSubstr("absent"));
  provider.reset();
  absent.reset();
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace shoal::elastic
