// Goal: no text pasted as a join token, and no stored list of tokens, harms its reader. Method: arbitrary
// bytes as the text, and as what the text spells, with a right checksum; and as a book.
#include "protocol/identity/crypto.h"
#include "protocol/identity/token.h"
#include "tests/fuzz/fuzz.h"

using namespace shoal;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = fuzz::view(data, size);
  const auto token = identity::JoinToken::parse(input);
  if (token) fuzz::require(identity::JoinToken::parse(token->text()).has_value());
  const std::string checked = std::string(input) + std::string(identity::sha256(input).substr(0, 4));
  const auto inside = identity::JoinToken::parse("shoal1-" + identity::base64url(checked));
  if (inside) fuzz::require(!inside->issuer.endpoints.empty());
  const auto bytes = identity::from_base64url(input);
  if (bytes) fuzz::require(identity::base64url(*bytes) == input);
  const auto book = identity::TokenBook::parse(RealmId(1, 2), input);
  if (book) fuzz::require(identity::TokenBook::parse(RealmId(1, 2), book->serialize()).has_value());
  const auto ask = wire::decode<identity::JoinAsk>(input);
  if (ask) static_cast<void>(identity::verify_join_ask(*ask));
  return 0;
}
