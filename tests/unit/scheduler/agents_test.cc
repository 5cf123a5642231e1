// Goal: work spreads over agents, survives their loss, and no attempt that was given up can commit.
// Method: several machines joined by a simulated network in virtual time; executors of single agents are held back.
#include <gtest/gtest.h>

#include "scheduler/lease_table.h"
#include "tests/unit/scheduler/cluster.h"

namespace shoal::scheduler::testing {
namespace {

using client::Direction;
using client::Outcome;

const RegionId kRegion(1, 1);

class Agents : public ::testing::Test {
 protected:
  void region(std::uint32_t units_a, std::uint32_t units_b, std::uint32_t units_c = 0) {
    cluster.add("a", {kRegion}, units_a);
    cluster.add("b", {kRegion}, units_b);
    cluster.introduce_both("a", "b");
    if (units_c > 0) {
      cluster.add("c", {kRegion}, units_c);
      cluster.introduce_both("a", "c");
      cluster.introduce_both("b", "c");
    }
    app.emplace(cluster, "a");
  }
  Agent& a() { return cluster["a"]; }
  Agent& b() { return cluster["b"]; }
  Agent& c() { return cluster["c"]; }
  void down(const std::string& who, const std::string& dead, bool proven) {
    cluster.input(cluster[who], in::PeerDown{cluster[dead].id, proven});
  }

