// protocol/base/result.h
//
// How a function reports that it could not do its job. The code names what the reader does next; the message
// says what happened, where, and how to mend it, in a form fit for a user's eyes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace shoal {

enum class Code : std::uint8_t {
  kInvalid = 1,       // the caller's input is wrong: correct it
  kNotFound = 2,      // no such thing here: look elsewhere or create it
  kExists = 3,        // already there: choose another name
  kStale = 4,         // an older epoch, instance or version: refresh and decide again
  kExhausted = 5,     // a stated maximum is reached: slow down or raise it
  kUnavailable = 6,   // not now (peer, disk or link away): try again
  kDenied = 7,        // identity or capability refused: get another token
  kCorrupt = 8,       // bytes are not what was written: use another copy
  kTimeout = 9,       // the deadline passed, the outcome is unknown: check, then retry
  kCancelled = 10,    // someone asked for it to stop
  kUnsupported = 11,  // not built, not installed, or not possible on this machine
  kFailed = 12,       // it ran and failed: read the message
};

std::string_view code_name(Code code);

struct Error {
  Code code = Code::kFailed;
  std::string message;
  friend bool operator==(const Error&, const Error&) = default;
};

template <class T = void>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(Code code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace shoal
