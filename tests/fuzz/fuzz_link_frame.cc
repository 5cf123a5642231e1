// Goal: no message on a connection harms the transport, before or after the greeting. Method: the first byte
// chooses the kind of frame, the rest is its body.
#include "protocol/link/frames.h"
#include "tests/fuzz/fuzz.h"

using namespace shoal;

namespace {

void check_batch(std::string_view body) {
  std::vector<std::string_view> frames;
  if (!link::split_batch(body, frames)) return;
  std::string rebuilt;
  for (auto frame : frames) link::append_to_batch(rebuilt, frame);
  fuzz::require(rebuilt == body);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto body = fuzz::view(data + 1, size - 1);
  switch (static_cast<link::FrameKind>(data[0])) {
    case link::FrameKind::kBatch:
      check_batch(body);
      break;
    case link::FrameKind::kGreeting:
    case link::FrameKind::kWelcome:
      fuzz::decodes_stably<link::Greeting>(body, link::kControlLimits);
      break;
    case link::FrameKind::kRefusal:
      fuzz::decodes_stably<link::Refusal>(body, link::kControlLimits);
      break;
    case link::FrameKind::kCredit:
      fuzz::decodes_stably<link::Credit>(body, link::kControlLimits);
      break;
    case link::FrameKind::kIdentity:
      fuzz::decodes_stably<identity::CertificateChain>(body, link::kControlLimits);
      break;
    case link::FrameKind::kJoinAsk:
      fuzz::decodes_stably<identity::JoinAsk>(body, link::kControlLimits);
      break;
    case link::FrameKind::kJoinAnswer:
      fuzz::decodes_stably<link::Answer<identity::JoinGrant>>(body, link::kControlLimits);
      break;
    case link::FrameKind::kRenewalAsk:
      fuzz::decodes_stably<identity::RenewalAsk>(body, link::kControlLimits);
      break;
    case link::FrameKind::kRenewalAnswer:
      fuzz::decodes_stably<link::Answer<identity::CertificateChain>>(body, link::kControlLimits);
      break;
    default:
      break;
  }
  return 0;
}
