// Goal: a slip of the hand finds the word that was meant, and another word finds nothing. Method: typical slips.
#include "protocol/base/nearest.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

TEST(Nearest, CountsSwappedLettersOnce) {
  EXPECT_EQ(edit_distance("staus", "status"), 1U);
  EXPECT_EQ(edit_distance("fliter", "filter"), 1U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("same", "same"), 0U);
}

TEST(Nearest, FindsWhatWasMeant) {
  const std::vector<std::string_view> words = {"status", "streams", "submit", "run", "log_level", "completion"};
  EXPECT_EQ(nearest("staus", words), "status");
  EXPECT_EQ(nearest("rnu", words), "run");
  EXPECT_EQ(nearest("log-level", words), "log_level");
  EXPECT_EQ(nearest("compl", words), "completion");
  EXPECT_EQ(nearest("zebra", words), std::nullopt);
  EXPECT_EQ(nearest("", words), std::nullopt);
}

}  // namespace
}  // namespace shoal
