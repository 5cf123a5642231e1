#include <fcntl.h>
#include <fmt/format.h>
#include <rocksdb/db.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "tools/benchmark/floors.h"

namespace shoal::bench {
namespace {

Figures of_times(const std::string& what, const std::vector<double>& times) {
  double sum = 0;
  for (const double time : times) sum += time;
  return {{what + "_us", percentile(times, 50)},
          {what + "_p99_us", percentile(times, 99)},
          {what + "_per_s", static_cast<double>(times.size()) * 1e6 / sum}};
}

}  // namespace

Result<Figures> rocksdb_puts(const std::string& directory, std::size_t bytes, std::size_t count, bool sync) {
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* opened = nullptr;
  const std::string path = directory + "/rocksdb";
  if (const auto status = rocksdb::DB::Open(options, path, &opened); !status.ok()) {
    return fail(Code::kUnavailable, "RocksDB does not open " + path + ": " + status.ToString());
  }
  const std::unique_ptr<rocksdb::DB> db(opened);
  rocksdb::WriteOptions write;
  write.sync = sync;
  const std::string value(bytes, 'v');
  std::vector<double> puts;
  std::vector<double> gets;
  const auto key = [](std::size_t i) { return fmt::format("{:016x}", i * 0x9e3779b97f4a7c15U); };
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = key(i);
    const auto begin = Clock::now();
    if (const auto status = db->Put(write, name, value); !status.ok()) {
      return fail(Code::kUnavailable, "RocksDB put: " + status.ToString());
    }
    puts.push_back(microseconds_since(begin));
  }
  std::string read;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = key(i);
    const auto begin = Clock::now();
    if (const auto status = db->Get({}, name, &read); !status.ok()) {
      return fail(Code::kUnavailable, "RocksDB get: " + status.ToString());
    }
    gets.push_back(microseconds_since(begin));
  }
  Figures figures = of_times("put", puts);
  figures.merge(of_times("get", gets));
  return figures;
}

Result<Figures> memory_copy(std::size_t bytes, std::size_t count) {
  const std::vector<char> from(bytes, 'x');
  std::vector<char> to(bytes, 'y');  // touched, so that no page fault is measured
  std::vector<double> times;
  for (std::size_t i = 0; i < count; ++i) {
    const auto begin = Clock::now();
    std::memcpy(to.data(), from.data(), bytes);
    asm volatile("" : : "r"(to.data()) : "memory");  // the copy is not optimised away
    times.push_back(microseconds_since(begin));
  }
  return of_times("copy", times);
}

Result<Figures> file_append(const std::string& directory, std::size_t bytes, std::size_t count, bool sync) {
  const std::string path = directory + "/append";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return fail(Code::kUnavailable, "cannot write " + path + ": " + std::strerror(errno));
  const std::string data(bytes, 'x');
  std::vector<double> times;
  bool failed = false;
  for (std::size_t i = 0; i < count && !failed; ++i) {
    const auto begin = Clock::now();
    failed = ::write(fd, data.data(), bytes) != static_cast<ssize_t>(bytes) || (sync && ::fdatasync(fd) != 0);
    times.push_back(microseconds_since(begin));
  }
  std::string read(bytes, ' ');
  std::vector<double> reads;
  for (std::size_t i = 0; i < count && !failed; ++i) {
    const auto begin = Clock::now();
    failed = ::pread(fd, read.data(), bytes, static_cast<off_t>(i * bytes)) != static_cast<ssize_t>(bytes);
    reads.push_back(microseconds_since(begin));
  }
  ::close(fd);
  ::unlink(path.c_str());
  if (failed) return fail(Code::kUnavailable, "cannot write " + path + ": is the disk full?");
  Figures figures = of_times("append", times);
  figures.merge(of_times("read", reads));
  return figures;
}

}  // namespace shoal::bench
