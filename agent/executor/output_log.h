// agent/executor/output_log.h
//
// What tasks write to stdout and stderr: one bounded log file per application and the same text to whoever follows it.
// Each line of the file begins with its task's number: "[7] " for stdout, "[7!] " for stderr. Text that belongs to no
// task goes to the file "executors.log".
//
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "agent/executor/process.h"
#include "agent/reactor/reactor.h"
#include "protocol/base/id.h"

namespace shoal::executor {

// A piece of output, whole lines where lines are shorter than 8 KiB.
struct Output {
  AppId app;  // zero: an executor's own, outside of every task
  TaskId task;
  std::uint8_t stream = 1;  // 1 stdout, 2 stderr
  std::string text;
};

class OutputLog {
 public:
  using Sink = std::function<void(const Output&)>;
  static constexpr std::size_t kFilesOpenMax = 32;

  // Files lie in `dir`; one that reaches `bytes_max` is renamed to "<name>.1" and a new one begun.
  OutputLog(std::string dir, std::uint64_t bytes_max, Sink sink);

  // Appends whole lines. An error of the disk is reported once in the agent's log; output is never worth a task.
  void write(const Output& output);

  std::string path_of(AppId app) const;

  // A line of the file, without the prefix and the end of line.
  struct Line {
    TaskId task;
    std::uint8_t stream = 1;
    std::string_view text;
  };
  struct Part {
    std::string cursor;  // where the next read_part() goes on
    bool more = false;   // there was more than fits
  };
  // Whole lines of an application's output from `cursor` on, which is empty at first and then what the read before
  // returned, at most `bytes_max` of them at a time. Follows the file across its renaming; what was dropped between two
  // reads is skipped. O(bytes read).
  Part read_part(AppId app, const std::string& cursor, std::size_t bytes_max,
                 const std::function<void(const Line&)>& take) const;

 private:
  struct File {
    AppId app;
    Fd fd;
    std::uint64_t bytes = 0;
  };
  File* open(AppId app);
  void rotate(File& file);

  std::string dir_;
  std::uint64_t bytes_max_;
  Sink sink_;
  std::list<File> files_;  // the last used first
  std::unordered_map<AppId, std::list<File>::iterator> by_app_;
  bool complained_ = false;
};

// Whose output is read just now.
struct OutputOwner {
  AppId app;
  TaskId task;
};

// Reads one stream of one process, cuts it into lines, and passes them to the log under the owner of the moment.
class OutputReader {
 public:
  // `owner` is asked whenever lines arrive.
  OutputReader(agent::Reactor& reactor, OutputLog& log, Fd fd, std::uint8_t stream, std::function<OutputOwner()> owner);
  ~OutputReader();
  OutputReader(const OutputReader&) = delete;
  OutputReader& operator=(const OutputReader&) = delete;

  // Takes everything that is there now, so that it counts for the present owner; true when it wrote anything
  // since the last call, also what was passed on before.
  bool drain();
  // The last bytes read, at most 2 KiB: to explain a failure.
  const std::string& tail() const { return tail_; }

 private:
  // False at the end, or when there is nothing now.
  bool read_once();
  void pass_on(bool all);

  agent::Reactor& reactor_;
  OutputLog& log_;
  Fd fd_;
  std::uint8_t stream_;
  std::function<OutputOwner()> owner_;
  std::string pending_;  // no end of line yet
  std::string tail_;
  bool fresh_ = false;  // something was read since the last drain()
};

// The last line of `tail` that says something.
std::string last_line(std::string_view tail);

}  // namespace shoal::executor
