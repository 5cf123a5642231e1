// An edge agent without the rest: Edge and Broker joined as the daemon joins them, on real time and descriptors; and a
// real mosquitto beside it.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "edge/edge.h"
#include "streams/broker/broker.h"
#include "tests/unit/streams_log/temporary_directory.h"

namespace shoal::edge {

using wire::Dynamic;
using Map = wire::Dynamic::Map;
using Array = wire::Dynamic::Array;

class Station {
 public:
  explicit Station(const std::string& dir) {
    streams::BrokerConfig config;
    config.dir = dir + "/streams";
    config.address.agent = AgentId(1, 1);
    auto broker = streams::Broker::open(config);
    EXPECT_TRUE(broker) << broker.error().message;
    broker_ = std::move(*broker);
    EdgeConfig edge;
    edge.dir = dir + "/edge";
    edge.client_id = "station";
    auto opened = Edge::open(edge);
    EXPECT_TRUE(opened) << opened.error().message;
    edge_ = std::move(*opened);
  }

  static Instant now() {
    return {std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
                .count()};
  }

  // One turn of the loop: waits up to `span` for something to do, and does it.
  void turn(Duration span = milliseconds(50)) {
    const Instant due = std::min(broker_->next_deadline(), edge_->next_deadline());
    const std::int64_t wait_us = std::clamp<std::int64_t>(due.us - now().us, 0, span.us);
    pollfd waits[2] = {{broker_->fd(), POLLIN, 0}, {edge_->fd(), POLLIN, 0}};
    ::poll(waits, 2, static_cast<int>((wait_us + 999) / 1000));
    broker([&](auto& out) { broker_->on_wake(now(), out); });
    edge([&](auto& out) { edge_->on_wake(now(), out); });
    settle();
  }
  bool run_until(const std::function<bool()>& condition, Duration patience = seconds(30)) {
    const Instant end = now() + patience;
    while (!condition()) {
      if (now() > end) return false;
      turn();
    }
    return true;
  }
  Result<Dynamic> call(const std::string& method, Map params) {
    const std::uint64_t request = next_request_++;
    if (Edge::handles(method)) {
      edge([&](auto& out) { edge_->on_request(now(), ClientId(5), request, method, Dynamic(std::move(params)), out); });
    } else {
      broker([&](auto& out) {
        broker_->on_request(now(), ClientId(5), request, method, Dynamic(std::move(params)), out);
      });
    }
    settle();
    EXPECT_TRUE(run_until([&] { return replies_.contains(request); })) << method;
    return replies_.contains(request) ? replies_.at(request) : Result<Dynamic>(fail(Code::kTimeout, "no answer"));
  }
  std::vector<std::string> read_all(const std::string& stream) {
    std::vector<std::string> all;
    while (true) {
      auto poll = call("streams.poll", {{"name", stream}, {"timeout_ms", 0}, {"max", 10'000}});
      if (!poll || (*poll)["records"].as_array()->empty()) return all;
      for (const Dynamic& row : *(*poll)["records"].as_array()) all.push_back(*(*row.as_array())[0].as_bytes());
    }
  }
  Dynamic source(const std::string& name) {
    auto sources = call("edge.sources", {});
    if (!sources) return {};
    for (const Dynamic& row : *(*sources)["sources"].as_array()) {
      if (row.text_or("name", "") == name) return row;
    }
    return {};
  }
  bool wait_for_state(const std::string& name, const std::string& state) {
    return run_until([&] { return source(name).text_or("state", "") == state; });
  }

 private:
  void broker(const std::function<void(std::vector<streams::Output>&)>& f) {
    std::vector<streams::Output> out;
    f(out);
    for (auto& o : out) broker_out_.push_back(std::move(o));
  }
  void edge(const std::function<void(std::vector<Output>&)>& f) {
    std::vector<Output> out;
    f(out);
    for (auto& o : out) edge_out_.push_back(std::move(o));
  }
  void settle() {
    while (!broker_out_.empty() || !edge_out_.empty()) {
      if (!edge_out_.empty()) {
        Output output = std::move(edge_out_.front());
        edge_out_.pop_front();
        if (auto* reply = std::get_if<out::Reply>(&output)) replies_.emplace(reply->request, reply->result);
        if (auto* publish = std::get_if<out::Publish>(&output)) {
          broker([&](auto& out) {
            broker_->on_request(now(), streams::kEdgeClient, publish->id, publish->method, publish->params, out);
          });
        }
        continue;
      }
      streams::Output output = std::move(broker_out_.front());
      broker_out_.pop_front();
      if (auto* reply = std::get_if<streams::out::Reply>(&output)) {
        if (reply->client == streams::kEdgeClient) {
          edge([&](auto& out) { edge_->on_reply(now(), reply->request, reply->result, out); });
        } else {
          replies_.emplace(reply->request, reply->result);
        }
      }
      // The store of registrations: this agent is alone in its world, and its disk is the truth.
      if (auto* get = std::get_if<streams::out::GetRecord>(&output)) {
        broker([&](auto& out) { broker_->on_record(now(), get->id, fail(Code::kNotFound, "no such record"), out); });
      }
      if (auto* set = std::get_if<streams::out::SetRecord>(&output)) {
        const streams::Registration done{set->name, set->value, Epoch(1)};
        broker([&](auto& out) { broker_->on_record(now(), set->id, done, out); });
      }
    }
  }

  std::unique_ptr<streams::Broker> broker_;
  std::unique_ptr<Edge> edge_;
  std::deque<streams::Output> broker_out_;
  std::deque<Output> edge_out_;
  std::map<std::uint64_t, Result<Dynamic>> replies_;
  std::uint64_t next_request_ = 1;
};

// A real MQTT broker on a free port of the loopback interface. `window` is how many messages it may have sent to a
// client and not seen acknowledged.
class Mosquitto {
 public:
  explicit Mosquitto(const std::string& dir, int window = 20) : dir_(dir) {
    const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    ::bind(probe, reinterpret_cast<sockaddr*>(&address), length);
    ::getsockname(probe, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    ::close(probe);
    std::ofstream(dir_ + "/mosquitto.conf")
        << "listener " << port_ << " 127.0.0.1\nallow_anonymous true\n"
        << "max_queued_messages 0\nlog_type all\nmax_inflight_messages " << window << '\n';
    start();
  }
  ~Mosquitto() { stop(); }

  static std::string binary() {
    for (const char* path : {"/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"}) {
      if (::access(path, X_OK) == 0) return path;
    }
    return {};
  }
  void start() {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::string config = dir_ + "/mosquitto.conf";
      const std::string program = binary();
      std::freopen((dir_ + "/mosquitto.log").c_str(), "a", stderr);
      ::execl(program.c_str(), program.c_str(), "-c", config.c_str(), nullptr);
      ::_exit(127);
    }
  }
  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  std::string url() const { return "mqtt://127.0.0.1:" + std::to_string(port_); }
  // What the broker had sent to the subscriber and not seen acknowledged when the subscriber came back, over all its
  // connections: by MQTT that, and nothing else, is what it sends again.
  std::size_t unacknowledged_at_reconnects(const std::string& client) const {
    std::ifstream log(dir_ + "/mosquitto.log");
    std::size_t total = 0;
    std::size_t in_flight = 0;
    for (std::string line; std::getline(log, line);) {
      if (line.find("New client connected") != std::string::npos &&
          line.find(" as " + client + " ") != std::string::npos) {
        total += in_flight;
        in_flight = 0;
      }
      if (line.find("Sending PUBLISH to " + client + " ") != std::string::npos) ++in_flight;
      if (line.find("Received PUBACK from " + client + " ") != std::string::npos) --in_flight;
    }
    return total;
  }
  // Publishes lines "<first>", "<first + 1>" … by mosquitto_pub; waits for it.
  void publish(const std::string& topic, int first, int count, int qos = 1) const {
    const std::string command = "seq " + std::to_string(first) + " " + std::to_string(first + count - 1) +
                                " | mosquitto_pub -p " + std::to_string(port_) + " -h 127.0.0.1 -t '" + topic +
                                "' -l -q " + std::to_string(qos);
    ASSERT_EQ(std::system(command.c_str()), 0);
  }

 private:
  std::string dir_;
  int port_ = 0;
  pid_t pid_ = -1;
};

}  // namespace shoal::edge
