#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <memory>

#include "tools/benchmark/floors.h"

namespace shoal::bench {
namespace {

constexpr std::size_t kWindow = 1000;
constexpr int kPatienceMs = 30'000;

// Answers each message with itself, until an empty one.
[[noreturn]] void echo(const std::string& endpoint) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  void* context = zmq_ctx_new();
  void* socket = zmq_socket(context, ZMQ_ROUTER);
  const int unlimited = 0;
  zmq_setsockopt(socket, ZMQ_SNDHWM, &unlimited, sizeof unlimited);
  zmq_setsockopt(socket, ZMQ_RCVHWM, &unlimited, sizeof unlimited);
  if (zmq_bind(socket, endpoint.c_str()) != 0) ::_exit(1);
  while (true) {
    zmq_msg_t peer;
    zmq_msg_t body;
    zmq_msg_init(&peer);
    zmq_msg_init(&body);
    if (zmq_msg_recv(&peer, socket, 0) < 0 || zmq_msg_recv(&body, socket, 0) < 0) ::_exit(1);
    if (zmq_msg_size(&body) == 0) ::_exit(0);
    zmq_msg_send(&peer, socket, ZMQ_SNDMORE);
    zmq_msg_send(&body, socket, 0);
  }
}

using Client = std::unique_ptr<rd_kafka_t, decltype(&rd_kafka_destroy)>;

Result<Client> make_client(rd_kafka_type_t type, const std::vector<std::pair<const char*, std::string>>& settings) {
  char problem[256];
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  for (const auto& [key, value] : settings) {
    if (rd_kafka_conf_set(conf, key, value.c_str(), problem, sizeof problem) != RD_KAFKA_CONF_OK) {
      rd_kafka_conf_destroy(conf);
      return fail(Code::kInvalid, std::string(key) + ": " + problem);
    }
  }
  rd_kafka_t* client = rd_kafka_new(type, conf, problem, sizeof problem);
  if (client == nullptr) {
    rd_kafka_conf_destroy(conf);
    return fail(Code::kUnavailable, problem);
  }
  return Client(client, &rd_kafka_destroy);
}

// Brokers may be set not to make topics by themselves.
Result<> create_topic(rd_kafka_t* client, const std::string& topic) {
  char problem[256];
  rd_kafka_NewTopic_t* wanted = rd_kafka_NewTopic_new(topic.c_str(), 1, -1, problem, sizeof problem);
  rd_kafka_queue_t* queue = rd_kafka_queue_new(client);
  rd_kafka_CreateTopics(client, &wanted, 1, nullptr, queue);
  rd_kafka_event_t* event = rd_kafka_queue_poll(queue, kPatienceMs);
  Result<> result;
  if (event == nullptr) {
    result = fail(Code::kUnavailable, "no answer from the Kafka broker");
  } else if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    result =
        fail(Code::kUnavailable, std::string("the Kafka broker makes no topic: ") + rd_kafka_event_error_string(event));
  }
  if (event != nullptr) rd_kafka_event_destroy(event);
  rd_kafka_queue_destroy(queue);
  rd_kafka_NewTopic_destroy(wanted);
  return result;
}

Result<double> produce(const std::string& brokers, const std::string& topic, const std::string& value,
                       std::size_t count) {
  auto made = make_client(RD_KAFKA_PRODUCER, {{"bootstrap.servers", brokers},
                                              {"acks", "all"},
                                              {"linger.ms", "5"},
                                              {"queue.buffering.max.messages", "1000000"}});
  if (!made) return tl::unexpected(made.error());
  rd_kafka_t* client = made->get();
  if (auto created = create_topic(client, topic); !created) return tl::unexpected(created.error());
  const auto send = [&] {
    while (rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic.c_str()), RD_KAFKA_V_PARTITION(0),
                             RD_KAFKA_V_VALUE(const_cast<char*>(value.data()), value.size()),
                             RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                             RD_KAFKA_V_END) == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
      rd_kafka_poll(client, 1);
    }
  };
  send();  // the topic exists and the connection stands before the clock starts
  if (rd_kafka_flush(client, kPatienceMs) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return fail(Code::kUnavailable, "no answer from the Kafka broker at " + brokers);
  }
  const auto begin = Clock::now();
  for (std::size_t i = 0; i < count; ++i) send();
  if (rd_kafka_flush(client, kPatienceMs) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return fail(Code::kTimeout, "the Kafka broker did not acknowledge all records in 30 s");
  }
  return microseconds_since(begin);
}

