// Goal: timelines in other tools' formats say what the trace says. Method: a small trace by hand, records compared.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tools/shoal/pictures.h"
#include "tools/shoal/trace_tasks.h"
#include "tools/shoal/traces.h"

namespace shoal::cli {
namespace {

using Dynamic = wire::Dynamic;

Dynamic task(std::int64_t id, const char* function, const char* agent, std::int64_t start, std::int64_t end) {
  return Dynamic(
      Dynamic::Map{{"task", id}, {"function", function}, {"agent_name", agent}, {"start_us", start}, {"end_us", end}});
}

Dynamic sample() {
  return Dynamic(
      Dynamic::Map{{"tasks", Dynamic::Array{task(1, "m.f", "edge", 100, 200), task(2, "m.g", "fog", 150, 400),
                                            task(3, "m.f", "fog", 160, 300), task(4, "m.f", "edge", 200, 260),
                                            task(5, "m.f", "edge", 0, 0)}}});
}

TEST(Traces, LanesHoldTasksThatDoNotOverlap) {
  const TraceLanes lanes = lanes_of(tasks_of(sample(), 100));
  ASSERT_EQ(lanes.tasks.size(), 4u) << "the unfinished one is left out";
  EXPECT_EQ(lanes.agents.at("edge"), 1u);
  EXPECT_EQ(lanes.agents.at("fog"), 2u);
  EXPECT_EQ(lanes.first_us, 100);
  EXPECT_EQ(lanes.last_us, 400);
}

TEST(Traces, ParaverRecordsAreOrderedAndNamed) {
  const ParaverTrace trace = timeline_paraver(sample(), WallTime{1'700'000'000'000});
  EXPECT_EQ(trace.prv,
            "#Paraver (14/11/2023 at 22:13):300000_ns:2(1,2):1:2(1:1,2:2)\n"
            "1:1:1:1:1:0:100000:1\n"
            "2:1:1:1:1:0:8000000:1:8000001:1\n"
            "1:2:1:2:1:50000:300000:1\n"
            "2:2:1:2:1:50000:8000000:2:8000001:2\n"
            "1:3:1:2:2:60000:200000:1\n"
            "2:3:1:2:2:60000:8000000:1:8000001:3\n"
            "2:1:1:1:1:100000:8000000:0:8000001:0\n"
            "1:1:1:1:1:100000:160000:1\n"
            "2:1:1:1:1:100000:8000000:1:8000001:4\n"
            "2:1:1:1:1:160000:8000000:0:8000001:0\n"
            "2:3:1:2:2:200000:8000000:0:8000001:0\n"
            "2:2:1:2:1:300000:8000000:0:8000001:0\n");
  EXPECT_NE(trace.pcf.find("EVENT_TYPE\n0    8000000    Function\nVALUES\n0      End\n1      m.f\n2      m.g\n"),
            std::string::npos);
  EXPECT_NE(trace.row.find("LEVEL NODE SIZE 2\nedge\nfog\n"), std::string::npos);
  EXPECT_NE(trace.row.find("LEVEL THREAD SIZE 3\nedge executor 1\nfog executor 1\nfog executor 2\n"),
            std::string::npos);
}

TEST(Traces, PerfettoSlicesOfOneThreadDoNotOverlap) {
  const auto json = nlohmann::json::parse(timeline_perfetto(sample()));
  std::map<std::pair<int, int>, std::int64_t> ends;
  int slices = 0;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] != "X") continue;
    ++slices;
    auto& end = ends[{event["pid"], event["tid"]}];
    EXPECT_GE(event["ts"].get<std::int64_t>(), end);
    end = event["ts"].get<std::int64_t>() + event["dur"].get<std::int64_t>();
  }
  EXPECT_EQ(slices, 4);
}

TEST(Traces, NothingFinishedIsAnEmptyTrace) {
  const Dynamic nothing(Dynamic::Map{{"tasks", Dynamic::Array{}}});
  EXPECT_EQ(lanes_of(tasks_of(nothing, 10)).tasks.size(), 0u);
  EXPECT_TRUE(timeline_paraver(nothing, WallTime{}).prv.starts_with("#Paraver ("));
  EXPECT_NE(timeline_svg(nothing).find("no finished tasks"), std::string::npos);
}

}  // namespace
}  // namespace shoal::cli
