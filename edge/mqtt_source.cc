#include "edge/mqtt_source.h"

#include <fmt/format.h>
#include <mosquitto.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <mutex>

namespace shoal::edge {
namespace {

constexpr std::size_t kTopicsMax = 256;
constexpr int kLoopMs = 1'000;

void initialise_library() {
  static std::once_flag once;
  std::call_once(once, [] { mosquitto_lib_init(); });
}

Result<> parse_url(const std::string& url, MqttOptions& options) {
  const auto wrong = [&] {
    return fail(Code::kInvalid,
                "the url '" + url + "' is not of the form mqtt://[user:password@]host[:port] (or mqtts://)");
  };
  std::string_view rest = url;
  if (rest.starts_with("mqtts://")) {
    options.tls = true;
    options.port = 8883;
    rest.remove_prefix(8);
  } else if (rest.starts_with("mqtt://")) {
    rest.remove_prefix(7);
  } else {
    return wrong();
  }
  if (rest.ends_with('/')) rest.remove_suffix(1);
  if (const auto at = rest.rfind('@'); at != std::string_view::npos) {
    const std::string_view login = rest.substr(0, at);
    rest.remove_prefix(at + 1);
    const auto colon = login.find(':');
    options.user = login.substr(0, colon);
    if (colon != std::string_view::npos) options.password = login.substr(colon + 1);
  }
  if (const auto colon = rest.rfind(':'); colon != std::string_view::npos && rest.back() != ']') {
    const std::string_view port = rest.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), options.port);
    if (error != std::errc() || end != port.data() + port.size() || options.port < 1 || options.port > 65535)
      return wrong();
    rest = rest.substr(0, colon);
  }
  if (rest.starts_with('[') && rest.ends_with(']')) rest = rest.substr(1, rest.size() - 2);
  if (rest.empty() || rest.find('/') != std::string_view::npos) return wrong();
  options.host = rest;
  return {};
}

Result<MqttOptions> parse(const SourceConfig& config, const std::string& client_id) {
  MqttOptions options;
  if (auto parsed = parse_url(config.options.text_or("url", ""), options); !parsed)
    return tl::unexpected(parsed.error());
  const wire::Dynamic& topic = config.options["topic"];
  if (const auto* text = topic.as_text()) options.topics.push_back(*text);
  if (const auto* list = topic.as_array()) {
    for (const auto& item : *list) {
      if (item.as_text() == nullptr) return fail(Code::kInvalid, "'topic' is a text or a list of texts");
      options.topics.push_back(*item.as_text());
    }
  }
  if (options.topics.empty() || options.topics.size() > kTopicsMax) {
    return fail(Code::kInvalid, "an mqtt source needs 'topic', such as 'site/+/temperature' (at most 256 of them)");
  }
  for (const std::string& filter : options.topics) {
    if (mosquitto_sub_topic_check(filter.c_str()) != MOSQ_ERR_SUCCESS) {
      return fail(Code::kInvalid,
                  "'" + filter + "' is not an MQTT topic filter: '+' stands for one level, '#' ends it");
    }
  }
  const std::int64_t qos = config.options.int_or("qos", 1);
  if (qos < 0 || qos > 2) return fail(Code::kInvalid, "qos must be 0, 1 or 2");
  // The hand-shake of quality 2 ends in the library's memory, before the record is in the log: a kill in between would
  // lose a message that the broker believes delivered. A subscription with 1 makes the broker deliver those at 1, too.
  options.qos = static_cast<int>(std::min<std::int64_t>(qos, 1));
  options.client_id = config.options.text_or("client_id", "shoal-" + client_id + "-" + config.name);
  options.ca_file = config.options.text_or("ca_file", "");
  const std::int64_t keepalive = config.options.int_or("keepalive_s", 30);
  if (keepalive < 5 || keepalive > 65535) return fail(Code::kInvalid, "keepalive_s must be between 5 and 65535");
  options.keepalive_s = static_cast<int>(keepalive);
  return options;
}

}  // namespace

Result<> MqttSource::check(const SourceConfig& config) {
  auto options = parse(config, "check");
  if (!options) return tl::unexpected(options.error());
  return {};
}

