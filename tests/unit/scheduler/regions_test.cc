// Goal: work that a region has no room for is run above or below it, by delegation from head to head, with data and
// failures handled as at home; and no job travels in circles.
// Method: three levels of machines in virtual time:
//   cloud [C]: k1, k2      fog [C,F]: h (head), m      edge [C,F,E]: e (head and only agent)
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/scheduler/cluster.h"

namespace shoal::scheduler::testing {
namespace {

using client::Outcome;

class Regions : public ::testing::Test {
 protected:
  void build(std::uint32_t k1, std::uint32_t k2, std::uint32_t h, std::uint32_t m, std::uint32_t e) {
    const RegionId c(1, 1);
    const RegionId f(2, 2);
    const RegionId g(3, 3);
    cluster.add("k1", {c}, k1);
    cluster.add("k2", {c}, k2);
    cluster.add("h", {c, f}, h);
    cluster.add("m", {c, f}, m, {{"tier", "fog"}});
    cluster.add("e", {c, f, g}, e, {{"sensor", "yes"}});
    cluster.introduce_both("k1", "k2");
    cluster.introduce_both("h", "m");
    for (const char* k : {"k1", "k2"}) {
      cluster.introduce("h", k, true);
      cluster.introduce(k, "h", false, true);
    }
    for (const char* n : {"h", "m"}) {
      cluster.introduce("e", n, true);
      cluster.introduce(n, "e", false, true);
    }
    spread_news();
  }
  // What the overlay does all the time: states and summaries reach those who are to know them.
  void spread_news() {
    for (int i = 0; i < 4; ++i) {
      cluster.advance(milliseconds(1'100));
      cluster.set_head("m", "h");
      cluster.gossip();
    }
  }
  bool sent(const std::string& from, const std::string& to) {
    return std::count(cluster.frames.begin(), cluster.frames.end(), std::pair(from, to)) > 0;
  }

  Cluster cluster;
};

TEST_F(Regions, AFullRegionGetsHelpFromAboveThroughItsHead) {
  build(2, 0, 0, 0, 0);
  App app(cluster, "m");
  app.put(1, "x");
  app.call("f", {in(1), out(2)});
  app.call("f", {in(2), out(3)});
  EXPECT_EQ(app.get(3), "x12");
  EXPECT_EQ(cluster.ran_on[1], std::vector<std::string>{"k1"});
  EXPECT_TRUE(sent("m", "h") && sent("h", "k1"));
  EXPECT_FALSE(sent("m", "k1")) << "no agent manages work in a region it is not in";
}

TEST_F(Regions, OwnRegionComesFirst) {
  build(4, 4, 1, 1, 0);
  for (const char* name : {"k1", "k2", "h", "m"}) cluster[name].executes = false;
  App app(cluster, "m");
  for (std::uint64_t i = 1; i <= 4; ++i) app.call("f", {out(i)});
  EXPECT_EQ(cluster["m"].held.size(), 1u);
  EXPECT_EQ(cluster["h"].held.size(), 1u);
  EXPECT_EQ(cluster["k1"].held.size() + cluster["k2"].held.size(), 2u);
}

TEST_F(Regions, AnEdgeAgentWithoutACoreRunsInTheFog) {
  build(4, 4, 1, 1, 0);
  App app(cluster, "e");
  for (std::uint64_t i = 1; i <= 6; ++i) app.call("f", {out(i)});
  EXPECT_EQ(app.count("done"), 6);
  for (std::uint64_t i = 1; i <= 6; ++i) EXPECT_TRUE(cluster.ran_on[i][0] == "h" || cluster.ran_on[i][0] == "m");
}

TEST_F(Regions, FromTheEdgeThroughTheFogToTheCloud) {
  build(0, 2, 0, 0, 0);
  App app(cluster, "e");
  app.call("big", {out(1)});
  app.call("f", {in(1), out(2)});
  spread_news();
  EXPECT_EQ(app.get(2), "12");
  EXPECT_EQ(cluster.ran_on[1], std::vector<std::string>{"k2"});
  EXPECT_TRUE(sent("e", "h") && sent("h", "k2"));
  EXPECT_EQ(app.get(1), "1");
  app.close();
  EXPECT_TRUE(cluster["k2"].kept.empty()) << "the end of the app follows the chain";
}

TEST_F(Regions, TheCloudUsesTheEdgeByLabel) {
  build(4, 4, 1, 1, 1);
  App app(cluster, "k2");
  app.call("f", {out(1)}, constrained({{"label.sensor", "yes"}}));
  app.call("f", {out(2)}, constrained({{"label.tier", "fog"}}));
  EXPECT_EQ(app.get(1), "1");
  EXPECT_EQ(app.get(2), "2");
  EXPECT_EQ(cluster.ran_on[1], std::vector<std::string>{"e"});
  EXPECT_EQ(cluster.ran_on[2], std::vector<std::string>{"m"});
}

TEST_F(Regions, TheCloudUsesTheFogWhenItIsFull) {
  build(1, 0, 1, 1, 1);
  for (const char* name : {"k1", "h", "m", "e"}) cluster[name].executes = false;
  App app(cluster, "k1");
  for (std::uint64_t i = 1; i <= 4; ++i) app.call("f", {out(i)});
  EXPECT_EQ(cluster["k1"].held.size(), 1u);
  EXPECT_EQ(cluster["h"].held.size(), 1u);
  EXPECT_EQ(cluster["m"].held.size(), 1u);
  EXPECT_EQ(cluster["e"].held.size(), 1u);
  for (const char* name : {"k1", "h", "m", "e"}) cluster.release(cluster[name]);
  EXPECT_EQ(app.count("done"), 4);
}

TEST_F(Regions, ConstraintsNobodyMeetsAnywhereAreRefused) {
  build(1, 1, 1, 1, 1);
  App app(cluster, "e");
  app.call("f", {out(1)}, constrained({{"label.gpu", "yes"}}));
  cluster.advance(seconds(6));
  EXPECT_NE(app.get(1).find("label.gpu=yes, python executors, which no agent known here has"), std::string::npos)
      << app.get(1);
}

TEST_F(Regions, ASummaryThatPromisesTooMuchIsFoundOut) {
  build(1, 0, 0, 4, 1);
  App app(cluster, "k1");
  // The fog has agents with four units and one with a sensor, but they are not the same.
  app.call("f", {out(1)}, constrained({{"computing_units", "4"}, {"label.sensor", "yes"}}));
  cluster.advance(seconds(7));
  EXPECT_EQ(app.get(1).substr(0, 8), "!invalid") << app.query("explain", {{"task", 1}}).text_or("why", "");
  app.call("f", {out(2)}, constrained({{"computing_units", "4"}}));
  EXPECT_EQ(app.get(2), "2") << "what can run there still does";
}

TEST_F(Regions, ADelegateReplacesALostWorkerByItself) {
  build(1, 1, 0, 0, 0);
  cluster["k1"].executes = cluster["k2"].executes = false;
  App app(cluster, "m");
  app.call("f", {out(1)});
  Agent& first = cluster["k1"].held.empty() ? cluster["k2"] : cluster["k1"];
  Agent& second = cluster["k1"].held.empty() ? cluster["k1"] : cluster["k2"];
  cluster.kill(first.name);
  cluster.input(cluster["h"], in::PeerDown{first.id, true});
  ASSERT_EQ(second.held.size(), 1u);
  cluster.release(second);
  EXPECT_EQ(app.get(1), "1");
}

TEST_F(Regions, ALostHeadLosesOnlyTime) {
  build(1, 1, 0, 0, 0);
  App app(cluster, "m");
  cluster["k1"].executes = cluster["k2"].executes = false;
  app.call("f", {out(1)});
  cluster.kill("h");
  cluster.input(cluster["m"], in::PeerDown{cluster["h"].id, true});
  EXPECT_EQ(app.get(1), "?");
  // m becomes the head.
  cluster.input(cluster["m"], in::Above{});
  for (const char* k : {"k1", "k2"}) {
    cluster.input(cluster[k], in::PeerDown{cluster["h"].id, true});
    cluster.introduce("m", k, true);
    cluster.introduce(k, "m", false, true);
    cluster.release(cluster[k]);
  }
  cluster.advance(seconds(2));
  cluster.gossip();
  for (const char* k : {"k1", "k2"}) cluster.release(cluster[k]);
  EXPECT_EQ(app.get(1), "1");
}

TEST_F(Regions, JobsDoNotTravelInCirclesWhenAllIsFull) {
  build(1, 1, 1, 1, 1);
  for (const char* name : {"k1", "k2", "h", "m", "e"}) cluster[name].executes = false;
  App app(cluster, "m");
  for (std::uint64_t i = 1; i <= 20; ++i) app.call("f", {out(i)});
  spread_news();
  EXPECT_EQ(app.count("unfinished"), 20);
  const std::size_t before = cluster.frames.size();
  cluster.advance(seconds(20));
  EXPECT_LT(cluster.frames.size() - before, 20u * 40) << "renewals, no ping-pong";
  for (int i = 0; i < 8; ++i) {
    for (const char* name : {"k1", "k2", "h", "m", "e"}) cluster.release(cluster[name]);
    spread_news();
  }
  EXPECT_EQ(app.count("done"), 20);
}

TEST_F(Regions, FailuresComeBackThroughTheChain) {
  build(1, 0, 0, 0, 0);
  App app(cluster, "e");
  for (int i = 0; i < 2; ++i) cluster.planned[1].push_back(outcome(Outcome::kException, "boom"));
  app.call("f", {out(1)}, policy(client::OnFailure::kRetry, 1));
  spread_news();
  const std::string error = app.get(1);
  EXPECT_NE(error.find("failed on agent " + cluster["k1"].id.brief() + " after 2 executions: boom"), std::string::npos)
      << error;
}

}  // namespace
}  // namespace shoal::scheduler::testing
