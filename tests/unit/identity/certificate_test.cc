// Goal: a chain is accepted exactly when every link of it holds, and each refusal names its reason. Method: a
// realm in memory, then one thing changed at a time; times are passed in.
#include "protocol/identity/certificate.h"

#include <gtest/gtest.h>

#include "protocol/identity/crypto.h"
#include "protocol/wire/codec.h"
#include "tests/unit/identity/fixture.h"

namespace shoal::identity {
namespace {

constexpr std::int64_t kHourMs = 3'600'000;

struct Realm {
  KeyPair root = KeyPair::generate();
  KeyPair issuer_key = KeyPair::generate();
  Signed leave = delegate_issuer(root, issuer_key.public_key(), {kRoleAgent}, kNow);
  KeyPair agent_key = KeyPair::generate();
  CurveKeys curve = CurveKeys::generate();
  RealmId id = realm_id_of(root.public_key());
  Issuer issuer{issuer_key, leave};

  Certificate request() const {
    Certificate c;
    c.public_key = agent_key.public_key();
    c.curve_key = curve.public_key;
    c.name = "fog-1";
    c.roles = {kRoleAgent};
    c.labels = {{"region", "fog"}};
    return c;
  }
  CertificateChain chain() const { return issue_certificate(issuer, request(), kNow).value(); }
};

void expect_refused(const Result<Certificate>& result, Code code, const std::string& part) {
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, code) << result.error().message;
  EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
}

TEST(Certificate, AcceptedChainSaysWhatWasIssued) {
  Realm realm;
  auto certificate = verify_certificate(realm.chain(), realm.id, later(kHourMs));
  ASSERT_TRUE(certificate.has_value()) << certificate.error().message;
  EXPECT_EQ(certificate->agent, realm.agent_key.agent_id());
  EXPECT_EQ(certificate->curve_key, realm.curve.public_key);
  EXPECT_EQ(certificate->name, "fog-1");
  EXPECT_EQ(certificate->labels.at("region"), "fog");
  EXPECT_EQ(certificate->not_after, later(24 * kHourMs));
}

TEST(Certificate, IsSmall) {
  Realm realm;
  EXPECT_LE(wire::encode(realm.chain().agent).size(), 512U);
  EXPECT_LE(wire::encode(realm.chain()).size(), 1024U);
}

TEST(Certificate, ExpiresAfterItsGraceAndNotBefore) {
  Realm realm;
  const auto chain = realm.chain();
  CertificateTerms strict;
  strict.grace_ms = 0;
  EXPECT_TRUE(verify_certificate(chain, realm.id, later(24 * kHourMs - 1), strict).has_value());
  expect_refused(verify_certificate(chain, realm.id, later(24 * kHourMs), strict), Code::kStale, "expired");
  EXPECT_TRUE(verify_certificate(chain, realm.id, later(48 * kHourMs - 1)).has_value());
  expect_refused(verify_certificate(chain, realm.id, later(48 * kHourMs)), Code::kStale, "join again");
}

TEST(Certificate, NotYetValidPointsAtTheClocks) {
  Realm realm;
  EXPECT_TRUE(verify_certificate(realm.chain(), realm.id, later(-60'000)).has_value());
  expect_refused(verify_certificate(realm.chain(), realm.id, later(-kHourMs)), Code::kStale, "clock");
}

TEST(Certificate, OtherRealmIsRefused) {
  Realm realm;
  Realm other;
  expect_refused(verify_certificate(realm.chain(), other.id, kNow), Code::kDenied, "belongs to realm");
}

TEST(Certificate, EveryChangedByteIsRefused) {
  Realm realm;
  const Bytes encoded = wire::encode(realm.chain());
  ASSERT_TRUE(verify_certificate_bytes(encoded, realm.id, kNow).has_value());
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    Bytes changed = encoded;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    auto verdict = verify_certificate_bytes(changed, realm.id, kNow);
    // A changed msgpack header may still spell the same chain (bin as str); its content must be the same
    // then.
    if (verdict) {
      EXPECT_EQ(*verdict, *read_certificate(realm.chain())) << "byte " << i;
    }
  }
}

TEST(Certificate, IssuerSignedBySomeoneElseIsRefused) {
  Realm realm;
  const KeyPair impostor = KeyPair::generate();
  auto chain = realm.chain();
  chain.issuer = delegate_issuer(impostor, realm.issuer_key.public_key(), {kRoleAgent}, kNow);
  expect_refused(verify_certificate(chain, realm.id, kNow), Code::kDenied, "realm");
  // The body names the right realm, but another key signed it.
  chain = realm.chain();
  chain.issuer.signature = impostor.sign(chain.issuer.body);
  expect_refused(verify_certificate(chain, realm.id, kNow), Code::kDenied, "root key");
}

TEST(Certificate, AgentSignedBySomeoneElseIsRefused) {
  Realm realm;
  const KeyPair impostor = KeyPair::generate();
  auto chain = realm.chain();
  chain.agent.signature = impostor.sign(chain.agent.body);
  expect_refused(verify_certificate(chain, realm.id, kNow), Code::kDenied, "issuer");
  // A signature of the right key, made for another purpose.
  chain.agent.signature = realm.issuer_key.sign(chain.agent.body);
  expect_refused(verify_certificate(chain, realm.id, kNow), Code::kDenied, "issuer");
}

TEST(Certificate, IssuerGivesOnlyRolesItMay) {
  Realm realm;
  Certificate request = realm.request();
  request.roles.insert(kRoleIssuer);
  auto refused = issue_certificate(realm.issuer, request, kNow);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kDenied);
  EXPECT_NE(refused.error().message.find("issuer"), std::string::npos);
}

TEST(Certificate, LeaveForAnotherKeyDoesNotIssue) {
  Realm realm;
  const KeyPair thief = KeyPair::generate();
  auto refused = issue_certificate(Issuer{thief, realm.leave}, realm.request(), kNow);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kDenied);
}

TEST(Certificate, NeverOutlivesTheLeaveToIssue) {
  Realm realm;
  const std::int64_t almost = 90LL * 24 * kHourMs - kHourMs;
  auto chain = issue_certificate(realm.issuer, realm.request(), later(almost));
  ASSERT_TRUE(chain.has_value());
  EXPECT_EQ(read_certificate(*chain)->not_after, later(90LL * 24 * kHourMs));
  auto refused = issue_certificate(realm.issuer, realm.request(), later(90LL * 24 * kHourMs));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kStale);
}

