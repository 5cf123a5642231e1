#include "streams/kafka/producer.h"

#include <fmt/format.h>

#include <array>

namespace shoal::streams {

Result<std::unique_ptr<KafkaSender>> KafkaSender::make(const KafkaOptions& options) {
  std::unique_ptr<KafkaSender> sender(new KafkaSender(options));
  // The outbox is the queue that survives; this one is small, and nothing in it ever times out.
  auto client = make_client(RD_KAFKA_PRODUCER, options,
                            {{"enable.idempotence", "true"},
                             {"acks", "all"},
                             {"linger.ms", "1"},
                             {"message.timeout.ms", "0"},
                             {"queue.buffering.max.messages", "1000000"},
                             {"queue.buffering.max.kbytes", std::to_string(2 * options.queue_bytes_max / 1024 + 65536)},
                             {"message.max.bytes", "8500000"}},
                            RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
  if (!client) return tl::unexpected(client.error());
  sender->client_ = std::move(*client);
  sender->queue_.reset(rd_kafka_queue_get_main(sender->client_.get()));
  announce(sender->queue_.get(), options.wake_fd);
  return sender;
}

KafkaSender::~KafkaSender() {
  // What is under way is still in an outbox; waiting for it could take for ever.
  rd_kafka_purge(client_.get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  queue_.reset();
}

void KafkaSender::refuse(std::uint64_t token, std::uint32_t partition, Error error) {
  done_.push_back({token, partition, tl::unexpected(std::move(error)), false});
}

rd_kafka_resp_err_t KafkaSender::produce(std::uint64_t key, std::uint32_t partition, const Record& record) {
  rd_kafka_headers_t* headers = nullptr;
  if (!record.headers.empty()) {
    headers = rd_kafka_headers_new(record.headers.size());
    for (const auto& [name, value] : record.headers) {
      rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()), value.data(),
                          static_cast<ssize_t>(value.size()));
    }
  }
  std::array<rd_kafka_vu_t, 8> items{};
  std::size_t count = 0;
  items[count].vtype = RD_KAFKA_VTYPE_TOPIC;
  items[count++].u.cstr = options_.topic.c_str();
  items[count].vtype = RD_KAFKA_VTYPE_PARTITION;
  items[count++].u.i32 = static_cast<std::int32_t>(partition);
  items[count].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
  items[count++].u.i = RD_KAFKA_MSG_F_COPY;
  items[count].vtype = RD_KAFKA_VTYPE_VALUE;
  items[count].u.mem = {const_cast<char*>(record.value.data()), record.value.size()};
  ++count;
  if (record.key) {
    items[count].vtype = RD_KAFKA_VTYPE_KEY;
    items[count].u.mem = {const_cast<char*>(record.key->data()), record.key->size()};
    ++count;
  }
  items[count].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
  items[count++].u.i64 = record.timestamp_ms;
  items[count].vtype = RD_KAFKA_VTYPE_OPAQUE;
  // The library carries the number as a pointer and gives it back; nobody follows it.
  items[count++].u.ptr = reinterpret_cast<void*>(key);  // NOLINT(performance-no-int-to-ptr)
  if (headers != nullptr) {
    items[count].vtype = RD_KAFKA_VTYPE_HEADERS;
    items[count++].u.headers = headers;
  }
  rd_kafka_error_t* error = rd_kafka_produceva(client_.get(), items.data(), count);
  if (error == nullptr) return RD_KAFKA_RESP_ERR_NO_ERROR;
  const auto code = rd_kafka_error_code(error);
  rd_kafka_error_destroy(error);
  if (headers != nullptr) rd_kafka_headers_destroy(headers);
  return code;
}

void KafkaSender::append(std::uint64_t token, std::uint32_t partition, const Bytes& batch) {
  auto records = decode_batch(batch, partition);
  if (!records) {
    refuse(token, partition, records.error());
    return;
  }
  if (bytes_ > 0 && bytes_ + batch.size() > options_.queue_bytes_max) {
    refuse(token, partition,
           {Code::kExhausted, fmt::format("{} bytes are on their way to Kafka topic {}, the most that "
                                          "are kept in memory: try again later",
                                          bytes_, options_.topic)});
    return;
  }
  const std::uint64_t key = next_key_++;
  Batch& state = batches_[key];
  state.token = token;
  state.partition = partition;
  state.bytes = batch.size();
  bytes_ += batch.size();
  for (const StoredRecord& stored : *records) {
    const auto code = produce(key, partition, stored.record);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
      ++state.left;
    } else {
      state.error = kafka_error(code, "Kafka topic " + options_.topic);
      break;
    }
  }
  if (state.left == 0) {
    bytes_ -= state.bytes;
    refuse(token, partition, state.error.value_or(Error{Code::kInvalid, "an empty batch"}));
    batches_.erase(key);
  }
}

void KafkaSender::delivered(const rd_kafka_message_t& message) {
  const auto it = batches_.find(reinterpret_cast<std::uint64_t>(message._private));
  if (it == batches_.end()) return;
  Batch& batch = it->second;
  if (message.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
    batch.error = kafka_error(message.err, "Kafka topic " + options_.topic);
  } else {
    if (batch.offsets.first < 0) batch.offsets.first = message.offset;
    batch.offsets.last = message.offset;
  }
  if (--batch.left > 0) return;
  bytes_ -= batch.bytes;
  if (batch.error) {
    refuse(batch.token, batch.partition, std::move(*batch.error));
  } else {
    done_.push_back({batch.token, batch.partition, batch.offsets, false});
  }
  batches_.erase(it);
}

void KafkaSender::collect(std::vector<Appended>& out) {
  while (KafkaPtr<rd_kafka_event_t> event{rd_kafka_queue_poll(queue_.get(), 0)}) {
    if (rd_kafka_event_type(event.get()) != RD_KAFKA_EVENT_DR) continue;
    while (const rd_kafka_message_t* message = rd_kafka_event_message_next(event.get())) delivered(*message);
  }
  out.insert(out.end(), std::make_move_iterator(done_.begin()), std::make_move_iterator(done_.end()));
  done_.clear();
}

}  // namespace shoal::streams
