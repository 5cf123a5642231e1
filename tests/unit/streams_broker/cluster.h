// Some brokers, a store of registrations and the links between them, in one process and in virtual time. Links can be
// cut; brokers can be stopped, killed (no destructor work is relied on) and started again on their directories.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "streams/broker/broker.h"
#include "tests/unit/streams_log/temporary_directory.h"

namespace shoal::streams {

using wire::Dynamic;
using Map = wire::Dynamic::Map;
using Array = wire::Dynamic::Array;

class Cluster {
 public:
  explicit Cluster(std::size_t agents, BrokerLimits limits = {}) : limits_(limits) {
    for (std::size_t i = 0; i < agents; ++i) {
      wire::Address address;
      address.agent = AgentId(i + 1, 7);
      addresses_.push_back(address);
      brokers_.emplace_back();
      start(i);
    }
  }

  void start(std::size_t i) {
    BrokerConfig config;
    config.dir = directory_.path() + "/" + std::to_string(i);
    config.address = addresses_[i];
    config.limits = limits_;
    config.wall_ms = [this] { return wall_ms_ + now.us / 1000; };
    auto broker = Broker::open(config);
    ASSERT_TRUE(broker) << broker.error().message;
    brokers_[i] = std::move(*broker);
    settle();
  }
  void stop(std::size_t i) { brokers_[i].reset(); }

  Broker& broker(std::size_t i) { return *brokers_[i]; }
  AgentId agent(std::size_t i) const { return addresses_[i].agent; }
  std::string dir(std::size_t i) const { return directory_.path() + "/" + std::to_string(i); }

  void cut(std::size_t a, std::size_t b) { cuts_.insert({std::min(a, b), std::max(a, b)}); }
  void heal(std::size_t a, std::size_t b) {
    cuts_.erase({std::min(a, b), std::max(a, b)});
    if (brokers_[a] && brokers_[b]) {
      feed(a, [&](auto& out) { brokers_[a]->on_reachable(now, agent(b), out); });
      feed(b, [&](auto& out) { brokers_[b]->on_reachable(now, agent(a), out); });
    }
    settle();
  }
  // The next `count` frames from a to b vanish without anybody being told.
  void lose(std::size_t a, std::size_t b, int count) { losses_[{a, b}] = count; }

  // Sends a request; returns its number.
  std::uint64_t request(std::size_t i, std::uint64_t client, const std::string& method, Map params) {
    const std::uint64_t number = next_request_++;
    feed(i, [&](auto& out) {
      brokers_[i]->on_request(now, ClientId(client), number, method, Dynamic(std::move(params)), out);
    });
    settle();
    return number;
  }
  std::optional<Result<Dynamic>> answer(std::uint64_t request) {
    const auto it = replies_.find(request);
    if (it == replies_.end()) return std::nullopt;
    return it->second;
  }
  // Sends a request and lets time pass until it is answered.
  Result<Dynamic> call(std::size_t i, std::uint64_t client, const std::string& method, Map params,
                       Duration patience = seconds(60)) {
    const std::uint64_t number = request(i, client, method, std::move(params));
    const Instant give_up = now + patience;
    while (!replies_.contains(number)) {
      wait_for_disks();
      if (replies_.contains(number)) break;
      const Instant next = next_deadline();
      if (next > give_up) return fail(Code::kTimeout, method + " was not answered");
      advance_to(next);
    }
    return replies_.at(number);
  }
  void client_gone(std::size_t i, std::uint64_t client) {
    feed(i, [&](auto& out) { brokers_[i]->on_client_gone(now, ClientId(client), out); });
    settle();
  }
  void agent_dead(std::size_t observer, std::size_t dead) {
    feed(observer, [&](auto& out) { brokers_[observer]->on_agent_dead(now, agent(dead), out); });
    settle();
  }

  void advance(Duration span) {
    const Instant end = now + span;
    while (next_deadline() <= end) advance_to(next_deadline());
    now = std::max(now, end);
    settle();
  }
  // Group commits and Kafka run in real time: gives each broker up to `ms` to hear of them.
  void wait_for_disks(int ms = 30) {
    for (std::size_t i = 0; i < brokers_.size(); ++i) {
      if (!brokers_[i]) continue;
      pollfd poll{brokers_[i]->fd(), POLLIN, 0};
      if (::poll(&poll, 1, ms) == 1) feed(i, [&](auto& out) { brokers_[i]->on_wake(now, out); });
    }
    settle();
  }
  void check() {
    for (auto& broker : brokers_) {
      if (broker) broker->check_invariants();
    }
  }

