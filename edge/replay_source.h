// edge/replay_source.h
//
// A recorded series (a CSV file with a header line) brought again as if it were measured now, faster if wished. Rows
// are numbered, so a replay that is started again (the agent restarted) does not repeat what is in the stream already.
//
// Options: path, column (the value is that cell; without it, the row as a JSON object of texts), key_column, rate
// (records a second, 0: as fast as they are taken), rows_max (0: all).
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "edge/source.h"

namespace shoal::edge {

// Cells of one CSV line (RFC 4180 quoting, no line breaks inside cells).
std::vector<std::string> split_csv(const std::string& line);

class ReplaySource final : public Source {
 public:
  static Result<> check(const SourceConfig& config);
  static Result<std::unique_ptr<Source>> start(const SourceConfig& config, HandOver& hand_over);
  ~ReplaySource() override;
  ReplaySource(const ReplaySource&) = delete;
  ReplaySource& operator=(const ReplaySource&) = delete;

 private:
  ReplaySource(const SourceConfig& config, HandOver& hand_over);
  void run();
  Reading reading_of(const std::vector<std::string>& names, const std::vector<std::string>& cells,
                     std::int64_t row) const;

  HandOver& hand_over_;
  std::string path_;
  std::string column_;
  std::string key_column_;
  double rate_ = 0;
  std::int64_t rows_max_ = 0;
  std::thread thread_;
};

}  // namespace shoal::edge
