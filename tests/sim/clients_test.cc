// Goal: the checks on results see what they are for.
// Method: tell them of values that no correct scheduler would let anyone read.
#include "tools/sim/clients.h"

#include <gtest/gtest.h>

namespace shoal::sim {
namespace {

struct ClientChecks : ::testing::Test {
  World world{WorldOptions{}};
  TaskClients clients{world, Rng(1)};

  static Payload result(std::uint64_t execution, std::uint32_t instance, Instant finished) {
    Payload payload;
    payload.execution = execution;
    payload.app = AppId(1, 1);
    payload.task = TaskId(4);
    payload.instance = Instance(instance);
    payload.finished = finished;
    return payload;
  }
  std::string rule() const { return world.violation() ? world.violation()->rule : ""; }
};

TEST_F(ClientChecks, OneResultMayBeReadByMany) {
  for (int i = 0; i < 3; ++i) clients.on_read(0, result(1, 1, Instant{5}));
  EXPECT_EQ(rule(), "");
}

TEST_F(ClientChecks, TwoResultsOfOneTaskAreS1) {
  clients.on_read(0, result(1, 1, Instant{5}));
  clients.on_read(0, result(2, 2, Instant{9}));
  EXPECT_EQ(rule(), "S1");
}

TEST_F(ClientChecks, AResultFinishedAfterANewerInstanceStartedIsS2) {
  world.ledger().started[{AppId(1, 1), TaskId(4)}] = {{Instance(1), Instant{0}}, {Instance(2), Instant{7}}};
  clients.on_read(0, result(1, 1, Instant{9}));
  EXPECT_EQ(rule(), "S2");
}

TEST_F(ClientChecks, AResultThatCameBeforeTheNewerInstanceIsCurrent) {
  world.ledger().started[{AppId(1, 1), TaskId(4)}] = {{Instance(1), Instant{0}}, {Instance(2), Instant{7}}};
  clients.on_read(0, result(1, 1, Instant{6}));
  EXPECT_EQ(rule(), "");
}

TEST_F(ClientChecks, ValuesOfTheProgramItselfAreNoResults) {
  clients.on_read(0, result(0, 0, Instant{}));
  clients.on_read(0, result(0, 0, Instant{}));
  EXPECT_EQ(rule(), "");
}

}  // namespace
}  // namespace shoal::sim
