// edge/mqtt_source.h
//
// A subscription at an MQTT broker (3.1.1), through libmosquitto: the only files that include it are mqtt_source.*.
// A message of quality of service 1 is acknowledged to the broker after it is in the stream's log: the library (in its
// threaded mode) sends the acknowledgement after its callback returned, and the callback waits. With the persistent
// session that such a subscription gets, the broker sends what was not acknowledged again: at least once, whatever
// dies. What comes twice after a death is at most what the broker had in flight then (max_inflight_messages of
// mosquitto; 3.1.1 gives a subscriber no say in it). Packet identifiers cannot tell those from new messages: a broker
// may have used them again. Quality 2 is subscribed to as 1: its hand-shake ends before the record is in the log, and a
// kill would lose it.
//
// Options: url "mqtt://[user:password@]host[:port]" or "mqtts://…", topic (text or a list of them, with wildcards), qos
// (1), client_id (the agent's and the source's name), ca_file (for mqtts), keepalive_s (30).
// A record's key is the topic; so are its headers "mqtt.topic" and, if set, "mqtt.retained".
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "edge/source.h"

struct mosquitto;
struct mosquitto_message;

namespace shoal::edge {

struct MqttOptions {
  std::string host;
  int port = 1883;
  bool tls = false;
  std::string user;
  std::string password;
  std::vector<std::string> topics;
  int qos = 1;
  std::string client_id;
  std::string ca_file;
  int keepalive_s = 30;
};

class MqttSource final : public Source {
 public:
  static Result<> check(const SourceConfig& config);
  static Result<std::unique_ptr<Source>> start(const SourceConfig& config, const std::string& client_id,
                                               HandOver& hand_over);
  ~MqttSource() override;
  MqttSource(const MqttSource&) = delete;
  MqttSource& operator=(const MqttSource&) = delete;

 private:
  MqttSource(MqttOptions options, HandOver& hand_over);
  Result<> start_thread();
  void run();
  static void on_connect(mosquitto* client, void* self, int code);
  static void on_subscribed(mosquitto* client, void* self, int message, int count, const int* granted);
  static void on_message(mosquitto* client, void* self, const mosquitto_message* message);

  const MqttOptions options_;
  HandOver& hand_over_;
  mosquitto* client_ = nullptr;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
  // Of the thread:
  bool connected_ = false;
  bool connected_once_ = false;
  std::size_t subscribing_ = 0;  // subscriptions that the broker has not acknowledged
  std::string problem_;          // why there is no connection
};

}  // namespace shoal::edge
