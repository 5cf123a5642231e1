#include "protocol/identity/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>

#include "protocol/base/check.h"
#include "protocol/identity/openssl.h"

namespace shoal::identity {
namespace {

constexpr std::size_t kNonceBytes = 12;
constexpr std::size_t kTagBytes = 16;

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* c) const { EVP_CIPHER_CTX_free(c); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

ObjectId object_id_from(const Bytes& digest) {
  return *ObjectId::from_bytes(std::string_view(digest).substr(0, ObjectId::kSize));
}

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

int sextet_of(char c) {
  const auto at = kAlphabet.find(c);
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

}  // namespace

struct Sha256::Impl {
  std::unique_ptr<EVP_MD_CTX, FreeDigest> context{EVP_MD_CTX_new()};
  void start() {
    SHOAL_CHECK(EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1, "SHA-256 must be available");
  }
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
  impl_->start();
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::string_view piece) {
  SHOAL_CHECK(EVP_DigestUpdate(impl_->context.get(), piece.data(), piece.size()) == 1, "hashing cannot fail");
}

Bytes Sha256::finish() {
  Bytes digest(kDigestBytes, '\0');
  SHOAL_CHECK(EVP_DigestFinal_ex(impl_->context.get(), bytes_of(digest), nullptr) == 1, "hashing cannot fail");
  impl_->start();
  return digest;
}

ObjectId Sha256::finish_object_id() {
  return object_id_from(finish());
}

Bytes sha256(std::string_view data) {
  Bytes digest(kDigestBytes, '\0');
  SHOAL_CHECK(EVP_Digest(data.data(), data.size(), bytes_of(digest), nullptr, EVP_sha256(), nullptr) == 1,
              "SHA-256 must be available");
  return digest;
}

ObjectId object_id_of(std::string_view content) {
  return object_id_from(sha256(content));
}

Bytes random_bytes(std::size_t count) {
  Bytes out(count, '\0');
  SHOAL_CHECK(RAND_bytes(bytes_of(out), static_cast<int>(count)) == 1, "the system must have a source of random bytes");
  return out;
}

Bytes seal(std::string_view key, std::string_view plain, std::string_view context) {
  SHOAL_CHECK(key.size() == kSealKeyBytes, "a sealing key has 32 bytes");
  Bytes out = random_bytes(kNonceBytes);
  out.resize(kNonceBytes + plain.size() + kTagBytes);
  CipherContext cipher(EVP_CIPHER_CTX_new());
  int written = 0;
  bool ok = EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes_of(key), bytes_of(out)) == 1;
  ok = ok &&
       EVP_EncryptUpdate(cipher.get(), nullptr, &written, bytes_of(context), static_cast<int>(context.size())) == 1;
  ok = ok && EVP_EncryptUpdate(cipher.get(), bytes_of(out) + kNonceBytes, &written, bytes_of(plain),
                               static_cast<int>(plain.size())) == 1;
  ok = ok && EVP_EncryptFinal_ex(cipher.get(), bytes_of(out) + kNonceBytes + plain.size(), &written) == 1;
  ok = ok && EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes,
                                 bytes_of(out) + kNonceBytes + plain.size()) == 1;
  SHOAL_CHECK(ok, "AES-256-GCM must be available");
  return out;
}

Result<Bytes> open_sealed(std::string_view key, std::string_view sealed, std::string_view context) {
  SHOAL_CHECK(key.size() == kSealKeyBytes, "a sealing key has 32 bytes");
  if (sealed.size() < kNonceBytes + kTagBytes) return fail(Code::kDenied, "the sealed secret is too short to be one");
  Bytes plain(sealed.size() - kNonceBytes - kTagBytes, '\0');
  std::string tag(sealed.substr(sealed.size() - kTagBytes));
  const std::string_view body = sealed.substr(kNonceBytes, plain.size());
  CipherContext cipher(EVP_CIPHER_CTX_new());
  int written = 0;
  bool ok = EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes_of(key), bytes_of(sealed)) == 1;
  ok = ok &&
       EVP_DecryptUpdate(cipher.get(), nullptr, &written, bytes_of(context), static_cast<int>(context.size())) == 1;
  ok = ok &&
       EVP_DecryptUpdate(cipher.get(), bytes_of(plain), &written, bytes_of(body), static_cast<int>(body.size())) == 1;
  ok = ok && EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1;
  std::array<unsigned char, kTagBytes> rest{};
  ok = ok && EVP_DecryptFinal_ex(cipher.get(), rest.data(), &written) == 1;
  if (!ok) {
    wipe(plain);
    return fail(Code::kDenied, "the secret cannot be opened: it was sealed with another key or has been changed");
  }
  return plain;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void wipe(std::string& secret) {
  if (!secret.empty()) OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

std::string base64url(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() * 4 + 2) / 3);
  std::uint32_t bits = 0;
  int held = 0;
  for (char c : bytes) {
    bits = bits << 8 | static_cast<unsigned char>(c);
    held += 8;
    while (held >= 6) {
      held -= 6;
      out.push_back(kAlphabet[bits >> held & 63]);
    }
  }
  if (held > 0) out.push_back(kAlphabet[bits << (6 - held) & 63]);
  return out;
}

std::optional<std::string> from_base64url(std::string_view text) {
  std::string out;
  out.reserve(text.size() * 3 / 4);
  std::uint32_t bits = 0;
  int held = 0;
  for (char c : text) {
    const int sextet = sextet_of(c);
    if (sextet < 0) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(sextet);
    held += 6;
    if (held >= 8) {
      held -= 8;
      out.push_back(static_cast<char>(bits >> held & 255));
    }
  }
  if (held >= 6 || (bits & ((1U << held) - 1)) != 0) return std::nullopt;
  return out;
}

}  // namespace shoal::identity
