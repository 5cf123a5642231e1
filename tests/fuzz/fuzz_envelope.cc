// Goal: no frame from another agent harms its receiver. Method: arbitrary bytes as a document and as an
// envelope, and its body as a dynamic value.
#include "protocol/wire/address.h"
#include "protocol/wire/dynamic.h"
#include "tests/fuzz/fuzz.h"

using namespace shoal;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = fuzz::view(data, size);
  fuzz::decodes_stably<wire::Envelope>(input);
  fuzz::decodes_stably<wire::Dynamic>(input);
  return 0;
}
