// Goal: keys and identities survive on disk, readable by their owner only, and every damaged or missing file
// is an error that says what to do. Method: a temporary state directory, spoiled in one way at a time.
#include "protocol/identity/realm.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "tests/unit/identity/fixture.h"

namespace shoal::identity {
namespace {

constexpr std::int64_t kDayMs = 24LL * 3'600'000;

unsigned mode_of(const std::string& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 0777;
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path) << content;
  ::chmod(path.c_str(), 0600);
}

TEST(Keys, AgreeWithTheStandards) {
  // RFC 8032 §7.1, test 1; RFC 7748 §6.1, Alice.
  const auto key =
      KeyPair::from_secret(*from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")).value();
  EXPECT_EQ(to_hex(key.public_key()), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  EXPECT_EQ(to_hex(key.sign("")).substr(0, 32), "e5564300c360ac729086e2cc806e828a");
  const auto curve =
      CurveKeys::from_secret(*from_hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")).value();
  EXPECT_EQ(to_hex(curve.public_key), "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  EXPECT_FALSE(KeyPair::from_secret("short").has_value());
}

TEST(Keys, ASignatureIsForOneMessageAndOneKey) {
  const auto key = KeyPair::generate();
  const Bytes signature = key.sign("message");
  EXPECT_TRUE(verify_signature(key.public_key(), "message", signature));
  EXPECT_FALSE(verify_signature(key.public_key(), "massage", signature));
  EXPECT_FALSE(verify_signature(KeyPair::generate().public_key(), "message", signature));
  EXPECT_FALSE(verify_signature("", "message", signature));
  EXPECT_FALSE(verify_signature(key.public_key(), "message", ""));
}

TEST(Keys, SurviveOnDiskPrivately) {
  TempDir dir;
  const auto key = KeyPair::generate();
  const auto curve = CurveKeys::generate();
  ASSERT_TRUE(key.save(dir / "agent.key").has_value());
  ASSERT_TRUE(curve.save(dir / "curve.key").has_value());
  EXPECT_EQ(mode_of(dir / "agent.key"), 0600U);
  EXPECT_EQ(mode_of(dir / "curve.key"), 0600U);
  EXPECT_EQ(KeyPair::load(dir / "agent.key").value().public_key(), key.public_key());
  EXPECT_EQ(CurveKeys::load(dir / "curve.key").value().secret_key, curve.secret_key);
}

TEST(Keys, DamagedMissingOrOpenFilesAreRefused) {
  TempDir dir;
  EXPECT_EQ(KeyPair::load(dir / "none").error().code, Code::kNotFound);
  write_file(dir / "junk", "not a key");
  EXPECT_EQ(KeyPair::load(dir / "junk").error().code, Code::kCorrupt);
  EXPECT_EQ(CurveKeys::load(dir / "junk").error().code, Code::kCorrupt);
  write_file(dir / "large", std::string(100'000, 'a'));
  EXPECT_EQ(CurveKeys::load(dir / "large").error().code, Code::kCorrupt);
  ASSERT_TRUE(KeyPair::generate().save(dir / "open").has_value());
  ::chmod((dir / "open").c_str(), 0644);
  auto open = KeyPair::load(dir / "open");
  EXPECT_EQ(open.error().code, Code::kDenied);
  EXPECT_NE(open.error().message.find("chmod 600"), std::string::npos);
  EXPECT_EQ(KeyPair::load(dir.path()).error().code, Code::kCorrupt);
}

TEST(Realm, FoundingMakesAValidIssuingAgent) {
  TempDir dir;
  auto founded = init_realm(dir / "home", {"first", {{"region", "cloud"}}}, kNow);
  ASSERT_TRUE(founded.has_value()) << founded.error().message;
  auto certificate = verify_certificate(founded->chain, founded->realm, kNow);
  ASSERT_TRUE(certificate.has_value()) << certificate.error().message;
  EXPECT_EQ(certificate->agent, founded->id());
  EXPECT_EQ(certificate->name, "first");
  EXPECT_TRUE(certificate->roles.contains(kRoleIssuer));
  EXPECT_TRUE(founded->issuer().has_value());
  for (const char* secret : {"home/identity/agent.key", "home/identity/curve.key", "home/realm/root.key"}) {
    EXPECT_EQ(mode_of(dir / secret), 0600U) << secret;
  }
  auto loaded = load_identity(dir / "home");
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_EQ(loaded->id(), founded->id());
  EXPECT_EQ(loaded->realm, founded->realm);
  EXPECT_EQ(loaded->chain, founded->chain);
  EXPECT_EQ(loaded->leave, founded->leave);
  EXPECT_EQ(realm_id_of(load_root_key(dir / "home")->public_key()), founded->realm);
}

TEST(Realm, FoundingTwiceIsRefusedAndChangesNothing) {
  TempDir dir;
  const auto first = init_realm(dir / "home", {"first", {}}, kNow).value();
  EXPECT_EQ(init_realm(dir / "home", {"second", {}}, kNow).error().code, Code::kExists);
  EXPECT_EQ(load_identity(dir / "home")->chain, first.chain);
}

TEST(Realm, FoundingGoesOnWhereACrashLeftIt) {
  TempDir dir;
  const auto keys = load_or_create_keys(dir / "home").value();  // as if it had stopped before the certificate
  const auto founded = init_realm(dir / "home", {"first", {}}, kNow);
  ASSERT_TRUE(founded.has_value());
  EXPECT_EQ(founded->id(), keys.id());
  std::filesystem::remove(dir / "home/identity/curve.key");
  EXPECT_EQ(load_or_create_keys(dir / "home")->id(), keys.id()) << "the agent keeps its id";
}

TEST(Realm, NoIdentityPointsAtInitAndJoin) {
  TempDir dir;
  auto missing = load_identity(dir / "home");
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_NE(missing.error().message.find("shoal init"), std::string::npos);
}

TEST(Realm, DamagedIdentityIsRefused) {
  TempDir dir;
  ASSERT_TRUE(init_realm(dir / "home", {"first", {}}, kNow).has_value());
  ASSERT_TRUE(init_realm(dir / "other", {"other", {}}, kNow).has_value());
  write_file(dir / "home/identity/certificate", "junk");
  EXPECT_EQ(load_identity(dir / "home").error().code, Code::kCorrupt);
  std::filesystem::copy_file(dir / "other/identity/certificate", dir / "home/identity/certificate",
                             std::filesystem::copy_options::overwrite_existing);
  auto mixed = load_identity(dir / "home");
  EXPECT_EQ(mixed.error().code, Code::kCorrupt);
  EXPECT_NE(mixed.error().message.find("do not belong together"), std::string::npos);
}

TEST(Realm, AnUnwritableHomeIsRefusedWithTheCause) {
  TempDir dir;
  write_file(dir / "file", "");
  auto refused = init_realm(dir / "file", {"first", {}}, kNow);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("file"), std::string::npos) << refused.error().message;
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  std::filesystem::create_directory(dir / "locked");
  ::chmod((dir / "locked").c_str(), 0500);
  EXPECT_EQ(init_realm(dir / "locked/home", {"first", {}}, kNow).error().code, Code::kDenied);
}

TEST(Realm, AnIssuerRenewsItselfUntilItsLeaveEnds) {
  TempDir dir;
  auto identity = init_realm(dir / "home", {"first", {}}, kNow).value();
  for (int day = 1; day < 90; ++day) {
    const WallTime now{kNow.unix_ms + day * kDayMs};
    auto chain = renew_own_certificate(identity, now);
    ASSERT_TRUE(chain.has_value()) << "day " << day << ": " << chain.error().message;
    identity.chain = *chain;
    ASSERT_TRUE(verify_certificate(identity.chain, identity.realm, now).has_value());
  }
  const WallTime after{kNow.unix_ms + 90 * kDayMs};
  EXPECT_EQ(renew_own_certificate(identity, after).error().code, Code::kStale);
  // The root key gives it another ninety days.
  const auto root = load_root_key(dir / "home").value();
  identity.leave = delegate_issuer(root, identity.keys.key.public_key(), {kRoleAgent, kRoleIssuer}, after);
  EXPECT_TRUE(renew_own_certificate(identity, after).has_value());
  identity.leave.reset();
  EXPECT_EQ(renew_own_certificate(identity, after).error().code, Code::kDenied);
}

TEST(Realm, TheRootKeyMayBeMovedAway) {
  TempDir dir;
  ASSERT_TRUE(init_realm(dir / "home", {"first", {}}, kNow).has_value());
  std::filesystem::rename(dir / "home/realm/root.key", dir / "safe");
  EXPECT_TRUE(load_identity(dir / "home").has_value());
  EXPECT_EQ(load_root_key(dir / "home").error().code, Code::kNotFound);
}

}  // namespace
}  // namespace shoal::identity
