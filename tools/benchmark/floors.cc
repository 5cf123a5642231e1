// shoal-bench-floors: one floor, one run; the figures as a JSON object on stdout.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "tools/benchmark/floors.h"

namespace {

using shoal::bench::Figures;

constexpr const char* kUsage =
    "Usage: shoal-bench-floors FLOOR ARGUMENTS\n"
    "  zmq ENDPOINT BYTES COUNT\n"
    "  kafka BROKERS TOPIC BYTES COUNT\n"
    "  rocksdb DIRECTORY BYTES COUNT sync|nosync\n"
    "  memcpy BYTES COUNT\n"
    "  file DIRECTORY BYTES COUNT sync|nosync\n";

shoal::Result<std::size_t> number(const std::string& text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value == 0) {
    return shoal::fail(shoal::Code::kInvalid, "'" + text + "' is not a number above 0");
  }
  return value;
}

shoal::Result<Figures> measure(const std::vector<std::string>& words) {
  const std::string_view floor = words.empty() ? std::string_view() : std::string_view(words[0]);
  const bool on_disk = floor == "rocksdb" || floor == "file";
  const std::size_t expected = floor == "kafka" || on_disk ? 5 : floor == "zmq" ? 4 : floor == "memcpy" ? 3 : 0;
  if (expected == 0 || words.size() != expected) return shoal::fail(shoal::Code::kInvalid, kUsage);
  const std::size_t first = floor == "kafka" ? 3 : floor == "memcpy" ? 1 : 2;
  const auto bytes = number(words[first]);
  if (!bytes) return tl::unexpected(bytes.error());
  const auto count = number(words[first + 1]);
  if (!count) return tl::unexpected(count.error());
  if (floor == "zmq") return shoal::bench::zmq_echo(words[1], *bytes, *count);
  if (floor == "kafka") return shoal::bench::kafka(words[1], words[2], *bytes, *count);
  if (floor == "memcpy") return shoal::bench::memory_copy(*bytes, *count);
  if (words[4] != "sync" && words[4] != "nosync") return shoal::fail(shoal::Code::kInvalid, kUsage);
  const bool sync = words[4] == "sync";
  return floor == "rocksdb" ? shoal::bench::rocksdb_puts(words[1], *bytes, *count, sync)
                            : shoal::bench::file_append(words[1], *bytes, *count, sync);
}

}  // namespace

int main(int argc, char** argv) {
  const auto figures = measure({argv + 1, argv + argc});
  if (!figures) {
    fmt::print(stderr, "shoal-bench-floors: {}\n", figures.error().message);
    return figures.error().code == shoal::Code::kInvalid ? 2 : 1;
  }
  std::string out;
  for (const auto& [name, value] : *figures) out += fmt::format("{}\"{}\": {}", out.empty() ? "" : ", ", name, value);
  fmt::print("{{{}}}\n", out);
  return 0;
}
