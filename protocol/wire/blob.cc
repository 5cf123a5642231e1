#include "protocol/wire/blob.h"

namespace shoal::wire {

namespace {

constexpr std::string_view kMagic = "SHL1";
constexpr std::size_t kBlobHeaderBytes = 16;

std::uint64_t read_little(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i > 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i - 1]);
  return value;
}

}  // namespace

Bytes make_blob(BlobCodec codec, std::string_view body) {
  Bytes out(kMagic);
  out.reserve(kBlobHeaderBytes + body.size());
  out.push_back(static_cast<char>(codec));
  out.append(3, '\0');  // flags, number of buffers
  for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(body.size() >> shift & 0xff));
  out.append(body);
  return out;
}

Result<Blob> read_blob(std::string_view bytes) {
  if (bytes.size() < kBlobHeaderBytes || !bytes.starts_with(kMagic))
    return fail(Code::kInvalid, "this is not a value of Shoal");
  const auto codec = static_cast<std::uint8_t>(bytes[4]);
  if (codec > static_cast<std::uint8_t>(BlobCodec::kMsgpack)) {
    return fail(Code::kUnsupported, "the value was written by a newer version (codec " + std::to_string(codec) + ")");
  }
  const std::size_t start = kBlobHeaderBytes + 8 * read_little(bytes.substr(6, 2));
  const std::uint64_t size = read_little(bytes.substr(8, 8));
  if (start > bytes.size() || size > bytes.size() - start) return fail(Code::kInvalid, "the value is cut short");
  return Blob{static_cast<BlobCodec>(codec), bytes.substr(start, size)};
}

}  // namespace shoal::wire
