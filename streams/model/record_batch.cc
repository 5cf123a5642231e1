#include "streams/model/record_batch.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string>

#include "protocol/base/crc32c.h"
#include "streams/model/compression.h"

namespace shoal::streams {
namespace {

// Where the fields of a batch lie.
constexpr std::size_t kBaseOffsetAt = 0;
constexpr std::size_t kLengthAt = 8;  // of what follows the length itself
constexpr std::size_t kLeaderEpochAt = 12;
constexpr std::size_t kMagicAt = 16;
constexpr std::size_t kCrcAt = 17;
constexpr std::size_t kAttributesAt = 21;  // the checksum covers from here to the end
constexpr std::size_t kLastDeltaAt = 23;
constexpr std::size_t kBaseTimestampAt = 27;
constexpr std::size_t kMaxTimestampAt = 35;
constexpr std::size_t kProducerAt = 43;
constexpr std::size_t kEpochAt = 51;
constexpr std::size_t kSequenceAt = 53;
constexpr std::size_t kCountAt = 57;
constexpr std::size_t kLengthBefore = 12;  // bytes of a batch that its length field does not count

constexpr std::uint16_t kCodecMask = 7;
constexpr std::uint16_t kControlBit = 0x20;
constexpr char kMagic = 2;
constexpr std::size_t kHeadersMax = 1'000;

template <class T>
void store(char* at, T value) {
  using Raw = std::make_unsigned_t<T>;
  auto raw = static_cast<Raw>(value);
  for (std::size_t i = sizeof(T); i-- > 0;) {
    at[i] = static_cast<char>(raw & 0xff);
    raw = static_cast<Raw>(sizeof(T) > 1 ? raw >> 8 : 0);
  }
}

template <class T>
T load(const char* at) {
  using Raw = std::make_unsigned_t<T>;
  Raw raw = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    raw = static_cast<Raw>((sizeof(T) > 1 ? raw << 8 : 0) | static_cast<unsigned char>(at[i]));
  }
  return static_cast<T>(raw);
}

void put_varint(std::string& out, std::int64_t value) {
  auto zigzag = (static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63);
  while (zigzag >= 0x80) {
    out.push_back(static_cast<char>((zigzag & 0x7f) | 0x80));
    zigzag >>= 7;
  }
  out.push_back(static_cast<char>(zigzag));
}

// Reads the records of a batch; every read is checked against what is left.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  bool varint(std::int64_t& value) {
    std::uint64_t zigzag = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (bytes_.empty()) return false;
      const auto byte = static_cast<unsigned char>(bytes_.front());
      bytes_.remove_prefix(1);
      zigzag |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) {
        value = static_cast<std::int64_t>(zigzag >> 1) ^ -static_cast<std::int64_t>(zigzag & 1);
        return true;
      }
    }
    return false;
  }
  bool take(std::int64_t size, std::string_view& out) {
    if (size < 0 || static_cast<std::uint64_t>(size) > bytes_.size()) return false;
    out = bytes_.substr(0, static_cast<std::size_t>(size));
    bytes_.remove_prefix(static_cast<std::size_t>(size));
    return true;
  }
  // A length and that many bytes; length -1 is null.
  bool blob(std::optional<Bytes>& out) {
    std::int64_t size = 0;
    if (!varint(size)) return false;
    out.reset();
    if (size == -1) return true;
    std::string_view bytes;
    if (!take(size, bytes)) return false;
    out.emplace(bytes);
    return true;
  }
  bool empty() const { return bytes_.empty(); }
  std::size_t left() const { return bytes_.size(); }

 private:
  std::string_view bytes_;
};

void put_blob(std::string& out, std::string_view bytes) {
  put_varint(out, static_cast<std::int64_t>(bytes.size()));
  out.append(bytes);
}

void put_record(std::string& out, std::string& scratch, const Record& record, std::int64_t base_timestamp,
                std::int64_t delta) {
  scratch.clear();
  scratch.push_back('\0');  // attributes: none are defined
  put_varint(scratch, record.timestamp_ms - base_timestamp);
  put_varint(scratch, delta);
  if (record.key) {
    put_blob(scratch, *record.key);
  } else {
    put_varint(scratch, -1);
  }
  put_blob(scratch, record.value);
  put_varint(scratch, static_cast<std::int64_t>(record.headers.size()));
  for (const auto& [name, value] : record.headers) {
    put_blob(scratch, name);
    put_blob(scratch, value);
  }
  put_varint(out, static_cast<std::int64_t>(scratch.size()));
  out.append(scratch);
}

