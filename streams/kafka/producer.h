// streams/kafka/producer.h
//
// The sending half of a Kafka engine: batches in, one report each when all their records are acknowledged by all
// in-sync replicas. Used by one thread.
#pragma once

#include <map>
#include <vector>

#include "streams/kafka/handle.h"
#include "streams/model/engine.h"

namespace shoal::streams {

class KafkaSender {
 public:
  static Result<std::unique_ptr<KafkaSender>> make(const KafkaOptions& options);
  ~KafkaSender();
  KafkaSender(const KafkaSender&) = delete;
  KafkaSender& operator=(const KafkaSender&) = delete;

  void append(std::uint64_t token, std::uint32_t partition, const Bytes& batch);
  void collect(std::vector<Appended>& out);

 private:
  struct Batch {
    std::uint64_t token = 0;
    std::uint32_t partition = 0;
    std::size_t left = 0;
    std::size_t bytes = 0;
    OffsetRange offsets{-1, -1};
    std::optional<Error> error;
  };
  explicit KafkaSender(const KafkaOptions& options) : options_(options) {}
  rd_kafka_resp_err_t produce(std::uint64_t key, std::uint32_t partition, const Record& record);
  void refuse(std::uint64_t token, std::uint32_t partition, Error error);
  void delivered(const rd_kafka_message_t& message);

  const KafkaOptions options_;
  KafkaPtr<rd_kafka_t> client_;
  KafkaPtr<rd_kafka_queue_t> queue_;
  std::map<std::uint64_t, Batch> batches_;  // by a number that travels as the records' opaque value
  std::uint64_t next_key_ = 1;
  std::size_t bytes_ = 0;  // under way
  std::vector<Appended> done_;
};

}  // namespace shoal::streams
