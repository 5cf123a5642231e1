#include "tests/unit/sdk_cpp/program/tasks.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace shoal::test {

namespace {

int add_function(int a, int b) {
  return a + b;
}
Point scale_function(const Point& p, double factor) {
  return {p.x * factor, p.y * factor, p.labels};
}
void append_function(std::vector<int>& list, int item) {
  list.push_back(item);
}
void produce_function(Out<std::string> out) {
  out = "produced";
}
void copy_file_function(InFile from, OutFile to) {
  std::ofstream(to.path) << std::ifstream(from.path).rdbuf();
}
void append_line_function(InOutFile file, std::string line) {
  std::ofstream(file.path, std::ios::app) << line << '\n';
}
int fail_function(int value) {
  if (value < 0) throw std::invalid_argument("negative value " + std::to_string(value));
  return value;
}
std::string repeat_function(std::string text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}
Bytes reverse_function(Bytes bytes) {
  return Bytes(std::string(bytes.rbegin(), bytes.rend()));
}
int fibonacci_function(int n) {
  if (n < 2) return n;
  const Future<int> a = fibonacci(n - 1);
  const Future<int> b = fibonacci(n - 2);
  return a.get() + b.get();
}
void crash_function() {
  ::kill(::getpid(), SIGSEGV);
}
void wait_function(std::string path) {
  while (!std::filesystem::exists(path)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

}  // namespace

const Task<int, int, int> add = task(add_function, "add");
const Task<Point, const Point&, double> scale = task(scale_function, "scale");
const Task<void, std::vector<int>&, int> append = task(append_function, "append");
const Task<void, Out<std::string>> produce = task(produce_function, "produce");
const Task<void, InFile, OutFile> copy_file = task(copy_file_function, "copy_file");
const Task<void, InOutFile, std::string> append_line = task(append_line_function, "append_line");
const Task<int, int> fail_when_negative = task(fail_function, "fail_when_negative");
const Task<std::string, std::string, int> repeat = task(repeat_function, "repeat");
const Task<Bytes, Bytes> reverse = task(reverse_function, "reverse");
const Task<int, int> fibonacci = task(fibonacci_function, "fibonacci");
const Task<void> crash = task(crash_function, "crash");
const Task<void, std::string> wait_for_file = task(wait_function, "wait_for_file");

}  // namespace shoal::test
