// Goal: a neighbour that is slower than its credit costs the sender a bounded amount of memory, every frame
// is either delivered or refused, and the sender learns when to go on. Method: the arithmetic alone, then a
// neighbour that does not poll for a while.
#include "protocol/link/flow.h"

#include "tests/unit/link/fixture.h"

namespace shoal::link {
namespace {

TEST(Flow, ABoundedAmountIsUnderWay) {
  Flow sender(10'000, 2'500);
  std::uint64_t sent = 0;
  while (sender.may_send(1000)) {
    sender.sent(1000);
    ++sent;
  }
  EXPECT_EQ(sent, 7U);  // of 1000 bytes and 256 of overhead each
  sender.refused();
  EXPECT_FALSE(sender.take_writable());
  EXPECT_TRUE(sender.credited(3 * 1256));
  EXPECT_TRUE(sender.may_send(1000));
  EXPECT_FALSE(sender.take_writable()) << "more than half of the window is still under way";
  EXPECT_TRUE(sender.credited(4 * 1256));
  EXPECT_TRUE(sender.take_writable());
  EXPECT_FALSE(sender.take_writable()) << "once per refusal";
}

TEST(Flow, AFrameLargerThanTheWindowGoesAlone) {
  Flow sender(1000, 250);
  EXPECT_TRUE(sender.may_send(5000));
  sender.sent(5000);
  EXPECT_FALSE(sender.may_send(0));
  EXPECT_TRUE(sender.credited(5256));
  EXPECT_TRUE(sender.may_send(5000));
}

TEST(Flow, CreditThatCannotBeTrueIsRefused) {
  Flow sender(10'000, 2'500);
  sender.sent(1000);
  EXPECT_FALSE(sender.credited(2000)) << "more than was sent";
  EXPECT_TRUE(sender.credited(1256));
  EXPECT_FALSE(sender.credited(1000)) << "goes back";
}

TEST(Flow, CreditIsToldInSteps) {
  Flow receiver(10'000, 2'500);
  receiver.received(1000);
  EXPECT_FALSE(receiver.credit_due());
  receiver.received(1000);
  EXPECT_TRUE(receiver.credit_due());
  EXPECT_EQ(receiver.tell(), 2512U);
  EXPECT_FALSE(receiver.credit_due());
}

TEST(SlowNeighbour, IsRefusedCountedExactlyAndResumed) {
  for (bool dialled : {true, false}) {
    Pair p([](TransportConfig& c) {
      c.limits.frame_bytes_max = 64 << 10;
      c.limits.window_bytes = 256 << 10;
    });
    TestAgent& sender = dialled ? *p.low : *p.high;
    TestAgent& slow = dialled ? *p.high : *p.low;
    p.low->dial(*p.high);
    ASSERT_TRUE(link_up(*p.low, *p.high));
    const std::string frame(1000, 'f');
    std::uint64_t accepted = 0;
    std::uint64_t refused = 0;
    for (int i = 0; i < 10'000; ++i) {
      auto sent = sender.transport->send(slow.id(), frame);
      if (sent) {
        ++accepted;
      } else {
        EXPECT_EQ(sent.error().code, Code::kExhausted);
        ++refused;
      }
      if (i % 1000 == 0) sender.poll();  // the slow one does not poll at all
    }
    EXPECT_EQ(accepted, (256U << 10) / (1000 + kMessageCost));
    EXPECT_EQ(sender.transport->counters().frames_sent, accepted);
    EXPECT_EQ(sender.transport->counters().refused_exhausted, refused);
    EXPECT_EQ(sender.count<event::Writable>(), 0U);
    ASSERT_TRUE(run_until({&sender, &slow}, [&] { return sender.count<event::Writable>() == 1; }));
    EXPECT_TRUE(sender.transport->send(slow.id(), frame).has_value());
    ASSERT_TRUE(run_until({&sender, &slow}, [&] { return slow.count<event::Frame>() == accepted + 1; }));
    EXPECT_EQ(slow.transport->counters().frames_received, sender.transport->counters().frames_sent);
    EXPECT_EQ(slow.transport->counters().bytes_received, sender.transport->counters().bytes_sent);
    EXPECT_TRUE(sender.transport->is_up(slow.id()));
  }
}

TEST(SlowNeighbour, DoesNotSlowTheOthers) {
  Realm realm;
  TestAgent sender(realm, Keys{});
  TestAgent slow(realm, Keys{});
  TestAgent quick(realm, Keys{});
  for (TestAgent* a : {&sender, &slow, &quick}) a->open();
  sender.dial(slow);
  sender.dial(quick);
  ASSERT_TRUE(run_until({&sender, &slow, &quick}, [&] { return sender.count<event::LinkUp>() == 2; }));
  const std::string frame(1 << 20, 'f');
  while (sender.transport->send(slow.id(), frame)) {
  }
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(sender.transport->send(quick.id(), "quick").has_value());
    const std::size_t expected = static_cast<std::size_t>(i) + 1;
    ASSERT_TRUE(run_until({&sender, &quick}, [&] { return quick.count<event::Frame>() == expected; }));
  }
}

}  // namespace
}  // namespace shoal::link
