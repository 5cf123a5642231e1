// streams/kafka/handle.h
//
// librdkafka's objects with owners. The only headers that include librdkafka are in this folder, and none of them is
// meant for others.
#pragma once

#include <librdkafka/rdkafka.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "protocol/base/result.h"
#include "streams/kafka/kafka_engine.h"

namespace shoal::streams {

struct KafkaDeleter {
  // Without the consumer's farewell, which would wait for the network; there is no group to leave.
  void operator()(rd_kafka_t* handle) const { rd_kafka_destroy_flags(handle, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE); }
  void operator()(rd_kafka_queue_t* queue) const { rd_kafka_queue_destroy(queue); }
  void operator()(rd_kafka_event_t* event) const { rd_kafka_event_destroy(event); }
  void operator()(rd_kafka_topic_t* topic) const { rd_kafka_topic_destroy(topic); }
  void operator()(rd_kafka_topic_partition_list_t* list) const { rd_kafka_topic_partition_list_destroy(list); }
  void operator()(rd_kafka_topic_partition_t* place) const { rd_kafka_topic_partition_destroy(place); }
};
template <class T>
using KafkaPtr = std::unique_ptr<T, KafkaDeleter>;

using KafkaSettings = std::vector<std::pair<std::string, std::string>>;

// A client with these settings on top of what every client of ours has. kUnsupported if the library refuses one.
Result<KafkaPtr<rd_kafka_t>> make_client(rd_kafka_type_t type, const KafkaOptions& options,
                                         const KafkaSettings& settings, int events);

// Makes `queue` announce on `wake_fd` that it is not empty any more.
void announce(rd_kafka_queue_t* queue, int wake_fd);

// Adds one to an eventfd.
void ring(int wake_fd);

Error kafka_error(rd_kafka_resp_err_t code, const std::string& what);

}  // namespace shoal::streams
