// Goal: a transport with a configuration that cannot work is refused with the reason. Method: one wrong thing
// at a time.
#include "tests/unit/link/fixture.h"

namespace shoal::link {
namespace {

Error refusal_of(TransportConfig config) {
  auto opened = Transport::open(std::move(config));
  return opened ? Error{} : opened.error();
}

TEST(TransportConfig, APortInUseIsNamed) {
  Realm realm;
  TestAgent first(realm, Keys{});
  first.open();
  TestAgent second(realm, Keys{});
  second.config.bind = first.transport->endpoint();
  const Error error = refusal_of(second.config);
  EXPECT_EQ(error.code, Code::kExists);
  EXPECT_NE(error.message.find(second.config.bind), std::string::npos) << error.message;
}

TEST(TransportConfig, MalformedAndForeignAddressesAreRefused) {
  Realm realm;
  TestAgent agent(realm, Keys{});
  for (const char* bind : {"nonsense", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "tcp://192.0.2.1:0"}) {
    agent.config.bind = bind;
    EXPECT_EQ(refusal_of(agent.config).code, Code::kInvalid) << bind;
  }
}

TEST(TransportConfig, ACertificateThatDoesNotFitIsRefused) {
  Realm realm;
  Realm other;
  TestAgent agent(realm, Keys{});
  auto config = agent.config;
  config.realm = other.id;
  EXPECT_EQ(refusal_of(config).code, Code::kDenied);
  config = agent.config;
  config.chain = realm.certify(Keys{});
  EXPECT_EQ(refusal_of(config).code, Code::kDenied);
  config = agent.config;
  config.wall_clock = [] { return WallTime{wall_now().unix_ms + 100LL * 3'600'000}; };
  EXPECT_EQ(refusal_of(config).code, Code::kDenied);
}

TEST(TransportConfig, WithoutAnAddressItDialsOutOnly) {
  Realm realm;
  TestAgent inside(realm, Keys{});
  inside.config.bind.clear();
  TestAgent outside(realm, Keys{});
  inside.open();
  outside.open();
  EXPECT_EQ(inside.transport->endpoint(), "");
  inside.dial(outside);
  ASSERT_TRUE(link_up(inside, outside));
  EXPECT_EQ(outside.take<event::LinkUp>()->endpoint, "");
  ASSERT_TRUE(outside.transport->send(inside.id(), "down").has_value());
  EXPECT_TRUE(run_until({&inside, &outside}, [&] { return inside.count<event::Frame>() == 1; }));
}

TEST(TransportConfig, AWildcardIsNotAnnounced) {
  Realm realm;
  TestAgent host(realm, Keys{});
  host.config.bind = "tcp://0.0.0.0:0";
  TestAgent guest(realm, Keys{});
  host.open();
  guest.open();
  const std::string port = host.transport->endpoint().substr(host.transport->endpoint().rfind(':'));
  guest.transport->dial(host.id(), "tcp://127.0.0.1" + port, host.keys().curve.public_key);
  ASSERT_TRUE(link_up(guest, host));
  EXPECT_EQ(guest.take<event::LinkUp>()->endpoint, "");
}

TEST(Counters, EachNamesAllOfThem) {
  std::size_t count = 0;
  Counters{}.each([&](const char*, std::uint64_t) { ++count; });
  EXPECT_EQ(count * sizeof(std::uint64_t), sizeof(Counters));
}

}  // namespace
}  // namespace shoal::link
