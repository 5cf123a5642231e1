// streams/broker/publish.h
//
// A publish of a client, as batches: what streams.publish says, and how its records spread over partitions. No I/O.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "protocol/wire/dynamic.h"
#include "streams/model/record_batch.h"
#include "streams/model/stream_info.h"

namespace shoal::streams {

struct PublishRequest {
  std::vector<Record> records;
  std::optional<std::uint32_t> partition;
  ProducerStamp stamp;
  std::size_t bytes = 0;
};

// Reads the parameters of streams.publish; records without a stamp get `now_ms`. kExhausted beyond `bytes_max`.
Result<PublishRequest> parse_publish(const wire::Dynamic& params, std::int64_t now_ms, std::size_t bytes_max);

// The records by partition: the one asked for, else by key, else all keyless ones to `turn`. kInvalid for a partition
// that does not exist, or a stamped publish that would spread over several.
Result<std::map<std::uint32_t, std::vector<Record>>> spread(PublishRequest& request, std::uint32_t partitions,
                                                            std::uint32_t turn);

}  // namespace shoal::streams
