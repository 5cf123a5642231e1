// Goal: batches are Kafka's format v2 to the byte, round trip with any content, and hostile bytes never do more than
// give an error. Method: known vectors, round trips over codecs, and every truncation and bit flip of a batch.
#include "streams/model/record_batch.h"

#include <gtest/gtest.h>

#include "protocol/base/crc32c.h"
#include "protocol/base/rng.h"

namespace shoal::streams {
namespace {

Record record(std::string value, std::int64_t timestamp_ms = 1'700'000'000'000) {
  Record out;
  out.value = Bytes(std::move(value));
  out.timestamp_ms = timestamp_ms;
  return out;
}

std::vector<Record> sample(std::size_t count) {
  std::vector<Record> records;
  for (std::size_t i = 0; i < count; ++i) {
    Record one = record("value " + std::to_string(i), 1'700'000'000'000 + static_cast<std::int64_t>(i % 7) - 3);
    if (i % 2 == 0) one.key = Bytes("key " + std::to_string(i));
    if (i % 3 == 0) one.headers = {{"unit", Bytes("°C")}, {"empty", Bytes()}};
    records.push_back(std::move(one));
  }
  return records;
}

TEST(RecordBatch, RoundTripsWithEveryCodec) {
  const auto records = sample(500);
  for (const Codec codec : {Codec::kNone, Codec::kLz4, Codec::kZstd}) {
    BatchOptions options;
    options.codec = codec;
    options.stamp = {42, 3, 1000};
    auto batch = encode_batch(records, options);
    ASSERT_TRUE(batch);
    set_base_offset(*batch, 77);
    auto header = check_batch(*batch);
    ASSERT_TRUE(header);
    EXPECT_EQ(header->codec, codec);
    EXPECT_EQ(header->stamp, options.stamp);
    EXPECT_EQ(header->base_offset, 77);
    EXPECT_EQ(header->last_offset(), 77 + 499);
    EXPECT_EQ(header->max_timestamp_ms, 1'700'000'000'003);
    auto decoded = decode_batch(*batch, 5);
    ASSERT_TRUE(decoded);
    ASSERT_EQ(decoded->size(), records.size());
    for (std::size_t i = 0; i < records.size(); ++i) {
      EXPECT_EQ((*decoded)[i].record, records[i]);
      EXPECT_EQ((*decoded)[i].offset, 77 + static_cast<Offset>(i));
      EXPECT_EQ((*decoded)[i].partition, 5U);
    }
  }
}

// The layout of Kafka's documentation, field by field, for the smallest batch.
TEST(RecordBatch, HasTheDocumentedLayout) {
  Record one = record("v", 1000);
  one.key = Bytes("k");
  auto batch = encode_batch(std::span(&one, 1));
  ASSERT_TRUE(batch);
  const std::string body(
      "\x10"            // length 8, zigzag
      "\x00"            // attributes
      "\x00\x00"        // timestamp and offset deltas
      "\x02k\x02v\x00"  // key, value, no headers
      ,
      9);
  ASSERT_EQ(batch->size(), 61 + body.size());
  const std::string expected_head(
      "\0\0\0\0\0\0\0\0"  // base offset
      "\0\0\0\x3a"        // length 58
      "\0\0\0\0"          // leader epoch
      "\x02",
      17);  // magic
  EXPECT_EQ(batch->substr(0, 17), expected_head);
  const std::string rest(
      "\0\0"                              // attributes
      "\0\0\0\0"                          // last offset delta
      "\0\0\0\0\0\0\x03\xe8"              // base timestamp
      "\0\0\0\0\0\0\x03\xe8"              // max timestamp
      "\xff\xff\xff\xff\xff\xff\xff\xff"  // no producer
      "\xff\xff"                          // no epoch
      "\xff\xff\xff\xff"                  // no sequence
      "\0\0\0\x01",
      40);  // one record
  EXPECT_EQ(batch->substr(21), rest + body);
  const std::uint32_t crc = crc32c(rest + body);
  std::string crc_bytes;
  for (int shift = 24; shift >= 0; shift -= 8) crc_bytes.push_back(static_cast<char>(crc >> shift & 0xff));
  EXPECT_EQ(batch->substr(17, 4), crc_bytes);
}

TEST(RecordBatch, EveryCutAndEveryFlippedBitIsNoticed) {
  for (const Codec codec : {Codec::kNone, Codec::kLz4, Codec::kZstd}) {
    BatchOptions options;
    options.codec = codec;
    auto batch = encode_batch(sample(20), options);
    ASSERT_TRUE(batch);
    for (std::size_t size = 0; size < batch->size(); ++size) {
      EXPECT_FALSE(check_batch(std::string_view(*batch).substr(0, size)));
    }
    for (std::size_t bit = 17 * 8; bit < batch->size() * 8; ++bit) {
      Bytes damaged = *batch;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
      EXPECT_FALSE(check_batch(damaged)) << bit;
      [[maybe_unused]] const auto total = decode_batch(damaged, 0);  // may succeed, must not crash
    }
  }
}

TEST(RecordBatch, RandomBytesAreRefused) {
  Rng rng(7);
  for (int round = 0; round < 20'000; ++round) {
    Bytes junk;
    const std::uint64_t size = rng.below(200);
    for (std::uint64_t i = 0; i < size; ++i) junk.push_back(static_cast<char>(rng.below(256)));
    if (junk.size() > 16) junk[16] = 2;
    EXPECT_FALSE(check_batch(junk));
    [[maybe_unused]] const auto total = decode_batch(junk, 0);
  }
}

TEST(RecordBatch, RefusesNothingAndTooMuch) {
  EXPECT_EQ(encode_batch({}).error().code, Code::kInvalid);
  Record large = record(std::string(kBatchBytesMax + 1, 'x'));
  EXPECT_EQ(encode_batch(std::span(&large, 1)).error().code, Code::kExhausted);
}

TEST(RecordBatch, IncompressibleContentIsStoredPlain) {
  Rng rng(1);
  std::string noise;
  for (int i = 0; i < 1000; ++i) noise.push_back(static_cast<char>(rng.below(256)));
  Record one = record(noise);
  BatchOptions options;
  options.codec = Codec::kLz4;
  auto batch = encode_batch(std::span(&one, 1), options);
  ASSERT_TRUE(batch);
  EXPECT_EQ(read_batch_header(*batch)->codec, Codec::kNone);
}

// Values of Kafka's own unit test of murmur2, made positive and taken modulo.
TEST(RecordBatch, KeysGoWhereKafkaSendsThem) {
  const std::vector<std::pair<std::string, std::int32_t>> known = {{"21", -973932308},
                                                                   {"foobar", -790332482},
                                                                   {"a-little-bit-long-string", -985981536},
                                                                   {"a-little-bit-longer-string", -1486304829},
                                                                   {"abc", 479470107}};
  for (const auto& [key, hash] : known) {
    const std::uint32_t positive = static_cast<std::uint32_t>(hash) & 0x7fffffffU;
    EXPECT_EQ(partition_of_key(key, 1'000'003), positive % 1'000'003) << key;
  }
}

}  // namespace
}  // namespace shoal::streams
