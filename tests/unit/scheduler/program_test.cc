// Goal: a program whose calls become tasks gets the same values as if it had run one call after the other.
// Method: one agent in virtual time; every task appends its number to what it read, so a value tells its history.
#include <gtest/gtest.h>

#include "tests/unit/scheduler/cluster.h"

namespace shoal::scheduler::testing {
namespace {

using client::Direction;
using client::Kind;

class Program : public ::testing::Test {
 protected:
  Program() {
    cluster.add("a", {RegionId(1, 1)}, 4);
    app.emplace(cluster, "a");
  }
  Agent& agent() { return cluster["a"]; }

  Cluster cluster;
  std::optional<App> app;
};

TEST_F(Program, ReadAfterWrite) {
  app->call("f", {out(1)});
  app->call("f", {in(1), out(2)});
  app->call("f", {in(2), in(1), out(3)});
  EXPECT_EQ(app->get(3), "1213");
}

TEST_F(Program, EveryWriteIsANewVersionAndNoWriteWaitsForReaders) {
  app->put(1, "x");
  agent().executes = false;
  app->call("f", {in(1), out(2)});  // reads the old content
  app->call("f", {inout(1)});       // does not wait for the reader
  app->call("f", {in(1), out(3)});
  EXPECT_EQ(agent().held.size(), 2u) << "the reader and the writer run side by side";
  cluster.release(agent());
  EXPECT_EQ(app->get(2), "x1");
  EXPECT_EQ(app->get(3), "x23");
  EXPECT_EQ(app->get(1), "x2");
}

TEST_F(Program, SubmitNeverWaitsAndAWaitIsAnsweredWhenAllIsFinal) {
  agent().executes = false;
  app->call("f", {out(1)});
  app->call("f", {out(2)});
  const auto request = app->wait({1, 2});
  EXPECT_FALSE(app->values(request));
  cluster.finish(agent(), cluster.run(agent(), client::Attempt(agent().held.front())));
  EXPECT_FALSE(app->values(request));
  cluster.release(agent());
  ASSERT_TRUE(app->values(request));
  EXPECT_EQ(app->values(request)->values.size(), 2u);
}

TEST_F(Program, CollectionsOfAnyDepthDependByElement) {
  for (std::uint64_t d = 1; d <= 3; ++d) app->put(d, std::string(1, static_cast<char>('a' + d - 1)));
  app->call("f", {inout(2)});
  app->call("f", {collection({in(1), collection({in(2), in(3)})}), out(9)});
  app->call("f", {collection({inout(1), collection({inout(3)})}, Direction::kInOut)});
  EXPECT_EQ(app->get(9), "ab1c2");
  EXPECT_EQ(app->get(1), "ac3");
  EXPECT_EQ(app->get(2), "b1");
  EXPECT_EQ(app->get(3), "ac3");
}

TEST_F(Program, ATrackedCollectionIsADependencyItself) {
  agent().executes = false;
  auto whole = collection({out(2), out(3)}, Direction::kOut);
  whole.datum = DatumId(1);
  app->call("f", {whole});
  auto again = collection({}, Direction::kIn);
  again.datum = DatumId(1);
  app->call("f", {again, out(4)});
  EXPECT_EQ(agent().held.size(), 1u);
  cluster.release(agent());
  EXPECT_EQ(app->get(4), "2");
}

TEST_F(Program, CommutativeTasksRunOneAtATimeInAnyOrder) {
  app->put(1, "x");
  agent().executes = false;
  app->call("f", {out(5)});                                     // 1: what task 2 waits for
  app->call("f", {in(5), access(Direction::kCommutative, 1)});  // 2
  app->call("f", {access(Direction::kCommutative, 1)});         // 3: overtakes it
  app->call("f", {access(Direction::kCommutative, 1)});         // 4: one at a time
  app->call("f", {in(1), out(6)});                              // 5: after all of them
  ASSERT_EQ(agent().held.size(), 2u);
  EXPECT_EQ(agent().held[1].task.value(), 3u);
  cluster.finish(agent(), cluster.run(agent(), client::Attempt(agent().held[1])));
  ASSERT_EQ(agent().held.size(), 2u);
  EXPECT_EQ(agent().held[1].task.value(), 4u);
  cluster.release(agent());
  EXPECT_EQ(app->get(6), "1x3425");
  EXPECT_EQ(app->get(1), "1x342");
}

TEST_F(Program, AReaderSeesTheCommutativeTasksBeforeItAndNoneAfterIt) {
  app->put(1, "x");
  agent().executes = false;
  app->call("f", {access(Direction::kCommutative, 1)});  // 1
  app->call("f", {in(1), out(2)});                       // 2
  app->call("f", {access(Direction::kCommutative, 1)});  // 3
  cluster.release(agent());
  EXPECT_EQ(app->get(2), "x12");
  EXPECT_EQ(app->get(1), "x13");
}

TEST_F(Program, CommutativeAccessesToTwoDataCannotDeadlock) {
  app->put(1, "x");
  app->put(2, "y");
  app->call("f", {access(Direction::kCommutative, 1), access(Direction::kCommutative, 2)});
  app->call("f", {access(Direction::kCommutative, 2), access(Direction::kCommutative, 1)});
  EXPECT_EQ(app->get(1), "xy1xy12");
  EXPECT_EQ(app->count("done"), 2);
}

TEST_F(Program, ConcurrentTasksRunSideBySideAndTheNextReaderWaitsForAll) {
  app->put(1, "x");
  agent().executes = false;
  app->call("f", {access(Direction::kConcurrent, 1)});
  app->call("f", {access(Direction::kConcurrent, 1)});
  app->call("f", {in(1), out(2)});
  EXPECT_EQ(agent().held.size(), 2u);
  cluster.release(agent());
  EXPECT_EQ(app->get(2), "x23");
}

TEST_F(Program, InDeleteFreesTheDatumAfterTheTask) {
  app->put_shared(1, "x");
  app->call("f", {access(Direction::kInDelete, 1), out(2)});
  EXPECT_EQ(app->get(2), "x1");
  EXPECT_EQ(agent().dropped.size(), 1u);
  EXPECT_EQ(app->get(1).substr(0, 4), "!not");
}

TEST_F(Program, StreamsCarryNoDependency) {
  agent().executes = false;
  client::Access produce;
  produce.kind = client::AccessKind::kStream;
  produce.direction = Direction::kOut;
  produce.path = "s";
  client::Access consume = produce;
  consume.direction = Direction::kIn;
  app->call("f", {produce});
  app->call("f", {consume, out(1)});
  EXPECT_EQ(agent().held.size(), 2u);
  cluster.release(agent());
  EXPECT_EQ(app->count("done"), 2);
}

TEST_F(Program, FilesAreTrackedByPathAndTheUsersFileIsNeverWritten) {
  agent().arena["/home/u/in.txt"] = "u";
  app->call("f", {file(Direction::kIn, "/home/u/in.txt"), out(1)});
  app->call("f", {file(Direction::kInOut, "/home/u/in.txt")});
  app->call("f", {file(Direction::kInOut, "/home/u/in.txt")});
  EXPECT_EQ(app->get(1), "u1");
  const auto answer = app->values(app->wait({}, {"/home/u/in.txt", "/never/used"}));
  ASSERT_TRUE(answer);
  EXPECT_EQ(cluster.content(agent(), answer->values[0].value), "u23");
  EXPECT_EQ(answer->values[0].path, "/home/u/in.txt");
  EXPECT_TRUE(std::holds_alternative<client::Nothing>(answer->values[1].value)) << "it is where it was";
  EXPECT_EQ(agent().arena["/home/u/in.txt"], "u");
  const auto& target = agent().launches[1].attempts[0].arguments[0].items[0].value;
  EXPECT_TRUE(std::get<client::FilePath>(target).path.ends_with("/in.txt")) << "the name survives, for its extension";
  EXPECT_EQ(agent().dropped.size(), 1u) << "only the version in between is freed";
}

TEST_F(Program, AReleasedFileStartsAgainFromDisk) {
  agent().arena["/f"] = "u";
  app->call("f", {file(Direction::kInOut, "/f")});
  app->release({}, {"/f"});
  agent().arena["/f"] = "new";
  app->call("f", {file(Direction::kIn, "/f"), out(1)});
  EXPECT_EQ(app->get(1), "new2");
}

TEST_F(Program, ALargeLiteralIsAnArenaFileThatIsFreedAfterItsTask) {
  agent().arena["a.lit"] = "z";
  client::Access record;
  record.value = client::Shared{"a.lit", 20'000};
  app->call("f", {record, out(1)});
  EXPECT_EQ(app->get(1), "z1");
  EXPECT_EQ(agent().dropped.size(), 1u);
}

TEST_F(Program, TheSameDatumTwiceInOneCall) {
  app->put(1, "x");
  app->call("f", {in(1), inout(1)});
  app->call("f", {inout(1), in(1), out(2)});
  EXPECT_EQ(app->get(2), "xx1xx12");
  app->call("f", {inout(1), access(Direction::kCommutative, 1)});
  EXPECT_EQ(app->get(1).substr(0, 8), "!invalid");
}

TEST_F(Program, ValuesAreFreedWhenNobodyCanReadThem) {
  app->call("big", {out(1)});
  app->call("big", {inout(1)});
  EXPECT_EQ(agent().kept.size(), 1u) << "the overwritten version is gone";
  app->call("f", {in(1), out(2)});
  app->release({1});
  EXPECT_EQ(agent().kept.size(), 0u);
  EXPECT_EQ(app->get(2), "123");
}

TEST_F(Program, AReleasedResultIsFreedOnceItsTaskIsDone) {
  agent().executes = false;
  app->call("big", {out(1)});
  app->release({1});
  cluster.release(agent());
  EXPECT_EQ(agent().kept.size(), 0u);
}

TEST_F(Program, BarrierWaitsForAllTasks) {
  agent().executes = false;
  app->call("f", {out(1)});
  const auto request = app->barrier();
  EXPECT_FALSE(app->reply(request));
  cluster.release(agent());
  ASSERT_TRUE(app->reply(request));
  EXPECT_EQ(app->reply(request)->code, 0);
  EXPECT_TRUE(app->reply(app->barrier()));
}

TEST_F(Program, PriorityGoesFirst) {
  cluster.input(agent(), in::Self{agent().address, {1, 100, "x86_64", {}, {}}});
  agent().executes = false;
  client::TaskOptions urgent;
  urgent.priority = true;
  app->call("f", {out(1)});
  app->call("f", {out(2)});
  app->call("f", {out(3)}, urgent);
  cluster.release(agent());
  std::vector<std::uint64_t> order;
  for (const auto& launch : agent().launches) order.push_back(launch.attempts[0].task.value());
  EXPECT_EQ(order, (std::vector<std::uint64_t>{1, 3, 2}));
}

TEST_F(Program, UnitsAreNeverExceeded) {
  agent().executes = false;
  for (std::uint64_t i = 1; i <= 8; ++i) app->call("f", {out(i)}, constrained({{"computing_units", "3"}}));
  EXPECT_EQ(agent().held.size(), 1u);
  app->call("f", {out(20)});
  EXPECT_EQ(agent().held.size(), 2u) << "what does not fit does not stand in the way of what does";
  cluster.release(agent());
  EXPECT_EQ(app->count("done"), 9);
}

TEST_F(Program, ABlockedAttemptLendsItsUnits) {
  cluster.input(agent(), in::Self{agent().address, {1, 100, "x86_64", {}, {}}});
  agent().executes = false;
  app->call("f", {out(1)});
  app->call("f", {out(2)});
  ASSERT_EQ(agent().held.size(), 1u);
  const std::uint64_t first = agent().held[0].attempt;
  cluster.input(agent(), in::AttemptBlocked{first, true});
  EXPECT_EQ(agent().held.size(), 2u);
  cluster.input(agent(), in::AttemptBlocked{first, false});
  cluster.release(agent());
  EXPECT_EQ(app->count("done"), 2);
}

TEST_F(Program, ShortFunctionsAreHandedOutAheadAndLongOnesAreNot) {
  agent().executes = false;
  client::Submit batch;
  const FunctionId noop = app->function("noop");
  for (std::uint64_t i = 1; i <= 1'000; ++i) {
    client::TaskCall call;
    call.task = TaskId(i);
    call.function = noop;
    batch.calls.push_back(call);
  }
  app->submit(batch);
  EXPECT_EQ(agent().held.size(), 4u) << "nothing is known of it yet: one per unit";
  for (int i = 0; i < 4; ++i) cluster.finish(agent(), cluster.run(agent(), client::Attempt(agent().held.front())));
  EXPECT_GT(agent().held.size(), 200u);
  EXPECT_LE(agent().held.size(), 4u * 64);
  cluster.release(agent());
  EXPECT_EQ(app->count("done"), 1'000);
}

TEST_F(Program, ReturnedAttemptsStartAgainWithoutPenalty) {
  for (int i = 0; i < 10; ++i) cluster.planned[1].push_back(outcome(client::Outcome::kReturned));
  app->call("f", {out(1)});
  EXPECT_EQ(app->get(1), "1");
  EXPECT_EQ(app->count("retried"), 0);
}

TEST_F(Program, ADriverThatGoesAwayTakesItsTasksAndDataAlong) {
  app->put_shared(1, "x");
  agent().executes = false;
  app->call("f", {in(1), out(2)});
  app->call("f", {in(2), out(3)});
  app->close();
  EXPECT_EQ(agent().killed.size(), 1u);
  EXPECT_TRUE(agent().kept.empty());
  App other(cluster, "a", 2);
  agent().executes = true;
  other.call("f", {out(1)});
  EXPECT_EQ(other.get(1), "1") << "its units are free again";
  EXPECT_EQ(app->count("cancelled"), 2);
}

TEST_F(Program, AnAppCanBeCancelledFromOutside) {
  agent().executes = false;
  app->call("f", {out(1)});
  const auto request = app->wait({1});
  cluster.input(agent(), in::CancelApp{app->id()});
  ASSERT_TRUE(app->values(request));
  EXPECT_EQ(app->values(request)->values[0].code, static_cast<std::uint8_t>(Code::kCancelled));
  EXPECT_EQ(agent().killed.size(), 1u);
}

TEST_F(Program, ANestedProgramIsAnAppOfItsOwn) {
  cluster.input(agent(), in::Self{agent().address, {1, 100, "x86_64", {}, {}}});
  agent().executes = false;
  app->call("f", {out(1)});
  const std::uint64_t parent = agent().held[0].attempt;
  client::Hello hello;
  hello.role = "driver";
  hello.parent_attempt = parent;
  App nested(cluster, "a", 7);
  nested.call("f", {out(1)});
  EXPECT_EQ(agent().held.size(), 1u);
  cluster.input(agent(), in::AttemptBlocked{parent, true});
  ASSERT_EQ(agent().held.size(), 2u) << "the unit of the waiting parent runs the child";
  cluster.finish(agent(), cluster.run(agent(), client::Attempt(agent().held[1])));
  EXPECT_EQ(nested.get(1), "1");
  nested.close();
  cluster.input(agent(), in::AttemptBlocked{parent, false});
  cluster.release(agent());
  EXPECT_EQ(app->get(1), "1");
}

TEST_F(Program, QueriesTellWhatPeopleAsk) {
  app->call("f", {out(1)});
  app->call("f", {in(1), out(2)});
  agent().executes = false;
  app->call("f", {in(2), out(3)});
  app->call("f", {in(3), out(4)});
  const auto tasks = app->query("tasks");
  ASSERT_NE(tasks.as_array(), nullptr);
  ASSERT_EQ(tasks.as_array()->size(), 4u);
  EXPECT_EQ((*tasks.as_array())[0].text_or("state", ""), "done");
  EXPECT_EQ((*tasks.as_array())[2].text_or("state", ""), "running");
  EXPECT_EQ((*tasks.as_array())[3].text_or("why", ""), "waits for 1 inputs: from task 3");
  EXPECT_EQ(app->query("tasks", {{"state", "waiting"}}).as_array()->size(), 1u);
  EXPECT_EQ(app->query("explain", {{"task", 3}}).text_or("why", ""), "runs on this agent");
  EXPECT_EQ(app->query("explain", {{"task", 99}}).as_text()->substr(0, 8), "!task 99");
  const auto trace = app->query("trace");
  ASSERT_EQ(trace.as_array()->size(), 2u);
  EXPECT_EQ((*trace.as_array())[1]["after"], wire::Dynamic(wire::Dynamic::Array{1}));
  cluster.release(agent());
  app->close();
  EXPECT_EQ(app->query("trace").as_array()->size(), 4u) << "kept after the end of the app";
  EXPECT_EQ(app->count("done"), 4);
}

TEST_F(Program, UnknownThingsAreNamed) {
  EXPECT_EQ(app->get(77), "!not_found: the application has no datum 77 (never given, or released)");
  app->call("f", {in(78), out(1)});
  EXPECT_NE(app->get(1).find("names datum 78, which the program has not given"), std::string::npos);
  EXPECT_EQ(app->reply(app->barrier("nobody"))->code, static_cast<std::uint8_t>(Code::kNotFound));
  client::Submit submit;
  submit.calls.resize(1);
  submit.calls[0].task = TaskId(50);
  submit.calls[0].function = FunctionId(9, 9);
  submit.calls[0].accesses = {out(5)};
  app->submit(submit);
  EXPECT_NE(app->get(5).find("was not registered"), std::string::npos);
}

}  // namespace
}  // namespace shoal::scheduler::testing
