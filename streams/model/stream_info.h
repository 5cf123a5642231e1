// streams/model/stream_info.h
//
// What everybody knows of a stream: its kind, place, shape and policy. Registered in the federated store under
// "stream/<name>", kept by the owner next to the log, and cached by every agent that uses the stream. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "protocol/base/result.h"
#include "protocol/wire/address.h"
#include "protocol/wire/dynamic.h"
#include "streams/model/engine.h"

namespace shoal::streams {

enum class WhenFull : std::uint8_t { kBlock = 0, kDropOldest = 1 };

struct StreamInfo {
  std::string name;
  std::string kind = "object";  // "object", "file", "frame": a hint for the SDKs
  std::string url = "shoal://";
  std::uint32_t partitions = 1;
  Durability durability = Durability::kProcess;
  std::uint64_t retention_bytes = 0;  // of each partition; 0: no bound
  std::int64_t retention_ms = 0;      // 0: no bound
  WhenFull when_full = WhenFull::kBlock;
  Codec codec = Codec::kNone;
  wire::Address owner;
  std::uint64_t incarnation = 0;  // tells a stream from an earlier one of the same name
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.name, self.kind, self.url, self.partitions, self.durability, self.retention_bytes, self.retention_ms,
      self.when_full, self.codec, self.owner, self.incarnation);
  }

  bool is_kafka() const { return url.starts_with("kafka://"); }
};

constexpr std::size_t kNameBytesMax = 200;

// Reads the parameters of streams.open. kInvalid says which is wrong and what is accepted; kUnsupported for a
// durability that one agent cannot give.
Result<StreamInfo> parse_open(const wire::Dynamic& params, std::uint32_t partitions_max);
// "name" of any streams.* request.
Result<std::string> parse_name(const wire::Dynamic& params);

std::string record_name(const std::string& stream);  // "stream/<name>"
const char* durability_name(Durability durability);

// Host, port and topic of "kafka://host:port/topic".
struct KafkaUrl {
  std::string bootstrap;  // "host:port[,host:port…]"
  std::string topic;
};
Result<KafkaUrl> parse_kafka_url(const std::string& url);

}  // namespace shoal::streams
