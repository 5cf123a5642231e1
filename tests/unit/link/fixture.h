// tests/unit/link/fixture.h
//
// Agents with transports on loopback, all polled by the test's own thread: no sleeps, every wait is for a
// condition.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "protocol/identity/certificate.h"
#include "protocol/identity/keys.h"
#include "protocol/link/transport.h"

namespace shoal::link {

inline Instant steady_now() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return {std::chrono::duration_cast<std::chrono::microseconds>(since).count()};
}

inline WallTime wall_now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return {std::chrono::duration_cast<std::chrono::milliseconds>(since).count()};
}

struct Keys {
  identity::KeyPair key = identity::KeyPair::generate();
  identity::CurveKeys curve = identity::CurveKeys::generate();
  AgentId id() const { return key.agent_id(); }
};

// A realm whose one issuer certifies whomever the test wants.
struct Realm {
  identity::KeyPair root = identity::KeyPair::generate();
  identity::KeyPair issuer_key = identity::KeyPair::generate();
  identity::Signed leave = identity::delegate_issuer(root, issuer_key.public_key(), {identity::kRoleAgent}, wall_now());
  RealmId id = identity::realm_id_of(root.public_key());
  identity::Issuer issuer{issuer_key, leave};

  identity::CertificateChain certify(const Keys& keys, WallTime now = wall_now(),
                                     const std::string& name = "agent") const {
    identity::Certificate c;
    c.public_key = keys.key.public_key();
    c.curve_key = keys.curve.public_key;
    c.name = name;
    c.roles = {identity::kRoleAgent};
    return identity::issue_certificate(issuer, c, now).value();
  }
};

// One agent: its transport, and the events that came, until a test takes them.
class TestAgent {
 public:
  TestAgent(const Realm& realm, Keys keys) : keys_(std::move(keys)) {
    config.realm = realm.id;
    config.chain = realm.certify(keys_);
    config.curve = keys_.curve;
    config.bind = "tcp://127.0.0.1:*";
  }

  void open() {
    auto opened = Transport::open(config);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    transport = std::move(*opened);
  }

  AgentId id() const { return keys_.id(); }
  const Keys& keys() const { return keys_; }
  void dial(const TestAgent& other) {
    transport->dial(other.id(), other.transport->endpoint(), other.keys_.curve.public_key);
  }

  void poll() {
    std::vector<Event> came;
    transport->poll(came, steady_now() + time_shift);
    for (auto& e : came) events.push_back(std::move(e));
  }

  // The first event of this type, removed from the queue; nullopt when none has come.
  template <class E>
  std::optional<E> take() {
    for (auto it = events.begin(); it != events.end(); ++it) {
      if (auto* e = std::get_if<E>(&*it)) {
        std::optional<E> out(std::move(*e));
        events.erase(it);
        return out;
      }
    }
    return std::nullopt;
  }
  template <class E>
  std::size_t count() const {
    std::size_t n = 0;
    for (const auto& e : events) n += std::holds_alternative<E>(e) ? 1 : 0;
    return n;
  }

  TransportConfig config;
  std::unique_ptr<Transport> transport;
  std::deque<Event> events;
  Duration time_shift{};

 private:
  Keys keys_;
};

// Polls the agents as their descriptors and deadlines demand until `done`, or fails the test after `limit`.
inline bool run_until(std::initializer_list<TestAgent*> agents, const std::function<bool()>& done,
                      std::chrono::milliseconds limit = std::chrono::seconds(10)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::vector<pollfd> fds;
    Instant next = steady_now() + milliseconds(100);
    for (TestAgent* a : agents) {
      fds.push_back({a->transport->fd(), POLLIN, 0});
      const Instant theirs = a->transport->next_deadline();
      if (theirs != Instant::never()) next = std::min(next, theirs - a->time_shift);
    }
    const auto wait_us = std::max<std::int64_t>(0, (next - steady_now()).us);
    ::poll(fds.data(), fds.size(), static_cast<int>((wait_us + 999) / 1000));
    for (TestAgent* a : agents) a->poll();
  }
  return true;
}

// Runs for a while in which something must *not* happen.
inline void run_for(std::initializer_list<TestAgent*> agents, std::chrono::milliseconds span) {
  const auto until = std::chrono::steady_clock::now() + span;
  run_until(agents, [&] { return std::chrono::steady_clock::now() >= until; });
}

inline bool link_up(TestAgent& a, TestAgent& b) {
  return run_until({&a, &b}, [&] { return a.transport->is_up(b.id()) && b.transport->is_up(a.id()); });
}

// Two agents of one realm, open and not yet linked. `low` has the smaller id.
struct Pair {
  explicit Pair(std::function<void(TransportConfig&)> adjust = {}) {
    Keys one;
    Keys two;
    if (two.id() < one.id()) std::swap(one, two);
    low = std::make_unique<TestAgent>(realm, std::move(one));
    high = std::make_unique<TestAgent>(realm, std::move(two));
    for (TestAgent* a : {low.get(), high.get()}) {
      if (adjust) adjust(a->config);
      a->open();
    }
  }
  Realm realm;
  std::unique_ptr<TestAgent> low;
  std::unique_ptr<TestAgent> high;
};

}  // namespace shoal::link
