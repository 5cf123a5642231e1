// scheduler/limits.h
//
// The stated maximum of everything that a client or a peer can fill. At a maximum the answer is a refusal that names
// the limit; nothing here is tuned at run time.
#pragma once

#include <cstdint>

namespace shoal::scheduler {

struct Limits {
  std::uint32_t apps_max = 1'000;                  // applications mastered here at once
  std::uint32_t tasks_max = 2'000'000;             // unfinished tasks of one application
  std::uint32_t data_max = 8'000'000;              // live data (objects and files) of one application
  std::uint32_t functions_max = 100'000;           // registered functions of one application
  std::uint32_t groups_max = 100'000;              // task groups of one application that are not closed and reported
  std::uint32_t waits_max = 100'000;               // unanswered waits and barriers of one application
  std::uint32_t attempts_max = 200'000;            // accepted from one upstream agent and not reported yet
  std::uint32_t agents_max = 65'536;               // agents whose addresses are remembered
  std::uint32_t lineage_max = 10'000;              // finished tasks of one application kept to make lost values again
  std::uint64_t lineage_bytes_max = 256ULL << 20;  // of source values kept only for that
  std::uint32_t trace_max = 10'000;                // finished tasks of one application kept for timelines
  std::uint32_t finished_apps_max = 32;            // applications that ended, kept for people
};

}  // namespace shoal::scheduler
