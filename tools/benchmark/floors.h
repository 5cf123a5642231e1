// tools/benchmark/floors.h
//
// What the machine and the libraries below Shoal can do without Shoal: the floors that tools/bench divides by. Each
// function is one run and prints nothing; a run that cannot be made is an error text. The driver repeats runs.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "protocol/base/result.h"

namespace shoal::bench {

using Figures = std::map<std::string, double>;
using Clock = std::chrono::steady_clock;

// Microseconds since `begin`.
inline double microseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

// The value below which `percent` of the values lie.
inline double percentile(std::vector<double> values, double percent) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(static_cast<double>(values.size() - 1) * percent / 100)];
}

// Request and reply of `bytes` between two processes over ZeroMQ at `endpoint`, one at a time and 1,000 under way.
Result<Figures> zmq_echo(const std::string& endpoint, std::size_t bytes, std::size_t count);
// `count` records of `bytes` through the broker at `brokers`, acknowledged by it, and read back.
Result<Figures> kafka(const std::string& brokers, const std::string& topic, std::size_t bytes, std::size_t count);

// `count` puts and gets of new keys with values of `bytes` in a RocksDB below `directory`.
Result<Figures> rocksdb_puts(const std::string& directory, std::size_t bytes, std::size_t count, bool sync);
// Copies of `bytes` from one buffer to another.
Result<Figures> memory_copy(std::size_t bytes, std::size_t count);
// `count` appends of `bytes` to a file, each with or without fdatasync; then they are read.
Result<Figures> file_append(const std::string& directory, std::size_t bytes, std::size_t count, bool sync);

}  // namespace shoal::bench