bool read_record(Reader& batch, const BatchHeader& header, StoredRecord& out) {
  std::int64_t size = 0;
  std::string_view bytes;
  if (!batch.varint(size) || !batch.take(size, bytes)) return false;
  Reader in(bytes);
  std::string_view attributes;
  std::int64_t timestamp_delta = 0;
  std::int64_t offset_delta = 0;
  std::optional<Bytes> value;
  std::int64_t headers = 0;
  if (!in.take(1, attributes) || !in.varint(timestamp_delta) || !in.varint(offset_delta) || !in.blob(out.record.key) ||
      !in.blob(value) || !in.varint(headers)) {
    return false;
  }
  if (offset_delta < 0 || offset_delta > header.last_offset_delta) return false;
  if (headers < 0 || static_cast<std::size_t>(headers) > std::min(kHeadersMax, in.left())) return false;
  out.offset = header.base_offset + offset_delta;
  // Unsigned, because a hostile delta may overflow.
  out.record.timestamp_ms = static_cast<std::int64_t>(static_cast<std::uint64_t>(header.base_timestamp_ms) +
                                                      static_cast<std::uint64_t>(timestamp_delta));
  if (value) out.record.value = std::move(*value);
  for (std::int64_t i = 0; i < headers; ++i) {
    std::optional<Bytes> name;
    std::optional<Bytes> text;
    if (!in.blob(name) || !name || !in.blob(text)) return false;
    out.record.headers.emplace_back(std::string(*name), text ? std::move(*text) : Bytes());
  }
  return in.empty();
}

}  // namespace

Result<Bytes> encode_batch(std::span<const Record> records, const BatchOptions& options) {
  if (records.empty()) return fail(Code::kInvalid, "a batch needs at least one record");
  if (records.size() > kBatchRecordsMax) return fail(Code::kExhausted, "too many records in one batch");
  const std::int64_t base_timestamp = records.front().timestamp_ms;
  std::int64_t max_timestamp = base_timestamp;
  std::string body;
  std::string scratch;
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (records[i].headers.size() > kHeadersMax) return fail(Code::kExhausted, "a record has more than 1000 headers");
    max_timestamp = std::max(max_timestamp, records[i].timestamp_ms);
    put_record(body, scratch, records[i], base_timestamp, static_cast<std::int64_t>(i));
    if (body.size() > kBatchBytesMax) {
      return fail(Code::kExhausted, "a batch is larger than 64 MiB: publish fewer or smaller records at a time");
    }
  }
  Codec codec = options.codec;
  if (codec != Codec::kNone) {
    auto packed = compress(codec, body);
    if (!packed) return tl::unexpected(packed.error());
    if (packed->size() < body.size()) {
      body = std::move(*packed);
    } else {
      codec = Codec::kNone;
    }
  }

  Bytes batch;
  batch.reserve(kBatchHeaderBytes + body.size());
  batch.resize(kBatchHeaderBytes);
  char* at = batch.data();
  const auto count = static_cast<std::int32_t>(records.size());
  store<std::int64_t>(at + kBaseOffsetAt, 0);
  store<std::int32_t>(at + kLengthAt, static_cast<std::int32_t>(kBatchHeaderBytes - kLengthBefore + body.size()));
  store<std::int32_t>(at + kLeaderEpochAt, options.leader_epoch);
  at[kMagicAt] = kMagic;
  store<std::uint16_t>(at + kAttributesAt,
                       static_cast<std::uint16_t>(static_cast<unsigned>(codec) | (options.control ? kControlBit : 0U)));
  store<std::int32_t>(at + kLastDeltaAt, count - 1);
  store<std::int64_t>(at + kBaseTimestampAt, base_timestamp);
  store<std::int64_t>(at + kMaxTimestampAt, max_timestamp);
  store<std::int64_t>(at + kProducerAt, options.stamp.producer);
  store<std::int16_t>(at + kEpochAt, options.stamp.epoch);
  store<std::int32_t>(at + kSequenceAt, options.stamp.sequence);
  store<std::int32_t>(at + kCountAt, count);
  batch.append(body);
  store<std::uint32_t>(batch.data() + kCrcAt, crc32c(std::string_view(batch).substr(kAttributesAt)));
  return batch;
}

