// Goal: a newcomer with a good token gets a certificate it can link with; every other token is refused with a
// reason that says what to do. Method: the issuing agent polls in the test's thread, the newcomer's blocking
// call runs in another, as `shoal join` would.
#include "protocol/link/join.h"

#include <future>

#include "protocol/identity/crypto.h"
#include "protocol/identity/token.h"
#include "tests/unit/link/fixture.h"

namespace shoal::link {
namespace {

class Join : public ::testing::Test {
 protected:
  Join() : book_(realm_.id), issuer_(realm_, Keys{}) {
    issuer_.open();
    token_ = book_
                 .create({issuer_.id(), {issuer_.transport->endpoint()}, issuer_.keys().curve.public_key}, "edge",
                         wall_now())
                 .value();
  }

  Result<identity::JoinGrant> join(const identity::JoinToken& token, const identity::AgentKeys& keys) {
    auto answer = std::async(std::launch::async,
                             [&] { return join_realm(token, keys, {"newcomer", {{"zone", "a"}}}, seconds(5)); });
    run_until({&issuer_}, [&] {
      while (auto request = issuer_.take<event::JoinRequest>()) {
        auto grant = identity::grant_join(realm_.issuer, book_, request->ask, {token_.issuer}, wall_now());
        issuer_.transport->answer_join(request->handle, grant);
      }
      return answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    });
    return answer.get();
  }

  void expect_refused(const Result<identity::JoinGrant>& result, Code code, const std::string& part) {
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, code) << result.error().message;
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  }

  static identity::AgentKeys new_keys() { return {identity::KeyPair::generate(), identity::CurveKeys::generate()}; }

  Realm realm_;
  identity::TokenBook book_;
  TestAgent issuer_;
  identity::JoinToken token_;
};

TEST_F(Join, AGoodTokenGivesACertificateToLinkWith) {
  const auto keys = new_keys();
  auto grant = join(token_, keys);
  ASSERT_TRUE(grant.has_value()) << grant.error().message;
  EXPECT_EQ(grant->child_region, "edge");
  ASSERT_EQ(grant->contacts.size(), 1U);
  TestAgent newcomer(realm_, Keys{keys.key, keys.curve});
  newcomer.config.chain = grant->chain;
  newcomer.open();
  newcomer.dial(issuer_);
  ASSERT_TRUE(link_up(newcomer, issuer_));
  const auto up = issuer_.take<event::LinkUp>();
  EXPECT_EQ(up->certificate.name, "newcomer");
  EXPECT_EQ(up->certificate.labels.at("zone"), "a");
  EXPECT_EQ(issuer_.transport->counters().joins_asked, 1U);
}

TEST_F(Join, ATokenWorksForOneAgentOnly) {
  const auto first = new_keys();
  ASSERT_TRUE(join(token_, first).has_value());
  expect_refused(join(token_, new_keys()), Code::kDenied, "used");
  EXPECT_TRUE(join(token_, first).has_value()) << "the same agent may ask again: its answer may have been lost";
}

TEST_F(Join, WrongTokensAreRefused) {
  auto wrong = token_;
  wrong.secret = identity::random_bytes(16);
  expect_refused(join(wrong, new_keys()), Code::kDenied, "unknown");
  wrong = token_;
  wrong.id = identity::random_id<identity::TokenId>();
  expect_refused(join(wrong, new_keys()), Code::kDenied, "unknown");
  wrong = token_;
  wrong.realm = identity::random_id<RealmId>();
  expect_refused(join(wrong, new_keys()), Code::kDenied, "realm");
  EXPECT_TRUE(join(token_, new_keys()).has_value()) << "none of these spent the good one";
}

TEST_F(Join, AnExpiredTokenIsRefused) {
  const identity::Contact contact = token_.issuer;
  auto old = book_.create(contact, "", WallTime{wall_now().unix_ms - 60'000}, 30'000).value();
  expect_refused(join(old, new_keys()), Code::kDenied, "expired");
}

TEST_F(Join, AWrongLinkKeyInTheTokenEndsInTimeNotInTrust) {
  auto wrong = token_;
  wrong.issuer.curve_key = identity::CurveKeys::generate().public_key;
  const auto keys = new_keys();
  auto answer = std::async(std::launch::async, [&] { return join_realm(wrong, keys, {"n", {}}, milliseconds(400)); });
  run_until({&issuer_}, [&] { return answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
  expect_refused(answer.get(), Code::kTimeout, "new token");
}

TEST_F(Join, NobodyThereIsSaidAtOnce) {
  auto nowhere = token_;
  nowhere.issuer.endpoints = {"tcp://127.0.0.1:1"};
  expect_refused(join_realm(nowhere, new_keys(), {"n", {}}, seconds(5)), Code::kUnavailable, "nothing listens");
  nowhere.issuer.endpoints = {"tcp://127.0.0.1:1", token_.issuer.endpoints[0]};
  EXPECT_TRUE(join(nowhere, new_keys()).has_value()) << "the next address is tried";
}

TEST_F(Join, ANewcomerWhoWasNotAnsweredMayComeBack) {
  const auto keys = new_keys();
  auto unanswered =
      std::async(std::launch::async, [&] { return join_realm(token_, keys, {"n", {}}, milliseconds(300)); });
  run_until({&issuer_}, [&] { return unanswered.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
  EXPECT_EQ(unanswered.get().error().code, Code::kTimeout);
  const auto late = issuer_.take<event::JoinRequest>();
  ASSERT_TRUE(late.has_value());
  issuer_.transport->answer_join(late->handle, fail(Code::kDenied, "too late"));
  EXPECT_TRUE(join(token_, keys).has_value());
}

TEST_F(Join, ALinkedAgentGetsItsNextCertificateOverTheLink) {
  TestAgent agent(realm_, Keys{});
  agent.open();
  agent.dial(issuer_);
  ASSERT_TRUE(link_up(agent, issuer_));
  const auto ask = identity::make_renewal_ask(agent.keys().key, agent.config.chain, wall_now());
  ASSERT_TRUE(agent.transport->ask_renewal(issuer_.id(), ask).has_value());
  ASSERT_TRUE(run_until({&agent, &issuer_}, [&] { return issuer_.count<event::RenewalRequest>() == 1; }));
  const auto request = issuer_.take<event::RenewalRequest>();
  issuer_.transport->answer_renewal(request->neighbour,
                                    identity::grant_renewal(realm_.issuer, realm_.id, request->ask, wall_now()));
  ASSERT_TRUE(run_until({&agent, &issuer_}, [&] { return agent.count<event::RenewalAnswer>() == 1; }));
  const auto answer = agent.take<event::RenewalAnswer>();
  ASSERT_TRUE(answer->answer.has_value()) << answer->answer.error().message;
  ASSERT_TRUE(agent.transport->update_identity(*answer->answer).has_value());
  ASSERT_TRUE(run_until({&agent, &issuer_}, [&] { return issuer_.count<event::CertificateChanged>() == 1; }));
  EXPECT_EQ(issuer_.take<event::CertificateChanged>()->neighbour, agent.id());
  // Somebody else's certificate is not taken, neither here nor there.
  EXPECT_FALSE(agent.transport->update_identity(realm_.certify(Keys{})).has_value());
}

}  // namespace
}  // namespace shoal::link
