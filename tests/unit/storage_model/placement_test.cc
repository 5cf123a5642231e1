// Goal: placement is even, follows weights, moves little, and is the same on every machine.
// Method: counts over many keys, and values written down once.
#include "storage/model/placement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "protocol/base/hash.h"
#include "storage/model/tombstone.h"

namespace shoal::storage {
namespace {

AgentId agent(std::uint64_t n) {
  return AgentId(mix64(n), n);
}

TEST(Placement, Log2IsAccurate) {
  for (std::uint64_t n = 1; n < 10'000; ++n) {
    const std::uint64_t hash = mix64(n);
    const double exact = 64.0 - std::log2(static_cast<double>(hash));
    EXPECT_NEAR(static_cast<double>(negative_log2(hash)) / 65536.0, exact, 1e-4) << hash;
  }
  EXPECT_EQ(negative_log2(1ULL << 63), 1ULL << 16);
  EXPECT_EQ(negative_log2(1), 64ULL << 16);
}

TEST(Placement, WeightsAreFollowed) {
  std::map<AgentId, int> first;
  for (std::uint64_t key = 0; key < 30'000; ++key)
    ++first[rank(mix64(key), {{agent(1), 1}, {agent(2), 2}, {agent(3), 0}}).front()];
  EXPECT_NEAR(first[agent(1)], 10'000, 400);
  EXPECT_NEAR(first[agent(2)], 20'000, 400);
  EXPECT_EQ(first.count(agent(3)), 0U) << "weight 0 is never chosen";
}

TEST(Placement, ANewMemberTakesOnlyItsShare) {
  std::vector<AgentId> members;
  for (std::uint64_t n = 1; n <= 10; ++n) members.push_back(agent(n));
  auto more = members;
  more.push_back(agent(11));
  int moved = 0;
  for (std::uint64_t key = 0; key < 11'000; ++key) {
    const auto before = directory_of(mix64(key), members, 1);
    const auto after = directory_of(mix64(key), more, 1);
    if (before != after) {
      EXPECT_EQ(after.front(), agent(11));
      ++moved;
    }
  }
  EXPECT_NEAR(moved, 1'000, 150);
}

TEST(Placement, FewMembersAreNoProblem) {
  EXPECT_TRUE(directory_of(1, {}, 2).empty());
  EXPECT_EQ(directory_of(1, {agent(1)}, 2).size(), 1U);
  EXPECT_TRUE(rank(1, {}).empty());
}

TEST(Placement, TombstonesLiveWithTheirObject) {
  const ObjectId object(1, 2);
  EXPECT_EQ(placement_key(tombstone_name(object, 7)), placement_key(object));
  EXPECT_NE(placement_key(std::string("alias/a")), placement_key(std::string("alias/b")));
}

// These numbers may never change: agents of different builds must agree.
TEST(Placement, GoldenValues) {
  EXPECT_EQ(negative_log2(0x123456789abcdef0ULL), 249940U);
  std::vector<AgentId> members;
  std::vector<Candidate> candidates;
  for (std::uint64_t n = 1; n <= 5; ++n) {
    members.push_back(agent(n));
    candidates.push_back({agent(n), static_cast<std::uint32_t>(n)});
  }
  std::string picked;
  for (std::uint64_t key = 0; key < 8; ++key) {
    picked +=
        std::to_string(directory_of(key, members, 2)[0].low()) + std::to_string(rank(key, candidates)[0].low()) + " ";
  }
  EXPECT_EQ(picked, "15 43 35 55 34 45 24 43 ");
}

}  // namespace
}  // namespace shoal::storage
