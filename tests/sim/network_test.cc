// Goal: links behave like TCP under a driver that keeps one link per pair: in order, nothing lost while up, silence for
// a partition, refusal only from a living host.
// Method: a network between bare hosts that write down what they are given.
#include "tools/sim/network.h"

#include <gtest/gtest.h>

namespace shoal::sim {
namespace {

struct BareHosts : Hosts {
  struct Host {
    bool process = true;
    bool host = true;
    bool is_paused = false;
    std::uint64_t lives = 1;
    std::vector<node::Input> inputs;
  };
  std::vector<Host> hosts;
  bool process_up(std::uint32_t a) const override { return hosts[a].process; }
  bool host_up(std::uint32_t a) const override { return hosts[a].host; }
  bool paused(std::uint32_t a) const override { return hosts[a].is_paused; }
  std::uint64_t life(std::uint32_t a) const override { return hosts[a].lives; }
  AgentId id(std::uint32_t a) const override { return AgentId(1, a); }
  std::optional<std::uint32_t> index(AgentId a) const override { return static_cast<std::uint32_t>(a.low()); }
  void deliver(std::uint32_t a, node::Input input) override { hosts[a].inputs.push_back(std::move(input)); }
};

struct NetworkTest : ::testing::Test {
  EventQueue queue;
  BareHosts hosts;
  Network network{queue, hosts, Rng(3), NetworkOptions{}};

