#include "edge/replay_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>

namespace shoal::edge {
namespace {

double rate_of(const wire::Dynamic& options) {
  if (const auto* real = options["rate"].as_real()) return *real;
  return static_cast<double>(options.int_or("rate", 0));
}

std::string json_text(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace

std::vector<std::string> split_csv(const std::string& line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quoted && c == '"' && i + 1 < line.size() && line[i + 1] == '"') {
      cells.back() += '"';
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      cells.emplace_back();
    } else if (c != '\r' || i + 1 < line.size()) {
      cells.back() += c;
    }
  }
  return cells;
}

Result<> ReplaySource::check(const SourceConfig& config) {
  const std::string path = config.options.text_or("path", "");
  if (path.empty()) return fail(Code::kInvalid, "a replay source needs 'path', a CSV file on the agent's machine");
  std::ifstream file(path);
  std::string header;
  if (!file || !std::getline(file, header))
    return fail(Code::kNotFound, "cannot read " + path + " on the agent's machine");
  const auto names = split_csv(header);
  for (const char* option : {"column", "key_column"}) {
    const std::string column = config.options.text_or(option, "");
    if (column.empty() || std::find(names.begin(), names.end(), column) != names.end()) continue;
    return fail(Code::kInvalid,
                fmt::format("{} has no column '{}'; its columns are: {}", path, column, fmt::join(names, ", ")));
  }
  if (rate_of(config.options) < 0) return fail(Code::kInvalid, "rate cannot be negative; 0 means: as fast as possible");
  return {};
}

Result<std::unique_ptr<Source>> ReplaySource::start(const SourceConfig& config, HandOver& hand_over) {
  std::unique_ptr<ReplaySource> source(new ReplaySource(config, hand_over));
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  source->thread_ = std::thread([self = source.get()] { self->run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return std::unique_ptr<Source>(std::move(source));
}

ReplaySource::ReplaySource(const SourceConfig& config, HandOver& hand_over)
    : hand_over_(hand_over),
      path_(config.options.text_or("path", "")),
      column_(config.options.text_or("column", "")),
      key_column_(config.options.text_or("key_column", "")),
      rate_(rate_of(config.options)),
      rows_max_(config.options.int_or("rows_max", 0)) {}

ReplaySource::~ReplaySource() {
  if (thread_.joinable()) thread_.join();
}

Reading ReplaySource::reading_of(const std::vector<std::string>& names, const std::vector<std::string>& cells,
                                 std::int64_t row) const {
  Reading reading;
  reading.sequence = static_cast<std::int32_t>(row % (std::int64_t{1} << 31));
  if (column_.empty()) reading.value = Bytes("{");
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string cell = i < cells.size() ? cells[i] : std::string();
    if (names[i] == key_column_) reading.key = Bytes(cell);
    if (column_.empty()) {
      reading.value += (i == 0 ? "" : ", ") + json_text(names[i]) + ": " + json_text(cell);
    } else if (names[i] == column_) {
      reading.value = Bytes(cell);
    }
  }
  if (column_.empty()) reading.value += "}";
  return reading;
}

void ReplaySource::run() {
  std::ifstream file(path_);
  std::string line;
  if (!std::getline(file, line)) {
    hand_over_.report("failed", false, "cannot read " + path_);
    return;
  }
  hand_over_.report("replaying", true, "");
  const auto names = split_csv(line);
  const auto begin = std::chrono::steady_clock::now();
  for (std::int64_t row = 0; (rows_max_ <= 0 || row < rows_max_) && std::getline(file, line); ++row) {
    if (rate_ > 0) {
      const auto due = begin + std::chrono::duration_cast<std::chrono::milliseconds>(
                                   std::chrono::duration<double>(static_cast<double>(row) / rate_));
      const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(due - std::chrono::steady_clock::now());
      if (wait.count() > 0 && !hand_over_.sleep(wait.count())) return;
    }
    if (!hand_over_.push(reading_of(names, split_csv(line), row), HandOver::Until::kAccepted)) return;
  }
  if (!hand_over_.drain()) return;
  hand_over_.report("finished", true, "");
  hand_over_.finish();
}

}  // namespace shoal::edge
