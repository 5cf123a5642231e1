#include "streams/broker/kafka_sink.h"

#include "protocol/base/check.h"

namespace shoal::streams {

void KafkaSink::send(const ForwardMessage& message) {
  SHOAL_CHECK(!busy(), "a run of batches is under way to Kafka");
  first_token_ = next_token_;
  next_ = message.next;
  error_.reset();
  for (const Bytes& batch : message.batches) {
    auto header = read_batch_header(batch);
    if (!header || header->control) continue;
    ++waiting_;
    engine_->append(next_token_++, static_cast<std::uint32_t>(header->leader_epoch), batch, OnGap::kAccept);
  }
}

std::optional<Result<Offset>> KafkaSink::take_result() {
  if (waiting_ == 0) return std::nullopt;
  std::vector<Appended> done;
  engine_->collect(done);
  for (const Appended& appended : done) {
    if (appended.token < first_token_) continue;
    --waiting_;
    if (!appended.offsets) error_ = appended.offsets.error();
  }
  if (waiting_ > 0) return std::nullopt;
  if (error_) return Result<Offset>(tl::unexpected(*error_));
  return Result<Offset>(next_);
}

}  // namespace shoal::streams
