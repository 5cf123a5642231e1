// Goal: nobody without a valid certificate of the realm, for the very key of the connection, gets a frame
// through or a link up; and nothing that such a peer does harms the links of others. Method: one thing wrong
// at a time, raw sockets, and ZeroMQ sockets of our own that do not keep to the protocol.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "protocol/identity/crypto.h"
#include "protocol/wire/codec.h"
#include "tests/unit/link/fixture.h"

namespace shoal::link {
namespace {

constexpr std::int64_t kHourMs = 3'600'000;

// The dialler is told why, the dialled side reports nothing, and both count it.
void expect_refused(TestAgent& dialler, TestAgent& dialled, const std::string& part) {
  dialler.dial(dialled);
  ASSERT_TRUE(run_until({&dialler, &dialled}, [&] { return dialler.count<event::LinkDown>() == 1; }));
  const auto down = dialler.take<event::LinkDown>();
  EXPECT_NE(down->reason.find(part), std::string::npos) << down->reason;
  EXPECT_FALSE(down->refused);
  EXPECT_EQ(dialler.count<event::LinkUp>(), 0U);
  EXPECT_EQ(dialled.count<event::LinkUp>() + dialled.count<event::LinkDown>() + dialled.count<event::Frame>(), 0U);
  EXPECT_FALSE(dialled.transport->is_up(dialler.id()));
}

TEST(Admission, AnotherRealmIsRefused) {
  Realm ours;
  Realm theirs;
  TestAgent host(ours, Keys{});
  TestAgent guest(theirs, Keys{});
  host.open();
  guest.open();
  expect_refused(guest, host, "belongs to realm");
  EXPECT_EQ(host.transport->counters().greetings_denied, 1U);
}

TEST(Admission, AnExpiredCertificateIsRefused) {
  Realm realm;
  TestAgent host(realm, Keys{});
  TestAgent guest(realm, Keys{});
  host.open();
  guest.open();
  // Two days later by the host's clock; the guest's stands still.
  host.transport.reset();
  host.config.wall_clock = [] { return WallTime{wall_now().unix_ms + 49 * kHourMs}; };
  host.config.chain = realm.certify(host.keys(), WallTime{wall_now().unix_ms + 48 * kHourMs});
  host.open();
  expect_refused(guest, host, "expired");
}

TEST(Admission, AnExpiredCertificateIsCutAfterItsGrace) {
  Realm realm;
  std::int64_t ahead_ms = 0;
  TestAgent host(realm, Keys{});
  TestAgent guest(realm, Keys{});
  host.config.wall_clock = [&] { return WallTime{wall_now().unix_ms + ahead_ms}; };
  host.open();
  guest.open();
  guest.dial(host);
  ASSERT_TRUE(link_up(host, guest));
  ahead_ms = 30 * kHourMs;  // expired, in its grace
  host.time_shift = seconds(120);
  run_for({&host, &guest}, std::chrono::milliseconds(50));
  EXPECT_TRUE(host.transport->is_up(guest.id()));
  ahead_ms = 49 * kHourMs;
  host.time_shift = seconds(240);
  ASSERT_TRUE(run_until({&host, &guest},
                        [&] { return host.count<event::LinkDown>() == 1 && guest.count<event::LinkDown>() == 1; }));
  EXPECT_NE(host.take<event::LinkDown>()->reason.find("expired"), std::string::npos);
}

TEST(Admission, ACertificateForAnotherLinkKeyIsRefused) {
  // The thief has somebody's certificate, as everyone who ever linked to them has, but not their secret key.
  Realm realm;
  TestAgent host(realm, Keys{});
  Keys victim;
  Keys thief_keys;
  TestAgent thief(realm, thief_keys);
  host.open();
  thief.config.chain = realm.certify(victim);
  auto opened = Transport::open(thief.config);
  ASSERT_FALSE(opened.has_value());  // our own transport will not even start with it
  EXPECT_EQ(opened.error().code, Code::kDenied);
}

TEST(Admission, TheDialledSideMustHaveTheExpectedKeyAndId) {
  Realm realm;
  TestAgent host(realm, Keys{});
  TestAgent guest(realm, Keys{});
  Keys expected;
  host.open();
  guest.open();
  guest.transport->dial(host.id(), host.transport->endpoint(), expected.curve.public_key);
  ASSERT_TRUE(run_until({&host, &guest}, [&] { return guest.count<event::LinkDown>() == 1; }));
  EXPECT_NE(guest.take<event::LinkDown>()->reason.find("another key"), std::string::npos);
  guest.transport->dial(expected.id(), host.transport->endpoint(), host.keys().curve.public_key);
  ASSERT_TRUE(run_until({&host, &guest}, [&] { return guest.count<event::LinkDown>() == 1; }));
  EXPECT_NE(guest.take<event::LinkDown>()->reason.find("answers agent"), std::string::npos);
  EXPECT_FALSE(guest.transport->is_up(host.id()));
}

TEST(Admission, WithoutTheAuthenticationHandlerNothingGetsIn) {
  Realm realm;
  TestAgent host(realm, Keys{});
  TestAgent guest(realm, Keys{});
  host.config.without_zap_handler = true;
  guest.config.limits.connect_ms = 300;
  guest.config.limits.greeting_ms = 300;
  guest.config.limits.handshake_ms = 300;
  host.open();
  guest.open();
  guest.dial(host);
  ASSERT_TRUE(run_until({&host, &guest}, [&] { return guest.count<event::LinkDown>() == 1; }));
  EXPECT_TRUE(host.events.empty());
  EXPECT_GE(host.transport->counters().frames_dropped, 1U);
  EXPECT_EQ(host.transport->counters().greetings_accepted, 0U);
}

TEST(Admission, NewKeysAreRateLimitedKnownOnesAreNot) {
  Realm realm;
  TestAgent host(realm, Keys{});
  host.config.limits.greetings_per_s = 2;
  host.open();
  TestAgent known(realm, Keys{});
  known.open();
  known.dial(host);
  ASSERT_TRUE(link_up(known, host));
  std::vector<std::unique_ptr<TestAgent>> crowd;
  for (int i = 0; i < 5; ++i) {
    crowd.push_back(std::make_unique<TestAgent>(realm, Keys{}));
    crowd.back()->open();
    crowd.back()->dial(host);
  }
  ASSERT_TRUE(
      run_until({&host, &known, crowd[0].get(), crowd[1].get(), crowd[2].get(), crowd[3].get(), crowd[4].get()}, [&] {
        std::size_t answered = 0;
        for (auto& c : crowd) answered += c->count<event::LinkDown>() + c->count<event::LinkUp>();
        return answered == crowd.size();
      }));
  EXPECT_GE(host.transport->counters().handshakes_denied, 1U);
  known.transport->hang_up(host.id());
  known.dial(host);
  EXPECT_TRUE(run_until({&host, &known}, [&] { return known.count<event::LinkUp>() == 2; }));
}

class RawSocket {
 public:
  explicit RawSocket(const std::string& endpoint) {
    const auto colon = endpoint.rfind(':');
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(endpoint.substr(colon + 1))));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~RawSocket() { ::close(fd_); }
  void send(std::string_view bytes) { EXPECT_GE(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL), -1); }
  bool closed_by_peer() {
    char byte = 0;
    return ::recv(fd_, &byte, 1, MSG_DONTWAIT) == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
  }

