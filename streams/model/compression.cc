#include "streams/model/compression.h"

#include <lz4frame.h>
#include <zstd.h>

#include <memory>

namespace shoal::streams {
namespace {

constexpr int kZstdLevel = 1;
constexpr std::size_t kChunkBytes = 64U << 10;

struct FreeLz4 {
  void operator()(LZ4F_dctx* context) const { LZ4F_freeDecompressionContext(context); }
};
struct FreeZstd {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

Result<std::string> compress_lz4(std::string_view bytes) {
  LZ4F_preferences_t preferences = LZ4F_INIT_PREFERENCES;
  preferences.frameInfo.blockMode = LZ4F_blockIndependent;
  std::string out(LZ4F_compressFrameBound(bytes.size(), &preferences), '\0');
  const std::size_t n = LZ4F_compressFrame(out.data(), out.size(), bytes.data(), bytes.size(), &preferences);
  if (LZ4F_isError(n) != 0) return fail(Code::kFailed, std::string("lz4: ") + LZ4F_getErrorName(n));
  out.resize(n);
  return out;
}

Result<std::string> decompress_lz4(std::string_view bytes, std::size_t bytes_max) {
  LZ4F_dctx* raw = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&raw, LZ4F_VERSION)) != 0) {
    return fail(Code::kFailed, "lz4: no memory for a decompression context");
  }
  std::unique_ptr<LZ4F_dctx, FreeLz4> context(raw);
  std::string out;
  std::size_t hint = 1;
  while (!bytes.empty() && hint != 0) {
    const std::size_t before = out.size();
    if (before > bytes_max) return fail(Code::kCorrupt, "a compressed batch unpacks beyond its limit");
    out.resize(before + kChunkBytes);
    std::size_t produced = kChunkBytes;
    std::size_t consumed = bytes.size();
    hint = LZ4F_decompress(context.get(), out.data() + before, &produced, bytes.data(), &consumed, nullptr);
    if (LZ4F_isError(hint) != 0) return fail(Code::kCorrupt, std::string("lz4: ") + LZ4F_getErrorName(hint));
    out.resize(before + produced);
    bytes.remove_prefix(consumed);
    if (produced == 0 && consumed == 0) break;
  }
  if (hint != 0) return fail(Code::kCorrupt, "lz4: the frame is cut short");
  if (out.size() > bytes_max) return fail(Code::kCorrupt, "a compressed batch unpacks beyond its limit");
  return out;
}

Result<std::string> compress_zstd(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const std::size_t n = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), kZstdLevel);
  if (ZSTD_isError(n) != 0) return fail(Code::kFailed, std::string("zstd: ") + ZSTD_getErrorName(n));
  out.resize(n);
  return out;
}

// Streaming, because other producers' frames need not state their content size.
Result<std::string> decompress_zstd(std::string_view bytes, std::size_t bytes_max) {
  std::unique_ptr<ZSTD_DCtx, FreeZstd> context(ZSTD_createDCtx());
  if (!context) return fail(Code::kFailed, "zstd: no memory for a decompression context");
  std::string out;
  ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
  std::size_t left = 1;
  while (left != 0) {
    const std::size_t before = out.size();
    if (before > bytes_max) return fail(Code::kCorrupt, "a compressed batch unpacks beyond its limit");
    out.resize(before + kChunkBytes);
    ZSTD_outBuffer output{out.data() + before, kChunkBytes, 0};
    const std::size_t consumed_before = input.pos;
    left = ZSTD_decompressStream(context.get(), &output, &input);
    if (ZSTD_isError(left) != 0) return fail(Code::kCorrupt, std::string("zstd: ") + ZSTD_getErrorName(left));
    out.resize(before + output.pos);
    if (output.pos == 0 && input.pos == consumed_before && left != 0) {
      return fail(Code::kCorrupt, "zstd: the frame is cut short");
    }
  }
  if (out.size() > bytes_max) return fail(Code::kCorrupt, "a compressed batch unpacks beyond its limit");
  return out;
}

}  // namespace

Result<std::string> compress(Codec codec, std::string_view bytes) {
  switch (codec) {
    case Codec::kNone:
      return std::string(bytes);
    case Codec::kLz4:
      return compress_lz4(bytes);
    case Codec::kZstd:
      return compress_zstd(bytes);
  }
  return fail(Code::kUnsupported, "unknown codec: use none, zstd or lz4");
}

Result<std::string> decompress(Codec codec, std::string_view bytes, std::size_t bytes_max) {
  switch (codec) {
    case Codec::kNone:
      if (bytes.size() > bytes_max) return fail(Code::kCorrupt, "a batch is larger than its limit");
      return std::string(bytes);
    case Codec::kLz4:
      return decompress_lz4(bytes, bytes_max);
    case Codec::kZstd:
      return decompress_zstd(bytes, bytes_max);
  }
  return fail(Code::kUnsupported, "unknown codec: use none, zstd or lz4");
}

}  // namespace shoal::streams
