// streams/model/record_batch.h
//
// Kafka's record batch, format v2 (magic 2), as "Record Batch" in Kafka's protocol documentation lays it out: the unit
// of appending, of storing, of forwarding, and the only on-disk form of a record. A batch is self-contained and
// checked by CRC32C over everything after the checksum, so it passes through logs and links as bytes. The base offset
// and the leader epoch lie outside the checksum: whoever stores the batch sets them.
//
// Pure: bytes in, bytes out. Decoding is total; a hostile batch gives an error and bounded memory.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "protocol/base/result.h"
#include "streams/model/record.h"

namespace shoal::streams {

enum class Codec : std::uint8_t { kNone = 0, kLz4 = 3, kZstd = 4 };  // Kafka's numbers

// Who wrote a batch, and where it stands among that producer's batches of one partition. -1: not stated.
struct ProducerStamp {
  std::int64_t producer = -1;
  std::int16_t epoch = -1;
  std::int32_t sequence = -1;  // of the first record; wraps from 2^31-1 to 0
  bool stated() const { return producer >= 0; }
  friend bool operator==(const ProducerStamp&, const ProducerStamp&) = default;
};

struct BatchHeader {
  Offset base_offset = 0;
  std::uint32_t bytes = 0;  // of the whole batch, header included
  std::int32_t leader_epoch = 0;
  std::uint32_t crc = 0;
  Codec codec = Codec::kNone;
  bool control = false;  // not for consumers
  std::int32_t last_offset_delta = 0;
  std::int64_t base_timestamp_ms = 0;
  std::int64_t max_timestamp_ms = 0;
  ProducerStamp stamp;
  std::int32_t records = 0;

  Offset last_offset() const { return base_offset + last_offset_delta; }
  Offset next_offset() const { return last_offset() + 1; }
};

constexpr std::size_t kBatchHeaderBytes = 61;
constexpr std::size_t kBatchBytesMax = 64U << 20;  // of one batch, compressed or not
constexpr std::size_t kBatchRecordsMax = 1U << 20;

struct BatchOptions {
  Codec codec = Codec::kNone;
  ProducerStamp stamp;
  bool control = false;
  std::int32_t leader_epoch = 0;
};

// Batch of `records` (at least one) with base offset 0. A batch that a codec does not make smaller is stored plain.
// kInvalid for none, kExhausted beyond kBatchBytesMax or kBatchRecordsMax.
Result<Bytes> encode_batch(std::span<const Record> records, const BatchOptions& options = {});

// Reads the fixed part. Needs kBatchHeaderBytes bytes; checks magic, lengths and counts, not the checksum.
Result<BatchHeader> read_batch_header(std::string_view bytes);

// Header of the batch that `bytes` starts with, after checking that it is complete and its checksum holds.
Result<BatchHeader> check_batch(std::string_view bytes);

// The records of one complete batch, with offsets and `partition`. Checks everything but the checksum.
Result<std::vector<StoredRecord>> decode_batch(std::string_view batch, std::uint32_t partition);

// Overwrite the fields outside the checksum.
void set_base_offset(Bytes& batch, Offset offset);
void set_leader_epoch(Bytes& batch, std::int32_t epoch);

// The partition that Kafka's default partitioner gives a key (murmur2), so that both engines agree.
std::uint32_t partition_of_key(std::string_view key, std::uint32_t partitions);

}  // namespace shoal::streams
