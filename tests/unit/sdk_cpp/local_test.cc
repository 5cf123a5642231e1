// Goal: a program means the same without an agent: calls run at once, dependencies, directions and failures included.
// Method: the public header only, SHOAL_SOCKET unset.
#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/unit/sdk_cpp/program/tasks.h"

namespace shoal::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string temp_file(const std::string& name) {
  const auto path = std::filesystem::temp_directory_path() / (name + "." + std::to_string(::getpid()));
  std::filesystem::remove(path);
  return path.string();
}

std::string content(const std::string& path) {
  std::stringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

TEST(SdkLocal, ResultsFeedOtherTasks) {
  const Future<int> sum = add(add(1, 2), add(3, 4));
  EXPECT_EQ(sum.get(), 10);
  EXPECT_EQ(sum.get(), 10) << "a value may be read more than once";
}

TEST(SdkLocal, ManyResultsComeWithOneWait) {
  std::vector<Future<int>> sums;
  for (int i = 0; i < 100; ++i) sums.push_back(add(i, i));
  const std::vector<int> values = wait_on(sums);
  ASSERT_EQ(values.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(values[static_cast<std::size_t>(i)], 2 * i);
  EXPECT_TRUE(wait_on(std::vector<Future<int>>()).empty());
  sums.emplace_back();
  EXPECT_THROW(wait_on(sums), Failure);
}

TEST(SdkLocal, StructsStringsAndBytesTravel) {
  const Point point{1.5, -2, {"a", "b"}};
  EXPECT_EQ(scale(scale(point, 2), 0.5).get(), point);
  EXPECT_EQ(repeat(std::string("ab"), 3).get(), "ababab");
  EXPECT_EQ(reverse(Bytes(std::string("\0\xff", 2))).get(), std::string("\xff\0", 2));
}

TEST(SdkLocal, InOutUpdatesOneValueAfterTheOther) {
  auto list = share(std::vector<int>{1});
  append(list, 2);
  append(list, add(1, 2));
  EXPECT_THAT(list.get(), ElementsAre(1, 2, 3));
}

TEST(SdkLocal, OutFillsAnEmptyFuture) {
  Future<std::string> text;
  EXPECT_TRUE(text.empty());
  produce(text);
  EXPECT_EQ(text.get(), "produced");
}

TEST(SdkLocal, AnEmptyFutureIsAClearError) {
  const Future<int> nothing;
  EXPECT_THROW(nothing.get(), Failure);
}

TEST(SdkLocal, FilesAreParametersToo) {
  const std::string a = temp_file("shoal-sdk-a");
  const std::string b = temp_file("shoal-sdk-b");
  std::ofstream(a) << "one\n";
  append_line(a, std::string("two"));
  copy_file(a, b);
  wait_file(b);
  EXPECT_EQ(content(b), "one\ntwo\n");
  std::filesystem::remove(a);
  std::filesystem::remove(b);
}

TEST(SdkLocal, AFailureReachesWhoeverWaitsAndWhatDependsOnIt) {
  const Future<int> bad = fail_when_negative(-3);
  const Future<int> after = add(bad, 1);
  try {
    after.get();
    FAIL() << "no exception";
  } catch (const Failure& failure) {
    EXPECT_THAT(failure.what(), HasSubstr("negative value -3"));
  }
  EXPECT_THROW(barrier(), Failure);
  barrier();  // told once
}

TEST(SdkLocal, TasksMayCallTasks) {
  EXPECT_EQ(fibonacci(10).get(), 55);
}

TEST(SdkLocal, WhatNeedsAnAgentSaysSo) {
  try {
    store::put(3);
    FAIL() << "no exception";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code(), Code::kUnavailable);
    EXPECT_THAT(failure.what(), HasSubstr("shoal run"));
  }
}

}  // namespace
}  // namespace shoal::test