 private:
  int fd_ = -1;
};

TEST(Admission, JunkOnThePortHarmsNobody) {
  Pair p([](TransportConfig& c) {
    c.limits.handshake_ms = 300;
    c.limits.greeting_ms = 200;
  });
  p.low->dial(*p.high);
  ASSERT_TRUE(link_up(*p.low, *p.high));
  const std::string endpoint = p.high->transport->endpoint();
  std::vector<std::unique_ptr<RawSocket>> vandals;
  for (int i = 0; i < 20; ++i) {
    vandals.push_back(std::make_unique<RawSocket>(endpoint));
    if (i % 4 == 0) vandals.back()->send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    if (i % 4 == 1) vandals.back()->send(identity::random_bytes(4096));
    if (i % 4 == 2) vandals.back()->send(std::string("\xff\0\0\0\0\0\0\0\x01\x7f\x03", 11) + std::string(53, '\0'));
    // i % 4 == 3 says nothing at all
  }
  ASSERT_TRUE(p.low->transport->send(p.high->id(), "still here").has_value());
  ASSERT_TRUE(run_until({p.low.get(), p.high.get()}, [&] { return p.high->count<event::Frame>() == 1; }));
  // The silent ones are cut when their time is up.
  EXPECT_TRUE(run_until({p.low.get(), p.high.get()}, [&] { return vandals[3]->closed_by_peer(); }));
  EXPECT_EQ(p.high->count<event::LinkDown>(), 0U);
  EXPECT_TRUE(
      run_until({p.low.get(), p.high.get()}, [&] { return p.high->transport->counters().handshakes_failed >= 10; }));
}