Result<BatchHeader> read_batch_header(std::string_view bytes) {
  if (bytes.size() < kBatchHeaderBytes) return fail(Code::kCorrupt, "a record batch is cut short");
  const char* at = bytes.data();
  if (at[kMagicAt] != kMagic) return fail(Code::kCorrupt, "not a record batch of format 2");
  const auto length = load<std::int32_t>(at + kLengthAt);
  if (length < static_cast<std::int32_t>(kBatchHeaderBytes - kLengthBefore) ||
      static_cast<std::size_t>(length) > kBatchBytesMax + kBatchHeaderBytes) {
    return fail(Code::kCorrupt, "a record batch states an impossible length");
  }
  BatchHeader header;
  header.base_offset = load<std::int64_t>(at + kBaseOffsetAt);
  header.bytes = static_cast<std::uint32_t>(length) + static_cast<std::uint32_t>(kLengthBefore);
  header.leader_epoch = load<std::int32_t>(at + kLeaderEpochAt);
  header.crc = load<std::uint32_t>(at + kCrcAt);
  const auto attributes = load<std::uint16_t>(at + kAttributesAt);
  header.codec = static_cast<Codec>(attributes & kCodecMask);
  header.control = (attributes & kControlBit) != 0;
  header.last_offset_delta = load<std::int32_t>(at + kLastDeltaAt);
  header.base_timestamp_ms = load<std::int64_t>(at + kBaseTimestampAt);
  header.max_timestamp_ms = load<std::int64_t>(at + kMaxTimestampAt);
  header.stamp.producer = load<std::int64_t>(at + kProducerAt);
  header.stamp.epoch = load<std::int16_t>(at + kEpochAt);
  header.stamp.sequence = load<std::int32_t>(at + kSequenceAt);
  header.records = load<std::int32_t>(at + kCountAt);
  if (header.base_offset < 0 || header.base_offset > std::numeric_limits<Offset>::max() / 2 ||
      header.last_offset_delta < 0 || header.records < 0 ||
      static_cast<std::size_t>(header.records) > kBatchRecordsMax) {
    return fail(Code::kCorrupt, "a record batch states impossible offsets or counts");
  }
  return header;
}

Result<BatchHeader> check_batch(std::string_view bytes) {
  auto header = read_batch_header(bytes);
  if (!header) return header;
  if (bytes.size() < header->bytes) return fail(Code::kCorrupt, "a record batch is cut short");
  if (crc32c(bytes.substr(kAttributesAt, header->bytes - kAttributesAt)) != header->crc) {
    return fail(Code::kCorrupt, "a record batch does not match its checksum");
  }
  return header;
}

Result<std::vector<StoredRecord>> decode_batch(std::string_view batch, std::uint32_t partition) {
  auto header = read_batch_header(batch);
  if (!header) return tl::unexpected(header.error());
  if (batch.size() < header->bytes) return fail(Code::kCorrupt, "a record batch is cut short");
  const std::string_view packed = batch.substr(kBatchHeaderBytes, header->bytes - kBatchHeaderBytes);
  std::string unpacked;
  std::string_view body = packed;
  if (header->codec != Codec::kNone) {
    auto plain = decompress(header->codec, packed, kBatchBytesMax);
    if (!plain) return tl::unexpected(plain.error());
    unpacked = std::move(*plain);
    body = unpacked;
  }
  Reader reader(body);
  std::vector<StoredRecord> records;
  records.reserve(std::min<std::size_t>(static_cast<std::size_t>(header->records), body.size() / 7 + 1));
  for (std::int32_t i = 0; i < header->records; ++i) {
    auto& record = records.emplace_back();
    record.partition = partition;
    if (!read_record(reader, *header, record)) return fail(Code::kCorrupt, "a record in a batch is malformed");
  }
  if (!reader.empty()) return fail(Code::kCorrupt, "a record batch has bytes after its last record");
  return records;
}

void set_base_offset(Bytes& batch, Offset offset) {
  store<std::int64_t>(batch.data() + kBaseOffsetAt, offset);
}
void set_leader_epoch(Bytes& batch, std::int32_t epoch) {
  store<std::int32_t>(batch.data() + kLeaderEpochAt, epoch);
}

std::uint32_t partition_of_key(std::string_view key, std::uint32_t partitions) {
  // MurmurHash2, 32 bits, with the seed of Kafka's clients.
  constexpr std::uint32_t kM = 0x5bd1e995;
  std::uint32_t h = 0x9747b28cU ^ static_cast<std::uint32_t>(key.size());
  std::size_t i = 0;
  for (; i + 4 <= key.size(); i += 4) {
    std::uint32_t k = 0;
    for (std::size_t b = 4; b-- > 0;) k = k << 8 | static_cast<unsigned char>(key[i + b]);
    k *= kM;
    k ^= k >> 24;
    h = (h * kM) ^ (k * kM);
  }
  if (i < key.size()) {
    for (std::size_t b = key.size(); b-- > i;)
      h ^= static_cast<std::uint32_t>(static_cast<unsigned char>(key[b])) << (8 * (b - i));
    h *= kM;
  }
  h ^= h >> 13;
  h *= kM;
  h ^= h >> 15;
  return (h & 0x7fffffffU) % std::max(partitions, 1U);
}

}  // namespace shoal::streams
