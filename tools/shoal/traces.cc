#include "tools/shoal/traces.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "tools/shoal/trace_tasks.h"

namespace shoal::cli {
namespace {

constexpr std::size_t kTracedMax = 10'000'000;
constexpr int kFunctionEvent = 8'000'000;
constexpr int kTaskEvent = 8'000'001;
constexpr int kRunning = 1;

// Where a lane is among all: nodes, processors and threads count from 1.
struct Row {
  std::size_t node = 0;
  std::size_t processor = 0;  // over all nodes
  std::size_t thread = 0;     // on its node
};

std::string pcf_of(const std::map<std::string, int>& functions) {
  std::string out =
      "DEFAULT_OPTIONS\n\nLEVEL               THREAD\nUNITS               NANOSEC\n\n"
      "STATES\n0    Idle\n1    Running\n\nSTATES_COLOR\n0    {117,195,255}\n1    {0,0,255}\n\n";
  out += fmt::format("EVENT_TYPE\n0    {}    Function\nVALUES\n0      End\n", kFunctionEvent);
  std::vector<std::pair<int, std::string>> values;
  values.reserve(functions.size());
  for (const auto& [function, value] : functions) values.emplace_back(value, function);
  std::sort(values.begin(), values.end());
  for (const auto& [value, function] : values) out += fmt::format("{}      {}\n", value, function);
  return out + fmt::format("\nEVENT_TYPE\n0    {}    Task\n", kTaskEvent);
}

std::string row_of(const std::map<std::string, std::size_t>& agents, std::size_t processors) {
  std::string cpus = fmt::format("LEVEL CPU SIZE {}\n", processors);
  std::string nodes = fmt::format("\nLEVEL NODE SIZE {}\n", agents.size());
  std::string threads = fmt::format("\nLEVEL THREAD SIZE {}\n", processors);
  for (const auto& [agent, lanes] : agents) {
    nodes += agent + "\n";
    for (std::size_t lane = 1; lane <= lanes; ++lane) {
      cpus += fmt::format("{}.{}\n", lane, agent);
      threads += fmt::format("{} executor {}\n", agent, lane);
    }
  }
  return cpus + nodes + threads;
}

}  // namespace

std::string timeline_perfetto(const wire::Dynamic& trace) {
  const TraceLanes lanes = lanes_of(tasks_of(trace, kTracedMax));
  nlohmann::ordered_json events = nlohmann::ordered_json::array();
  std::map<std::string, int> numbers;
  for (const auto& [agent, count] : lanes.agents) {
    const int number = numbers[agent] = static_cast<int>(numbers.size()) + 1;
    events.push_back({{"name", "process_name"}, {"ph", "M"}, {"pid", number}, {"args", {{"name", "agent " + agent}}}});
  }
  for (std::size_t i = 0; i < lanes.tasks.size(); ++i) {
    const TraceTask& task = lanes.tasks[i];
    events.push_back({{"name", task.function},
                      {"ph", "X"},
                      {"pid", numbers[task.agent]},
                      {"tid", lanes.lane[i] + 1},
                      {"ts", task.start_us},
                      {"dur", task.end_us - task.start_us},
                      {"args", {{"task", task.id}}}});
  }
  return nlohmann::ordered_json{{"traceEvents", events}, {"displayTimeUnit", "ms"}}.dump() + "\n";
}

ParaverTrace timeline_paraver(const wire::Dynamic& trace, WallTime now) {
  const TraceLanes lanes = lanes_of(tasks_of(trace, kTracedMax));
  std::map<std::string, std::vector<Row>> rows;
  std::string processors;
  std::string threads;
  std::size_t node = 0;
  std::size_t processor = 0;
  for (const auto& [agent, count] : lanes.agents) {
    ++node;
    processors += fmt::format("{}{}", node == 1 ? "" : ",", count);
    threads += fmt::format("{}{}:{}", node == 1 ? "" : ",", count, node);
    for (std::size_t lane = 1; lane <= count; ++lane) rows[agent].push_back({node, ++processor, lane});
  }
  std::map<std::string, int> functions;
  for (const auto& task : lanes.tasks) functions.try_emplace(task.function, static_cast<int>(functions.size()) + 1);
  // Records are ordered by time; at one instant an end comes before a beginning.
  std::vector<std::tuple<std::int64_t, int, std::string>> records;
  for (std::size_t i = 0; i < lanes.tasks.size(); ++i) {
    const TraceTask& task = lanes.tasks[i];
    const Row& row = rows[task.agent][lanes.lane[i]];
    const std::string place = fmt::format("{}:1:{}:{}", row.processor, row.node, row.thread);
    const std::int64_t begin = (task.start_us - lanes.first_us) * 1000;
    const std::int64_t end = (task.end_us - lanes.first_us) * 1000;
    records.emplace_back(begin, 1, fmt::format("1:{}:{}:{}:{}\n", place, begin, end, kRunning));
    records.emplace_back(begin, 2,
                         fmt::format("2:{}:{}:{}:{}:{}:{}\n", place, begin, kFunctionEvent, functions[task.function],
                                     kTaskEvent, task.id));
    records.emplace_back(end, 0, fmt::format("2:{}:{}:{}:0:{}:0\n", place, end, kFunctionEvent, kTaskEvent));
  }
  std::stable_sort(records.begin(), records.end(), [](const auto& a, const auto& b) {
    return std::pair(std::get<0>(a), std::get<1>(a)) < std::pair(std::get<0>(b), std::get<1>(b));
  });
  ParaverTrace out;
  const auto at = static_cast<std::time_t>(now.unix_ms / 1000);
  out.prv = fmt::format("#Paraver ({:%d/%m/%Y at %H:%M}):{}_ns:{}({}):1:{}({})\n", fmt::gmtime(at),
                        (lanes.last_us - lanes.first_us) * 1000, node, processors, node, threads);
  for (const auto& record : records) out.prv += std::get<2>(record);
  out.pcf = pcf_of(functions);
  out.row = row_of(lanes.agents, processor);
  return out;
}

}  // namespace shoal::cli
