// protocol/base/check.h
//
// Assertions that stay on in production. SHOAL_CHECK guards what must hold for the process to go on (a broken
// invariant stops it; restart is safe by design). SHOAL_BUG notes a surprise that can be survived: it is
// counted in production and fails a simulation. Data from outside is never checked with either.
#pragma once

#include <cstdint>

namespace shoal {

[[noreturn]] void check_failed(const char* condition, const char* why, const char* file, int line);

// Surprises noted so far in this process. The simulator and the metrics page read it.
std::uint64_t bug_count();
void note_bug(const char* why, const char* file, int line);

}  // namespace shoal

#define SHOAL_CHECK(condition, why)                                               \
  do {                                                                            \
    if (!(condition)) ::shoal::check_failed(#condition, why, __FILE__, __LINE__); \
  } while (false)

#define SHOAL_BUG(why) ::shoal::note_bug(why, __FILE__, __LINE__)
