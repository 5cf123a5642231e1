// streams/kafka/consumer.h
//
// The reading half of a Kafka engine. Per partition it keeps a window of consecutive records near where readers are;
// a reader outside the window moves it. One window serves several groups in turn: it moves only after the previous
// move has brought something, so that groups far apart make progress one after the other.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "streams/kafka/handle.h"
#include "streams/model/engine.h"

namespace shoal::streams {

class KafkaReader {
 public:
  static Result<std::unique_ptr<KafkaReader>> make(const KafkaOptions& options);
  ~KafkaReader();
  KafkaReader(const KafkaReader&) = delete;
  KafkaReader& operator=(const KafkaReader&) = delete;

  // Takes what arrived into the windows.
  void collect();
  // Begins to follow the ends of the partitions, if nothing is followed yet.
  void watch();
  std::vector<StoredRecord> fetch(std::uint32_t partition, Offset offset, std::size_t records_max,
                                  std::size_t bytes_max);
  Extent extent(std::uint32_t partition) const;
  bool ready() const;
  std::uint64_t refresh();
  bool is_fresh(std::uint64_t ticket) const;

 private:
  struct Window {
    std::deque<StoredRecord> records;
    Offset from = -1;  // position of the first record or of what is awaited; -1: not followed
    Offset next = 0;   // one past the last record
    std::size_t bytes = 0;
    bool moved = false;  // and nothing has arrived since
    bool paused = false;
    Offset end = 0;  // as far as seen here
  };
  explicit KafkaReader(const KafkaOptions& options) : options_(options), windows_(options.partitions) {}
  void take(const rd_kafka_message_t& message);
  void reached_end(std::int32_t partition, Offset offset);
  void move(std::uint32_t partition, Offset offset);
  void assign();
  void pause(std::uint32_t partition, bool paused);
  void query_extents();  // the thread
  std::optional<std::vector<std::int64_t>> query_offsets(std::int64_t which);

  const KafkaOptions options_;
  KafkaPtr<rd_kafka_t> client_;
  KafkaPtr<rd_kafka_queue_t> queue_;
  std::vector<Window> windows_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<Extent> extents_;
  std::uint64_t asked_ = 1;
  std::uint64_t answered_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace shoal::streams
