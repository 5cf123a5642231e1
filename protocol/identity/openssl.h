// protocol/identity/openssl.h
//
// Inside this folder only: what its sources share about calling OpenSSL.
#pragma once

#include <openssl/evp.h>

#include <string>
#include <string_view>

namespace shoal::identity {

struct FreeDigest {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

inline unsigned char* bytes_of(std::string& s) {
  return reinterpret_cast<unsigned char*>(s.data());
}
inline const unsigned char* bytes_of(std::string_view s) {
  return reinterpret_cast<const unsigned char*>(s.data());
}

}  // namespace shoal::identity
