#include "protocol/link/frames.h"

namespace shoal::link {

void append_to_batch(std::string& body, std::string_view frame) {
  const auto size = static_cast<std::uint32_t>(frame.size());
  for (int shift = 0; shift < 32; shift += 8) body.push_back(static_cast<char>(size >> shift & 255));
  body.append(frame);
}

bool split_batch(std::string_view body, std::vector<std::string_view>& out) {
  out.clear();
  while (!body.empty()) {
    if (body.size() < 4) return false;
    std::uint32_t size = 0;
    for (std::size_t i = 0; i < 4; ++i)
      size |= static_cast<std::uint32_t>(static_cast<unsigned char>(body[i])) << (8 * i);
    body.remove_prefix(4);
    if (size > body.size()) return false;
    out.push_back(body.substr(0, size));
    body.remove_prefix(size);
  }
  return true;
}

}  // namespace shoal::link
