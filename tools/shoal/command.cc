#include "tools/shoal/command.h"

#include <charconv>

#include "agent/daemon/home.h"

namespace shoal::cli {

Result<Client> Context::connect() const {
  auto client = Client::connect(daemon::Home(home).socket());
  if (client && !agent.empty()) client->set_agent(agent);
  if (client && timeout) client->set_timeout(*timeout);
  return client;
}

Result<std::int64_t> Context::number(const std::string& name, std::int64_t otherwise, std::int64_t low) const {
  if (!has(name)) return otherwise;
  const std::string text = option(name);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low)
    return fail(Code::kInvalid,
                "--" + name + " takes a whole number from " + std::to_string(low) + " on, not \"" + text + "\"");
  return value;
}

int exit_code(const Error& error) {
  switch (error.code) {
    case Code::kInvalid:
      return kUsage;
    case Code::kNotFound:
      return kNotFound;
    case Code::kUnavailable:
      return kUnreachable;
    case Code::kDenied:
      return kDenied;
    case Code::kTimeout:
      return kTimedOut;
    case Code::kExists:
    case Code::kStale:
    case Code::kExhausted:
    case Code::kCorrupt:
    case Code::kCancelled:
    case Code::kUnsupported:
    case Code::kFailed:
      return kFailed;
  }
  return kFailed;
}

int report(const Error& error) {
  complain(error.message);
  return exit_code(error);
}

Result<Duration> parse_duration(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const std::int64_t scale = unit == "ms"                  ? 1000
                             : unit == "s" || unit.empty() ? 1'000'000
                             : unit == "m"                 ? 60'000'000
                             : unit == "h"                 ? 3'600'000'000
                             : unit == "d"                 ? 86'400'000'000
                                                           : 0;
  constexpr std::int64_t kMost = 1'000'000'000'000'000;
  if (error != std::errc() || scale == 0 || number < 0 || number > kMost / scale) {
    return fail(Code::kInvalid,
                "a time is a number with ms, s, m, h or d, such as 90s, not \"" + std::string(text) + "\"");
  }
  return Duration{number * scale};
}

}  // namespace shoal::cli
