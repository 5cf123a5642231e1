// Goal: a repeated batch is never appended twice, an older instance never writes again, and a gap is noticed.
// Method: a table fed like a log feeds it, including wrap-around, restore from a snapshot, and the bound.
#include "streams/model/producer_table.h"

#include <gtest/gtest.h>

namespace shoal::streams {
namespace {

using Kind = ProducerTable::Kind;

TEST(ProducerTable, NewRepeatedPartialGapAndFenced) {
  ProducerTable table;
  EXPECT_EQ(table.judge({1, 0, 0}, 10).kind, Kind::kNew);
  table.note({1, 0, 0}, 10, {100, 109});
  const auto repeated = table.judge({1, 0, 0}, 10);
  EXPECT_EQ(repeated.kind, Kind::kDuplicate);
  EXPECT_EQ(repeated.offsets, (OffsetRange{100, 109}));
  EXPECT_EQ(table.judge({1, 0, 4}, 3).offsets, (OffsetRange{104, 106}));
  const auto partial = table.judge({1, 0, 8}, 5);
  EXPECT_EQ(partial.kind, Kind::kPartial);
  EXPECT_EQ(partial.skip, 2);
  const auto gap = table.judge({1, 0, 11}, 1);
  EXPECT_EQ(gap.kind, Kind::kGap);
  EXPECT_EQ(gap.expected, 10);
  EXPECT_EQ(table.judge({1, 1, 500}, 1).kind, Kind::kNew) << "a new instance may begin anywhere";
  table.note({1, 1, 500}, 1, {110, 110});
  EXPECT_EQ(table.judge({1, 0, 10}, 1).kind, Kind::kFenced);
  EXPECT_EQ(table.judge({2, 0, 10}, 1).kind, Kind::kNew) << "producers do not know each other";
  EXPECT_EQ(table.judge({}, 1).kind, Kind::kNew) << "without a stamp everything is new";
  table.check_invariants();
}

TEST(ProducerTable, SequencesWrap) {
  ProducerTable table;
  constexpr std::int32_t kLast = 2147483647;
  table.note({1, 0, kLast - 1}, 4, {0, 3});  // last-1, last, 0, 1
  EXPECT_EQ(table.judge({1, 0, 2}, 1).kind, Kind::kNew);
  EXPECT_EQ(table.judge({1, 0, kLast}, 2).kind, Kind::kDuplicate);
  EXPECT_EQ(table.judge({1, 0, 1}, 3).kind, Kind::kPartial);
  table.check_invariants();
}

TEST(ProducerTable, SurvivesASnapshot) {
  ProducerTable table;
  for (std::int32_t i = 0; i < 20; ++i) table.note({i % 3, 0, i / 3}, 1, {i, i});
  auto restored = ProducerTable::restore(table.snapshot());
  ASSERT_TRUE(restored);
  EXPECT_EQ(restored->size(), 3U);
  EXPECT_EQ(restored->judge({1, 0, 6}, 1).offsets, (OffsetRange{19, 19}));
  EXPECT_EQ(restored->judge({1, 0, 7}, 1).kind, Kind::kNew);
  EXPECT_FALSE(ProducerTable::restore("junk"));
}

TEST(ProducerTable, ForgetsTheMostSilentProducerAtItsBound) {
  ProducerTable table;
  const auto bound = static_cast<std::int64_t>(ProducerTable::kProducersMax);
  for (std::int64_t i = 0; i <= bound; ++i) table.note({i, 0, 0}, 1, {i, i});
  EXPECT_EQ(table.size(), ProducerTable::kProducersMax);
  EXPECT_EQ(table.judge({0, 0, 0}, 1).kind, Kind::kNew) << "forgotten";
  EXPECT_EQ(table.judge({1, 0, 0}, 1).kind, Kind::kDuplicate);
}

}  // namespace
}  // namespace shoal::streams
