#include "streams/kafka/handle.h"

#include <unistd.h>

#include <csignal>
#include <cstdint>

namespace shoal::streams {

Result<KafkaPtr<rd_kafka_t>> make_client(rd_kafka_type_t type, const KafkaOptions& options,
                                         const KafkaSettings& settings, int events) {
  KafkaSettings all = {{"bootstrap.servers", options.bootstrap},
                       {"client.id", options.client_id},
                       {"log_level", "0"},
                       {"reconnect.backoff.max.ms", "5000"},
                       {"socket.keepalive.enable", "true"}};
  all.insert(all.end(), settings.begin(), settings.end());
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  char reason[512] = "";
  for (const auto& [name, value] : all) {
    if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), reason, sizeof reason) != RD_KAFKA_CONF_OK) {
      rd_kafka_conf_destroy(conf);
      return fail(Code::kUnsupported, "Kafka client: " + std::string(reason));
    }
  }
  rd_kafka_conf_set_events(conf, events);
  // The library's threads inherit the mask: signals are for the loop thread.
  sigset_t every;
  sigset_t before;
  sigfillset(&every);
  pthread_sigmask(SIG_BLOCK, &every, &before);
  rd_kafka_t* handle = rd_kafka_new(type, conf, reason, sizeof reason);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (handle == nullptr) {
    rd_kafka_conf_destroy(conf);
    return fail(Code::kInvalid, "Kafka client: " + std::string(reason));
  }
  return KafkaPtr<rd_kafka_t>(handle);
}

void announce(rd_kafka_queue_t* queue, int wake_fd) {
  static const std::uint64_t kOne = 1;
  rd_kafka_queue_io_event_enable(queue, wake_fd, &kOne, sizeof kOne);
}

void ring(int wake_fd) {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_fd, &one, sizeof one);  // a full counter is readable already
}

Error kafka_error(rd_kafka_resp_err_t code, const std::string& what) {
  Code ours = Code::kUnavailable;
  switch (code) {
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
      ours = Code::kNotFound;
      break;
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
      ours = Code::kExhausted;
      break;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_INVALID_PARTITIONS:
      ours = Code::kInvalid;
      break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
      ours = Code::kDenied;
      break;
    default:
      break;
  }
  return {ours, what + ": " + rd_kafka_err2str(code)};
}

}  // namespace shoal::streams