Result<double> consume(const std::string& brokers, const std::string& topic, std::size_t count) {
  auto made = make_client(RD_KAFKA_CONSUMER, {{"bootstrap.servers", brokers},
                                              {"group.id", "shoal-bench"},
                                              {"enable.auto.commit", "false"},
                                              {"auto.offset.reset", "earliest"}});
  if (!made) return tl::unexpected(made.error());
  rd_kafka_t* client = made->get();
  rd_kafka_poll_set_consumer(client);
  rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(list, topic.c_str(), 0)->offset = 0;
  rd_kafka_assign(client, list);
  rd_kafka_topic_partition_list_destroy(list);
  Clock::time_point begin;
  for (std::size_t i = 0; i <= count; ++i) {
    rd_kafka_message_t* message = rd_kafka_consumer_poll(client, kPatienceMs);
    if (message == nullptr || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      if (message != nullptr) rd_kafka_message_destroy(message);
      return fail(Code::kTimeout, "the Kafka broker did not give back all records");
    }
    rd_kafka_message_destroy(message);
    if (i == 0) begin = Clock::now();
  }
  const double us = microseconds_since(begin);
  rd_kafka_consumer_close(client);
  return us;
}

}  // namespace

Result<Figures> zmq_echo(const std::string& endpoint, std::size_t bytes, std::size_t count) {
  const pid_t peer = ::fork();
  if (peer == 0) echo(endpoint);
  void* context = zmq_ctx_new();
  void* socket = zmq_socket(context, ZMQ_DEALER);
  const int unlimited = 0;
  zmq_setsockopt(socket, ZMQ_SNDHWM, &unlimited, sizeof unlimited);
  zmq_setsockopt(socket, ZMQ_RCVHWM, &unlimited, sizeof unlimited);
  zmq_setsockopt(socket, ZMQ_RCVTIMEO, &kPatienceMs, sizeof kPatienceMs);
  const std::string message(bytes, 'x');
  std::string answer(bytes, ' ');
  bool lost = zmq_connect(socket, endpoint.c_str()) != 0;
  const auto send = [&] { lost = lost || zmq_send(socket, message.data(), bytes, 0) < 0; };
  const auto receive = [&] { lost = lost || zmq_recv(socket, answer.data(), bytes, 0) < 0; };
  std::vector<double> times;
  for (std::size_t i = 0; i < count + count / 10 && !lost; ++i) {
    const auto begin = Clock::now();
    send();
    receive();
    if (i >= count / 10) times.push_back(microseconds_since(begin));  // the first tenth warms up
  }
  const std::size_t many = count * 10;
  std::size_t sent = 0;
  const auto begin = Clock::now();
  for (std::size_t got = 0; got < many && !lost; ++got) {
    for (; sent < many && sent - got < kWindow; ++sent) send();
    receive();
  }
  const double us = microseconds_since(begin);
  if (!lost) zmq_send(socket, "", 0, 0);
  const int linger_ms = lost ? 0 : 2000;
  zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
  if (lost) ::kill(peer, SIGKILL);
  ::waitpid(peer, nullptr, 0);
  zmq_close(socket);
  zmq_ctx_term(context);
  if (lost) return fail(Code::kUnavailable, "no echo over " + endpoint);
  return Figures{{"round_trip_us", percentile(times, 50)},
                 {"round_trip_p99_us", percentile(times, 99)},
                 {"pipelined_per_s", static_cast<double>(many) * 1e6 / us}};
}

Result<Figures> kafka(const std::string& brokers, const std::string& topic, std::size_t bytes, std::size_t count) {
  const auto produced = produce(brokers, topic, std::string(bytes, 'x'), count);
  if (!produced) return tl::unexpected(produced.error());
  const auto consumed = consume(brokers, topic, count);
  if (!consumed) return tl::unexpected(consumed.error());
  return Figures{{"produce_per_s", static_cast<double>(count) * 1e6 / *produced},
                 {"consume_per_s", static_cast<double>(count) * 1e6 / *consumed}};
}

}  // namespace shoal::bench
