#include "sdk/cpp/local_runtime.h"

#include "shoal/shoal.hpp"

namespace shoal::sdk {

DatumId LocalRuntime::new_datum() {
  const std::lock_guard lock(mutex_);
  return DatumId(++last_datum_);
}

client::Value LocalRuntime::store(Bytes blob) {
  return arena_.store(std::move(blob));
}
Bytes LocalRuntime::load(const client::Value& value) {
  return arena_.load(value);
}

client::Argument LocalRuntime::argument_of(const client::Access& access) const {
  client::Argument out;
  out.direction = access.direction;
  out.kind = access.kind;
  out.name = access.name;
  out.value = access.value;
  if (access.kind == client::AccessKind::kFile) out.value = client::FilePath{access.path};
  if (access.kind == client::AccessKind::kStream) out.value = client::FilePath{access.path};
  if (access.kind != client::AccessKind::kDatum) return out;
  const auto found = data_.find(access.datum);
  if (found != data_.end()) {
    if (!found->second.failure.empty()) throw Failure(Code::kFailed, found->second.failure);
    out.value = found->second.value;
  }
  return out;
}

void LocalRuntime::submit(const Registration& task, std::vector<client::Access> accesses) {
  const std::lock_guard lock(mutex_);
  std::vector<client::Value> outputs;
  std::string failure;
  try {
    std::vector<client::Argument> arguments;
    arguments.reserve(accesses.size());
    for (const client::Access& access : accesses) arguments.push_back(argument_of(access));
    outputs = task.invoke(arguments, arena_);
  } catch (const std::exception& error) {
    failure = "task '" + task.name + "' failed: " + error.what();
    if (first_failure_.empty()) first_failure_ = failure;
  }
  std::size_t next = 0;
  for (const client::Access& access : accesses) {
    if (access.direction == client::Direction::kIn || access.kind == client::AccessKind::kStream) continue;
    client::Value value = next < outputs.size() ? std::move(outputs[next]) : client::Value();
    ++next;
    if (access.kind == client::AccessKind::kDatum) data_[access.datum] = Entry{std::move(value), failure};
  }
}

void LocalRuntime::put(DatumId datum, client::Value value) {
  const std::lock_guard lock(mutex_);
  data_[datum] = Entry{std::move(value), {}};
}

std::vector<client::ValueResult> LocalRuntime::wait(const std::vector<DatumId>& data,
                                                    const std::vector<std::string>& files) {
  const std::lock_guard lock(mutex_);
  std::vector<client::ValueResult> out;
  for (const DatumId datum : data) {
    client::ValueResult& result = out.emplace_back();
    result.datum = datum;
    const auto found = data_.find(datum);
    if (found == data_.end()) continue;
    result.value = found->second.value;
    result.message = found->second.failure;
    if (result.message.empty()) continue;
    result.code = static_cast<std::uint8_t>(Code::kFailed);
    if (first_failure_ == result.message) first_failure_.clear();
  }
  for (const std::string& file : files) {
    client::ValueResult& result = out.emplace_back();
    result.path = file;
  }
  return out;
}

void LocalRuntime::barrier(const std::string& /*group*/) {
  const std::lock_guard lock(mutex_);
  std::string failure;
  failure.swap(first_failure_);
  if (!failure.empty()) throw Failure(Code::kFailed, failure);
}

void LocalRuntime::release(DatumId datum) noexcept {
  const std::lock_guard lock(mutex_);
  data_.erase(datum);
}

void LocalRuntime::group(client::Kind /*kind*/, const std::string& /*name*/) {}

wire::Dynamic LocalRuntime::request(const std::string& method, wire::Dynamic::Map /*params*/) {
  throw Failure(Code::kUnavailable, "'" + method + "' needs an agent: start the program with `shoal run`");
}

}  // namespace shoal::sdk