TEST(Certificate, BoundsAreRefusedBeforeSigning) {
  Realm realm;
  Certificate request = realm.request();
  request.name = std::string(65, 'x');
  EXPECT_EQ(issue_certificate(realm.issuer, request, kNow).error().code, Code::kInvalid);
  request = realm.request();
  for (int i = 0; i < 40; ++i) request.labels.emplace(std::to_string(i), "v");
  EXPECT_EQ(issue_certificate(realm.issuer, request, kNow).error().code, Code::kInvalid);
  request = realm.request();
  request.curve_key = Bytes("short");
  EXPECT_EQ(issue_certificate(realm.issuer, request, kNow).error().code, Code::kInvalid);
}

TEST(Certificate, RenewalKeepsWhoAndMovesWhen) {
  Realm realm;
  const auto chain = realm.chain();
  const auto before = *read_certificate(chain);
  EXPECT_FALSE(renewal_due(before, later(11 * kHourMs)));
  EXPECT_TRUE(renewal_due(before, later(12 * kHourMs)));
  const auto ask = make_renewal_ask(realm.agent_key, chain, later(12 * kHourMs));
  auto renewed = grant_renewal(realm.issuer, realm.id, ask, later(12 * kHourMs + 1000));
  ASSERT_TRUE(renewed.has_value()) << renewed.error().message;
  auto after = verify_certificate(*renewed, realm.id, later(36 * kHourMs)).value();
  EXPECT_EQ(after.agent, before.agent);
  EXPECT_EQ(after.labels, before.labels);
  EXPECT_EQ(after.not_after, later(36 * kHourMs + 1000));
}

TEST(Certificate, RenewalNeedsTheAgentsOwnFreshSignature) {
  Realm realm;
  const auto chain = realm.chain();
  const KeyPair thief = KeyPair::generate();
  EXPECT_EQ(grant_renewal(realm.issuer, realm.id, make_renewal_ask(thief, chain, kNow), kNow).error().code,
            Code::kDenied);
  const auto old = make_renewal_ask(realm.agent_key, chain, kNow);
  EXPECT_EQ(grant_renewal(realm.issuer, realm.id, old, later(kHourMs)).error().code, Code::kStale);
}

}  // namespace
}  // namespace shoal::identity
