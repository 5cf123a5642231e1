// protocol/base/time.h
//
// Monotonic time as the core sees it: microseconds since an origin that the driver chose. The core never
// reads a clock; every step is told the time. Wall-clock time appears only as data (`WallTime`).
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

namespace shoal {

// A span of time in microseconds; may be negative.
struct Duration {
  std::int64_t us = 0;
  friend constexpr auto operator<=>(const Duration&, const Duration&) = default;
  friend constexpr Duration operator+(Duration a, Duration b) { return {a.us + b.us}; }
  friend constexpr Duration operator-(Duration a, Duration b) { return {a.us - b.us}; }
  friend constexpr Duration operator*(Duration a, std::int64_t k) { return {a.us * k}; }
  friend constexpr Duration operator/(Duration a, std::int64_t k) { return {a.us / k}; }
};

constexpr Duration microseconds(std::int64_t n) {
  return {n};
}
constexpr Duration milliseconds(std::int64_t n) {
  return {n * 1000};
}
constexpr Duration seconds(std::int64_t n) {
  return {n * 1000 * 1000};
}

// A point on the monotonic clock.
struct Instant {
  std::int64_t us = 0;
  static constexpr Instant never() { return {std::numeric_limits<std::int64_t>::max()}; }
  friend constexpr auto operator<=>(const Instant&, const Instant&) = default;
  friend constexpr Instant operator+(Instant a, Duration d) { return {a.us + d.us}; }
  friend constexpr Instant operator-(Instant a, Duration d) { return {a.us - d.us}; }
  friend constexpr Duration operator-(Instant a, Instant b) { return {a.us - b.us}; }
};

// Milliseconds since the Unix epoch, stamped by a driver. For display, certificates and event time only:
// never compared to decide a conflict.
struct WallTime {
  std::int64_t unix_ms = 0;
  friend constexpr auto operator<=>(const WallTime&, const WallTime&) = default;
};

}  // namespace shoal
