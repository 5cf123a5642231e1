#include "streams/kafka/kafka_engine.h"

#include "streams/kafka/consumer.h"
#include "streams/kafka/producer.h"

namespace shoal::streams {
namespace {

// The two halves under one interface; the sender is made with the first append.
class KafkaEngine final : public Engine {
 public:
  explicit KafkaEngine(KafkaOptions options) : options_(std::move(options)) {}

  Result<> start() {
    if (!options_.reads) return {};
    auto reader = KafkaReader::make(options_);
    if (!reader) return tl::unexpected(reader.error());
    reader_ = std::move(*reader);
    return {};
  }

  std::uint32_t partitions() const override { return options_.partitions; }

  void append(std::uint64_t token, std::uint32_t partition, Bytes batch, OnGap) override {
    if (!sender_) {
      auto sender = KafkaSender::make(options_);
      if (!sender) {
        refused_.push_back({token, partition, tl::unexpected(sender.error()), false});
        ring(options_.wake_fd);
        return;
      }
      sender_ = std::move(*sender);
    }
    sender_->append(token, partition, batch);
  }

  void collect(std::vector<Appended>& out) override {
    out.insert(out.end(), std::make_move_iterator(refused_.begin()), std::make_move_iterator(refused_.end()));
    refused_.clear();
    if (sender_) sender_->collect(out);
    if (reader_) {
      reader_->collect();
      if (watching_) reader_->watch();
    }
  }

  Result<std::vector<StoredRecord>> fetch(std::uint32_t partition, Offset offset, std::size_t records_max,
                                          std::size_t bytes_max) override {
    if (!reader_) return fail(Code::kUnsupported, "this end of the stream only sends");
    return reader_->fetch(partition, offset, records_max, bytes_max);
  }

  Extent extent(std::uint32_t partition) const override { return reader_ ? reader_->extent(partition) : Extent{}; }
  bool ready() const override { return reader_ && reader_->ready(); }
  void watch() override {
    watching_ = true;
    if (reader_) reader_->watch();
  }
  std::uint64_t refresh() override { return reader_ ? reader_->refresh() : 0; }
  bool is_fresh(std::uint64_t ticket) const override { return !reader_ || reader_->is_fresh(ticket); }
  std::uint64_t bytes() const override { return 0; }  // the cluster's business

 private:
  const KafkaOptions options_;
  std::unique_ptr<KafkaReader> reader_;
  std::unique_ptr<KafkaSender> sender_;
  std::vector<Appended> refused_;
  bool watching_ = false;
};

}  // namespace

Result<std::unique_ptr<Engine>> open_kafka(KafkaOptions options) {
  if (options.bootstrap.empty() || options.topic.empty() || options.partitions == 0 || options.wake_fd < 0) {
    return fail(Code::kInvalid, "a Kafka engine needs brokers, a topic, partitions and a wake descriptor");
  }
  auto engine = std::make_unique<KafkaEngine>(std::move(options));
  if (auto started = engine->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<Engine>(std::move(engine));
}

}  // namespace shoal::streams
