#include "protocol/base/check.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace shoal {
namespace {

// The one process-wide counter: a surprise has no owner to report to.
std::atomic<std::uint64_t> bugs{0};

}  // namespace

void check_failed(const char* condition, const char* why, const char* file, int line) {
  std::fprintf(stderr, "shoal: broken invariant: %s (%s) at %s:%d\n", why, condition, file, line);
  std::abort();
}

std::uint64_t bug_count() {
  return bugs.load(std::memory_order_relaxed);
}

void note_bug(const char* why, const char* file, int line) {
  bugs.fetch_add(1, std::memory_order_relaxed);
  std::fprintf(stderr, "shoal: surprise: %s at %s:%d\n", why, file, line);
}

}  // namespace shoal
