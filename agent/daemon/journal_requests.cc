// What drivers ask about their own journal: values that are not the same in every run, and checkpoints on demand.
#include <fmt/format.h>

#include "agent/daemon/impl.h"

namespace shoal::daemon {
namespace {

using scheduler::JournalEntry;

constexpr std::size_t kOnceBytesMax = 256U << 10;  // of one value

}  // namespace

// What a driver that runs again is to find: the values of its calls of once(), in order.
void Daemon::Impl::request_app_journal(const Requester& from, const Params& /*params*/) {
  auto driver = app_of_driver.find(from.client);
  if (from.remote || driver == app_of_driver.end()) {
    reply(from, fail(Code::kDenied, "only a driver has a journal"));
    return;
  }
  wire::Dynamic::Array list;
  auto once = once_values.extract(driver->second);
  if (!once.empty()) {
    for (const auto& entry : once.mapped()) {
      const auto* value = entry.outputs.empty() ? nullptr : std::get_if<client::Inline>(&entry.outputs[0].value);
      list.emplace_back(wire::Dynamic::Map{{"number", entry.task.value() & ~scheduler::kOnceNumbers},
                                           {"name", entry.function},
                                           {"value", value == nullptr ? Bytes() : value->bytes}});
    }
  }
  const bool journalled = mirrors.contains(driver->second) || checkpoints.contains(driver->second);
  reply(from, wire::Dynamic(wire::Dynamic::Map{{"journalled", journalled}, {"once", std::move(list)}}));
}

void Daemon::Impl::request_app_once(const Requester& from, const Params& params) {
  auto driver = app_of_driver.find(from.client);
  const Bytes* value = params["value"].as_bytes();
  const std::int64_t number = params.int_or("number", 0);
  if (from.remote || driver == app_of_driver.end() || value == nullptr || number <= 0 ||
      value->size() > kOnceBytesMax) {
    reply(from,
          fail(Code::kInvalid, fmt::format("a value of once() has a number, and at most {} bytes", kOnceBytesMax)));
    return;
  }
  JournalEntry entry;
  entry.task = TaskId(static_cast<std::uint64_t>(number) | scheduler::kOnceNumbers);
  entry.function = params.text_or("name", "");
  entry.outputs.push_back({client::Inline{*value}, false, 0});
  on_journal({driver->second, entry});
  save_entry(driver->second, std::move(entry));
  reply(from, wire::Dynamic(wire::Dynamic::Map{}));
}

// Answered when everything that has finished so far is durable.
void Daemon::Impl::request_app_snapshot(const Requester& from, const Params& /*params*/) {
  auto driver = app_of_driver.find(from.client);
  auto it = driver == app_of_driver.end() || from.remote ? checkpoints.end() : checkpoints.find(driver->second);
  if (it == checkpoints.end()) {
    reply(from, wire::Dynamic(wire::Dynamic::Map{{"saved", false}}));
    return;
  }
  make_due(it->second, scheduler::CheckpointPolicy::kAll);
  it->second.snapshots.emplace(it->second.last_number, from);
  pump_checkpoint(it->first);
}

}  // namespace shoal::daemon
