// tools/shoal/task_output.h
//
// What tasks print, collected from the agents that ran them, and shown with stdout on stdout and stderr on stderr.
#pragma once

#include <set>
#include <string>

#include "tools/shoal/client.h"
#include "tools/shoal/output.h"

namespace shoal::cli {

class TaskOutput {
 public:
  enum class Prefix : std::uint8_t { kNone, kTaskAndAgent };

  // Of the selected tasks of `app` ("1-10:2", "all"), in the format of `look`.
  TaskOutput(std::string app, std::string tasks, Prefix prefix, const Look& look)
      : app_(std::move(app)), tasks_(std::move(tasks)), prefix_(prefix), look_(look) {}

  // What comes after a poll.
  struct Next {
    bool more = false;     // not all fitted: poll again at once
    bool running = false;  // the application, when it was asked: without it nothing more comes
  };

  // Shows what is new. An agent that does not answer is named on stderr, once.
  Result<Next> poll(Client& client);
  // For kJson and kYaml, which are one object: everything so far. Nothing for other formats.
  void finish() const;

 private:
  void take(const wire::Dynamic& row);
  void tell_missing(const wire::Dynamic& answer);

  std::string app_;
  std::string tasks_;
  Prefix prefix_;
  Look look_;
  wire::Dynamic::Map cursors_;  // by agent: where to go on
  std::set<std::string> told_;
  wire::Dynamic::Array kept_;
  wire::Dynamic missing_;
};

}  // namespace shoal::cli
