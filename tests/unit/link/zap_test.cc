// Goal: the authentication handler is there or the process is not. Method: a context whose place for a
// handler is taken.
#include "protocol/link/zap.h"

#include <gtest/gtest.h>

namespace shoal::link {
namespace {

TEST(ZapHandlerDeathTest, WithoutItsPlaceTheProcessStops) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        Context context(16);
        ZapHandler first(context, 10);
        ZapHandler second(context, 10);
      },
      "authentication handler");
}

}  // namespace
}  // namespace shoal::link
