// streams/broker/kafka_sink.h
//
// Takes batches of an outbox to a Kafka topic: one run of batches at a time, done when every record is acknowledged.
#pragma once

#include <memory>
#include <optional>

#include "streams/model/engine.h"
#include "streams/model/messages.h"

namespace shoal::streams {

class KafkaSink {
 public:
  explicit KafkaSink(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}

  bool busy() const { return waiting_ > 0; }
  // Begins to send the data batches of `message`. Not while busy().
  void send(const ForwardMessage& message);
  // The end of what was begun, once: message.next, or why it has to be sent again.
  std::optional<Result<Offset>> take_result();

 private:
  std::unique_ptr<Engine> engine_;
  std::uint64_t next_token_ = 1;
  std::uint64_t first_token_ = 1;  // of the run; older ones are of a run that was given up
  std::size_t waiting_ = 0;
  Offset next_ = 0;
  std::optional<Error> error_;
};

}  // namespace shoal::streams
