// agent/daemon/app_guard.h
//
// What keeps an application alive when the agent that is its master is lost. The master sends the journal of finished
// tasks, in batches, to a guardian: another agent of its region. What the program shows waits until the guardian has
// the results that it may depend on. When the master is gone the guardian runs the program again, answers its calls
// from the journal, and goes on from there.
//
//   master                              guardian
//     ── guard.open  {spec} ──────────────►        once, and again at every new guardian
//     ── guard.append {first, entries} ───►        one batch under way at a time; its answer frees what was held back
//     ── guard.close ─────────────────────►        the program has ended
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/daemon/app_runner.h"
#include "protocol/base/id.h"
#include "protocol/wire/address.h"
#include "scheduler/journal.h"

namespace shoal::daemon {

// Enough of a program to start it on another agent.
struct AppSpec {
  std::string name;
  std::string program;      // its path where it was submitted
  Bytes text;               // its content; empty: not known, or too large to travel
  bool travelled = false;   // submitted from another host: the path means nothing here
  std::string python;       // as the user named it
  std::string working_dir;  // where it was submitted
  std::vector<std::string> arguments;
  std::map<std::string, std::string> environment;     // variables
  EnvironmentId bundle;                               // of the environment (agent/environment) it runs in; zero: none
  std::map<std::string, EnvironmentId> task_bundles;  // those that its tasks name
  std::string tell_end;  // "PUT http://host:port/path": who is told over HTTP that it has ended; empty: nobody
  std::vector<EnvironmentId> bundles() const;  // all of them
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.name, self.program, self.text, self.travelled, self.python, self.working_dir, self.arguments,
      self.environment, self.bundle, self.task_bundles, self.tell_end);
  }
};

// The master's side of one application.
struct Mirror {
  struct Held {  // output, and how much of the journal must be safe before it is shown
    std::size_t after = 0;
    int stream = 1;
    std::string text;
  };

  AppSpec spec;
  wire::Address guardian;
  std::string guardian_socket;  // for command lines on the guardian's host
  bool open = false;            // the guardian has the spec
  bool asking = false;
  std::uint64_t turn = 0;  // grows with every new guardian: answers of the former one are late
  std::vector<scheduler::JournalEntry> entries;
  std::size_t bytes = 0;
  std::size_t safe = 0;  // entries that the guardian has
  std::deque<Held> held;
  std::optional<AppState> ended;  // told once everything before it is
};

// The guardian's side of one application.
struct Guarded {
  AgentId master;
  AppSpec spec;
  std::vector<scheduler::JournalEntry> entries;
  std::size_t received = 0;  // bytes of batches
};

// A batch of journal entries on its way.
struct JournalBatch {
  std::vector<scheduler::JournalEntry> entries;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.entries);
  }
};

}  // namespace shoal::daemon