  // ---- shorthands ----
  static Dynamic record(const std::string& value) { return Array{Dynamic(Bytes(value))}; }
  static Map records(const std::string& stream, int first, int count) {
    Array rows;
    for (int i = first; i < first + count; ++i) rows.push_back(record("r" + std::to_string(i)));
    return {{"name", stream}, {"records", std::move(rows)}};
  }
  static std::vector<std::string> values(const Result<Dynamic>& poll) {
    std::vector<std::string> out;
    if (!poll) return {"error: " + poll.error().message};
    for (const Dynamic& row : *(*poll)["records"].as_array()) out.push_back(*(*row.as_array())[0].as_bytes());
    return out;
  }
  // Polls until the stream says that it is closed, or nothing comes for a while.
  std::vector<std::string> drain(std::size_t i, std::uint64_t client, Map params, bool* closed = nullptr) {
    std::vector<std::string> all;
    if (closed != nullptr) *closed = false;
    for (int empty = 0; empty < 3;) {
      auto poll = call(i, client, "streams.poll", params);
      EXPECT_TRUE(poll) << poll.error().message;
      if (!poll) break;
      const auto some = values(poll);
      all.insert(all.end(), some.begin(), some.end());
      if (*(*poll)["closed"].as_bool()) {
        if (closed != nullptr) *closed = true;
        break;
      }
      empty = some.empty() ? empty + 1 : 0;
    }
    return all;
  }

  Instant now{1'000'000'000};
  std::map<std::string, Registration> store;
  bool store_available = true;
  std::vector<std::string> traces;

 private:
  template <class F>
  void feed(std::size_t i, F&& f) {
    std::vector<Output> out;
    f(out);
    for (Output& output : out) outputs_.emplace_back(i, std::move(output));
  }
  Instant next_deadline() const {
    Instant next = Instant::never();
    for (const auto& broker : brokers_) {
      if (broker) next = std::min(next, broker->next_deadline());
    }
    return next;
  }
  void advance_to(Instant at) {
    now = std::max(now, at);
    for (std::size_t i = 0; i < brokers_.size(); ++i) {
      if (brokers_[i] && brokers_[i]->next_deadline() <= now)
        feed(i, [&](auto& out) { brokers_[i]->on_wake(now, out); });
    }
    settle();
  }
  void settle() {
    while (!outputs_.empty()) {
      auto [from, output] = std::move(outputs_.front());
      outputs_.pop_front();
      if (!brokers_[from]) continue;
      std::visit([&, i = from](auto& o) { carry_out(i, o); }, output);
    }
  }
  void carry_out(std::size_t, out::Reply& reply) {
    EXPECT_TRUE(replies_.emplace(reply.request, std::move(reply.result)).second) << "answered twice";
  }
  void carry_out(std::size_t from, out::Send& sent) {
    std::size_t to = 0;
    while (to < addresses_.size() && addresses_[to].agent != sent.envelope.target.agent) ++to;
    ASSERT_LT(to, addresses_.size());
    if (!brokers_[to] || cuts_.contains({std::min(from, to), std::max(from, to)})) {
      feed(from, [&](auto& out) { brokers_[from]->on_unreachable(now, agent(to), out); });
      return;
    }
    if (int& left = losses_[{from, to}]; left > 0) {
      --left;
      return;
    }
    feed(to, [&](auto& out) { brokers_[to]->on_frame(now, sent.envelope, out); });
  }
  void carry_out(std::size_t i, out::GetRecord& get) {
    const auto it = store.find(get.name);
    Result<Registration> found = !store_available    ? Result<Registration>(fail(Code::kUnavailable, "store away"))
                                 : it == store.end() ? Result<Registration>(fail(Code::kNotFound, "no such record"))
                                                     : Result<Registration>(it->second);
    feed(i, [&](auto& out) { brokers_[i]->on_record(now, get.id, found, out); });
  }
  void carry_out(std::size_t i, out::SetRecord& set) {
    Result<Registration> result = fail(Code::kExists, "taken");
    const auto it = store.find(set.name);
    if (!store_available) {
      result = fail(Code::kUnavailable, "store away");
    } else if (set.remove) {
      store.erase(set.name);
      result = Registration{set.name, {}, Epoch(9)};
    } else if (it == store.end() || !set.must_be_new) {
      const Epoch epoch(it == store.end() ? 1 : it->second.epoch.value() + 1);
      result = store[set.name] = Registration{set.name, set.value, epoch};
    }
    feed(i, [&](auto& out) { brokers_[i]->on_record(now, set.id, result, out); });
  }
  void carry_out(std::size_t i, out::ListRecords& list) {
    std::vector<Registration> found;
    for (const auto& [name, record] : store) {
      if (name.starts_with(list.prefix)) found.push_back(record);
    }
    feed(i, [&](auto& out) { brokers_[i]->on_records(now, list.id, found, out); });
  }
  void carry_out(std::size_t, out::Trace& trace) { traces.push_back(trace.event); }

  TemporaryDirectory directory_;
  BrokerLimits limits_;
  std::int64_t wall_ms_ = 1'700'000'000'000;
  std::vector<wire::Address> addresses_;
  std::vector<std::unique_ptr<Broker>> brokers_;
  std::deque<std::pair<std::size_t, Output>> outputs_;
  std::map<std::uint64_t, Result<Dynamic>> replies_;
  std::set<std::pair<std::size_t, std::size_t>> cuts_;
  std::map<std::pair<std::size_t, std::size_t>, int> losses_;
  std::uint64_t next_request_ = 1;
};

// "r0", "r1", … as Cluster::records makes them.
inline std::vector<std::string> expected(int first, int count) {
  std::vector<std::string> out;
  for (int i = first; i < first + count; ++i) out.push_back("r" + std::to_string(i));
  return out;
}

}  // namespace shoal::streams
