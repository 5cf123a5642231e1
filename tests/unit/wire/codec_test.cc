// Goal: what is encoded decodes to the same value, versions N and N-1 read each other, and no byte string can
// do harm. Method: round trips, hand-made arrays of other lengths, hostile headers.
#include "protocol/wire/codec.h"

#include <gtest/gtest.h>

#include "protocol/wire/address.h"
#include "protocol/wire/dynamic.h"

namespace shoal::wire {
namespace {

struct Inner {
  std::string name;
  std::optional<std::int32_t> count;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.name, self.count);
  }
  friend bool operator==(const Inner&, const Inner&) = default;
};

struct Outer {
  AgentId agent;
  TaskId task;
  std::vector<Inner> inner;
  std::map<std::string, std::uint64_t> counts;
  std::variant<std::uint64_t, Bytes, Inner> choice;
  Duration wait;
  bool flag = false;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.agent, self.task, self.inner, self.counts, self.choice, self.wait, self.flag);
  }
  friend bool operator==(const Outer&, const Outer&) = default;
};

TEST(Codec, RoundTripKeepsEveryField) {
  Outer out{AgentId(1, 2), TaskId(7), {{"a", 3}, {"b", std::nullopt}}, {{"x", 9}}, Inner{"c", -4}, seconds(2), true};
  auto back = decode<Outer>(encode(out));
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(*back, out);
}

TEST(Codec, ShorterAndLongerArraysAreRead) {
  Encoder shorter;
  shorter.array(1);
  shorter.text("only the name");
  auto old = decode<Inner>(shorter.take());
  ASSERT_TRUE(old.has_value());
  EXPECT_EQ(*old, (Inner{"only the name", std::nullopt}));
  Encoder longer;
  longer.array(3);
  longer.text("n");
  longer.i64(1);
  longer.text("a field of the future");
  EXPECT_EQ(decode<Inner>(longer.take()).value(), (Inner{"n", 1}));
}

TEST(Codec, HostileBytesAreRefused) {
  const std::string claims_four_billion_items("\xdd\xff\xff\xff\xff", 5);
  EXPECT_FALSE(decode<std::vector<Inner>>(claims_four_billion_items).has_value());
  EXPECT_FALSE(decode<Inner>(std::string(100'000, '\x91')).has_value());
  EXPECT_FALSE(decode<Inner>("").has_value());
  EXPECT_FALSE(decode<Inner>(std::string(encode(Inner{"a", 1})) + "x").has_value());
  Encoder wrong_type;
  wrong_type.array(1);
  wrong_type.u64(3);
  EXPECT_FALSE(decode<Inner>(wrong_type.take()).has_value());
  Encoder too_big;
  too_big.u64(300);
  EXPECT_FALSE(decode<std::uint8_t>(too_big.take()).has_value());
}

TEST(Codec, DynamicRoundTrip) {
  Dynamic value(
      Dynamic::Map{{"n", 1}, {"s", "text"}, {"list", Dynamic::Array{Dynamic(true), Dynamic(2.5), Dynamic()}}});
  Encoder e;
  put(e, value);
  auto back = decode<Dynamic>(e.take());
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(*back, value);
  EXPECT_EQ(back->text_or("s", ""), "text");
  EXPECT_EQ((*back)["missing"].is_nil(), true);
}

}  // namespace
}  // namespace shoal::wire
