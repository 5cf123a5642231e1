// A program that uses each part of the SDK once and prints what it got; agent_test.cc compares.
#include <fstream>
#include <iostream>
#include <sstream>

#include "tests/unit/sdk_cpp/program/tasks.h"

namespace {

void run(const std::string& directory) {
  using namespace shoal::test;
  std::cout << "sum " << add(add(1, 2), add(3, 4)).get() << '\n';
  auto list = shoal::share(std::vector<int>{1});
  for (int i = 2; i <= 5; ++i) append(list, i);
  std::cout << "list " << list.get().size() << '\n';
  shoal::Future<std::string> text;
  produce(text);
  std::cout << "out " << text.get() << '\n';
  std::cout << "large " << repeat(std::string("0123456789"), 10'000).get().size() << '\n';
  std::cout << "nested " << fibonacci(7).get() << '\n';

  const std::string mine = directory + "/mine.txt";
  const std::string copy = directory + "/copy.txt";
  std::ofstream(mine) << "one\n";
  append_line(mine, std::string("two"));
  copy_file(mine, copy);
  shoal::wait_file(mine);
  shoal::wait_file(copy);
  std::stringstream both;
  both << std::ifstream(mine).rdbuf() << std::ifstream(copy).rdbuf();
  std::cout << "files " << both.str().size() << '\n';

  std::vector<shoal::Future<int>> many;
  for (int i = 0; i < 500; ++i) many.push_back(add(i, i));
  int total = 0;
  for (const auto& one : many) total += one.get();
  std::cout << "many " << total << '\n';
  {
    const shoal::Group group("g");
    add(1, 1);
  }
  shoal::barrier("g");
  try {
    fail_when_negative(-1).get();
  } catch (const shoal::Failure& failure) {
    std::cout << "failure " << failure.what() << '\n';
  }
}

}  // namespace

int main(int argc, char** argv) {
  const shoal::Program program(argc, argv);
  run(argc > 1 ? argv[1] : ".");
}
