#include "streams/broker/owned_stream.h"

#include <fmt/format.h>

#include <algorithm>

#include "protocol/base/check.h"

namespace shoal::streams {
namespace {

constexpr Duration kRetainEvery = seconds(30);
constexpr Duration kMinimumRetainEvery = seconds(1);

}  // namespace

OwnedStream::OwnedStream(std::string directory, Services services)
    : directory_(std::move(directory)), services_(std::move(services)) {}

OwnedStream::~OwnedStream() {
  if (consumers_ && consumers_->next_deadline() != Instant::never()) {
    [[maybe_unused]] const auto flushed = consumers_->flush();  // a loss only means that records are dealt again
  }
}

Result<std::unique_ptr<OwnedStream>> OwnedStream::create(std::string directory, StreamInfo info, Services services,
                                                         const KafkaFactory& kafka) {
  std::unique_ptr<OwnedStream> stream(new OwnedStream(std::move(directory), std::move(services)));
  stream->meta_.info = std::move(info);
  auto made = make_directories(stream->directory_);
  if (made) made = stream->open_engine(kafka);
  if (made) made = stream->save(Sync::kYes);
  if (!made) return tl::unexpected(made.error());
  return stream;
}

Result<std::unique_ptr<OwnedStream>> OwnedStream::load(std::string directory, Services services,
                                                       const KafkaFactory& kafka) {
  std::unique_ptr<OwnedStream> stream(new OwnedStream(std::move(directory), std::move(services)));
  auto bytes = read_file(stream->directory_ + "/meta");
  if (!bytes) return tl::unexpected(bytes.error());
  auto meta = wire::decode<Meta>(*bytes);
  if (!meta || meta->version != 1) {
    return fail(Code::kCorrupt, stream->directory_ + "/meta is damaged or of a newer version");
  }
  stream->meta_ = std::move(*meta);
  auto opened = stream->open_engine(kafka);
  if (!opened) return tl::unexpected(opened.error());
  if (stream->meta_.closed) stream->fresh_ticket_ = stream->engine_->refresh();
  return stream;
}

Result<> OwnedStream::open_engine(const KafkaFactory& kafka) {
  if (meta_.info.is_kafka()) {
    auto engine = kafka(meta_.info);
    if (!engine) return tl::unexpected(engine.error());
    engine_ = std::move(*engine);
  } else {
    EmbeddedOptions options;
    options.partitions = meta_.info.partitions;
    options.durability = meta_.info.durability;
    options.log.segment_bytes = services_.limits.segment_bytes;
    if (meta_.info.retention_bytes > 0) {  // a bound is kept within an eighth
      options.log.segment_bytes =
          std::clamp<std::uint64_t>(meta_.info.retention_bytes / 8, 64U << 10, services_.limits.segment_bytes);
    }
    auto engine = EmbeddedEngine::open(directory_, options, services_.commits);
    if (!engine) return tl::unexpected(engine.error());
    embedded_ = engine->get();
    engine_ = std::move(*engine);
  }
  consumers_ = std::make_unique<Consumers>(directory_ + "/groups", engine_->partitions(), services_);
  return consumers_->load();
}

Result<> OwnedStream::save(Sync sync) {
  return replace_file(directory_ + "/meta", wire::encode(meta_), sync);
}

Result<> OwnedStream::set_info(const StreamInfo& info) {
  meta_.info = info;
  return save(Sync::kYes);
}

bool OwnedStream::append(std::uint64_t publishing, std::uint32_t partition, Bytes batch, OnGap on_gap,
                         std::vector<Answer>& answers) {
  const std::uint64_t token = next_key_++;
  appends_[token] = publishing;
  engine_->append(token, partition, std::move(batch), on_gap);
  collect(answers);
  const auto it = publishing_.find(publishing);
  return it == publishing_.end() || !it->second.error;
}

void OwnedStream::publish(Instant now, Caller caller, PublishRequest request, std::vector<Answer>& answers) {
  if (meta_.closed) {
    answers.push_back(
        {std::move(caller), fail(Code::kInvalid, fmt::format("stream '{}' is closed ({}): add a writer to "
                                                             "open it again, or use a new stream",
                                                             meta_.info.name, meta_.reason))});
    return;
  }
  const std::uint64_t records = request.records.size();
  const std::uint64_t bytes = request.bytes;
  const ProducerStamp stamp = request.stamp;
  auto parts = spread(request, engine_->partitions(), turn_++);
  if (!parts) {
    answers.push_back({std::move(caller), tl::unexpected(parts.error())});
    return;
  }
  const std::uint64_t key = next_key_++;
  publishing_[key] = {std::move(caller), parts->size() + 1, -1, {}, true, std::nullopt};
  for (auto& [partition, part] : *parts) {
    BatchOptions options;
    options.codec = meta_.info.codec;
    options.stamp = stamp;
    auto batch = encode_batch(part, options);
    if (!batch) {
      publishing_[key].error = batch.error();
      --publishing_[key].appends;
      continue;
    }
    append(key, partition, std::move(*batch), OnGap::kRefuse, answers);
  }
  note_rate(now, records, bytes);
  // The count began one too high, so that an append that completes at once does not answer for the rest.
  Publishing& publishing = publishing_.at(key);
  if (--publishing.appends == 0) {
    finish(publishing, answers);
    publishing_.erase(key);
  }
  consumers_->serve(now, source(), answers);
}

void OwnedStream::forward(Instant now, Caller caller, const ForwardMessage& message, std::vector<Answer>& answers) {
  if (message.incarnation != meta_.info.incarnation) {
    answers.push_back(
        {std::move(caller), fail(Code::kNotFound, "the stream was deleted; this is a newer one of its name")});
    return;
  }
  const AgentId agent = caller.origin.agent;
  if (message.dropped > 0) meta_.gaps[agent] = {message.dropped, "outbox full"};
  const std::uint64_t key = next_key_++;
  publishing_[key] = {std::move(caller), message.batches.size() + 1, message.next, {}, true, std::nullopt};
  const auto skip = [&] { --publishing_.at(key).appends; };
  bool going = true;
  for (const Bytes& batch : message.batches) {
    auto header = going ? read_batch_header(batch) : Result<BatchHeader>(fail(Code::kCancelled, ""));
    if (!header) {
      skip();
      continue;
    }
    if (!header->control) {
      note_rate(now, static_cast<std::uint64_t>(header->records), batch.size());
      // After a refusal (a full disk) nothing later may go in: it will all be sent again.
      going = append(key, static_cast<std::uint32_t>(header->leader_epoch), batch, OnGap::kAccept, answers);
      continue;
    }
    auto records = decode_batch(batch, 0);
    if (records) {
      for (const StoredRecord& stored : *records) {
        const auto operation = stored.record.key && !stored.record.key->empty()
                                   ? static_cast<Operation>(stored.record.key->front())
                                   : Operation{};
        if (auto applied = apply(operation, stored.record.value, agent); !applied) {
          publishing_.at(key).error = applied.error();
          going = false;
        }
      }
    }
    skip();
  }
  Publishing& publishing = publishing_.at(key);
  if (--publishing.appends == 0) {
    finish(publishing, answers);
    publishing_.erase(key);
  }
  consumers_->serve(now, source(), answers);
}

void OwnedStream::collect(std::vector<Answer>& answers) {
  std::vector<Appended> done;
  engine_->collect(done);
  for (const Appended& appended : done) {
    const auto token = appends_.find(appended.token);
    if (token == appends_.end()) continue;
    const auto it = publishing_.find(token->second);
    appends_.erase(token);
    if (it == publishing_.end()) continue;
    Publishing& publishing = it->second;
    if (appended.offsets) {
      publishing.parts.emplace_back(appended.partition, *appended.offsets);
      publishing.duplicate = publishing.duplicate && appended.duplicate;
      if (appended.duplicate) ++services_.counters.duplicates;
    } else if (publishing.next >= 0 &&
               (appended.offsets.error().code == Code::kStale || appended.offsets.error().code == Code::kInvalid)) {
      // From a forwarder, a fenced batch was delivered before its later ones, and a malformed one never will be.
      ++services_.counters.duplicates;
    } else {
      publishing.error = appended.offsets.error();
    }
    if (--publishing.appends > 0) continue;
    finish(publishing, answers);
    publishing_.erase(it);
  }
}

void OwnedStream::finish(const Publishing& publishing, std::vector<Answer>& answers) const {
  if (publishing.error) {
    answers.push_back({publishing.caller, tl::unexpected(*publishing.error)});
    return;
  }
  wire::Dynamic::Map result;
  if (publishing.next >= 0) {
    result["next"] = publishing.next;
    answers.push_back({publishing.caller, wire::Dynamic(std::move(result))});
    return;
  }
  wire::Dynamic::Array parts;
  for (const auto& [partition, offsets] : publishing.parts) {
    parts.emplace_back(wire::Dynamic::Array{partition, offsets.first, offsets.last});
  }
  const OffsetRange first = publishing.parts.empty() ? OffsetRange{} : publishing.parts.front().second;
  result["offsets"] = wire::Dynamic::Array{first.first, first.last};
  result["partitions"] = std::move(parts);
  result["durability"] = durability_name(meta_.info.durability);
  result["duplicate"] = publishing.duplicate;
  result["queued"] = false;
  answers.push_back({publishing.caller, wire::Dynamic(std::move(result))});
}

Result<> OwnedStream::add_writer(const std::string& writer, AgentId agent) {
  if (writer.empty() || writer.size() > kNameBytesMax) {
    return fail(Code::kInvalid, "a writer needs a name of 1 to 200 bytes");
  }
  auto it = meta_.writers.find(writer);
  if (it != meta_.writers.end() && it->second.open && it->second.agent == agent) return {};
  if (it == meta_.writers.end() && meta_.writers.size() >= services_.limits.writers_max) {
    // Writers that ended are remembered for the status page only.
    const auto ended =
        std::find_if(meta_.writers.begin(), meta_.writers.end(), [](const auto& entry) { return !entry.second.open; });
    if (ended == meta_.writers.end()) return fail(Code::kExhausted, "the stream has too many open writers");
    meta_.writers.erase(ended);
  }
  meta_.writers[writer] = {agent, true, ""};
  meta_.closed = false;
  meta_.reason.clear();
  return save(Sync::kNo);
}

Result<> OwnedStream::close_writer(const std::string& writer, const std::string& reason) {
  if (!meta_.writers.contains(writer) && meta_.writers.size() >= services_.limits.writers_max) {
    return fail(Code::kExhausted, "the stream has too many writers");
  }
  Writer& state = meta_.writers[writer];
  if (!state.open) return {};
  state.open = false;
  state.reason = reason;
  const bool any_open =
      std::any_of(meta_.writers.begin(), meta_.writers.end(), [](const auto& entry) { return entry.second.open; });
  if (any_open) return save(Sync::kNo);
  return close_now(reason);
}

Result<> OwnedStream::force_close(const std::string& reason) {
  for (auto& [name, writer] : meta_.writers) {
    if (writer.open) writer = {writer.agent, false, reason};
  }
  return close_now(reason);
}

Result<> OwnedStream::close_now(const std::string& reason) {
  meta_.closed = true;
  meta_.reason = reason;
  fresh_ticket_ = engine_->refresh();
  return save(Sync::kYes);
}

Result<> OwnedStream::apply(Operation operation, const std::string& writer, AgentId agent) {
  switch (operation) {
    case Operation::kAddWriter:
      return add_writer(writer, agent);
    case Operation::kClose:
      return close_writer(writer, "all writers closed");
    case Operation::kLeaseEnded:
      return close_writer(writer, "the lease of its last writer ended");
    case Operation::kForceClose:
      return force_close("closed by request");
  }
  return {};  // of a newer version: nothing that can be done here
}

std::vector<std::string> OwnedStream::writers_of(AgentId agent) const {
  std::vector<std::string> names;
  for (const auto& [name, writer] : meta_.writers) {
    if (writer.open && writer.agent == agent) names.push_back(name);
  }
  return names;
}

std::set<AgentId> OwnedStream::writing_agents() const {
  std::set<AgentId> agents;
  for (const auto& [name, writer] : meta_.writers) {
    if (writer.open) agents.insert(writer.agent);
  }
  return agents;
}

Consumers::Source OwnedStream::source() {
  return {*engine_, meta_.closed && publishing_.empty() && engine_->is_fresh(fresh_ticket_)};
}

void OwnedStream::poll(Instant now, Caller caller, PollRequest request, std::vector<Answer>& answers) {
  consumers_->poll(now, std::move(caller), std::move(request), source(), answers);
}

void OwnedStream::on_news(Instant now, std::vector<Answer>& answers) {
  collect(answers);
  consumers_->serve(now, source(), answers);
}

void OwnedStream::on_wake(Instant now, std::vector<Answer>& answers) {
  collect(answers);
  consumers_->on_wake(now);
  if (embedded_ != nullptr && (meta_.info.retention_bytes > 0 || meta_.info.retention_ms > 0) && retain_at_ <= now) {
    const std::int64_t before = meta_.info.retention_ms > 0 ? services_.wall_ms() - meta_.info.retention_ms : 0;
    embedded_->retain(meta_.info.retention_bytes, before);
    const Duration tenth = milliseconds(meta_.info.retention_ms / 10);
    retain_at_ = now + (meta_.info.retention_bytes > 0 ? kMinimumRetainEvery
                                                       : std::clamp(tenth, kMinimumRetainEvery, kRetainEvery));
  }
  consumers_->serve(now, source(), answers);
}

Instant OwnedStream::next_deadline() const {
  Instant next = consumers_->next_deadline();
  if (meta_.info.retention_bytes > 0 || meta_.info.retention_ms > 0) next = std::min(next, retain_at_);
  return next;
}

void OwnedStream::note_rate(Instant now, std::uint64_t records, std::uint64_t bytes) {
  const std::int64_t second = now.us / 1'000'000;
  Second& slot = rates_[static_cast<std::size_t>(second) % rates_.size()];
  if (slot.second != second) slot = {second, 0, 0};
  slot.records += records;
  slot.bytes += bytes;
}

wire::Dynamic OwnedStream::row(Instant now) const {
  wire::Dynamic::Map row;
  std::vector<Extent> extents;
  wire::Dynamic::Array partitions;
  std::int64_t records = 0;
  for (std::uint32_t i = 0; i < engine_->partitions(); ++i) {
    extents.push_back(engine_->extent(i));
    records += extents.back().end - extents.back().start;
    wire::Dynamic::Map partition;
    partition["partition"] = i;
    partition["start"] = extents.back().start;
    partition["end"] = extents.back().end;
    partitions.emplace_back(std::move(partition));
  }
  wire::Dynamic::Array writers;
  for (const auto& [name, writer] : meta_.writers) {
    wire::Dynamic::Map one;
    one["writer"] = name;
    one["agent"] = writer.agent.hex();
    one["open"] = writer.open;
    writers.emplace_back(std::move(one));
  }
  wire::Dynamic::Array gaps;
  for (const auto& [agent, gap] : meta_.gaps) {
    wire::Dynamic::Map one;
    one["agent"] = agent.hex();
    one["count"] = gap.records;
    one["cause"] = gap.cause;
    gaps.emplace_back(std::move(one));
  }
  double rate_records = 0;
  double rate_bytes = 0;
  for (const Second& slot : rates_) {
    if (slot.second < 0 || slot.second <= now.us / 1'000'000 - static_cast<std::int64_t>(rates_.size())) continue;
    rate_records += static_cast<double>(slot.records);
    rate_bytes += static_cast<double>(slot.bytes);
  }
  wire::Dynamic::Map rates;
  rates["records_in"] = rate_records / static_cast<double>(rates_.size());
  rates["bytes_in"] = rate_bytes / static_cast<double>(rates_.size());
  row["closed"] = meta_.closed;
  row["reason"] = meta_.reason;
  row["bytes"] = engine_->bytes();
  row["records"] = records;
  row["partitions"] = std::move(partitions);
  row["groups"] = consumers_->rows(extents);
  row["writers"] = std::move(writers);
  row["gaps"] = std::move(gaps);
  row["rates"] = std::move(rates);
  return row;
}

void OwnedStream::check_invariants() const {
  for (const auto& [token, key] : appends_) SHOAL_CHECK(publishing_.contains(key), "an append that nobody waits for");
  for (const auto& [key, publishing] : publishing_) SHOAL_CHECK(publishing.appends > 0, "a publish was not answered");
  consumers_->check_invariants();
  if (embedded_ != nullptr) embedded_->check_invariants();
}

}  // namespace shoal::streams
