// Goal: no local process can harm its agent, nor an agent its client. Method: the first byte chooses the kind
// of message, the rest is its body.
#include "protocol/wire/client.h"
#include "tests/fuzz/fuzz.h"

using namespace shoal;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto body = fuzz::view(data + 1, size - 1);
  switch (static_cast<client::Kind>(data[0])) {
    case client::Kind::kHello:
      fuzz::decodes_stably<client::Hello>(body);
      break;
    case client::Kind::kRegister:
      fuzz::decodes_stably<client::Register>(body);
      break;
    case client::Kind::kSubmit:
      fuzz::decodes_stably<client::Submit>(body);
      break;
    case client::Kind::kPutData:
      fuzz::decodes_stably<client::PutData>(body);
      break;
    case client::Kind::kWait:
      fuzz::decodes_stably<client::Wait>(body);
      break;
    case client::Kind::kBarrier:
      fuzz::decodes_stably<client::Barrier>(body);
      break;
    case client::Kind::kRelease:
      fuzz::decodes_stably<client::Release>(body);
      break;
    case client::Kind::kRequest:
      fuzz::decodes_stably<client::Request>(body);
      break;
    case client::Kind::kOpenGroup:
    case client::Kind::kCloseGroup:
    case client::Kind::kCancelGroup:
      fuzz::decodes_stably<client::Group>(body);
      break;
    case client::Kind::kWelcome:
      fuzz::decodes_stably<client::Welcome>(body);
      break;
    case client::Kind::kReply:
      fuzz::decodes_stably<client::Reply>(body);
      break;
    case client::Kind::kValues:
      fuzz::decodes_stably<client::Values>(body);
      break;
    case client::Kind::kEvent:
      fuzz::decodes_stably<client::Event>(body);
      break;
    case client::Kind::kFunction:
      fuzz::decodes_stably<client::Function>(body);
      break;
    case client::Kind::kRun:
      fuzz::decodes_stably<client::Run>(body);
      break;
    case client::Kind::kCancel:
      fuzz::decodes_stably<client::Cancel>(body);
      break;
    case client::Kind::kDone:
      fuzz::decodes_stably<client::Done>(body);
      break;
    case client::Kind::kBlocked:
      fuzz::decodes_stably<client::Blocked>(body);
      break;
    default:
      break;
  }
  return 0;
}
