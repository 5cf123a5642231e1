// streams/kafka/kafka_engine.h
//
// A topic of a Kafka cluster as an Engine, through librdkafka: an idempotent producer (acks=all, bounded queue) and a
// consumer that is given its partitions (assign, no group protocol). Either comes to life with its first use. Nothing
// here blocks on the network: slow calls run on a helper thread, news are announced on the wake descriptor.
//
// Exactly-once towards Kafka holds inside one life of the agent; a batch under way when it dies may be sent twice.
#pragma once

#include <memory>
#include <string>

#include "streams/model/engine.h"

namespace shoal::streams {

struct KafkaOptions {
  std::string bootstrap;  // "host:port[,host:port…]"
  std::string topic;      // created with `partitions` if the cluster does not have it
  std::uint32_t partitions = 1;
  std::string client_id = "shoal";
  int wake_fd = -1;  // an eventfd, not owned; outlives the engine
  std::size_t queue_bytes_max = 16U << 20;  // in the producer; an append beyond it is refused with kExhausted
};

// kInvalid for a wrong option. A cluster that does not answer is not an error here: ready() stays false.
Result<std::unique_ptr<Engine>> open_kafka(KafkaOptions options);

}  // namespace shoal::streams
