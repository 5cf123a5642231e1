// tests/unit/sdk_cpp/program/tasks.h
//
// The tasks of these tests: one for each thing a parameter can be.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "shoal/shoal.hpp"

namespace shoal::test {

struct Point {
  double x = 0;
  double y = 0;
  std::vector<std::string> labels;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.x, self.y, self.labels);
  }
  friend bool operator==(const Point&, const Point&) = default;
};

extern const Task<int, int, int> add;
extern const Task<Point, const Point&, double> scale;
extern const Task<void, std::vector<int>&, int> append;
extern const Task<void, Out<std::string>> produce;
extern const Task<void, InFile, OutFile> copy_file;
extern const Task<void, InOutFile, std::string> append_line;
extern const Task<int, int> fail_when_negative;
extern const Task<std::string, std::string, int> repeat;
extern const Task<Bytes, Bytes> reverse;
extern const Task<int, int> fibonacci;  // calls itself as a task
extern const Task<void> crash;
extern const Task<void, std::string> wait_for_file;

}  // namespace shoal::test
