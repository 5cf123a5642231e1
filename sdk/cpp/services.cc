// Streams and the store: requests to the agent (docs/client-protocol.md §7).
#include "shoal/shoal.hpp"

namespace shoal {

namespace {

using Map = wire::Dynamic::Map;
using Array = wire::Dynamic::Array;

// Inside a task the writer is the attempt's own; the agent knows a program by its connection.
constexpr const char* kWriter = "c++/main";

std::int64_t whole(const wire::Dynamic& value) {
  return value.as_int() == nullptr ? 0 : *value.as_int();
}

Record record_of(const wire::Dynamic& item) {
  Record out;
  const auto* fields = item.as_array();
  if (fields == nullptr || fields->size() < 3) throw Failure(Code::kInvalid, "the agent sent a record that is not one");
  if (const auto* value = (*fields)[0].as_bytes()) out.value = *value;
  if (const auto* key = (*fields)[1].as_text()) out.key = *key;
  if (const auto* key = (*fields)[1].as_bytes()) out.key = *key;
  out.timestamp_ms = whole((*fields)[2]);
  return out;
}

}  // namespace

Stream Stream::open(const std::string& name, const std::string& url) {
  Map params{{"name", name}, {"kind", "object"}};
  if (!url.empty()) params["url"] = url;
  const auto opened = sdk::runtime().request("streams.open", std::move(params));
  return Stream(opened.text_or("name", name));
}

void Stream::publish(const std::vector<Record>& records) const {
  Array list;
  for (const Record& record : records) {
    list.emplace_back(Array{record.value, record.key.empty() ? wire::Dynamic() : wire::Dynamic(Bytes(record.key)),
                            record.timestamp_ms, Map{}});
  }
  sdk::runtime().request("streams.publish", Map{{"name", name_}, {"writer", kWriter}, {"records", std::move(list)}});
}

std::vector<Record> Stream::poll(bool& closed, std::uint32_t records_max, std::uint32_t timeout_ms) const {
  const auto result = sdk::runtime().request("streams.poll", Map{{"name", name_},
                                                                 {"group", "default"},
                                                                 {"mode", "partitioned"},
                                                                 {"consumer", kWriter},
                                                                 {"max", records_max},
                                                                 {"timeout_ms", timeout_ms}});
  closed = result.bool_or("closed", false);
  std::vector<Record> out;
  if (const auto* records = result["records"].as_array()) {
    for (const auto& item : *records) out.push_back(record_of(item));
  }
  return out;
}

void Stream::close() const {
  sdk::runtime().request("streams.close", Map{{"name", name_}, {"writer", kWriter}});
}

namespace store {

Receipt put_bytes(const Bytes& blob, const PutOptions& options) {
  sdk::Runtime& runtime = sdk::runtime();
  Map params{{"type", "c++"}, {"wait_for", options.wait_for}};
  if (options.replicas > 0) params["replicas"] = options.replicas;
  const client::Value value = runtime.store(blob);
  if (const auto* shared = std::get_if<client::Shared>(&value)) {
    params["shared"] = shared->name;
    params["size"] = shared->bytes;
  } else {
    params["bytes"] = blob;
  }
  const auto result = runtime.request("store.put", std::move(params));
  return Receipt{result.text_or("object", ""), result.text_or("level", ""), result.int_or("copies", 0)};
}

Bytes get_bytes(const std::string& object_or_alias, bool is_alias) {
  sdk::Runtime& runtime = sdk::runtime();
  const auto result = runtime.request("store.get", Map{{is_alias ? "alias" : "object", object_or_alias}});
  if (const auto* value = result["value"].as_bytes()) return *value;
  const std::string shared = result.text_or("shared", "");
  if (shared.empty()) throw Failure(Code::kInvalid, "the agent answered without the object's value");
  return runtime.take(client::Shared{shared, static_cast<std::uint64_t>(result.int_or("size", 0))});
}

void set_alias(const std::string& alias, const std::string& object) {
  sdk::runtime().request("store.set_alias", Map{{"alias", alias}, {"object", object}});
}

}  // namespace store

}  // namespace shoal