  void SetUp() override {
    hosts.hosts.resize(3);
    for (std::uint32_t i = 0; i < 3; ++i) network.place(i, i, "tcp://h" + std::to_string(i));
  }
  void run(Duration time) {
    const Instant end = queue.now() + time;
    while (queue.next() <= end) queue.run_next();
    queue.at(end, [] {});
    queue.run_next();
  }
  void link() {
    network.dial(0, hosts.id(1), "tcp://h1");
    run(seconds(1));
    ASSERT_TRUE(network.linked(0, 1) && network.linked(1, 0));
    hosts.hosts[0].inputs.clear();
    hosts.hosts[1].inputs.clear();
  }
  void send(std::uint32_t from, std::uint32_t to, std::uint16_t number) {
    wire::Envelope envelope;
    envelope.kind = number;
    network.send(from, to, envelope);
  }
  std::vector<std::uint16_t> frames(std::uint32_t at) const {
    std::vector<std::uint16_t> out;
    for (const auto& input : hosts.hosts[at].inputs) {
      if (const auto* frame = std::get_if<node::in::Frame>(&input)) out.push_back(frame->envelope.kind);
    }
    return out;
  }
  // The LinkDown inputs of an agent: true for each that was a refusal.
  std::vector<bool> downs(std::uint32_t at) const {
    std::vector<bool> out;
    for (const auto& input : hosts.hosts[at].inputs) {
      if (const auto* down = std::get_if<node::in::LinkDown>(&input)) out.push_back(down->refused);
    }
    return out;
  }
};

TEST_F(NetworkTest, BothEndsHearOfALinkOnce) {
  network.dial(0, hosts.id(1), "tcp://h1");
  network.dial(1, hosts.id(0), "tcp://h0");
  run(seconds(2));
  EXPECT_EQ(hosts.hosts[0].inputs.size(), 1u);
  EXPECT_EQ(hosts.hosts[1].inputs.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<node::in::LinkUp>(hosts.hosts[0].inputs[0]));
}

TEST_F(NetworkTest, FramesArriveInOrder) {
  link();
  for (std::uint16_t i = 0; i < 2000; ++i) send(0, 1, i);
  run(seconds(30));
  const auto got = frames(1);
  ASSERT_EQ(got.size(), 2000u);
  for (std::uint16_t i = 0; i < 2000; ++i) EXPECT_EQ(got[i], i);
  EXPECT_TRUE(network.balanced());
}

TEST_F(NetworkTest, WithoutALinkASendIsRefused) {
  send(0, 1, 1);
  EXPECT_EQ(network.refused(), 1u);
}

TEST_F(NetworkTest, ADialToADeadProcessIsRefusedByItsHost) {
  hosts.hosts[1].process = false;
  network.dial(0, hosts.id(1), "tcp://h1");
  run(seconds(10));
  EXPECT_EQ(downs(0), std::vector<bool>{true});
}

TEST_F(NetworkTest, ADialToAVanishedHostTimesOut) {
  hosts.hosts[1].process = hosts.hosts[1].host = false;
  network.dial(0, hosts.id(1), "tcp://h1");
  run(seconds(4));
  EXPECT_TRUE(downs(0).empty());
  run(seconds(4));
  EXPECT_EQ(downs(0), std::vector<bool>{false});
}

TEST_F(NetworkTest, ADialToAnotherIdentityFails) {
  network.dial(0, hosts.id(2), "tcp://h1");
  run(seconds(10));
  EXPECT_EQ(downs(0), std::vector<bool>{false});
}

TEST_F(NetworkTest, TheDiallerLearnsThatAProcessDied) {
  link();
  send(1, 0, 7);
  hosts.hosts[1].process = false;
  network.on_process_gone(1, false);
  run(seconds(5));
  EXPECT_EQ(frames(0), std::vector<std::uint16_t>{7}) << "frames on their way still arrive";
  EXPECT_EQ(downs(0), std::vector<bool>{true});
}

TEST_F(NetworkTest, AVanishedHostIsSilentForTheKeepAliveTime) {
  link();
  hosts.hosts[1].process = hosts.hosts[1].host = false;
  network.on_process_gone(1, true);
  run(seconds(11));
  EXPECT_TRUE(downs(0).empty());
  run(seconds(30));
  EXPECT_EQ(downs(0), std::vector<bool>{false});
}

TEST_F(NetworkTest, AShortPartitionDelaysFrames) {
  link();
  network.partition(1, {0}, false);
  send(0, 1, 1);
  run(seconds(5));
  EXPECT_TRUE(frames(1).empty());
  network.heal(1);
  send(0, 1, 2);
  run(seconds(5));
  EXPECT_EQ(frames(1), (std::vector<std::uint16_t>{1, 2}));
  EXPECT_TRUE(downs(1).empty());
}

TEST_F(NetworkTest, ALongPartitionBreaksTheLink) {
  link();
  network.partition(1, {0}, false);
  send(0, 1, 1);
  run(seconds(30));
  network.heal_all();
  run(seconds(5));
  EXPECT_TRUE(frames(1).empty());
  EXPECT_EQ(downs(0), std::vector<bool>{false});
  EXPECT_EQ(downs(1), std::vector<bool>{false});
  EXPECT_TRUE(network.balanced());
}

TEST_F(NetworkTest, AOneWayPartitionResetsTheLink) {
  link();
  network.partition(1, {0}, true);
  run(seconds(1));
  EXPECT_EQ(downs(0).size(), 1u);
  EXPECT_EQ(downs(1).size(), 1u);
}

TEST_F(NetworkTest, HangingUpIsNotHeardByTheOneWhoDoes) {
  link();
  network.hang_up(0, 1);
  run(seconds(1));
  EXPECT_TRUE(downs(0).empty());
  EXPECT_EQ(downs(1), std::vector<bool>{false});
}

TEST(WireSize, IsTheSizeOfTheEncoding) {
  for (const std::size_t body : {0u, 40u, 300u, 70'000u}) {
    wire::Envelope envelope;
    envelope.kind = 0x0203;
    envelope.source = {AgentId(1, 2), {RegionId(3, 4)}};
    envelope.target = {AgentId(5, 6), {RegionId(7, 8), RegionId(9, 10)}};
    envelope.body = Bytes(std::string(body, 'x'));
    EXPECT_EQ(wire_size(envelope), wire::encode(envelope).size()) << body;
  }
}

}  // namespace
}  // namespace shoal::sim
