// streams/kafka/kafka_engine.h
//
// A topic of a Kafka cluster as an Engine, through librdkafka: an idempotent producer (acks=all, bounded queue) and a
// consumer that is given its partitions (assign, no group protocol). Nothing here blocks on the network: slow calls run
// on threads of their own, news are announced on the wake descriptor.
//
// Exactly-once towards Kafka holds inside one life of the agent; a batch under way when it dies may be sent twice.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "streams/model/engine.h"

namespace shoal::streams {

struct KafkaOptions {
  std::string bootstrap;  // "host:port[,host:port…]"
  std::string topic;
  std::uint32_t partitions = 1;
  std::string client_id = "shoal";
  int wake_fd = -1;                         // an eventfd, not owned; outlives whatever gets it
  bool reads = true;                        // knows extents from the start; false for a mere sender
  std::size_t queue_bytes_max = 16U << 20;  // in the producer; an append beyond it is refused with kExhausted
};

// A cluster that does not answer is not an error here: ready() stays false, appends stay under way.
Result<std::unique_ptr<Engine>> open_kafka(KafkaOptions options);

// Finds out how many partitions a topic has, after making it with `options.partitions` if the cluster lacks it. Runs on
// a thread of its own; the wake descriptor says when take_result() has something.
class KafkaProbe {
 public:
  virtual ~KafkaProbe() = default;  // waits for the thread, a second at most
  // Once: the number of partitions; kUnavailable when no broker answered within 10 seconds.
  virtual std::optional<Result<std::uint32_t>> take_result() = 0;
};
std::unique_ptr<KafkaProbe> probe_kafka(KafkaOptions options);

}  // namespace shoal::streams
