// Goal: no bytes pass for a certificate of the realm. Method: arbitrary bytes as a chain, against a realm
// whose keys the fuzzer does not have; and as the bodies inside a chain, where decoding goes on behind a
// signature.
#include "protocol/identity/certificate.h"
#include "protocol/identity/token.h"
#include "tests/fuzz/fuzz.h"

using namespace shoal;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = fuzz::view(data, size);
  const RealmId realm(1, 2);
  fuzz::require(!identity::verify_certificate_bytes(input, realm, {1'800'000'000'000}).has_value());
  fuzz::decodes_stably<identity::CertificateChain>(input);
  fuzz::decodes_stably<identity::Certificate>(input);
  fuzz::decodes_stably<identity::IssuingCertificate>(input);
  identity::CertificateChain chain;
  chain.agent.body = Bytes(input);
  static_cast<void>(identity::read_certificate(chain));
  const auto ask = wire::decode<identity::RenewalAsk>(input);
  if (ask) fuzz::require(!identity::verify_certificate(ask->current, realm, {1'800'000'000'000}).has_value());
  return 0;
}
