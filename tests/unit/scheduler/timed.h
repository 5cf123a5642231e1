// tests/unit/scheduler/timed.h
//
// Scheduler machines in virtual time in which everything takes its time: attempts run as long as the test says, values
// travel at the rate of their link, one after the other, messages take a tenth of a millisecond. What comes out is how
// long a program took and how many bytes moved.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/scheduler.h"

namespace shoal::scheduler::testing {

class Timed {
 public:
  // Agents "a", "b", … of one region, each labelled with its name; the first is the master of the application.
  Timed(const std::vector<std::uint32_t>& units, const std::string& policy, std::uint64_t seed);
  ~Timed();

  // A task that runs for `run` and reads the results of those tasks; `bytes` is the size of its own result. Where it
  // may run: the name of an agent, or anywhere.
  std::uint64_t task(Duration run, const std::vector<std::uint64_t>& reads, std::uint64_t bytes,
                     const std::string& where = {}, bool priority = false, const std::string& function = "f");
  // Sends what was added, as one submission.
  void submit();
  // Lets time pass until all tasks are done, or `at_most` went by. How long that took.
  Duration finish(Duration at_most = seconds(3'600));
  void advance(Duration span);
  // A second application, submitted to the same master or to another agent. Tasks that follow belong to it.
  void open(const std::string& agent, std::uint64_t app, const std::string& policy = {});

  struct Run {
    std::uint64_t task = 0;
    std::uint64_t app = 0;
    std::string agent;
    Instant start;
    Instant end;
  };
  std::vector<Run> runs;                                           // in order of their start
  std::uint64_t moved = 0;                                         // bytes
  std::uint64_t rate = 100'000;                                    // of every link, bytes per millisecond
  std::function<Duration(const std::string&, Duration)> slowness;  // how long a run takes on that agent
  Instant now{1'000'000};
  wire::Dynamic query(const std::string& method, wire::Dynamic::Map params);

 private:
  struct Agent;
  void step(Agent& agent, const Input& input);
  void carry_out(Agent& agent, Output& output);
  void at(Duration after, std::function<void()> what);
  void launch(Agent& agent, const client::Attempt& attempt);
  void fetch(Agent& agent, const out::Fetch& fetch);
  void gossip(Agent& from);
  bool next(Instant until);

  std::vector<std::unique_ptr<Agent>> agents_;
  std::map<std::pair<std::int64_t, std::uint64_t>, std::function<void()>> events_;
  std::uint64_t events_made_ = 0;
  std::map<std::pair<std::string, std::string>, Instant> links_;
  struct Task {
    Duration run;
    std::uint64_t bytes = 0;
  };
  std::map<std::uint64_t, Task> tasks_;
  Agent* master_ = nullptr;
  std::uint64_t app_ = 1;
  std::uint64_t tasks_made_ = 0;
  std::uint64_t open_ = 0;  // tasks not done
  client::Submit pending_;
  std::map<std::pair<std::uint64_t, std::string>, bool> functions_;
  wire::Dynamic answer_;
};

}  // namespace shoal::scheduler::testing
