// protocol/identity/keys.h
//
// The two key pairs of an agent: Ed25519, which *is* its identity and signs, and Curve25519, with which its
// links are encrypted. Secret keys live in files that only their owner can read. What a key may do is said
// elsewhere (certificate.h).
#pragma once

#include <string>
#include <string_view>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/wire/bytes.h"

namespace shoal::identity {

constexpr std::size_t kKeyBytes = 32;        // public or secret, of either kind
constexpr std::size_t kSignatureBytes = 64;  // Ed25519

// First 16 bytes of SHA-256 of an Ed25519 public key.
AgentId agent_id_of(std::string_view public_key);
RealmId realm_id_of(std::string_view root_public_key);

// True when `signature` over `message` was made with the secret of `public_key`. False for keys and
// signatures of a wrong length, too.
bool verify_signature(std::string_view public_key, std::string_view message, std::string_view signature);

// An Ed25519 key pair. Copies are full copies of the secret; every copy is wiped when it goes.
class KeyPair {
 public:
  static KeyPair generate();
  // From the 32 secret bytes of RFC 8032; kInvalid for another length.
  static Result<KeyPair> from_secret(std::string_view secret);

  // Reads a PEM file (PKCS #8, as `openssl genpkey -algorithm ed25519` writes it). kNotFound without a file,
  // kDenied when others may read it, kCorrupt when it holds something else.
  static Result<KeyPair> load(const std::string& path);
  // Writes PEM, mode 0600, synced and atomic: a crash leaves the old file or the new one.
  Result<> save(const std::string& path) const;

  ~KeyPair();
  KeyPair(const KeyPair&) = default;
  KeyPair(KeyPair&&) noexcept = default;
  KeyPair& operator=(const KeyPair&) = default;
  KeyPair& operator=(KeyPair&&) noexcept = default;

  const Bytes& public_key() const { return public_; }
  AgentId agent_id() const { return agent_id_of(public_); }
  Bytes sign(std::string_view message) const;

 private:
  KeyPair() = default;
  Bytes secret_;
  Bytes public_;
};

// A Curve25519 key pair, in the raw form that CurveZMQ uses.
struct CurveKeys {
  Bytes public_key;
  Bytes secret_key;

  static CurveKeys generate();
  // The pair that belongs to these 32 secret bytes; kInvalid for another length.
  static Result<CurveKeys> from_secret(std::string_view secret);
  // Errors as KeyPair::load. The file holds the secret key in hexadecimal.
  static Result<CurveKeys> load(const std::string& path);
  Result<> save(const std::string& path) const;

  CurveKeys() = default;
  ~CurveKeys();
  CurveKeys(const CurveKeys&) = default;
  CurveKeys(CurveKeys&&) noexcept = default;
  CurveKeys& operator=(const CurveKeys&) = default;
  CurveKeys& operator=(CurveKeys&&) noexcept = default;
};

}  // namespace shoal::identity
