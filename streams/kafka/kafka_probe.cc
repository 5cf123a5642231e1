#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "streams/kafka/handle.h"

namespace shoal::streams {
namespace {

constexpr int kPatienceMs = 10'000;
constexpr int kTurnMs = 500;  // how long a stop may take

class Probe final : public KafkaProbe {
 public:
  explicit Probe(KafkaOptions options) : options_(std::move(options)), thread_([this] { run(); }) {}
  ~Probe() override {
    stopping_ = true;
    thread_.join();
  }
  std::optional<Result<std::uint32_t>> take_result() override {
    const std::lock_guard lock(mutex_);
    return std::exchange(result_, std::nullopt);
  }

 private:
  void run() {
    auto found = find();
    {
      const std::lock_guard lock(mutex_);
      result_ = std::move(found);
    }
    ring(options_.wake_fd);
  }

  Result<std::uint32_t> find() {
    auto client = make_client(RD_KAFKA_PRODUCER, options_, {}, 0);
    if (!client) return tl::unexpected(client.error());
    bool asked = false;
    std::string problem = "no broker answers";
    for (int waited = 0; waited < kPatienceMs && !stopping_; waited += kTurnMs) {
      auto partitions = partitions_of(client->get(), problem);
      if (!partitions) return tl::unexpected(partitions.error());
      if (*partitions > 0) return *partitions;
      if (problem.empty() && !asked) {
        asked = true;
        if (auto made = make_topic(client->get()); !made) return tl::unexpected(made.error());
      }
      if (asked) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return fail(Code::kUnavailable, "Kafka at " + options_.bootstrap + " cannot be used: " + problem +
                                        "; check the address, and that the broker runs");
  }

  // 0 while unknown: then `problem` says why, and is empty when the topic does not exist.
  Result<std::uint32_t> partitions_of(rd_kafka_t* client, std::string& problem) const {
    KafkaPtr<rd_kafka_topic_t> topic(rd_kafka_topic_new(client, options_.topic.c_str(), nullptr));
    const rd_kafka_metadata_t* metadata = nullptr;
    const auto code = rd_kafka_metadata(client, 0, topic.get(), &metadata, kTurnMs);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
      problem = rd_kafka_err2str(code);
      return 0U;
    }
    std::uint32_t partitions = 0;
    problem.clear();
    if (metadata->topic_cnt == 1) {
      const rd_kafka_metadata_topic_t& found = metadata->topics[0];
      if (found.err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        partitions = static_cast<std::uint32_t>(found.partition_cnt);
      } else if (found.err != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART &&
                 found.err != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) {
        const auto error = kafka_error(found.err, "Kafka topic " + options_.topic);
        rd_kafka_metadata_destroy(metadata);
        return tl::unexpected(error);
      }
    }
    rd_kafka_metadata_destroy(metadata);
    return partitions;
  }

  Result<> make_topic(rd_kafka_t* client) const {
    char reason[512] = "";
    rd_kafka_NewTopic_t* topic =
        rd_kafka_NewTopic_new(options_.topic.c_str(), static_cast<int>(options_.partitions), -1, reason, sizeof reason);
    if (topic == nullptr) return fail(Code::kInvalid, "Kafka topic " + options_.topic + ": " + reason);
    KafkaPtr<rd_kafka_queue_t> queue(rd_kafka_queue_new(client));
    rd_kafka_CreateTopics(client, &topic, 1, nullptr, queue.get());
    rd_kafka_NewTopic_destroy(topic);
    KafkaPtr<rd_kafka_event_t> event;
    for (int waited = 0; !event && waited < kPatienceMs && !stopping_; waited += kTurnMs) {
      event.reset(rd_kafka_queue_poll(queue.get(), kTurnMs));
    }
    if (!event) return fail(Code::kUnavailable, "Kafka did not create the topic " + options_.topic + " in time");
    if (rd_kafka_event_error(event.get()) != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return tl::unexpected(
          kafka_error(rd_kafka_event_error(event.get()), "creating the Kafka topic " + options_.topic));
    }
    std::size_t count = 0;
    const rd_kafka_topic_result_t** results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
    for (std::size_t i = 0; i < count; ++i) {
      const auto code = rd_kafka_topic_result_error(results[i]);
      if (code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) continue;
      return tl::unexpected(kafka_error(code, "creating the Kafka topic " + options_.topic));
    }
    return {};
  }

  const KafkaOptions options_;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::optional<Result<std::uint32_t>> result_;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace

std::unique_ptr<KafkaProbe> probe_kafka(KafkaOptions options) {
  return std::make_unique<Probe>(std::move(options));
}

}  // namespace shoal::streams
