// C++ tasks that do nothing: prints how many a second as JSON. Alone it runs them in its own process; started by
// `shoal run` they go to the agents.
//
//   shoal-bench-tasks [COUNT]
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <vector>

#include "shoal/shoal.hpp"

namespace {

void nothing() {}
int same(int value) {
  return value;
}

const auto nothing_task = shoal::task(nothing, "nothing");
const auto same_task = shoal::task(same, "same");

template <class Work>
double rate(int count, Work work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return count / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void run_void(int count) {
  for (int i = 0; i < count; ++i) nothing_task();
  shoal::barrier();
}

// True when every result is what it should be.
bool run_results(int count) {
  std::vector<shoal::Future<int>> futures;
  futures.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) futures.push_back(same_task(i));
  const std::vector<int> values = shoal::wait_on(futures);
  for (int i = 0; i < count; ++i) {
    if (values[static_cast<std::size_t>(i)] != i) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const shoal::Program program(argc, argv);
  const int count = argc > 1 ? std::atoi(argv[1]) : 100'000;
  if (count <= 0) {
    fmt::print(stderr, "usage: shoal-bench-tasks [COUNT], with a count above 0\n");
    return 2;
  }
  run_void(count / 10 + 1);  // executors are up
  const double void_rate = rate(count, [&] { run_void(count); });
  bool right = false;
  const double result_rate = rate(count, [&] { right = run_results(count); });
  fmt::print("{{\"void_per_s\": {:.0f}, \"results_per_s\": {:.0f}}}\n", void_rate, result_rate);
  return right ? 0 : 1;
}
