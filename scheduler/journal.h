// scheduler/journal.h
//
// What is to be known of an application to continue it after the loss of its master: for every finished task, which
// function it called and what it gave. A program is a deterministic function of its tasks' results, so a new master
// runs the program again and answers its calls from here until it has caught up (design: replay).
#pragma once

#include <string>
#include <vector>

#include "protocol/wire/client.h"

namespace shoal::scheduler {

// What an attempt left for one written access: inline, a place on this host, or (Nothing with `bytes` and a name) a
// value that the agent it ran on holds.
struct OutputValue {
  client::Value value;
  bool held = false;  // by the agent it ran on, under its key; in a replay, with a value: by this host
  std::uint64_t bytes = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.value, self.held, self.bytes);
  }
};

// Or what the program did itself and is to find again: a value that is not the same in every run (once).
struct JournalEntry {
  TaskId task;
  std::string function;    // its name: a program that runs again may have better code
  std::uint64_t call = 0;  // fingerprint of what it was called with; 0: not taken
  // Of written accesses, in order. Those that lay on some agent say so without a value: they are made again when
  // needed.
  std::vector<OutputValue> outputs;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.task, self.function, self.call, self.outputs);
  }
};

// Values of `once` are numbered apart from tasks.
constexpr std::uint64_t kOnceNumbers = 1ULL << 63;
inline bool is_once(const JournalEntry& entry) {
  return (entry.task.value() & kOnceNumbers) != 0;
}

}  // namespace shoal::scheduler
