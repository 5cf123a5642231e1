// Goal: a join token survives copy and paste, is spent once, and stays spent over a restart; every refusal
// says why. Method: one book, tokens spoiled in one way each, times passed in.
#include "protocol/identity/token.h"

#include <gtest/gtest.h>

#include "protocol/identity/crypto.h"
#include "protocol/wire/codec.h"
#include "tests/unit/identity/fixture.h"

namespace shoal::identity {
namespace {

class Token : public ::testing::Test {
 protected:
  JoinAsk ask_with(const JoinToken& token, const KeyPair& key) const {
    return make_join_ask(token, key, CurveKeys::generate(), "newcomer", {});
  }
  void expect_refused(const Result<std::string>& result, const std::string& part) {
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, Code::kDenied);
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
    EXPECT_NE(result.error().message.find("shoal token create"), std::string::npos) << result.error().message;
  }

  RealmId realm_ = random_id<RealmId>();
  Contact issuer_{random_id<AgentId>(), {"tcp://10.0.0.1:7700", "tcp://fog-1:7700"}, random_bytes(kKeyBytes)};
  TokenBook book_{realm_};
  KeyPair newcomer_ = KeyPair::generate();
};

TEST_F(Token, TextRoundTrip) {
  const auto token = book_.create(issuer_, "edge", kNow).value();
  EXPECT_EQ(token.expires, later(TokenBook::kLifeMs));
  const std::string text = token.text();
  EXPECT_EQ(JoinToken::parse(text).value(), token);
  EXPECT_EQ(JoinToken::parse("  " + text + "\n").value(), token);
  EXPECT_EQ(text.find_first_of(" \n+/="), std::string::npos) << "one word that every shell leaves alone";
}

TEST_F(Token, DamagedTextIsRefused) {
  const std::string text = book_.create(issuer_, "edge", kNow)->text();
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    EXPECT_EQ(JoinToken::parse(changed).error().code, Code::kInvalid) << "character " << i;
    EXPECT_FALSE(JoinToken::parse(text.substr(0, i)).has_value()) << i << " characters";
  }
  for (const char* junk : {"", "shoal1-", "hello", "shoal1-!!!!", "shoal1-AAAAAAAA"}) {
    EXPECT_EQ(JoinToken::parse(junk).error().code, Code::kInvalid) << junk;
  }
  EXPECT_FALSE(JoinToken::parse("shoal1-" + std::string(100'000, 'A')).has_value());
}

TEST_F(Token, IsSpentByOneAgent) {
  const auto token = book_.create(issuer_, "edge", kNow).value();
  EXPECT_EQ(book_.redeem(ask_with(token, newcomer_), later(1000)).value(), "edge");
  expect_refused(book_.redeem(ask_with(token, KeyPair::generate()), later(2000)), "used by agent");
  EXPECT_TRUE(book_.redeem(ask_with(token, newcomer_), later(3000)).has_value()) << "its first answer may be lost";
}

TEST_F(Token, StaysSpentOverARestart) {
  const auto token = book_.create(issuer_, "edge", kNow).value();
  const auto unused = book_.create(issuer_, "fog", kNow).value();
  ASSERT_TRUE(book_.redeem(ask_with(token, newcomer_), later(1000)).has_value());
  auto restarted = TokenBook::parse(realm_, book_.serialize());
  ASSERT_TRUE(restarted.has_value()) << restarted.error().message;
  expect_refused(restarted->redeem(ask_with(token, KeyPair::generate()), later(2000)), "used by agent");
  EXPECT_EQ(restarted->redeem(ask_with(unused, newcomer_), later(2000)).value(), "fog");
}

TEST_F(Token, TheBookDoesNotHoldTheSecret) {
  const auto token = book_.create(issuer_, "edge", kNow).value();
  EXPECT_EQ(book_.serialize().find(token.secret), std::string::npos);
}

TEST_F(Token, EveryReasonIsNamed) {
  const auto token = book_.create(issuer_, "edge", kNow).value();
  expect_refused(book_.redeem(ask_with(token, newcomer_), later(TokenBook::kLifeMs)), "expired");
  JoinToken wrong = token;
  wrong.secret = random_bytes(16);
  expect_refused(book_.redeem(ask_with(wrong, newcomer_), kNow), "unknown");
  wrong = token;
  wrong.id = random_id<TokenId>();
  expect_refused(book_.redeem(ask_with(wrong, newcomer_), kNow), "unknown");
  wrong = token;
  wrong.realm = random_id<RealmId>();
  expect_refused(book_.redeem(ask_with(wrong, newcomer_), kNow), "realm");
}

TEST_F(Token, TheBookIsBounded) {
  for (std::size_t i = 0; i < TokenBook::kTokensMax; ++i) ASSERT_TRUE(book_.create(issuer_, "", kNow).has_value());
  EXPECT_EQ(book_.create(issuer_, "", kNow).error().code, Code::kExhausted);
  EXPECT_TRUE(book_.create(issuer_, "", later(TokenBook::kLifeMs)).has_value()) << "expired ones make room";
  EXPECT_EQ(book_.size(), 1U);
}

TEST_F(Token, ATokenNobodyCouldUseIsNotMade) {
  Contact hidden = issuer_;
  hidden.endpoints.clear();
  EXPECT_EQ(book_.create(hidden, "", kNow).error().code, Code::kInvalid);
  EXPECT_EQ(book_.create(issuer_, std::string(5000, 'x'), kNow).error().code, Code::kInvalid);
  EXPECT_EQ(book_.create(issuer_, "", kNow, 0).error().code, Code::kInvalid);
}

TEST_F(Token, DamagedBooksAreRefused) {
  ASSERT_TRUE(book_.create(issuer_, "edge", kNow).has_value());
  const Bytes bytes = book_.serialize();
  EXPECT_EQ(TokenBook::parse(random_id<RealmId>(), bytes).error().code, Code::kCorrupt);
  EXPECT_EQ(TokenBook::parse(realm_, "").error().code, Code::kCorrupt);
  EXPECT_EQ(TokenBook::parse(realm_, bytes.substr(0, bytes.size() - 1)).error().code, Code::kCorrupt);
}

TEST(JoinGrant, AnAskMustBeSignedAndARefusalCostsNoToken) {
  const KeyPair root = KeyPair::generate();
  const KeyPair issuer_key = KeyPair::generate();
  const Signed leave = delegate_issuer(root, issuer_key.public_key(), {kRoleAgent}, kNow);
  const RealmId realm = realm_id_of(root.public_key());
  TokenBook book(realm);
  const Contact contact{issuer_key.agent_id(), {"tcp://10.0.0.1:7700"}, random_bytes(kKeyBytes)};
  const auto token = book.create(contact, "", kNow).value();
  const KeyPair key = KeyPair::generate();
  const CurveKeys curve = CurveKeys::generate();
  const Issuer issuer{issuer_key, leave};

  auto forged = make_join_ask(token, key, curve, "n", {});
  forged.curve_key = random_bytes(kKeyBytes);
  EXPECT_EQ(grant_join(issuer, book, forged, {contact}, kNow).error().code, Code::kDenied);
  auto nameless = make_join_ask(token, key, curve, std::string(100, 'n'), {});
  EXPECT_EQ(grant_join(issuer, book, nameless, {contact}, kNow).error().code, Code::kInvalid);
  // Nothing above has spent it: a different agent may still use it.
  const KeyPair other = KeyPair::generate();
  auto grant = grant_join(issuer, book, make_join_ask(token, other, curve, "n", {}), {contact}, kNow);
  ASSERT_TRUE(grant.has_value()) << grant.error().message;
  EXPECT_EQ(verify_certificate(grant->chain, realm, kNow)->agent, other.agent_id());
}

}  // namespace
}  // namespace shoal::identity
