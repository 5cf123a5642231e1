// protocol/identity/crypto.h
//
// The cryptographic primitives that the rest of Shoal may use, so that OpenSSL stays behind this folder's
// door: SHA-256, random bytes, authenticated encryption and the text form of binary tokens. It must not know
// about agents, realms or files.
//
// All functions may be called from any thread. A failure of the library itself (no entropy, out of memory)
// stops the process: nothing sensible can follow it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/wire/bytes.h"

namespace shoal::identity {

constexpr std::size_t kDigestBytes = 32;
constexpr std::size_t kSealKeyBytes = 32;

// The 32 bytes of SHA-256(data).
Bytes sha256(std::string_view data);

// The id of an immutable object: the first 16 bytes of SHA-256 of its content.
ObjectId object_id_of(std::string_view content);

// SHA-256 of data that comes in pieces. Used by one thread at a time.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::string_view piece);
  // The digest of all pieces so far; the hasher is empty afterwards and may be used again.
  Bytes finish();
  // As finish(), cut to an object id.
  ObjectId finish_object_id();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Bytes from the operating system's generator, fit for keys.
Bytes random_bytes(std::size_t count);

// A fresh random identifier, e.g. random_id<RegionId>().
template <class Id>
Id random_id() {
  return *Id::from_bytes(random_bytes(Id::kSize));
}

// AES-256-GCM. The result is nonce (12) | ciphertext | tag (16); `context` is authenticated but not stored,
// and must be given again to open. `key` has kSealKeyBytes bytes. At most 2^32 seals under one key (random
// nonces).
Bytes seal(std::string_view key, std::string_view plain, std::string_view context);

// kDenied when key, context or bytes differ from those of seal(): the content is not revealed.
Result<Bytes> open_sealed(std::string_view key, std::string_view sealed, std::string_view context);

// Compares without telling by its run time where the two differ.
bool equal_in_constant_time(std::string_view a, std::string_view b);

// Overwrites the bytes so that they do not linger in freed memory.
void wipe(std::string& secret);

// RFC 4648 §5, without padding.
std::string base64url(std::string_view bytes);
// nullopt for characters outside the alphabet, impossible lengths and non-zero left-over bits.
std::optional<std::string> from_base64url(std::string_view text);

}  // namespace shoal::identity