// A ZeroMQ client with a CURVE key but no certificate, which says what a test wants.
class Stranger {
 public:
  Stranger(const TestAgent& host, const identity::CurveKeys& keys) : context_(zmq_ctx_new()) {
    socket_ = zmq_socket(context_, ZMQ_DEALER);
    const int zero = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &zero, sizeof zero);
    const auto& server = host.keys().curve.public_key;
    zmq_setsockopt(socket_, ZMQ_CURVE_SERVERKEY, server.data(), server.size());
    zmq_setsockopt(socket_, ZMQ_CURVE_PUBLICKEY, keys.public_key.data(), keys.public_key.size());
    zmq_setsockopt(socket_, ZMQ_CURVE_SECRETKEY, keys.secret_key.data(), keys.secret_key.size());
    EXPECT_EQ(zmq_connect(socket_, host.transport->endpoint().c_str()), 0);
  }
  ~Stranger() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  void say(std::string_view bytes, bool more = false) {
    EXPECT_GE(zmq_send(socket_, bytes.data(), bytes.size(), more ? ZMQ_SNDMORE : 0), 0);
  }
  std::string heard() {
    char buffer[65536];
    const int n = zmq_recv(socket_, buffer, sizeof buffer, ZMQ_DONTWAIT);
    return n <= 0 ? std::string()
                  : std::string(buffer, std::min<std::size_t>(sizeof buffer, static_cast<std::size_t>(n)));
  }

 private:
  void* context_;
  void* socket_;
};

TEST(Admission, FramesBeforeAGreetingAreDropped) {
  Realm realm;
  TestAgent host(realm, Keys{});
  host.open();
  Stranger stranger(host, identity::CurveKeys::generate());
  const std::string data_frame = "\x01hello";
  for (int i = 0; i < 10; ++i) stranger.say(data_frame);
  stranger.say("");
  stranger.say("\x02");
  stranger.say("a", true);
  stranger.say("b", true);
  stranger.say("c");
  ASSERT_TRUE(run_until({&host}, [&] { return host.transport->counters().frames_dropped >= 13; }));
  EXPECT_TRUE(host.events.empty());
}

TEST(Admission, AStolenCertificateOverAnotherKeyIsRefused) {
  Realm realm;
  TestAgent host(realm, Keys{});
  TestAgent victim(realm, Keys{});
  host.open();
  Stranger thief(host, identity::CurveKeys::generate());
  // A well-formed greeting (kind 3) with the victim's chain: [version, oldest, chain, endpoint, process,
  // sequence, window].
  wire::Encoder e;
  e.array(7);
  e.u64(1);
  e.u64(1);
  wire::put(e, victim.config.chain);
  e.text("");
  e.u64(1);
  e.u64(1);
  e.u64(1 << 20);
  thief.say("\x03" + std::string(e.view()));
  std::string answer;
  ASSERT_TRUE(run_until({&host}, [&] { return !(answer = thief.heard()).empty(); }));
  EXPECT_EQ(answer[0], '\x05');
  EXPECT_NE(answer.find("another key"), std::string::npos);
  EXPECT_TRUE(host.events.empty());
  EXPECT_EQ(host.transport->counters().greetings_denied, 1U);
  // Frames after the refusal do not get through either.
  thief.say("\x01hello");
  ASSERT_TRUE(run_until({&host}, [&] { return host.transport->counters().frames_dropped >= 1; }));
  EXPECT_TRUE(host.events.empty());
}

TEST(Admission, UnreadableAndOverlongGreetingsAreRefused) {
  Realm realm;
  TestAgent host(realm, Keys{});
  host.open();
  std::uint64_t denied = 0;
  for (const std::string& greeting :
       {std::string("\x03"), "\x03" + std::string(70'000, 'x'), "\x03" + identity::random_bytes(500),
        std::string("\x09garbage"), "\x09" + identity::random_bytes(500)}) {
    Stranger stranger(host, identity::CurveKeys::generate());
    stranger.say(greeting);
    ++denied;
    ASSERT_TRUE(run_until({&host}, [&] { return host.transport->counters().greetings_denied == denied; }));
  }
  EXPECT_TRUE(host.events.empty());
}

TEST(Admission, ACrowdBeyondTheLimitIsRefusedAndTheFirstKeepTheirLinks) {
  Realm realm;
  TestAgent host(realm, Keys{});
  host.config.limits.links_max = 2;
  host.open();
  TestAgent a(realm, Keys{});
  TestAgent b(realm, Keys{});
  TestAgent c(realm, Keys{});
  for (TestAgent* guest : {&a, &b, &c}) {
    guest->open();
    guest->dial(host);
    ASSERT_TRUE(run_until({&host, &a, guest}, [&] { return !guest->events.empty(); }));
  }
  EXPECT_EQ(host.count<event::LinkUp>(), 2U);
  const auto down = c.take<event::LinkDown>();
  ASSERT_TRUE(down.has_value());
  EXPECT_NE(down->reason.find("as many links"), std::string::npos);
}

}  // namespace
}  // namespace shoal::link
