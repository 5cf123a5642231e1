// Goal: two certified agents get one link, frames pass both ways in order and whole, and every end of a link
// is reported. Method: two transports on loopback, polled as a daemon would.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/unit/link/fixture.h"

namespace shoal::link {
namespace {

std::vector<std::string> frames_of(TestAgent& agent) {
  std::vector<std::string> out;
  while (auto frame = agent.take<event::Frame>()) out.push_back(frame->bytes);
  return out;
}

TEST(Link, BothSidesLearnWhoTheOtherIs) {
  Pair p;
  p.low->dial(*p.high);
  ASSERT_TRUE(link_up(*p.low, *p.high));
  auto at_low = p.low->take<event::LinkUp>();
  auto at_high = p.high->take<event::LinkUp>();
  ASSERT_TRUE(at_low && at_high);
  EXPECT_EQ(at_low->neighbour, p.high->id());
  EXPECT_EQ(at_low->certificate.curve_key, p.high->keys().curve.public_key);
  EXPECT_EQ(at_high->neighbour, p.low->id());
  EXPECT_EQ(at_high->endpoint, p.low->transport->endpoint());
  EXPECT_EQ(p.low->transport->counters().links_up, 1U);
}

TEST(Link, FramesPassBothWaysInOrder) {
  Pair p;
  p.high->dial(*p.low);
  ASSERT_TRUE(link_up(*p.low, *p.high));
  std::vector<std::string> sent;
  for (int i = 0; i < 3000; ++i) {
    sent.push_back("frame " + std::to_string(i) + std::string(static_cast<std::size_t>(i % 97), 'x'));
    ASSERT_TRUE(p.low->transport->send(p.high->id(), sent.back()).has_value());
    ASSERT_TRUE(p.high->transport->send(p.low->id(), sent.back()).has_value());
  }
  ASSERT_TRUE(run_until({p.low.get(), p.high.get()}, [&] {
    return p.low->count<event::Frame>() == sent.size() && p.high->count<event::Frame>() == sent.size();
  }));
  EXPECT_EQ(frames_of(*p.low), sent);
  EXPECT_EQ(frames_of(*p.high), sent);
}

TEST(Link, ABatchArrivesAsItsFrames) {
  Pair p;
  p.low->dial(*p.high);
  ASSERT_TRUE(link_up(*p.low, *p.high));
  const std::string binary("\0\1\2", 3);
  const std::vector<std::string_view> frames{"one", "", binary, "four"};
  ASSERT_TRUE(p.low->transport->send_batch(p.high->id(), frames).has_value());
  ASSERT_TRUE(run_until({p.low.get(), p.high.get()}, [&] { return p.high->count<event::Frame>() == 4; }));
  EXPECT_EQ(frames_of(*p.high), (std::vector<std::string>{"one", "", binary, "four"}));
  EXPECT_EQ(p.low->transport->counters().frames_sent, 4U);
  EXPECT_EQ(p.high->transport->counters().bytes_received, 10U);
}

TEST(Link, TheLargestFramePassesAndALargerOneIsRefused) {
  Pair p([](TransportConfig& c) { c.limits.frame_bytes_max = 1 << 20; });
  p.low->dial(*p.high);
  ASSERT_TRUE(link_up(*p.low, *p.high));
  const std::string largest(1 << 20, 'b');
  ASSERT_TRUE(p.low->transport->send(p.high->id(), largest).has_value());
  auto refused = p.low->transport->send(p.high->id(), largest + "b");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kInvalid);
  ASSERT_TRUE(run_until({p.low.get(), p.high.get()}, [&] { return p.high->count<event::Frame>() == 1; }));
  EXPECT_EQ(p.high->take<event::Frame>()->bytes, largest);
  EXPECT_EQ(p.low->transport->counters().refused_too_big, 1U);
}

TEST(Link, AnOversizeFrameFromALaxNeighbourEndsTheLink) {
  Pair p([](TransportConfig& c) { c.limits.frame_bytes_max = 1 << 20; });
  Realm& realm = p.realm;
  TestAgent lax(realm, Keys{});
  lax.open();
  lax.dial(*p.high);
  ASSERT_TRUE(link_up(lax, *p.high));
  ASSERT_TRUE(lax.transport->send(p.high->id(), std::string(2 << 20, 'b')).has_value());
  ASSERT_TRUE(run_until({&lax, p.high.get()},
                        [&] { return lax.count<event::LinkDown>() == 1 && p.high->count<event::LinkDown>() == 1; }));
  EXPECT_EQ(p.high->count<event::Frame>(), 0U);
  EXPECT_FALSE(p.high->take<event::LinkDown>()->refused);
}

TEST(Link, NoLinkNoSend) {
  Pair p;
  auto refused = p.low->transport->send(p.high->id(), "x");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_EQ(p.low->transport->counters().refused_no_link, 1U);
}

TEST(Link, DialAgainWhileUpChangesNothing) {
  Pair p;
  p.low->dial(*p.high);
  ASSERT_TRUE(link_up(*p.low, *p.high));
  p.low->dial(*p.high);
  p.high->dial(*p.low);
  run_for({p.low.get(), p.high.get()}, std::chrono::milliseconds(200));
  EXPECT_EQ(p.low->count<event::LinkUp>(), 1U);
  EXPECT_EQ(p.high->count<event::LinkUp>(), 1U);
  EXPECT_EQ(p.low->count<event::LinkDown>() + p.high->count<event::LinkDown>(), 0U);
}

TEST(Link, BothDiallingAtOnceGetOneLink) {
  for (int round = 0; round < 20; ++round) {
    Pair p;
    p.low->dial(*p.high);
    p.high->dial(*p.low);
    ASSERT_TRUE(link_up(*p.low, *p.high));
    run_for({p.low.get(), p.high.get()}, std::chrono::milliseconds(30));
    EXPECT_EQ(p.low->count<event::LinkUp>(), 1U);
    EXPECT_EQ(p.high->count<event::LinkUp>(), 1U);
    EXPECT_EQ(p.low->count<event::LinkDown>() + p.high->count<event::LinkDown>(), 0U);
    ASSERT_TRUE(p.low->transport->send(p.high->id(), "to high").has_value());
    ASSERT_TRUE(p.high->transport->send(p.low->id(), "to low").has_value());
    ASSERT_TRUE(run_until({p.low.get(), p.high.get()},
                          [&] { return p.low->count<event::Frame>() == 1 && p.high->count<event::Frame>() == 1; }));
  }
}

TEST(Link, HangUpIsSilentHereAndReportedThere) {
  for (bool dialler_hangs_up : {true, false}) {
    Pair p;
    p.low->dial(*p.high);
    ASSERT_TRUE(link_up(*p.low, *p.high));
    TestAgent& here = dialler_hangs_up ? *p.low : *p.high;
    TestAgent& there = dialler_hangs_up ? *p.high : *p.low;
    ASSERT_TRUE(here.transport->send(there.id(), "last words").has_value());
    here.transport->hang_up(there.id());
    ASSERT_TRUE(run_until({p.low.get(), p.high.get()}, [&] { return there.count<event::LinkDown>() == 1; }));
    EXPECT_EQ(frames_of(there), std::vector<std::string>{"last words"});
    EXPECT_FALSE(there.take<event::LinkDown>()->refused);
    run_for({p.low.get(), p.high.get()}, std::chrono::milliseconds(100));
    EXPECT_EQ(here.count<event::LinkDown>(), 0U);
    // And it can be dialled again, from either side.
    there.dial(here);
    EXPECT_TRUE(link_up(*p.low, *p.high));
  }
}

TEST(Link, APoliteCloseDeliversWhatWasSent) {
  Pair p;
  p.low->dial(*p.high);
  ASSERT_TRUE(link_up(*p.low, *p.high));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(p.low->transport->send(p.high->id(), std::string(10'000, 'a')).has_value());
  p.low->transport->close(seconds(5));
  ASSERT_TRUE(run_until({p.high.get()}, [&] { return p.high->count<event::LinkDown>() == 1; }));
  EXPECT_EQ(p.high->count<event::Frame>(), 100U);
}

TEST(Link, DialToAClosedPortIsRefusedAtOnce) {
  Pair p;
  const std::string endpoint = p.high->transport->endpoint();
  const Bytes key = p.high->keys().curve.public_key;
  p.high->transport.reset();
  p.low->transport->dial(p.high->id(), endpoint, key);
  ASSERT_TRUE(run_until({p.low.get()}, [&] { return p.low->count<event::LinkDown>() == 1; }, std::chrono::seconds(2)));
  const auto down = p.low->take<event::LinkDown>();
  EXPECT_TRUE(down->refused) << down->reason;
  EXPECT_EQ(down->neighbour, p.high->id());
}

TEST(Link, DialToNonsenseIsAnsweredNotRefused) {
  Pair p;
  for (const char* endpoint : {"", "tcp://", "nonsense", "tcp://127.0.0.1:notaport", "ipc:///no/such/dir/x"}) {
    p.low->transport->dial(p.high->id(), endpoint, p.high->keys().curve.public_key);
    ASSERT_TRUE(run_until({p.low.get()}, [&] { return p.low->count<event::LinkDown>() == 1; })) << endpoint;
    EXPECT_FALSE(p.low->take<event::LinkDown>()->refused) << endpoint;
  }
}

// A neighbour in a process of its own, which is killed without a word.
TEST(Link, AKilledProcessIsNoticedAtOnceAndProvenGone) {
  for (bool victim_dials : {true, false}) {
    Realm realm;
    TestAgent survivor(realm, Keys{});
    Keys victim_keys;
    int ports[2];
    ASSERT_EQ(::pipe(ports), 0);
    int survivor_port[2];
    ASSERT_EQ(::pipe(survivor_port), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      TestAgent victim(realm, victim_keys);
      victim.open();
      const std::string mine = victim.transport->endpoint() + "\n";
      if (::write(ports[1], mine.data(), mine.size()) < 0) ::_exit(1);
      char buffer[128] = {};
      if (::read(survivor_port[0], buffer, sizeof buffer - 1) < 0) ::_exit(1);
      if (victim_dials) victim.transport->dial(survivor.id(), buffer, survivor.keys().curve.public_key);
      run_until({&victim}, [] { return false; }, std::chrono::seconds(30));
      ::_exit(0);
    }
    char buffer[128] = {};
    ASSERT_GT(::read(ports[0], buffer, sizeof buffer - 1), 0);
    const std::string endpoint = std::string(buffer).substr(0, std::string(buffer).find('\n'));
    survivor.open();
    const std::string mine = survivor.transport->endpoint();
    ASSERT_GT(::write(survivor_port[1], mine.data(), mine.size()), 0);
    if (!victim_dials) survivor.transport->dial(victim_keys.id(), endpoint, victim_keys.curve.public_key);
    ASSERT_TRUE(run_until({&survivor}, [&] { return survivor.transport->is_up(victim_keys.id()); }));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const auto killed_at = std::chrono::steady_clock::now();
    ASSERT_TRUE(run_until({&survivor}, [&] { return survivor.count<event::LinkDown>() == 1; }));
    EXPECT_LT(std::chrono::steady_clock::now() - killed_at, std::chrono::seconds(1));
    const auto down = survivor.take<event::LinkDown>();
    EXPECT_TRUE(down->refused) << down->reason;
    for (int fd : {ports[0], ports[1], survivor_port[0], survivor_port[1]}) ::close(fd);
  }
}

TEST(Link, AFrozenProcessIsNoticedByItsSilence) {
  Realm realm;
  Keys frozen_keys;
  int port[2];
  ASSERT_EQ(::pipe(port), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    TestAgent frozen(realm, frozen_keys);
    frozen.open();
    const std::string mine = frozen.transport->endpoint();
    if (::write(port[1], mine.data(), mine.size()) < 0) ::_exit(1);
    run_until({&frozen}, [] { return false; }, std::chrono::seconds(30));
    ::_exit(0);
  }
  char buffer[128] = {};
  ASSERT_GT(::read(port[0], buffer, sizeof buffer - 1), 0);
  TestAgent watcher(realm, Keys{});
  watcher.config.limits.heartbeat_ms = 100;
  watcher.config.limits.silence_ms = 300;
  watcher.open();
  watcher.transport->dial(frozen_keys.id(), buffer, frozen_keys.curve.public_key);
  ASSERT_TRUE(run_until({&watcher}, [&] { return watcher.transport->is_up(frozen_keys.id()); }));
  ::kill(child, SIGSTOP);
  EXPECT_TRUE(run_until({&watcher}, [&] { return watcher.count<event::LinkDown>() == 1; }));
  EXPECT_FALSE(watcher.take<event::LinkDown>()->refused);  // its host still takes connections for it
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  for (int fd : {port[0], port[1]}) ::close(fd);
}

TEST(Link, ARestartedNeighbourReplacesItsOldLink) {
  Pair p;
  p.low->dial(*p.high);
  ASSERT_TRUE(link_up(*p.low, *p.high));
  // A second life of `low` with the same keys, while the first has not gone: as after a crash not yet
  // noticed.
  TestAgent reborn(p.realm, p.low->keys());
  reborn.open();
  reborn.dial(*p.high);
  ASSERT_TRUE(run_until({&reborn, p.high.get()}, [&] { return p.high->count<event::LinkUp>() == 2; }));
  EXPECT_EQ(p.high->count<event::LinkDown>(), 1U);
  ASSERT_TRUE(p.high->transport->send(p.low->id(), "to the living").has_value());
  ASSERT_TRUE(run_until({&reborn, p.high.get()}, [&] { return reborn.count<event::Frame>() == 1; }));
  EXPECT_EQ(p.low->count<event::Frame>(), 0U);
}

TEST(Link, NothingToDoMeansNoWakeUps) {
  Pair p;
  p.low->dial(*p.high);
  ASSERT_TRUE(link_up(*p.low, *p.high));
  run_for({p.low.get(), p.high.get()}, std::chrono::milliseconds(100));
  for (TestAgent* a : {p.low.get(), p.high.get()}) {
    pollfd fd{a->transport->fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&fd, 1, 0), 0);
    EXPECT_GE(a->transport->next_deadline(), steady_now() + seconds(1));
  }
}

}  // namespace
}  // namespace shoal::link
