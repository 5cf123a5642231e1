// Goal: the small parts of the scheduler keep their promises on their own.
// Method: direct calls; every limit and every refusal by its message.
#include <gtest/gtest.h>

#include "scheduler/lease_table.h"
#include "scheduler/messages.h"
#include "scheduler/resources.h"
#include "scheduler/state.h"
#include "scheduler/trace.h"

namespace shoal::scheduler {
namespace {

TEST(Demand, ReadsWhatProgramsWrite) {
  const auto demand = parse_demand({{"computing_units", "2"},
                                    {"memory_size", "1.5"},
                                    {"processor_architecture", "aarch64"},
                                    {"label.zone", "north"}});
  ASSERT_TRUE(demand);
  EXPECT_EQ(demand->units, 2u);
  EXPECT_EQ(demand->memory_mb, 1'536u);
  EXPECT_EQ(demand->architecture, "aarch64");
  ASSERT_EQ(demand->requirements.size(), 1u);
  EXPECT_EQ(describe(demand->requirements[0]), "label.zone=north");
  EXPECT_EQ(parse_demand({{"processor_architecture", "amd64"}})->architecture, "x86_64");
  EXPECT_TRUE(parse_demand({{"is_local", "true"}})->local);
  EXPECT_EQ(parse_demand({})->units, 1u);
}

TEST(Demand, RefusesTheRestByName) {
  for (const auto& [key, value] : std::map<std::string, std::string>{{"computing_units", "-1"},
                                                                     {"computing_units ", "1"},
                                                                     {"memory_size", "much"},
                                                                     {"memory_size", "1.x"},
                                                                     {"label.", "x"},
                                                                     {"host_queues", " ,"},
                                                                     {"storage_size", "big"},
                                                                     {"is_local", "yes"},
                                                                     {"gpu.computing_units", "1"},
                                                                     {"processor_property_name", "x"},
                                                                     {"computing_units", ""},
                                                                     {"computing_units", "99999999999999999999"}}) {
    const auto demand = parse_demand({{key, value}});
    ASSERT_FALSE(demand) << key << "=" << value;
    EXPECT_EQ(demand.error().code, Code::kInvalid);
    EXPECT_NE(demand.error().message.find(key), std::string::npos);
  }
}

TEST(Demand, IsMetByAgentsAndSummaries) {
  const Resources agent{4, 4'096, "x86_64", {{"gpu", "yes"}}, {"python"}};
  Demand demand;
  EXPECT_TRUE(can_meet(agent, demand));
  demand.language = "c++";
  EXPECT_FALSE(can_meet(agent, demand));
  demand = {};
  demand.units = 5;
  EXPECT_FALSE(can_meet(agent, demand));
  demand = {};
  demand = *parse_demand({{"label.gpu", "no"}});
  EXPECT_FALSE(can_meet(agent, demand));
  EXPECT_FALSE(can_meet(Resources{}, Demand{})) << "an agent without units runs nothing";
  Summary summary;
  add(summary, State{agent, 0, 0, {}});
  add(summary, State{{8, 1'024, "aarch64", {}, {}}, 8 * kUnit64, 0, {}});
  EXPECT_EQ(summary.agents, 2u);
  EXPECT_EQ(summary.free64, 4 * kUnit64);
  demand = {};
  demand.units = 8;
  demand.architecture = "aarch64";
  EXPECT_TRUE(can_meet(summary, demand));
  demand.memory_mb = 8'000;
  EXPECT_FALSE(can_meet(summary, demand));
}

TEST(Demand, EveryKeyOfTheConstraintDecorator) {
  const Resources agent{4,
                        4'096,
                        "x86_64",
                        {{"app_software", "blast+gromacs"},
                         {"host_queues", "short;debug"},
                         {"storage_type", "SSD"},
                         {"vendor", "AMD"},
                         {"processor_internal_memory_size", "0.5"}},
                        {"python"},
                        {{"operating_system_type", "Linux"},
                         {"operating_system_version", "12"},
                         {"processor_speed", "2.45"},
                         {"storage_size", "99.5"},
                         {"processor_name", "EPYC"}}};
  Summary summary;
  add(summary, State{agent, 0, 0, {}});
  struct Case {
    std::map<std::string, std::string> constraints;
    bool agent;
    bool summary;  // of one agent without its facts
  };
  for (const Case& c : std::vector<Case>{
           {{{"app_software", "gromacs"}}, true, true},
           {{{"app_software", "gromacs,blast"}}, true, true},
           {{{"app_software", "gromacs,namd"}}, false, false},
           {{{"host_queues", "long,debug"}}, true, true},
           {{{"host_queues", "long"}}, false, false},
           {{{"storage_type", "ssd"}}, true, true},
           {{{"storage_type", "HDD"}}, false, false},
           {{{"memory_type", "HBM"}}, false, false},
           {{{"operating_system_type", "linux"}}, true, true},
           {{{"operating_system_type", "Windows"}}, false, true},
           {{{"operating_system_version", "11"}}, false, true},
           {{{"processor_speed", "2.4"}}, true, true},
           {{{"processor_speed", "2.451"}}, false, true},
           {{{"storage_size", "99.5"}}, true, true},
           {{{"storage_size", "100"}}, false, true},
           {{{"processor_name", "EPYC"}}, true, true},
           {{{"processor_internal_memory_size", "0.4"}}, true, true},
           {{{"processor_internal_memory_size", "1"}}, false, false},
           {{{"processor_type", "CPU"}}, true, true},
           {{{"processor_type", "GPU"}}, false, false},
           {{{"processor_property_name", "vendor"}, {"processor_property_value", "AMD"}}, true, true},
           {{{"processor_property_name", "vendor"}, {"processor_property_value", "ARM"}}, false, false},
           {{{"wall_clock_limit", "600"}}, true, true},
           {{{"processor_architecture", "amd64"}}, true, true},
       }) {
    const auto demand = parse_demand(c.constraints);
    ASSERT_TRUE(demand) << demand.error().message;
    EXPECT_EQ(can_meet(agent, *demand), c.agent) << describe(*demand);
    EXPECT_EQ(can_meet(summary, *demand), c.summary) << describe(*demand);
  }
}

TEST(Demand, DecimalsWithoutFloatingPoint) {
  EXPECT_EQ(thousandths("1.5"), 1'500u);
  EXPECT_EQ(thousandths("0.0019"), 1u);
  EXPECT_EQ(thousandths("12"), 12'000u);
  EXPECT_EQ(thousandths("0.3333333333333333333333"), 333u);
  for (const char* bad : {"", ".", "1.", ".5", "-1", "1e3", "1,5", "99999999999999999999", " 1"})
    EXPECT_FALSE(thousandths(bad)) << bad;
}

TEST(Ledger, ChargesShortAttemptsASixtyFourth) {
  EXPECT_EQ(charge64(Demand{}, 0), 64u) << "unknown: as a long one";
  EXPECT_EQ(charge64(Demand{}, 100), 1u);
  EXPECT_EQ(charge64(Demand{}, kShortUs), 64u);
  Ledger ledger;
  ledger.set_total(2, 100);
  ledger.take(64, 60);
  EXPECT_TRUE(ledger.fits(64, 40));
  EXPECT_FALSE(ledger.fits(65, 0));
  EXPECT_FALSE(ledger.fits(1, 41));
  ledger.take(128, 0);  // claimed back after a wait
  EXPECT_EQ(ledger.free64(), 0u);
  ledger.give_back(192, 60);
  EXPECT_EQ(ledger.free64(), 128u);
}

TEST(Leases, TheWorkerGivesUpOneHeartbeatBeforeTheMasterRunsAgain) {
  const LeaseTerms terms{seconds(3), seconds(1)};
  Grants grants(terms, 0);
  Holdings holdings(terms);
  const Instant start{1'000'000};
  grants.grant(1, 5, AppId(1, 1), start);
  holdings[1].heard = start;
  EXPECT_TRUE(holdings.lapsed(start + milliseconds(2'999)).empty());
  EXPECT_EQ(holdings.lapsed(start + seconds(3)).size(), 1u);
  EXPECT_TRUE(holdings.lapsed(start + seconds(3)).empty()) << "told once";
  EXPECT_TRUE(grants.lapsed(start + milliseconds(3'999)).empty());
  EXPECT_EQ(grants.lapsed(start + seconds(4)).size(), 1u);
  EXPECT_EQ(grants.next_deadline(), start + seconds(1)) << "the next renewal";
}

TEST(Leases, ANewLifeOfAnAgentIsNoticed) {
  Grants grants({seconds(3), seconds(1)}, 0);
  grants.grant(1, 5, AppId(1, 1), Instant{});
  EXPECT_TRUE(grants.heard(1, 77, Instant{1}));
  EXPECT_TRUE(grants.heard(1, 77, Instant{2}));
  EXPECT_FALSE(grants.heard(1, 78, Instant{3}));
}

TEST(State, SurvivesTheWireAndJunkDoesNot) {
  State state{{4, 8'192, "x86_64", {{"a", "b"}}, {"python"}}, 70, 3, {}};
  state.above.emplace();
  add(*state.above, State{{16, 1, "x86_64", {}, {}}, 0, 0, {}});
  const auto back = decode_state(encode_state(state));
  ASSERT_TRUE(back);
  EXPECT_EQ(encode_state(*back), encode_state(state));
  EXPECT_EQ(back->above->units_max, 16u);
  EXPECT_FALSE(decode_state("junk"));
  EXPECT_FALSE(decode_summary(""));
}

TEST(Messages, SurviveTheWire) {
  Assignment job;
  job.job = 7;
  job.app = AppId(1, 2);
  job.arguments.emplace_back().value = client::Inline{Bytes("x")};
  job.inputs.push_back({1, {true, 5, 6}, 99, {{AgentId(3, 4), {RegionId(5, 6)}}}});
  job.outputs.push_back({false, 8, 9});
  Assign assign{1, {{AppId(1, 2), "/usr/bin/python3", {}}}, {job}};
  const auto back = wire::decode<Assign>(wire::encode(assign));
  ASSERT_TRUE(back);
  EXPECT_EQ(wire::encode(*back), wire::encode(assign));
}

TEST(Trace, KeepsTheLastEntries) {
  Trace trace(3);
  for (std::uint64_t i = 1; i <= 5; ++i) trace.next().task = TaskId(i);
  ASSERT_EQ(trace.size(), 3u);
  EXPECT_EQ(trace.at(0).task.value(), 3u);
  EXPECT_EQ(trace.at(2).task.value(), 5u);
}

}  // namespace
}  // namespace shoal::scheduler