  Cluster cluster;
  std::optional<App> app;
};

TEST_F(Agents, AnAgentWithoutUnitsRunsItsProgramElsewhere) {
  region(0, 2);
  app->put(1, "x");
  app->call("f", {in(1), out(2)});
  app->call("f", {in(2), out(3)});
  EXPECT_EQ(app->get(3), "x12");
  EXPECT_EQ(cluster.ran_on[2], std::vector<std::string>{"b"});
}

// What an environment asks of agents holds for every function of its application, but for those that name another one.
TEST_F(Agents, TasksRunWhereTheirEnvironmentCanBeBuilt) {
  const EnvironmentId own(0, 1);
  const EnvironmentId other(0, 2);
  const auto built_for = [](const std::string& tag) {
    return std::vector<Requirement>{{Requirement::Match::kBuild, "foo", tag}};
  };
  cluster.add("a", {kRegion}, 2, {{"python_platform", "cp312-cp312-x86_64-glibc_2.36"}});
  cluster.add("b", {kRegion}, 2, {{"python_platform", "cp311-cp311-x86_64-glibc_2.36"}});
  cluster.introduce_both("a", "b");
  App program(cluster, "a", {own, other},
              {{own, built_for("cp311-cp311-linux_x86_64")}, {other, built_for("cp312-cp312-linux_x86_64")}});
  program.call("f", {out(1)});
  client::TaskOptions named;
  named.environment = other;
  program.call("g", {out(2)}, named);
  EXPECT_EQ(program.get(1), "1");
  EXPECT_EQ(program.get(2), "2");
  EXPECT_EQ(cluster.ran_on[1], std::vector<std::string>{"b"});
  EXPECT_EQ(cluster.ran_on[2], std::vector<std::string>{"a"});
  ASSERT_FALSE(b().launches.empty());
  EXPECT_EQ(b().launches[0].environment, own);
  EXPECT_EQ(b().launches[0].environment_at.agent, a().id);
  EXPECT_EQ(b().launches[0].python, "") << "packages are chosen for the agent's own interpreter";
  EXPECT_EQ(a().launches[0].environment, other);
  // One that the application did not bring.
  named.environment = EnvironmentId(0, 3);
  program.call("h", {out(3)}, named);
  EXPECT_NE(program.get(3).find("has no environment"), std::string::npos) << program.get(3);
}

TEST_F(Agents, OwnUnitsFirstThenNeighboursAndNoneIsOverfilled) {
  region(2, 3, 1);
  a().executes = b().executes = c().executes = false;
  for (std::uint64_t i = 1; i <= 10; ++i) app->call("f", {out(i)});
  EXPECT_EQ(a().held.size(), 2u);
  EXPECT_EQ(b().held.size(), 3u);
  EXPECT_EQ(c().held.size(), 1u);
  cluster.release(c());
  EXPECT_EQ(app->count("done"), 5) << "whoever is free gets the next";
  cluster.release(a());
  cluster.release(b());
  EXPECT_EQ(app->count("done"), 10);
}

TEST_F(Agents, LargeValuesStayWhereTheyWereMadeAndWorkGoesThere) {
  region(1, 1);
  a().executes = false;
  app->call("hold", {out(9)});  // keeps a busy
  app->call("big", {out(1)});   // runs on b
  cluster.release(a());
  app->call("f", {in(1), out(2)});
  EXPECT_EQ(cluster.ran_on[2], std::vector<std::string>{"b"});
  EXPECT_EQ(cluster.ran_on[3], std::vector<std::string>{"b"}) << "a is free, but b has the input";
  EXPECT_TRUE(a().fetched.empty());
  EXPECT_EQ(app->get(2), "23");
  EXPECT_EQ(app->get(1), "2") << "the wait brings it here";
  EXPECT_EQ(a().fetched.size(), 1u);
  app->release({1});
  EXPECT_TRUE(a().kept.empty());
  EXPECT_TRUE(b().kept.empty()) << "all copies are freed";
}

TEST_F(Agents, InputsTravelToTheWorker) {
  region(0, 1);
  a().arena["/u/data.csv"] = "csv";
  app->put_shared(1, "x");
  app->call("f", {in(1), file(Direction::kIn, "/u/data.csv"), out(2)});
  EXPECT_EQ(app->get(2), "xcsv1");
  EXPECT_EQ(b().fetched.size(), 2u);
  app->call("f", {in(1), file(Direction::kInOut, "/u/data.csv")});
  const auto answer = app->values(app->wait({}, {"/u/data.csv"}));
  ASSERT_TRUE(answer);
  EXPECT_EQ(cluster.content(a(), answer->values[0].value), "xcsv2");
  EXPECT_EQ(b().fetched.size(), 2u) << "both inputs are still there";
  app->close();
  EXPECT_TRUE(b().kept.empty());
}

TEST_F(Agents, ALostWorkerIsRunAgainAtOnceWhenItsDeathIsProven) {
  region(0, 1, 1);
  b().executes = c().executes = false;
  app->call("f", {out(1)});
  Agent& first = b().held.empty() ? c() : b();
  Agent& second = b().held.empty() ? b() : c();
  cluster.kill(first.name);
  down("a", first.name, true);
  ASSERT_EQ(second.held.size(), 1u);
  EXPECT_GT(second.held[0].instance, first.held[0].instance);
  cluster.release(second);
  EXPECT_EQ(app->get(1), "1");
  EXPECT_EQ(app->count("retried"), 0) << "a lost attempt is no failure";
}

TEST_F(Agents, ASilentWorkerIsRunAgainAfterItsLease) {
  region(0, 1, 1);
  b().executes = c().executes = false;
  app->call("f", {out(1)});
  Agent& first = b().held.empty() ? c() : b();
  Agent& second = b().held.empty() ? b() : c();
  cluster.kill(first.name);
  down("a", first.name, false);
  cluster.advance(seconds(3));
  EXPECT_TRUE(second.held.empty()) << "it may still be running";
  cluster.advance(seconds(2));
  EXPECT_EQ(second.held.size(), 1u);
}

TEST_F(Agents, AWorkerCutOffGivesUpBeforeItsMasterRunsAgainAndItsLateResultIsIgnored) {
  region(0, 1, 1);
  b().executes = c().executes = false;
  app->call("f", {out(1)});
  Agent& first = b().held.empty() ? c() : b();
  Agent& second = b().held.empty() ? b() : c();
  const client::Attempt attempt = first.held[0];
  cluster.cut("a", first.name);
  cluster.advance(milliseconds(3'500));
  EXPECT_EQ(first.killed, std::vector<std::uint64_t>{attempt.attempt});
  EXPECT_TRUE(second.held.empty());
  cluster.advance(seconds(2));
  ASSERT_EQ(second.held.size(), 1u);
  cluster.heal();
  auto late = outcome(Outcome::kDone, "", {"stale"});
  late.attempt = attempt.attempt;
  cluster.finish(first, late);
  EXPECT_EQ(app->get(1), "?");
  cluster.release(second);
  EXPECT_EQ(app->get(1), "1");
}

TEST_F(Agents, AReportForAnInstanceThatWasGivenUpFitsNoJob) {
  Grants grants({seconds(3), seconds(1)}, 1'000);
  const auto old_job = grants.grant(1, 7, AppId(1, 1), Instant{0});
  EXPECT_EQ(grants.revoke(1), std::vector<WorkIndex>{7});
  const auto new_job = grants.grant(1, 7, AppId(1, 1), Instant{5});
  EXPECT_NE(old_job, new_job);
  EXPECT_FALSE(grants.settle(1, old_job));
  EXPECT_FALSE(grants.settle(2, new_job)) << "nor from another agent";
  EXPECT_EQ(grants.settle(1, new_job), 7u);
  EXPECT_FALSE(grants.settle(1, new_job)) << "nor twice";
}

TEST_F(Agents, AnAssignmentOrReportLostOnTheWayIsFoundAtTheNextRenewal) {
  region(0, 1);
  int dropped = 0;
  cluster.drop = [&](const wire::Envelope& e) {
    return e.kind == static_cast<std::uint16_t>(Kind::kAssign) && dropped++ == 0;
  };
  app->call("f", {out(1)});
  EXPECT_EQ(app->get(1), "?");
  cluster.advance(seconds(3));
  EXPECT_EQ(app->get(1), "1");
  dropped = 0;
  cluster.drop = [&](const wire::Envelope& e) {
    return e.kind == static_cast<std::uint16_t>(Kind::kReport) && dropped++ == 0;
  };
  app->call("f", {out(2)});
  EXPECT_EQ(app->get(2), "?");
  cluster.advance(seconds(3));
  EXPECT_EQ(app->get(2), "2");
}

TEST_F(Agents, RenewalsKeepALongTaskAlive) {
  region(0, 1);
  b().executes = false;
  app->call("f", {out(1)});
  cluster.advance(seconds(60));
  EXPECT_EQ(b().launched, 1u);
  cluster.release(b());
  EXPECT_EQ(app->get(1), "1");
}

TEST_F(Agents, ALostValueIsMadeAgainFromItsTasks) {
  region(0, 1);
  app->put(1, "x");
  app->call("big", {in(1), out(2)});
  app->call("big", {in(2), out(3)});
  app->call("big", {inout(3)});
  app->release({2});
  EXPECT_EQ(b().kept.size(), 1u);
  cluster.kill("b");
  down("a", "b", true);
  cluster.add("c", {kRegion}, 2);
  cluster.introduce_both("a", "c");
  EXPECT_EQ(app->get(3), "x123");
  EXPECT_EQ(cluster.ran_on[1].back(), "c");
  EXPECT_EQ(app->count("recomputed"), 3);
  EXPECT_EQ(app->count("done"), 3);
  app->call("f", {in(3), out(4)});
  EXPECT_EQ(app->get(4), "x1234");
}

TEST_F(Agents, ATaskWhoseInputWasLostWaitsUntilItIsMadeAgain) {
  region(0, 1);
  app->call("big", {out(1)});
  cluster.kill("b");
  down("a", "b", true);
  app->call("f", {in(1), out(2)});
  cluster.add("c", {kRegion}, 2);
  cluster.introduce_both("a", "c");
  cluster.advance(seconds(2));
  EXPECT_EQ(app->get(2), "12");
}

TEST_F(Agents, AHolderThatDoesNotDeliverCountsAsLostAfterASecondTry) {
  region(0, 1, 1);
  c().executes = false;
  app->call("hold", {out(9)});
  Agent& busy = c().held.empty() ? b() : c();
  (void)busy;
  app->call("big", {out(1)});
  const std::string maker = cluster.ran_on[2].at(0);
  cluster[maker].kept.clear();  // its arena lost the file; nobody knows
  cluster.release(c());
  cluster[maker].executes = true;
  app->get(1);
  cluster.advance(seconds(5));
  EXPECT_EQ(app->get(1), "2");
}

TEST_F(Agents, AValueThatCannotBeMadeAgainFailsWithAReason) {
  cluster.config.limits.lineage_max = 0;
  region(0, 1);
  app->call("big", {out(1)});
  cluster.kill("b");
  down("a", "b", true);
  const std::string error = app->get(1);
  EXPECT_EQ(error.substr(0, 12), "!unavailable") << error;
  EXPECT_NE(error.find("a value made by task 1 was lost"), std::string::npos) << error;
}

TEST_F(Agents, ARestartedWorkerIsNotTakenForTheOldOne) {
  region(0, 1);
  b().executes = false;
  app->call("f", {out(1)});
  const RegionId region = kRegion;
  SchedulerConfig config;
  config.id = b().id;
  b().machine = std::make_unique<Scheduler>(config, Rng(99));
  b().held.clear();
  cluster.input(b(), in::Self{{b().id, {region}}, {1, 100, "x86_64", {}, {}}});
  cluster.introduce("b", "a");
  b().executes = true;
  cluster.advance(seconds(3));
  EXPECT_EQ(app->get(1), "1");
}

TEST_F(Agents, ARetryGoesElsewhereWhenItCan) {
  region(1, 1);
  cluster.planned[1].push_back(outcome(Outcome::kException, "flaky"));
  app->call("f", {out(1)});
  EXPECT_EQ(app->get(1), "1");
  EXPECT_EQ(cluster.ran_on[1], (std::vector<std::string>{"a", "b"}));
}

TEST_F(Agents, CancelReachesWorkers) {
  region(0, 1);
  b().executes = false;
  app->call("f", {out(1)});
  cluster.input(a(), in::CancelApp{app->id()});
  EXPECT_EQ(b().killed.size(), 1u);
  App other(cluster, "a", 2);
  b().executes = true;
  other.call("f", {out(1)});
  EXPECT_EQ(other.get(1), "1");
}

TEST_F(Agents, TheEndOfAnAppReachesWorkers) {
  region(0, 1);
  app->call("big", {out(1)});
  EXPECT_EQ(b().kept.size(), 1u);
  app->close();
  EXPECT_TRUE(b().kept.empty());
  cluster.advance(seconds(10));
  const auto before = a().sent + b().sent;
  cluster.advance(seconds(60));
  EXPECT_EQ(a().sent + b().sent, before) << "nothing is left to be renewed";
  EXPECT_EQ(a().machine->next_deadline(), Instant::never());
}

TEST_F(Agents, AWorkerThatLostItsMasterGivesUpAndForgets) {
  region(0, 1);
  app->call("big", {out(1)});
  b().executes = false;
  app->call("f", {out(2)});
  cluster.kill("a");
  cluster.advance(seconds(4));
  EXPECT_EQ(b().killed.size(), 1u);
  EXPECT_FALSE(b().kept.empty()) << "the master may come back from a partition";
  cluster.advance(seconds(120));
  EXPECT_TRUE(b().kept.empty());
}

TEST_F(Agents, AnExcludedAgentGetsNothingUntilItIsWantedAgain) {
  region(0, 4);
  cluster.input(a(), in::Exclude{b().id, true});
  app->call("f", {out(1)});
  cluster.advance(seconds(2));
  EXPECT_TRUE(cluster.ran_on[1].empty());
  cluster.introduce("b", "a");  // news of it change nothing
  cluster.advance(seconds(2));
  EXPECT_TRUE(cluster.ran_on[1].empty());
  cluster.input(a(), in::Exclude{b().id, false});
  cluster.advance(seconds(1));
  EXPECT_EQ(cluster.ran_on[1], std::vector<std::string>{"b"});
}

TEST_F(Agents, AnIdleAgentAsksForWork) {
  region(1, 1);
  a().executes = b().executes = false;
  for (std::uint64_t i = 1; i <= 4; ++i) app->call("f", {out(i)});
  EXPECT_EQ(a().held.size() + b().held.size(), 2u);
  cluster.add("c", {kRegion}, 2);
  const State busy{{2, 100, "x86_64", {}, {}}, 2 * kUnit64, 0, {}};
  cluster.input(a(), in::PeerUp{c().address, "c", false, false, encode_state(busy)});  // old news
  cluster.advance(seconds(1));
  EXPECT_TRUE(cluster.ran_on[3].empty() && cluster.ran_on[4].empty());
  cluster.introduce("c", "a");
  cluster.advance(seconds(2));
  EXPECT_EQ(cluster.ran_on[3], std::vector<std::string>{"c"});
  EXPECT_EQ(cluster.ran_on[4], std::vector<std::string>{"c"});
}

TEST_F(Agents, WorkQueuedAtABusyWorkerIsGivenBackToSomebodyIdle) {
  region(0, 1);
  b().executes = false;
  App second(cluster, "b", 2);
  app->call("f", {out(1)});  // b's only unit
  cluster.input(a(), in::PeerUp{b().address, "b", false, false, encode_state({{4, 100, "x86_64", {}, {}}, 0, 0, {}})});
  cluster.advance(seconds(5));  // a believes what gossip says once reports are old
  cluster.input(a(), in::PeerUp{b().address, "b", false, false, encode_state({{4, 100, "x86_64", {}, {}}, 0, 0, {}})});
  app->call("f", {out(2)});
  app->call("f", {out(3)});
  cluster.add("c", {kRegion}, 4);
  cluster.introduce_both("c", "b");
  cluster.introduce_both("a", "c");
  cluster.gossip();
  cluster.advance(seconds(3));
  EXPECT_EQ(app->count("unfinished"), 1) << "only what runs on b is left";
}

TEST_F(Agents, JunkFramesAreIgnored) {
  region(1, 1);
  for (std::uint16_t number = 0; number < 12; ++number) {
    wire::Envelope envelope;
    envelope.kind = static_cast<std::uint16_t>(2 << 8 | number);
    envelope.source = {AgentId(5, 5), {kRegion}};
    envelope.target = a().address;
    envelope.body = Bytes("\xc1junk");
    cluster.input(a(), in::Frame{envelope});
    envelope.body = wire::encode(Assign());
    cluster.input(a(), in::Frame{envelope});
  }
  app->call("f", {out(1)});
  EXPECT_EQ(app->get(1), "1");
}

}  // namespace
}  // namespace shoal::scheduler::testing
