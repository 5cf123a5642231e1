// Goal: the primitives give the values that their standards state, and sealed bytes open only whole and with
// the right key. Method: published test vectors, and one change at a time.
#include "protocol/identity/crypto.h"

#include <gtest/gtest.h>

#include <set>

namespace shoal::identity {
namespace {

TEST(Crypto, Sha256OfKnownTexts) {
  EXPECT_EQ(to_hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(object_id_of("abc").hex(), "ba7816bf8f01cfea414140de5dae2223");
}

TEST(Crypto, PiecesHashLikeTheWhole) {
  const std::string data(100'000, 'z');
  Sha256 hasher;
  for (std::size_t at = 0; at < data.size(); at += 777) hasher.update(std::string_view(data).substr(at, 777));
  EXPECT_EQ(hasher.finish(), sha256(data));
  hasher.update("abc");  // empty again after finish()
  EXPECT_EQ(hasher.finish_object_id(), object_id_of("abc"));
}

TEST(Crypto, RandomBytesDiffer) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) seen.insert(random_bytes(16));
  EXPECT_EQ(seen.size(), 100U);
  EXPECT_EQ(random_bytes(0).size(), 0U);
}

TEST(Crypto, SealedOpensOnlyWholeAndWithItsKeyAndContext) {
  const Bytes key = random_bytes(kSealKeyBytes);
  const Bytes sealed = seal(key, "a password", "broker.example");
  EXPECT_EQ(open_sealed(key, sealed, "broker.example").value(), "a password");
  EXPECT_EQ(sealed.find("password"), std::string::npos);
  EXPECT_EQ(open_sealed(random_bytes(kSealKeyBytes), sealed, "broker.example").error().code, Code::kDenied);
  EXPECT_EQ(open_sealed(key, sealed, "other.example").error().code, Code::kDenied);
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    Bytes changed = sealed;
    changed[i] = static_cast<char>(changed[i] ^ 0x80);
    EXPECT_FALSE(open_sealed(key, changed, "broker.example").has_value()) << "byte " << i;
  }
  for (std::size_t n = 0; n < sealed.size(); ++n) {
    EXPECT_FALSE(open_sealed(key, std::string_view(sealed).substr(0, n), "broker.example").has_value())
        << n << " bytes";
  }
  EXPECT_NE(seal(key, "a password", "broker.example"), sealed) << "a nonce is never used twice";
  EXPECT_EQ(open_sealed(key, seal(key, "", ""), "").value(), "");
}

TEST(Crypto, Base64UrlRoundTripAndRefusals) {
  for (std::size_t n = 0; n < 20; ++n) {
    const Bytes data = random_bytes(n);
    const std::string text = base64url(data);
    EXPECT_EQ(text.find_first_of("+/="), std::string::npos);
    EXPECT_EQ(from_base64url(text), static_cast<const std::string&>(data));
  }
  EXPECT_EQ(base64url("\xfb\xff"), "-_8");
  EXPECT_FALSE(from_base64url("a").has_value());     // no such length
  EXPECT_FALSE(from_base64url("-_9").has_value());   // left-over bits
  EXPECT_FALSE(from_base64url("ab+c").has_value());  // the other alphabet
  EXPECT_FALSE(from_base64url("ab=").has_value());
}

TEST(Crypto, EqualInConstantTimeIsEquality) {
  EXPECT_TRUE(equal_in_constant_time("", ""));
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abcd"));
}

}  // namespace
}  // namespace shoal::identity
