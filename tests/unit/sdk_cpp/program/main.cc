#include <iostream>

#include "tests/unit/sdk_cpp/program/tasks.h"

int main(int argc, char** argv) {
  const shoal::Program program(argc, argv);
  std::cout << shoal::test::add(shoal::test::add(1, 2), 3).get() << '\n';
}
