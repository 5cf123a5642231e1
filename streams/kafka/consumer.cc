#include "streams/kafka/consumer.h"

#include <algorithm>
#include <chrono>

namespace shoal::streams {
namespace {

constexpr std::size_t kWindowBytesMax = 8U << 20;   // of one partition
constexpr std::size_t kWindowKeepBytes = 2U << 20;  // read already, kept for other groups and redelivery
constexpr int kQueryMs = 1'000;

StoredRecord stored_from(const rd_kafka_message_t& message) {
  StoredRecord stored;
  stored.partition = static_cast<std::uint32_t>(message.partition);
  stored.offset = message.offset;
  if (message.payload != nullptr) stored.record.value.assign(static_cast<const char*>(message.payload), message.len);
  if (message.key != nullptr) {
    stored.record.key = Bytes(std::string_view(static_cast<const char*>(message.key), message.key_len));
  }
  rd_kafka_timestamp_type_t type = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
  stored.record.timestamp_ms = rd_kafka_message_timestamp(&message, &type);
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    for (std::size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i) {
      stored.record.headers.emplace_back(
          name, value == nullptr ? Bytes() : Bytes(std::string_view(static_cast<const char*>(value), size)));
    }
  }
  return stored;
}

}  // namespace

Result<std::unique_ptr<KafkaReader>> KafkaReader::make(const KafkaOptions& options) {
  std::unique_ptr<KafkaReader> reader(new KafkaReader(options));
  auto client = make_client(RD_KAFKA_CONSUMER, options,
                            {{"group.id", "shoal"},  // required by the library; assign() never joins it
                             {"enable.auto.commit", "false"},
                             {"enable.auto.offset.store", "false"},
                             {"auto.offset.reset", "earliest"},
                             {"enable.partition.eof", "true"},
                             {"fetch.wait.max.ms", "100"},
                             {"queued.max.messages.kbytes", "8192"},
                             {"max.poll.interval.ms", "86400000"}},
                            RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_ERROR);
  if (!client) return tl::unexpected(client.error());
  reader->client_ = std::move(*client);
  rd_kafka_poll_set_consumer(reader->client_.get());
  reader->queue_.reset(rd_kafka_queue_get_consumer(reader->client_.get()));
  announce(reader->queue_.get(), options.wake_fd);
  reader->thread_ = std::thread([self = reader.get()] { self->query_extents(); });
  return reader;
}

KafkaReader::~KafkaReader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  queue_.reset();
}

// Answers refresh(): the ends as the cluster states them now. Tries until it knows.
void KafkaReader::query_extents() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || asked_ > answered_; });
    if (stopping_) return;
    const std::uint64_t answering = asked_;
    lock.unlock();
    const auto starts = query_offsets(RD_KAFKA_OFFSET_BEGINNING);
    const auto ends = starts ? query_offsets(RD_KAFKA_OFFSET_END) : std::nullopt;
    lock.lock();
    if (ends) {
      extents_.resize(options_.partitions);
      for (std::uint32_t i = 0; i < options_.partitions; ++i) extents_[i] = {(*starts)[i], (*ends)[i]};
      answered_ = answering;
      ring(options_.wake_fd);
    } else {
      changed_.wait_for(lock, std::chrono::milliseconds(kQueryMs), [this] { return stopping_; });
    }
  }
}

// The offset that `which` stands for, by partition. The library's rd_kafka_query_watermark_offsets would do both in one
// call, but waits for ever when the broker goes away at a bad moment (seen with 2.0.2); this call keeps its time-out,
// and takes the two special offsets as times because the protocol does.
std::optional<std::vector<std::int64_t>> KafkaReader::query_offsets(std::int64_t which) {
  const std::unique_ptr<rd_kafka_topic_partition_list_t, decltype(&rd_kafka_topic_partition_list_destroy)> list(
      rd_kafka_topic_partition_list_new(static_cast<int>(options_.partitions)), rd_kafka_topic_partition_list_destroy);
  for (std::uint32_t i = 0; i < options_.partitions; ++i) {
    rd_kafka_topic_partition_list_add(list.get(), options_.topic.c_str(), static_cast<std::int32_t>(i))->offset = which;
  }
  if (rd_kafka_offsets_for_times(client_.get(), list.get(), kQueryMs) != RD_KAFKA_RESP_ERR_NO_ERROR)
    return std::nullopt;
  std::vector<std::int64_t> offsets(options_.partitions, -1);
  for (int i = 0; i < list->cnt; ++i) {
    const rd_kafka_topic_partition_t& found = list->elems[i];
    if (found.err != RD_KAFKA_RESP_ERR_NO_ERROR || found.offset < 0) return std::nullopt;
    offsets[static_cast<std::size_t>(found.partition)] = found.offset;
  }
  return offsets;
}

std::uint64_t KafkaReader::refresh() {
  const std::lock_guard lock(mutex_);
  ++asked_;
  changed_.notify_all();
  return asked_;
}

bool KafkaReader::is_fresh(std::uint64_t ticket) const {
  const std::lock_guard lock(mutex_);
  return answered_ >= ticket && answered_ > 0;
}

bool KafkaReader::ready() const {
  const std::lock_guard lock(mutex_);
  return answered_ > 0;
}

