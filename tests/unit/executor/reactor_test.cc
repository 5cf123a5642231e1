// Goal: the loop calls back what is due, and nothing else, in the promised order, and sleeps otherwise.
// Method: pipes and eventfds made ready by hand; conditions instead of sleeps.
#include "agent/reactor/reactor.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>

#include "tests/unit/executor/harness.h"

namespace shoal::agent {
namespace {

using executor::make_reactor;
using executor::run_until;

class Signal {  // a descriptor that is readable once raised
 public:
  ~Signal() { close(); }
  int fd() const { return fd_; }
  void raise() const {
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(fd_, &one, sizeof one), 8);
  }
  void lower() const {
    std::uint64_t value = 0;
    EXPECT_EQ(::read(fd_, &value, sizeof value), 8);
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
};

TEST(Reactor, CallsBackOnlyWhatIsReady) {
  auto reactor = make_reactor();
  Signal ready;
  Signal quiet;
  int calls = 0;
  ASSERT_TRUE(reactor
                  ->add(ready.fd(), EPOLLIN,
                        [&](std::uint32_t) {
                          ++calls;
                          ready.lower();
                        })
                  .has_value());
  ASSERT_TRUE(reactor->add(quiet.fd(), EPOLLIN, [&](std::uint32_t) { FAIL(); }).has_value());
  ready.raise();
  EXPECT_EQ(reactor->run_once(Reactor::now() + seconds(5)), 1U);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(reactor->run_once(Instant{0}), 0U);
}

TEST(Reactor, RefusesTheSameDescriptorTwiceAndRegularFiles) {
  auto reactor = make_reactor();
  Signal signal;
  ASSERT_TRUE(reactor->add(signal.fd(), EPOLLIN, [](std::uint32_t) {}).has_value());
  EXPECT_EQ(reactor->add(signal.fd(), EPOLLIN, [](std::uint32_t) {}).error().code, Code::kExists);
  FILE* file = std::tmpfile();
  EXPECT_EQ(reactor->add(::fileno(file), EPOLLIN, [](std::uint32_t) {}).error().code, Code::kUnsupported);
  std::fclose(file);
  EXPECT_EQ(reactor->add(-1, EPOLLIN, [](std::uint32_t) {}).error().code, Code::kInvalid);
}

TEST(Reactor, ModifyPausesAndResumes) {
  auto reactor = make_reactor();
  Signal signal;
  int calls = 0;
  ASSERT_TRUE(reactor->add(signal.fd(), EPOLLIN, [&](std::uint32_t) { ++calls; }).has_value());
  signal.raise();
  ASSERT_TRUE(reactor->modify(signal.fd(), 0).has_value());
  reactor->run_once(Instant{0});
  EXPECT_EQ(calls, 0);
  ASSERT_TRUE(reactor->modify(signal.fd(), EPOLLIN).has_value());
  reactor->run_once(Instant{0});
  EXPECT_EQ(calls, 1);
}

// Both are ready in one turn; whichever comes first removes the other, closes it, and a new descriptor takes its
// number.
TEST(Reactor, RemovedInTheSameTurnIsNotCalledEvenIfItsNumberIsUsedAgain) {
  auto reactor = make_reactor();
  Signal signals[2];
  int calls = 0;
  int fresh = -1;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(reactor
                    ->add(signals[i].fd(), EPOLLIN,
                          [&, i](std::uint32_t) {
                            ++calls;
                            const int other = signals[1 - i].fd();
                            reactor->remove(other);
                            signals[1 - i].close();
                            fresh = ::eventfd(1, EFD_CLOEXEC);
                            EXPECT_EQ(fresh, other);
                            ASSERT_TRUE(
                                reactor->add(fresh, 0, [&](std::uint32_t) { FAIL() << "an event of the old owner"; })
                                    .has_value());
                            reactor->remove(signals[i].fd());  // itself, too
                          })
                    .has_value());
    signals[i].raise();
  }
  reactor->run_once(Instant{0});
  EXPECT_EQ(calls, 1);
  reactor->remove(fresh);
  ::close(fresh);
}

TEST(Reactor, TimersFireInOrderOnceAndCanBeMovedAndRemoved) {
  auto reactor = make_reactor();
  std::string order;
  const auto late = reactor->add_timer([&] { order += 'b'; });
  const auto early = reactor->add_timer([&] { order += 'a'; });
  const auto never = reactor->add_timer([&] { order += 'x'; });
  const auto removed = reactor->add_timer([&] { order += 'y'; });
  const Instant now = Reactor::now();
  reactor->set_timer(late, now + milliseconds(4));
  reactor->set_timer(early, now + seconds(100));
  reactor->set_timer(early, now + milliseconds(1));
  reactor->set_timer(never, now + milliseconds(2));
  reactor->set_timer(never, Instant::never());
  reactor->set_timer(removed, now + milliseconds(2));
  reactor->remove_timer(removed);
  ASSERT_TRUE(run_until(*reactor, [&] { return order.size() >= 2; }));
  reactor->run_once(Instant{0});
  EXPECT_EQ(order, "ab");
  EXPECT_GE(Reactor::now(), now + milliseconds(4));
}

TEST(Reactor, ATimerThatArmsItselfInThePastDoesNotStarveTheLoop) {
  auto reactor = make_reactor();
  int calls = 0;
  Reactor::TimerId timer = 0;
  timer = reactor->add_timer([&] {
    ++calls;
    reactor->set_timer(timer, Instant{0});
  });
  reactor->set_timer(timer, Instant{0});
  reactor->run_once();
  EXPECT_EQ(calls, 1);
  reactor->remove_timer(timer);
}

TEST(Reactor, WaitsWithMicrosecondsNotMilliseconds) {
  auto reactor = make_reactor();
  // Best of several: a busy machine may delay one.
  std::int64_t best = 1'000'000;
  for (int i = 0; i < 50; ++i) {
    const Instant start = Reactor::now();
    reactor->run_once(start + microseconds(200));
    const auto took = (Reactor::now() - start).us;
    EXPECT_GE(took, 200);
    best = std::min(best, took);
  }
  EXPECT_LT(best, 900);
}

TEST(Reactor, ReturnsAtItsDeadline) {
  auto reactor = make_reactor();
  const Instant at = Reactor::now() + milliseconds(3);
  reactor->set_deadline(at);
  reactor->run_once();
  EXPECT_GE(Reactor::now(), at);
  reactor->set_deadline(Instant::never());
}

TEST(Reactor, PostedWorkWakesASleepingLoopAndRunsOnItsThread) {
  auto reactor = make_reactor();
  std::thread::id ran_on;
  std::thread other([&] { reactor->post([&] { ran_on = std::this_thread::get_id(); }); });
  reactor->run_once(Reactor::now() + seconds(10));
  other.join();
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(Reactor, WorkPostedByManyThreadsIsAllDone) {
  auto reactor = make_reactor();
  int done = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) reactor->post([&] { ++done; });
    });
  }
  EXPECT_TRUE(run_until(*reactor, [&] { return done == 4000; }));
  for (auto& thread : threads) thread.join();
}

TEST(Reactor, WhatAHookPostsIsDoneWithoutWaiting) {
  auto reactor = make_reactor();
  bool done = false;
  const auto hook = reactor->before_wait([&] {
    if (!done) reactor->post([&] { done = true; });
  });
  reactor->run_once();
  EXPECT_TRUE(done);
  reactor->remove_hook(hook);
}

TEST(Reactor, SignalsArriveInTheLoop) {
  auto reactor = make_reactor();
  int got = 0;
  ASSERT_TRUE(reactor->watch_signals({SIGUSR1}, [&](int number) { got = number; }).has_value());
  ::raise(SIGUSR1);
  reactor->run_once(Reactor::now() + seconds(5));
  EXPECT_EQ(got, SIGUSR1);
}

TEST(Reactor, LeavesNoDescriptorBehind) {
  const std::size_t before = executor::open_descriptors();
  {
    auto reactor = make_reactor();
  }
  EXPECT_EQ(executor::open_descriptors(), before);
}

}  // namespace
}  // namespace shoal::agent
