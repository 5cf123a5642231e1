// Goal: a selection of numbers means what people expect, and anything else is refused. Method: texts and members.
#include "protocol/base/number_set.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

std::vector<std::uint64_t> members(std::string_view text) {
  auto set = NumberSet::parse(text);
  EXPECT_TRUE(set) << text;
  std::vector<std::uint64_t> out;
  for (std::uint64_t n = 0; n <= 30; ++n) {
    if (set && set->contains(n)) out.push_back(n);
  }
  return out;
}

TEST(NumberSet, RangesStepsAndLists) {
  EXPECT_EQ(members("7"), (std::vector<std::uint64_t>{7}));
  EXPECT_EQ(members("1-10:2"), (std::vector<std::uint64_t>{1, 3, 5, 7, 9}));
  EXPECT_EQ(members("1,5,20-22"), (std::vector<std::uint64_t>{1, 5, 20, 21, 22}));
  EXPECT_EQ(members("all").size(), 31U);
  EXPECT_EQ(members("").size(), 31U);
}

TEST(NumberSet, LastIsSaidLater) {
  auto set = NumberSet::parse("2,last");
  ASSERT_TRUE(set);
  EXPECT_TRUE(set->wants_last());
  EXPECT_FALSE(set->contains(9));
  set->set_last(9);
  EXPECT_TRUE(set->contains(9));
  EXPECT_TRUE(set->contains(2));
  EXPECT_TRUE(NumberSet::parse("last")->is_single());
  EXPECT_FALSE(NumberSet::parse("1-2")->is_single());
  EXPECT_TRUE(NumberSet::parse("3")->is_single());
}

TEST(NumberSet, AnythingElseIsRefused) {
  for (const char* text : {"x", "1-", "-1", "5-1", "1-9:0", "1,,2", "1-2-3", "1:2:3", "99999999999999999999", "1 2"})
    EXPECT_FALSE(NumberSet::parse(text)) << text;
}

}  // namespace
}  // namespace shoal
