#include "streams/model/stream_info.h"

#include <limits>

namespace shoal::streams {
namespace {

Result<Durability> parse_durability(const std::string& text) {
  if (text == "memory") return Durability::kMemory;
  if (text == "process") return Durability::kProcess;
  if (text == "local") return Durability::kLocal;
  if (text == "region" || text == "parent" || text == "cloud") {
    return fail(Code::kUnsupported, "streams keep one copy so far: durability '" + text +
                                        "' cannot be promised; use 'memory', 'process' or 'local'");
  }
  return fail(Code::kInvalid, "durability '" + text + "' is not known; use 'memory', 'process' or 'local'");
}

Result<Codec> parse_codec(const std::string& text) {
  if (text == "none") return Codec::kNone;
  if (text == "zstd") return Codec::kZstd;
  if (text == "lz4") return Codec::kLz4;
  return fail(Code::kInvalid, "codec '" + text + "' is not known; use 'none', 'zstd' or 'lz4'");
}

Result<WhenFull> parse_when_full(const std::string& text) {
  if (text == "block") return WhenFull::kBlock;
  if (text == "drop_oldest") return WhenFull::kDropOldest;
  return fail(Code::kInvalid, "when_full '" + text + "' is not known; use 'block' or 'drop_oldest'");
}

}  // namespace

std::string record_name(const std::string& stream) {
  return "stream/" + stream;
}

const char* durability_name(Durability durability) {
  switch (durability) {
    case Durability::kMemory:
    case Durability::kProcess:
      return "process";  // the embedded log gives no less
    case Durability::kLocal:
      return "local";
  }
  return "process";
}

Result<KafkaUrl> parse_kafka_url(const std::string& url) {
  constexpr std::string_view kScheme = "kafka://";
  const std::string rest = url.starts_with(kScheme) ? url.substr(kScheme.size()) : std::string();
  const std::size_t slash = rest.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == rest.size()) {
    return fail(Code::kInvalid, "the stream url '" + url + "' is not of the form kafka://host:port/topic");
  }
  KafkaUrl parsed{rest.substr(0, slash), rest.substr(slash + 1)};
  if (parsed.topic.size() > 249 ||
      parsed.topic.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
          std::string::npos) {
    return fail(Code::kInvalid,
                "'" + parsed.topic + "' is not a Kafka topic name: letters, digits, '.', '_' and '-' only");
  }
  return parsed;
}

Result<std::string> parse_name(const wire::Dynamic& params) {
  std::string name = params.text_or("name", "");
  if (name.empty()) return fail(Code::kInvalid, "the request needs 'name', the stream's name");
  if (name.size() > kNameBytesMax) return fail(Code::kInvalid, "a stream's name has at most 200 bytes");
  return name;
}

Result<StreamInfo> parse_open(const wire::Dynamic& params, std::uint32_t partitions_max) {
  StreamInfo info;
  auto name = parse_name(params);
  if (!name) return tl::unexpected(name.error());
  info.name = std::move(*name);
  info.kind = params.text_or("kind", "object");
  if (info.kind != "object" && info.kind != "file" && info.kind != "frame") {
    return fail(Code::kInvalid, "kind '" + info.kind + "' is not known; use 'object', 'file' or 'frame'");
  }
  info.url = params.text_or("url", "shoal://");
  if (info.url.empty()) info.url = "shoal://";
  if (info.is_kafka()) {
    if (auto parsed = parse_kafka_url(info.url); !parsed) return tl::unexpected(parsed.error());
  } else if (info.url != "shoal://") {
    return fail(Code::kInvalid,
                "the stream url '" + info.url + "' is not known; use 'shoal://' or 'kafka://host:port/topic'");
  }
  const std::int64_t partitions = params.int_or("partitions", 1);
  if (partitions < 1 || partitions > partitions_max) {
    return fail(Code::kInvalid, "partitions must be between 1 and " + std::to_string(partitions_max));
  }
  info.partitions = static_cast<std::uint32_t>(partitions);
  auto durability = parse_durability(params.text_or("durability", "process"));
  if (!durability) return tl::unexpected(durability.error());
  info.durability = *durability;
  auto codec = parse_codec(params.text_or("codec", "none"));
  if (!codec) return tl::unexpected(codec.error());
  info.codec = *codec;
  auto when_full = parse_when_full(params.text_or("when_full", "block"));
  if (!when_full) return tl::unexpected(when_full.error());
  info.when_full = *when_full;
  const std::int64_t bytes = params.int_or("retention_bytes", 0);
  const std::int64_t ms = params.int_or("retention_ms", 0);
  if (bytes < 0 || ms < 0) return fail(Code::kInvalid, "a retention cannot be negative; 0 means no bound");
  info.retention_bytes = static_cast<std::uint64_t>(bytes);
  info.retention_ms = ms;
  return info;
}

}  // namespace shoal::streams
