#include "streams/broker/publish.h"

#include <fmt/format.h>

#include <limits>

namespace shoal::streams {
namespace {

// Values may come as text from the command line.
bool take_bytes(const wire::Dynamic& value, Bytes& out) {
  if (const auto* bytes = value.as_bytes()) {
    out = *bytes;
  } else if (const auto* text = value.as_text()) {
    out = Bytes(*text);
  } else {
    return false;
  }
  return true;
}

bool take_record(const wire::Dynamic& row, std::int64_t now_ms, Record& record) {
  const auto* items = row.as_array();
  if (items == nullptr || items->empty() || items->size() > 4 || !take_bytes((*items)[0], record.value)) return false;
  if (items->size() > 1 && !(*items)[1].is_nil() && !take_bytes((*items)[1], record.key.emplace())) return false;
  record.timestamp_ms = now_ms;
  if (items->size() > 2 && !(*items)[2].is_nil()) {
    if (const auto* whole = (*items)[2].as_int()) {
      record.timestamp_ms = *whole;
    } else if (const auto* real = (*items)[2].as_real(); real != nullptr && *real > -9e15 && *real < 9e15) {
      record.timestamp_ms = static_cast<std::int64_t>(*real);
    } else {
      return false;
    }
  }
  if (items->size() > 3 && !(*items)[3].is_nil()) {
    const auto* headers = (*items)[3].as_map();
    if (headers == nullptr) return false;
    for (const auto& [name, value] : *headers) {
      auto& [header, text] = record.headers.emplace_back();
      header = name;
      if (!take_bytes(value, text)) return false;
    }
  }
  return true;
}

}  // namespace

Result<PublishRequest> parse_publish(const wire::Dynamic& params, std::int64_t now_ms, std::size_t bytes_max) {
  PublishRequest request;
  const auto* rows = params["records"].as_array();
  if (rows == nullptr || rows->empty()) {
    return fail(Code::kInvalid, "a publish needs 'records', a list of [value, key, timestamp_ms, headers]");
  }
  request.records.reserve(rows->size());
  for (std::size_t i = 0; i < rows->size(); ++i) {
    Record& record = request.records.emplace_back();
    if (!take_record((*rows)[i], now_ms, record)) {
      return fail(Code::kInvalid, fmt::format("record {} is not [value bytes, key bytes or nil, timestamp_ms or nil, "
                                              "headers map or nil]",
                                              i));
    }
    request.bytes += record.bytes();
  }
  if (request.bytes > bytes_max) {
    return fail(Code::kExhausted,
                fmt::format("a publish of {} bytes is above the limit of {}: publish fewer records at "
                            "a time, or store large values as objects and publish their references",
                            request.bytes, bytes_max));
  }
  if (const auto* partition = params["partition"].as_int()) {
    if (*partition < 0 || *partition > std::numeric_limits<std::int32_t>::max()) {
      return fail(Code::kInvalid, "partition must not be negative");
    }
    request.partition = static_cast<std::uint32_t>(*partition);
  }
  const auto* producer = params["producer"].as_int();
  if (producer != nullptr) {
    const std::int64_t epoch = params.int_or("epoch", 0);
    const std::int64_t sequence = params.int_or("sequence", -1);
    if (*producer < 0 || epoch < 0 || epoch > std::numeric_limits<std::int16_t>::max() || sequence < 0 ||
        sequence > std::numeric_limits<std::int32_t>::max()) {
      return fail(Code::kInvalid, "with 'producer' a publish needs epoch (0 to 32767) and sequence (0 to 2147483647)");
    }
    request.stamp = {*producer, static_cast<std::int16_t>(epoch), static_cast<std::int32_t>(sequence)};
  }
  return request;
}

Result<std::map<std::uint32_t, std::vector<Record>>> spread(PublishRequest& request, std::uint32_t partitions,
                                                            std::uint32_t turn) {
  std::map<std::uint32_t, std::vector<Record>> parts;
  if (request.partition) {
    if (*request.partition >= partitions) {
      return fail(Code::kInvalid,
                  fmt::format("the stream has no partition {}, only 0 to {}", *request.partition, partitions - 1));
    }
    parts[*request.partition] = std::move(request.records);
    return parts;
  }
  if (partitions == 1) {
    parts[0] = std::move(request.records);
    return parts;
  }
  for (Record& record : request.records) {
    const std::uint32_t partition = record.key ? partition_of_key(*record.key, partitions) : turn % partitions;
    parts[partition].push_back(std::move(record));
  }
  if (request.stamp.stated() && parts.size() > 1) {
    return fail(Code::kInvalid, "a publish with a producer's sequence goes to one partition: name it");
  }
  return parts;
}

}  // namespace shoal::streams