Result<std::unique_ptr<Source>> MqttSource::start(const SourceConfig& config, const std::string& client_id,
                                                  HandOver& hand_over) {
  auto options = parse(config, client_id);
  if (!options) return tl::unexpected(options.error());
  std::unique_ptr<MqttSource> source(new MqttSource(std::move(*options), hand_over));
  if (auto started = source->start_thread(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<Source>(std::move(source));
}

MqttSource::MqttSource(MqttOptions options, HandOver& hand_over) : options_(std::move(options)), hand_over_(hand_over) {
  initialise_library();
}

Result<> MqttSource::start_thread() {
  const bool clean_session = options_.qos == 0;
  client_ = mosquitto_new(options_.client_id.c_str(), clean_session, this);
  if (client_ == nullptr) return fail(Code::kExhausted, "no memory for an MQTT client");
  // Acknowledgements are then queued during a callback, not sent ahead of it.
  mosquitto_threaded_set(client_, true);
  mosquitto_connect_callback_set(client_, &MqttSource::on_connect);
  mosquitto_subscribe_callback_set(client_, &MqttSource::on_subscribed);
  mosquitto_message_callback_set(client_, &MqttSource::on_message);
  if (!options_.user.empty()) {
    mosquitto_username_pw_set(client_, options_.user.c_str(),
                              options_.password.empty() ? nullptr : options_.password.c_str());
  }
  if (options_.tls) {
    const char* file = options_.ca_file.empty() ? nullptr : options_.ca_file.c_str();
    const int code =
        mosquitto_tls_set(client_, file, file == nullptr ? "/etc/ssl/certs" : nullptr, nullptr, nullptr, nullptr);
    if (code != MOSQ_ERR_SUCCESS) {
      return fail(Code::kInvalid, fmt::format("TLS cannot be set up: {}; check 'ca_file'", mosquitto_strerror(code)));
    }
  }
  hand_over_.report("connecting", false, "");
  sigset_t all;  // signals are for the loop thread
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {};
}

MqttSource::~MqttSource() {
  if (client_ == nullptr) return;
  stopping_ = true;
  mosquitto_disconnect(client_);  // also wakes the thread
  if (thread_.joinable()) thread_.join();
  mosquitto_destroy(client_);
}

// The library has a loop of its own, but that one ends for good when the broker is away at a bad moment.
void MqttSource::run() {
  std::int64_t pause_ms = kPauseFirstMs;
  bool first = true;
  while (!stopping_) {
    problem_.clear();
    int code = first ? mosquitto_connect_async(client_, options_.host.c_str(), options_.port, options_.keepalive_s)
                     : mosquitto_reconnect_async(client_);
    first = first && code == MOSQ_ERR_INVAL;
    while (code == MOSQ_ERR_SUCCESS && !stopping_) code = mosquitto_loop(client_, kLoopMs, 1);
    if (stopping_) return;
    if (connected_) pause_ms = kPauseFirstMs;
    connected_ = false;
    if (problem_.empty()) {
      problem_ = fmt::format("no connection to {}:{}: {}; trying again", options_.host, options_.port,
                             code == MOSQ_ERR_ERRNO ? std::strerror(errno) : mosquitto_strerror(code));
    }
    hand_over_.report("connecting", false, problem_);
    if (!hand_over_.sleep(pause_ms)) return;
    pause_ms = std::min(pause_ms * 2, kPauseMaxMs);
  }
}

void MqttSource::on_connect(mosquitto* client, void* self, int code) {
  auto& source = *static_cast<MqttSource*>(self);
  if (code != 0) {
    source.problem_ = fmt::format("the MQTT broker refused the connection: {}", mosquitto_connack_string(code));
    return;
  }
  if (source.connected_once_) source.hand_over_.count_reconnect();
  source.connected_once_ = true;
  source.connected_ = true;
  source.subscribing_ = source.options_.topics.size();
  for (const std::string& topic : source.options_.topics) {
    mosquitto_subscribe(client, nullptr, topic.c_str(), source.options_.qos);
  }
}

// Connected is who gets messages, now or from the broker's queue later: only the last acknowledged subscription says
// so.
void MqttSource::on_subscribed(mosquitto* client, void* self, int /*message*/, int count, const int* granted) {
  constexpr int kRefused = 128;
  auto& source = *static_cast<MqttSource*>(self);
  if (std::any_of(granted, granted + count, [](int qos) { return qos >= kRefused; })) {
    source.problem_ = "the MQTT broker refused a subscription: this client may not read one of the topics";
    ::shutdown(mosquitto_socket(client), SHUT_RDWR);
    return;
  }
  if (source.subscribing_ > 0 && --source.subscribing_ == 0) source.hand_over_.report("connected", true, "");
}

void MqttSource::on_message(mosquitto* client, void* self, const mosquitto_message* message) {
  auto& source = *static_cast<MqttSource*>(self);
  Reading reading;
  reading.value.assign(static_cast<const char*>(message->payload), static_cast<std::size_t>(message->payloadlen));
  reading.key = Bytes(std::string(message->topic));
  reading.headers.emplace_back("mqtt.topic", Bytes(std::string(message->topic)));
  if (message->retain) reading.headers.emplace_back("mqtt.retained", Bytes("1"));
  const bool wait = message->qos > 0;
  const bool taken =
      source.hand_over_.push(std::move(reading), wait ? HandOver::Until::kAppended : HandOver::Until::kAccepted);
  // Returning acknowledges the message. One that is not in the log must come again, so the connection goes first.
  if (!taken && wait) ::shutdown(mosquitto_socket(client), SHUT_RDWR);
}

}  // namespace shoal::edge
