#include "protocol/identity/keys.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <memory>

#include "protocol/base/check.h"
#include "protocol/identity/crypto.h"
#include "protocol/identity/openssl.h"
#include "protocol/identity/secret_file.h"

namespace shoal::identity {
namespace {

struct FreeKey {
  void operator()(EVP_PKEY* k) const { EVP_PKEY_free(k); }
};
struct FreeBio {
  void operator()(BIO* b) const { BIO_free_all(b); }
};
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, FreeDigest>;
using Bio = std::unique_ptr<BIO, FreeBio>;

Key key_from_secret(int type, std::string_view secret) {
  Key key(EVP_PKEY_new_raw_private_key(type, nullptr, bytes_of(secret), secret.size()));
  SHOAL_CHECK(key != nullptr, "any 32 bytes are a secret key");
  return key;
}

Bytes public_part(const Key& key) {
  Bytes out(kKeyBytes, '\0');
  std::size_t size = out.size();
  SHOAL_CHECK(EVP_PKEY_get_raw_public_key(key.get(), bytes_of(out), &size) == 1 && size == kKeyBytes,
              "every secret key has a public one");
  return out;
}

// No password is ever asked for: a protected key file is an error, not a prompt on somebody's terminal.
int no_password(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*user*/) {
  return -1;
}

template <class Id>
Id id_of(std::string_view public_key) {
  return *Id::from_bytes(std::string_view(sha256(public_key)).substr(0, Id::kSize));
}

}  // namespace

AgentId agent_id_of(std::string_view public_key) {
  return id_of<AgentId>(public_key);
}
RealmId realm_id_of(std::string_view root_public_key) {
  return id_of<RealmId>(root_public_key);
}

bool verify_signature(std::string_view public_key, std::string_view message, std::string_view signature) {
  if (public_key.size() != kKeyBytes || signature.size() != kSignatureBytes) return false;
  Key key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes_of(public_key), public_key.size()));
  DigestContext context(EVP_MD_CTX_new());
  return key != nullptr && EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(message), message.size()) == 1;
}

KeyPair KeyPair::generate() {
  return *from_secret(random_bytes(kKeyBytes));
}

Result<KeyPair> KeyPair::from_secret(std::string_view secret) {
  if (secret.size() != kKeyBytes) return fail(Code::kInvalid, "a secret key has 32 bytes");
  KeyPair pair;
  pair.secret_ = Bytes(secret);
  pair.public_ = public_part(key_from_secret(EVP_PKEY_ED25519, secret));
  return pair;
}

KeyPair::~KeyPair() {
  wipe(secret_);
}

Bytes KeyPair::sign(std::string_view message) const {
  Key key = key_from_secret(EVP_PKEY_ED25519, secret_);
  DigestContext context(EVP_MD_CTX_new());
  Bytes signature(kSignatureBytes, '\0');
  std::size_t size = signature.size();
  const bool ok = EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
                  EVP_DigestSign(context.get(), bytes_of(signature), &size, bytes_of(message), message.size()) == 1;
  SHOAL_CHECK(ok && size == kSignatureBytes, "Ed25519 must be available");
  return signature;
}

Result<KeyPair> KeyPair::load(const std::string& path) {
  auto content = read_secret_file(path);
  if (!content) return tl::unexpected(content.error());
  Bio bio(BIO_new_mem_buf(content->data(), static_cast<int>(content->size())));
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, nullptr));
  wipe(*content);
  Bytes secret(kKeyBytes, '\0');
  std::size_t size = secret.size();
  if (key == nullptr || EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519 ||
      EVP_PKEY_get_raw_private_key(key.get(), bytes_of(secret), &size) != 1) {
    return fail(Code::kCorrupt, path + " does not hold an unencrypted Ed25519 key in PEM form; restore it from a copy");
  }
  auto pair = from_secret(secret);
  wipe(secret);
  return pair;
}

Result<> KeyPair::save(const std::string& path) const {
  Key key = key_from_secret(EVP_PKEY_ED25519, secret_);
  Bio bio(BIO_new(BIO_s_mem()));
  SHOAL_CHECK(PEM_write_bio_PKCS8PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1,
              "a key in memory can be written as PEM");
  char* data = nullptr;
  const auto size = BIO_get_mem_data(bio.get(), &data);
  std::string pem(data, static_cast<std::size_t>(size));
  auto written = write_secret_file(path, pem);
  wipe(pem);
  return written;
}

CurveKeys CurveKeys::generate() {
  return *from_secret(random_bytes(kKeyBytes));
}

Result<CurveKeys> CurveKeys::from_secret(std::string_view secret) {
  if (secret.size() != kKeyBytes) return fail(Code::kInvalid, "a secret key has 32 bytes");
  CurveKeys keys;
  keys.secret_key = Bytes(secret);
  keys.public_key = public_part(key_from_secret(EVP_PKEY_X25519, secret));
  return keys;
}

CurveKeys::~CurveKeys() {
  wipe(secret_key);
}

Result<CurveKeys> CurveKeys::load(const std::string& path) {
  auto content = read_secret_file(path);
  if (!content) return tl::unexpected(content.error());
  while (!content->empty() && (content->back() == '\n' || content->back() == '\r')) content->pop_back();
  auto secret = from_hex(*content);
  wipe(*content);
  if (!secret || secret->size() != kKeyBytes) {
    return fail(Code::kCorrupt, path + " does not hold 64 hexadecimal digits; restore it from a copy");
  }
  auto keys = from_secret(*secret);
  wipe(*secret);
  return keys;
}

Result<> CurveKeys::save(const std::string& path) const {
  std::string text = to_hex(secret_key) + "\n";
  auto written = write_secret_file(path, text);
  wipe(text);
  return written;
}

}  // namespace shoal::identity