Extent KafkaReader::extent(std::uint32_t partition) const {
  if (partition >= windows_.size()) return {};
  const std::lock_guard lock(mutex_);
  if (answered_ == 0) return {};
  Extent extent = extents_[partition];
  extent.end = std::max(extent.end, windows_[partition].end);
  return extent;
}

void KafkaReader::watch() {
  if (!ready()) return;
  bool any = false;
  for (std::uint32_t i = 0; i < windows_.size(); ++i) {
    if (windows_[i].from >= 0) continue;
    windows_[i].from = windows_[i].next = extent(i).end;
    any = true;
  }
  if (any) assign();
}

// All partitions at where their windows end. Valid in every state of the client, unlike a seek.
void KafkaReader::assign() {
  KafkaPtr<rd_kafka_topic_partition_list_t> list(rd_kafka_topic_partition_list_new(static_cast<int>(windows_.size())));
  for (std::uint32_t i = 0; i < windows_.size(); ++i) {
    if (windows_[i].from < 0) continue;
    rd_kafka_topic_partition_list_add(list.get(), options_.topic.c_str(), static_cast<std::int32_t>(i))->offset =
        windows_[i].next;
    windows_[i].paused = false;
  }
  rd_kafka_assign(client_.get(), list.get());
}

void KafkaReader::move(std::uint32_t partition, Offset offset) {
  Window& window = windows_[partition];
  window.records.clear();
  window.bytes = 0;
  window.from = window.next = offset;
  window.moved = true;
  assign();
}

void KafkaReader::pause(std::uint32_t partition, bool paused) {
  Window& window = windows_[partition];
  if (window.paused == paused) return;
  window.paused = paused;
  KafkaPtr<rd_kafka_topic_partition_list_t> list(rd_kafka_topic_partition_list_new(1));
  rd_kafka_topic_partition_list_add(list.get(), options_.topic.c_str(), static_cast<std::int32_t>(partition));
  if (paused) {
    rd_kafka_pause_partitions(client_.get(), list.get());
  } else {
    rd_kafka_resume_partitions(client_.get(), list.get());
  }
}

void KafkaReader::reached_end(std::int32_t partition, Offset offset) {
  if (partition < 0 || static_cast<std::size_t>(partition) >= windows_.size()) return;
  Window& window = windows_[static_cast<std::size_t>(partition)];
  window.moved = false;
  window.end = std::max(window.end, offset);
}

void KafkaReader::take(const rd_kafka_message_t& message) {
  if (message.partition < 0 || static_cast<std::size_t>(message.partition) >= windows_.size()) return;
  Window& window = windows_[static_cast<std::size_t>(message.partition)];
  if (message.err != RD_KAFKA_RESP_ERR_NO_ERROR || message.offset < window.next) return;
  window.moved = false;
  window.records.push_back(stored_from(message));
  window.bytes += window.records.back().record.bytes() + sizeof(StoredRecord);
  window.next = message.offset + 1;
  window.end = std::max(window.end, window.next);
  if (window.bytes > kWindowBytesMax) pause(static_cast<std::uint32_t>(message.partition), true);
}

void KafkaReader::collect() {
  while (KafkaPtr<rd_kafka_event_t> event{rd_kafka_queue_poll(queue_.get(), 0)}) {
    if (rd_kafka_event_error(event.get()) == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
      KafkaPtr<rd_kafka_topic_partition_t> place(rd_kafka_event_topic_partition(event.get()));
      if (place) reached_end(place->partition, place->offset);
      continue;
    }
    if (rd_kafka_event_type(event.get()) != RD_KAFKA_EVENT_FETCH) continue;
    while (const rd_kafka_message_t* message = rd_kafka_event_message_next(event.get())) take(*message);
  }
}

std::vector<StoredRecord> KafkaReader::fetch(std::uint32_t partition, Offset offset, std::size_t records_max,
                                             std::size_t bytes_max) {
  std::vector<StoredRecord> out;
  if (partition >= windows_.size() || !ready()) return out;
  collect();
  Window& window = windows_[partition];
  const bool inside = window.from >= 0 && offset >= window.from && offset < window.next;
  if (!inside) {
    if (window.from < 0 || (offset != window.next && !window.moved)) {
      move(partition, offset);
    } else if (offset == window.next && window.paused) {  // all of the window was read; the rest follows
      window.records.clear();
      window.bytes = 0;
      window.from = window.next;
      pause(partition, false);
    }
    return out;
  }
  std::size_t bytes = 0;
  auto it = std::lower_bound(window.records.begin(), window.records.end(), offset,
                             [](const StoredRecord& record, Offset wanted) { return record.offset < wanted; });
  const auto begin = it;
  for (; it != window.records.end() && out.size() < records_max; ++it) {
    const std::size_t size = it->record.bytes();
    if (!out.empty() && bytes + size > bytes_max) break;
    bytes += size;
    out.push_back(*it);
  }
  // Readers go forward: what lies before this read goes first when room is needed.
  if (window.paused && begin != window.records.begin()) {
    const Offset keep = begin->offset;
    while (!window.records.empty() && window.records.front().offset < keep && window.bytes > kWindowKeepBytes) {
      window.bytes -= std::min(window.bytes, window.records.front().record.bytes() + sizeof(StoredRecord));
      window.from = window.records.front().offset + 1;
      window.records.pop_front();
    }
    if (window.bytes <= kWindowBytesMax / 2) pause(partition, false);
  }
  return out;
}

}  // namespace shoal::streams
