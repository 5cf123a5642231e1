// Goal: the drivers of a simulated agent keep the promises of agent/node/io.h: inputs in order, effects held for their
// ticket, one wake at the right local time; and a world is a function of its seed.
// Method: worlds of a few lines of echo in place of the real core.
#include "tools/sim/world.h"

#include <gtest/gtest.h>

#include "tools/sim/agent.h"

namespace shoal::sim {
namespace {

// Counts down a frame between two agents, persists before each answer, and asks to be woken a second after the start.
class Echo : public Core {
 public:
  struct Notes {
    std::vector<std::string> events;
    std::vector<Instant> wakes;
    Duration late;
  };
  Echo(node::NodeConfig config, node::Recovered recovered, Notes& notes) : config_(std::move(config)), notes_(notes) {
    address_.agent = config_.id;
    if (recovered.count("frames") != 0) notes_.events.push_back("recovered");
  }

  void step(Instant now, node::Input input, std::vector<node::Effect>& out) override {
    if (std::holds_alternative<node::in::Start>(input)) {
      wake_at_ = now + seconds(1);
      out.emplace_back(node::out::WakeAt{wake_at_});
      for (const auto& contact : config_.contacts) {
        out.emplace_back(node::out::Dial{contact.agent, contact.endpoint, contact.curve_key});
      }
    } else if (std::holds_alternative<node::in::Wake>(input)) {
      EXPECT_GE(now, wake_at_);
      notes_.late = std::max(notes_.late, now - wake_at_);
      notes_.wakes.push_back(now);
    } else if (const auto* up = std::get_if<node::in::LinkUp>(&input)) {
      notes_.events.push_back(config_.name + " up");
      if (!config_.contacts.empty()) answer(up->neighbour, 20, out);
    } else if (const auto* frame = std::get_if<node::in::Frame>(&input)) {
      notes_.events.push_back(config_.name + " " + std::to_string(frame->envelope.kind));
      if (frame->envelope.kind > 0) answer(frame->neighbour, frame->envelope.kind - 1, out);
    }
  }
  std::optional<AgentId> next_hop(const wire::Address& target) const override { return target.agent; }
  const wire::Address& address() const override { return address_; }
  void check_invariants() const override {}

 private:
  void answer(AgentId to, int kind, std::vector<node::Effect>& out) {
    out.emplace_back(node::out::Persist{Ticket(++ticket_), node::out::Lane::kSynced, "frames", Bytes("x")});
    wire::Envelope envelope;
    envelope.kind = static_cast<std::uint16_t>(kind);
    envelope.source = address_;
    envelope.target.agent = to;
    out.emplace_back(node::out::Send{to, envelope, Ticket(ticket_)});
  }

  node::NodeConfig config_;
  Notes& notes_;
  wire::Address address_;
  Instant wake_at_;
  std::uint64_t ticket_ = 0;
};

struct WorldTest : ::testing::Test {
  Echo::Notes notes;

  std::unique_ptr<World> make(std::uint64_t seed, Bug bug = Bug::kNone) {
    WorldOptions options;
    options.seed = seed;
    options.bug = bug;
    options.cores = [this](node::NodeConfig config, node::Recovered recovered, Rng) -> std::unique_ptr<Core> {
      return std::make_unique<Echo>(std::move(config), std::move(recovered), notes);
    };
    auto world = std::make_unique<World>(std::move(options));
    AgentOptions a;
    a.config.id = AgentId(1, 1);
    a.config.name = "a";
    a.config.endpoint = "tcp://a";
    AgentOptions b = a;
    b.config.id = AgentId(2, 2);
    b.config.name = "b";
    b.config.endpoint = "tcp://b";
    b.config.contacts = {{a.config.id, a.config.endpoint, {}}};
    b.drift_ppm = 200;
    world->add_agent(a).start();
    world->add_agent(b).start();
    return world;
  }
};

TEST_F(WorldTest, AFrameGoesBackAndForth) {
  auto world = make(1);
  EXPECT_TRUE(world->run_until(Instant{} + seconds(20)));
  EXPECT_FALSE(world->violation());
  ASSERT_EQ(notes.events.size(), 2u + 21u);
  EXPECT_EQ(notes.events.back(), "a 0");
  EXPECT_EQ(notes.wakes.size(), 2u) << "one wake each, by its own clock";
  EXPECT_LE(notes.late, milliseconds(1));
  EXPECT_TRUE(world->network().balanced());
}

TEST_F(WorldTest, EqualSeedsGiveEqualHashesAndOthersDoNot) {
  const auto hash = [this](std::uint64_t seed) {
    auto world = make(seed);
    world->run_until(Instant{} + seconds(20));
    return world->trace().value();
  };
  EXPECT_EQ(hash(1), hash(1));
  EXPECT_NE(hash(1), hash(2));
}

TEST_F(WorldTest, SendingBeforeTheTicketIsDurableIsSeen) {
  auto world = make(1, Bug::kDropAfterTicket);
  EXPECT_FALSE(world->run_until(Instant{} + seconds(20)));
  ASSERT_TRUE(world->violation());
  EXPECT_EQ(world->violation()->rule, "S9");
  EXPECT_EQ(world->violation()->event, world->queue().executed());
}

TEST_F(WorldTest, APausedAgentTakesItsInputsAfterwardsInOrder) {
  auto world = make(1);
  world->agent(0).pause(seconds(3));
  world->run_until(Instant{} + seconds(2));
  EXPECT_TRUE(notes.events.empty());
  world->run_until(Instant{} + seconds(20));
  EXPECT_EQ(notes.events.size(), 2u + 21u);
}

TEST_F(WorldTest, ARestartRecoversWhatWasDurable) {
  auto world = make(1);
  world->run_until(Instant{} + seconds(20));
  world->agent(1).crash(false);
  world->agent(1).start();
  EXPECT_EQ(notes.events.back(), "recovered");
}

TEST_F(WorldTest, ALostMachineDoesNotReturn) {
  auto world = make(1);
  world->agent(1).lose_everything();
  world->agent(1).start();
  EXPECT_FALSE(world->agent(1).up());
}

TEST_F(WorldTest, TheEventLimitStopsTheRunBetweenTwoEvents) {
  WorldOptions options;
  options.until_event = 3;
  World world(options);
  for (int i = 0; i < 5; ++i) world.queue().at(Instant{i}, [] {});
  EXPECT_FALSE(world.run_until(Instant{100}));
  EXPECT_EQ(world.queue().executed(), 3u);
}

}  // namespace
}  // namespace shoal::sim
