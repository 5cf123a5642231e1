// Goal: every record of a stream is dealt to a group at least once, to one consumer at a time, in fair shares; nothing
// is lost when consumers vanish, and "the end" is only said when it is true. Method: a group driven by hand, then by a
// random schedule that counts every record.
#include "streams/model/group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "protocol/base/rng.h"

namespace shoal::streams {
namespace {

constexpr Instant kStart{1'000'000'000};

Group shared(std::uint32_t partitions = 1) {
  Group group(GroupMode::kShared, partitions);
  for (std::uint32_t i = 0; i < partitions; ++i) group.seek(i, 0);
  return group;
}

TEST(Group, SharedRecordsGoToOneConsumerEach) {
  Group group = shared();
  const std::vector<Extent> extents = {{0, 10}};
  ASSERT_TRUE(group.poll_begins("a", kStart));
  ASSERT_TRUE(group.poll_begins("b", kStart));
  EXPECT_EQ(group.fair_share(extents, 500), 5U) << "two consumers share ten records";
  auto wants = group.wants("a", extents);
  ASSERT_EQ(wants.size(), 1U);
  group.deal("a", wants[0], 4);
  wants = group.wants("b", extents);
  EXPECT_EQ(wants[0].from, 5);
  group.deal("b", wants[0], 9);
  EXPECT_TRUE(group.wants("a", extents).empty());
  EXPECT_EQ(group.committed(0), 0);
  group.acknowledge("b");
  EXPECT_EQ(group.committed(0), 0) << "a holds the first five";
  group.acknowledge("a");
  EXPECT_EQ(group.committed(0), 10);
  EXPECT_EQ(group.lag(extents), 0);
  group.check_invariants();
}

TEST(Group, WhatALostConsumerHeldIsDealtAgainFirst) {
  Group group = shared();
  const std::vector<Extent> extents = {{0, 10}};
  group.poll_begins("a", kStart);
  group.deal("a", group.wants("a", extents)[0], 5);
  EXPECT_TRUE(group.acknowledge("a", 0, 2)) << "it finished two of six";
  EXPECT_EQ(group.leave("a"), 4);
  group.poll_begins("b", kStart);
  auto wants = group.wants("b", extents);
  ASSERT_EQ(wants.size(), 2U);
  EXPECT_TRUE(wants[0].again);
  EXPECT_EQ(wants[0].from, 2);
  EXPECT_EQ(wants[0].below, 6);
  group.deal("b", wants[0], 3);
  EXPECT_EQ(group.wants("b", extents)[0].from, 4) << "the rest of the range still waits";
  group.check_invariants();
}

TEST(Group, PartitionsBelongToOneConsumerAndMoveOnlyWhenFree) {
  Group group(GroupMode::kPartitioned, 4);
  for (std::uint32_t i = 0; i < 4; ++i) group.seek(i, 0);
  const std::vector<Extent> extents(4, Extent{0, 100});
  group.poll_begins("a", kStart);
  ASSERT_EQ(group.wants("a", extents).size(), 4U);
  for (const auto& want : group.wants("a", extents)) group.deal("a", want, 9);
  group.poll_begins("b", kStart);
  EXPECT_TRUE(group.wants("b", extents).empty()) << "a holds records of all partitions";
  group.acknowledge("a");
  EXPECT_EQ(group.wants("a", extents).size(), 2U);
  EXPECT_EQ(group.wants("b", extents).size(), 2U);
  EXPECT_EQ(group.wants("b", extents)[0].from, 10);
  group.leave("a");
  EXPECT_EQ(group.wants("b", extents).size(), 4U);
  group.check_invariants();
}

TEST(Group, TheEndWaitsForOthersWhoMayGiveBack) {
  Group group = shared();
  const std::vector<Extent> extents = {{0, 2}};
  group.poll_begins("a", kStart);
  group.deal("a", group.wants("a", extents)[0], 1);
  group.poll_ends("a");
  group.poll_begins("b", kStart);
  EXPECT_FALSE(group.at_end("b", extents, kStart - seconds(10)));
  EXPECT_TRUE(group.at_end("a", extents, kStart - seconds(10))) << "nothing is left for a itself";
  EXPECT_TRUE(group.at_end("b", extents, kStart + seconds(1))) << "a has not polled for too long";
  group.leave("a");
  EXPECT_FALSE(group.at_end("b", extents, kStart + seconds(1))) << "now they are b's";
  group.deal("b", group.wants("b", extents)[0], 1);
  group.acknowledge("b");
  EXPECT_TRUE(group.at_end("b", extents, kStart));
}

TEST(Group, RetentionSkipsAndCounts) {
  Group group = shared();
  group.poll_begins("a", kStart);
  group.deal("a", group.wants("a", {{0, 10}})[0], 4);
  group.leave("a");
  group.poll_begins("b", kStart);
  const auto wants = group.wants("b", {{8, 12}});
  ASSERT_EQ(wants.size(), 1U);
  EXPECT_EQ(wants[0].from, 8);
  EXPECT_EQ(group.lost(), 5U + 3U);
  group.check_invariants();
}

TEST(Group, RestartDealsAgainWhatWasHeld) {
  Group group = shared();
  group.poll_begins("a", kStart);
  group.poll_begins("b", kStart);
  group.deal("a", group.wants("a", {{0, 10}})[0], 3);
  group.deal("b", group.wants("b", {{0, 10}})[0], 7);
  group.acknowledge("b");
  Group again = Group::restore(group.state(), 1);
  again.poll_begins("c", kStart);
  const auto wants = again.wants("c", {{0, 10}});
  ASSERT_EQ(wants.size(), 2U);
  EXPECT_EQ(wants[0].from, 0);
  EXPECT_EQ(wants[0].below, 4);
  EXPECT_EQ(wants[1].from, 8);
  again.check_invariants();
}

// Random consumers come, take, finish, vanish; a record is held by one consumer at a time, and all are finished in the
// end.
TEST(Group, RandomSchedulesFinishEveryRecord) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Rng rng(seed);
    const auto partitions = static_cast<std::uint32_t>(1 + rng.below(3));
    Group group(rng.chance(500'000) ? GroupMode::kShared : GroupMode::kPartitioned, partitions);
    for (std::uint32_t i = 0; i < partitions; ++i) group.seek(i, 0);
    std::vector<Extent> extents(partitions);
    std::set<std::pair<std::uint32_t, Offset>> finished;
    std::map<std::string, std::set<std::pair<std::uint32_t, Offset>>> held;
    Instant now = kStart;
    for (int step = 0; step < 400; ++step) {
      now = now + milliseconds(10);
      const std::string consumer(1, static_cast<char>('a' + rng.below(4)));
      if (step < 300 && rng.chance(300'000)) {
        extents[rng.below(partitions)].end += static_cast<Offset>(rng.below(20));
      } else if (step < 300 && rng.chance(100'000)) {
        group.leave(consumer);
        held.erase(consumer);
      } else {
        group.poll_begins(consumer, now);
        group.acknowledge(consumer);
        finished.insert(held[consumer].begin(), held[consumer].end());
        held[consumer].clear();
        for (const auto& want : group.wants(consumer, extents)) {
          const Offset last =
              want.from + static_cast<Offset>(rng.below(static_cast<std::uint64_t>(want.below - want.from)));
          group.deal(consumer, want, last);
          for (Offset at = want.from; at <= last; ++at) {
            for (const auto& [other, records] : held) {
              ASSERT_FALSE(records.contains({want.partition, at})) << "seed " << seed << ": held twice";
            }
            ASSERT_FALSE(finished.contains({want.partition, at})) << "seed " << seed << ": dealt after it was finished";
            held[consumer].insert({want.partition, at});
          }
          if (rng.chance(500'000)) break;
        }
        group.poll_ends(consumer);
      }
      group.check_invariants();
    }
    for (const char* consumer : {"b", "c", "d"}) {
      group.leave(consumer);
      held.erase(consumer);
    }
    for (int round = 0; round < 1000 && group.lag(extents) > 0; ++round) {
      group.poll_begins("a", now);
      group.acknowledge("a");
      finished.insert(held["a"].begin(), held["a"].end());
      held["a"].clear();
      for (const auto& want : group.wants("a", extents)) {
        group.deal("a", want, want.below - 1);
        for (Offset at = want.from; at < want.below; ++at) held["a"].insert({want.partition, at});
      }
    }
    std::size_t total = 0;
    for (const Extent& extent : extents) total += static_cast<std::size_t>(extent.end);
    EXPECT_EQ(finished.size(), total) << "seed " << seed;
    EXPECT_TRUE(group.at_end("a", extents, now)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace shoal::streams
