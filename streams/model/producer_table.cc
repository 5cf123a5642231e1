#include "streams/model/producer_table.h"

#include <algorithm>

#include "protocol/base/check.h"

namespace shoal::streams {
namespace {

constexpr std::int64_t kSequences = std::int64_t{1} << 31;

// How far `to` is ahead of `from`, in (-2^30, 2^30]: sequences wrap, and half the circle counts as behind.
std::int64_t distance(std::int32_t from, std::int32_t to) {
  const std::int64_t ahead = (static_cast<std::int64_t>(to) - from + kSequences) % kSequences;
  return ahead > kSequences / 2 ? ahead - kSequences : ahead;
}

}  // namespace

std::int32_t advance_sequence(std::int32_t sequence, std::int64_t count) {
  return static_cast<std::int32_t>((static_cast<std::int64_t>(sequence) + count) % kSequences);
}

ProducerTable::Verdict ProducerTable::judge(const ProducerStamp& stamp, std::int32_t records) const {
  Verdict verdict;
  if (!stamp.stated()) return verdict;
  const auto it = producers_.find(stamp.producer);
  if (it == producers_.end()) return verdict;
  const Producer& producer = it->second;
  verdict.epoch = producer.epoch;
  if (stamp.epoch < producer.epoch) {
    verdict.kind = Kind::kFenced;
    return verdict;
  }
  if (stamp.epoch > producer.epoch) return verdict;
  verdict.expected = advance_sequence(producer.last_sequence, 1);
  const std::int64_t ahead = distance(verdict.expected, stamp.sequence);
  if (ahead == 0) return verdict;
  if (ahead > 0) {
    verdict.kind = Kind::kGap;
    return verdict;
  }
  if (-ahead < records) {
    verdict.kind = Kind::kPartial;
    verdict.skip = static_cast<std::int32_t>(-ahead);
    return verdict;
  }
  verdict.kind = Kind::kDuplicate;
  for (const Appended& batch : producer.recent) {
    const std::int64_t inside = distance(batch.sequence, stamp.sequence);
    if (inside < 0 || inside + records > batch.records) continue;
    verdict.offsets = {batch.first + inside, batch.first + inside + records - 1};
  }
  return verdict;
}

void ProducerTable::note(const ProducerStamp& stamp, std::int32_t records, OffsetRange offsets) {
  if (!stamp.stated()) return;
  auto [it, is_new] = producers_.try_emplace(stamp.producer);
  Producer& producer = it->second;
  if (!is_new && stamp.epoch < producer.epoch) return;
  if (is_new || stamp.epoch > producer.epoch) {
    producer.epoch = stamp.epoch;
    producer.recent.clear();
  }
  producer.last_sequence = advance_sequence(stamp.sequence, records - 1);
  producer.last_offset = offsets.last;
  producer.recent.push_back({stamp.sequence, records, offsets.first});
  if (producer.recent.size() > kBatchesMax) producer.recent.erase(producer.recent.begin());
  if (producers_.size() > kProducersMax) {
    const auto oldest = std::min_element(producers_.begin(), producers_.end(), [](const auto& a, const auto& b) {
      return a.second.last_offset < b.second.last_offset;
    });
    producers_.erase(oldest);
  }
}

Bytes ProducerTable::snapshot() const {
  return wire::encode(producers_);
}

Result<ProducerTable> ProducerTable::restore(std::string_view snapshot) {
  auto producers = wire::decode<std::map<std::int64_t, Producer>>(snapshot);
  if (!producers) return fail(Code::kCorrupt, "a producer snapshot is damaged: " + producers.error().message);
  if (producers->size() > kProducersMax) return fail(Code::kCorrupt, "a producer snapshot has too many producers");
  ProducerTable table;
  table.producers_ = std::move(*producers);
  return table;
}

void ProducerTable::check_invariants() const {
  SHOAL_CHECK(producers_.size() <= kProducersMax, "the producer table outgrew its bound");
  for (const auto& [id, producer] : producers_) {
    SHOAL_CHECK(id >= 0, "a producer without an id is remembered");
    SHOAL_CHECK(!producer.recent.empty() && producer.recent.size() <= kBatchesMax, "recent batches out of bounds");
    const Appended& last = producer.recent.back();
    SHOAL_CHECK(advance_sequence(last.sequence, last.records - 1) == producer.last_sequence,
                "the last sequence is not that of the last batch");
  }
}

}  // namespace shoal::streams
