#include "streams/broker/consumers.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "protocol/base/check.h"
#include "streams/log/file.h"

namespace shoal::streams {
namespace {

constexpr Duration kFlushAfter = milliseconds(50);
// Within the patience of an agent that forwarded the poll (BrokerLimits::request_timeout).
constexpr Duration kPositionPatience = seconds(4);
constexpr std::size_t kPollRecordsMax = 10'000;
constexpr std::int64_t kPollTimeoutMaxMs = 600'000;

// The file of positions.
struct SavedGroup {
  std::string key;
  bool broadcast = false;
  Group::State state;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.key, self.broadcast, self.state);
  }
};
struct SavedGroups {
  std::uint32_t version = 1;
  std::vector<SavedGroup> groups;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.groups);
  }
};

wire::Dynamic record_row(StoredRecord& stored) {
  wire::Dynamic::Map headers;
  for (auto& [name, value] : stored.record.headers) headers[name] = std::move(value);
  wire::Dynamic::Array row;
  row.emplace_back(std::move(stored.record.value));
  row.emplace_back(stored.record.key ? wire::Dynamic(std::move(*stored.record.key)) : wire::Dynamic());
  row.emplace_back(stored.record.timestamp_ms);
  row.emplace_back(std::move(headers));
  row.emplace_back(stored.partition);
  row.emplace_back(stored.offset);
  return row;
}

std::vector<Extent> extents_of(const Engine& engine) {
  std::vector<Extent> extents;
  for (std::uint32_t i = 0; i < engine.partitions(); ++i) extents.push_back(engine.extent(i));
  return extents;
}

bool starts_at_end(const PollRequest& request) {
  const auto* text = request.start.as_text();
  return text != nullptr && *text == "latest";
}

Offset start_of(const PollRequest& request, const Extent& extent) {
  if (const auto* offset = request.start.as_int()) return std::max<Offset>(*offset, 0);
  return starts_at_end(request) ? extent.end : extent.start;
}

}  // namespace

Result<PollRequest> parse_poll(const wire::Dynamic& params, const Origin& origin) {
  PollRequest request;
  request.group = params.text_or("group", "default");
  request.mode = params.text_or("mode", "partitioned");
  if (request.mode != "partitioned" && request.mode != "shared" && request.mode != "broadcast") {
    return fail(Code::kInvalid, "mode '" + request.mode + "' is not known; use 'partitioned', 'shared' or 'broadcast'");
  }
  request.consumer = params.text_or("consumer", "");
  if (request.consumer.empty()) {
    request.consumer = fmt::format("{}.{}", origin.agent.hex(), origin.client.value());
  }
  if (request.group.empty() || request.group.size() > 200 || request.consumer.size() > 200 ||
      request.group.find('\n') != std::string::npos) {
    return fail(Code::kInvalid, "names of groups and consumers have 1 to 200 bytes and no line break");
  }
  const std::int64_t max = params.int_or("max", 500);
  if (max < 1) return fail(Code::kInvalid, "max must be at least 1");
  request.max = std::min(static_cast<std::size_t>(max), kPollRecordsMax);
  const std::int64_t timeout = params.int_or("timeout_ms", 1000);
  if (timeout < 0) return fail(Code::kInvalid, "timeout_ms cannot be negative; 0 means: do not wait");
  request.timeout = milliseconds(std::min(timeout, kPollTimeoutMaxMs));
  request.start = params["offset"];
  if (const auto* text = request.start.as_text(); text != nullptr && *text != "earliest" && *text != "latest") {
    return fail(Code::kInvalid, "offset '" + *text + "' is not known; use 'earliest', 'latest' or a number");
  }
  request.auto_commit = params.bool_or("auto_commit", true);
  if (const auto* delivered = params["delivered"].as_int()) request.delivered = *delivered;
  return request;
}

Consumers::Consumers(std::string path, std::uint32_t partitions, Services services)
    : path_(std::move(path)), partitions_(partitions), services_(services) {}

Result<> Consumers::load() {
  auto bytes = read_file(path_);
  if (!bytes) return bytes.error().code == Code::kNotFound ? Result<>() : Result<>(tl::unexpected(bytes.error()));
  auto saved = wire::decode<SavedGroups>(*bytes);
  if (!saved) return fail(Code::kCorrupt, path_ + " is damaged: remove it to let all groups start anew");
  for (const SavedGroup& group : saved->groups) {
    groups_.try_emplace(group.key, Members{Group::restore(group.state, partitions_), group.broadcast, {}, {}});
  }
  return {};
}

Result<> Consumers::flush() {
  SavedGroups saved;
  for (const auto& [key, members] : groups_) saved.groups.push_back({key, members.broadcast, members.group.state()});
  auto written = replace_file(path_, wire::encode(saved), Sync::kNo);
  if (!written) return written;
  dirty_ = false;
  flush_at_ = Instant::never();
  return {};
}

void Consumers::changed(Instant now) {
  if (dirty_) return;
  dirty_ = true;
  flush_at_ = now + kFlushAfter;
}

bool Consumers::evict_broadcast() {
  auto idle = std::find_if(groups_.begin(), groups_.end(),
                           [](const auto& entry) { return entry.second.broadcast && entry.second.by_name.empty(); });
  if (idle == groups_.end()) return false;
  groups_.erase(idle);
  return true;
}

Result<std::string> Consumers::find_or_make(const PollRequest& request) {
  const bool broadcast = request.mode == "broadcast";
  std::string key = broadcast ? request.group + "\n" + request.consumer : request.group;
  const GroupMode mode = request.mode == "partitioned" ? GroupMode::kPartitioned : GroupMode::kShared;
  auto it = groups_.find(key);
  if (it == groups_.end()) {
    if (groups_.size() >= services_.limits.groups_max && !evict_broadcast()) {
      return fail(Code::kExhausted,
                  fmt::format("the stream has {} consumer groups already, the most this agent allows: "
                              "use an existing group",
                              groups_.size()));
    }
    it = groups_.try_emplace(key, Members{Group(mode, partitions_), broadcast, {}, {}}).first;
  } else if (it->second.group.mode() != mode && it->second.group.consumer_count() == 0) {
    Group::State state = it->second.group.state();
    state.mode = mode;
    it->second.group = Group::restore(state, partitions_);
  }
  if (it->second.group.mode() != mode) {
    return fail(Code::kInvalid, fmt::format("group '{}' is in use with another mode than '{}': use one mode per group",
                                            request.group, request.mode));
  }
  return key;
}

Result<> Consumers::join(Instant now, Members& members, const PollRequest& request, const Origin& origin) {
  auto it = members.by_name.find(request.consumer);
  if (it != members.by_name.end() && it->second.origin != origin) {
    // The same name from another process: the earlier one is history (a task that was started again).
    remove_member(members, request.consumer);
  }
  if (!members.group.poll_begins(request.consumer, now)) {
    return fail(Code::kExhausted, "the group has too many consumers");
  }
  members.by_name[request.consumer].origin = origin;
  origins_[origin] = now;
  return {};
}

// What the consumer's last answer held is done, unless that answer got lost on the way.
void Consumers::settle(Members& members, const PollRequest& request) {
  const Member& member = members.by_name.at(request.consumer);
  if (request.delivered && *request.delivered != member.delivery) {
    services_.counters.redelivered += static_cast<std::uint64_t>(members.group.give_back(request.consumer));
  } else if (request.auto_commit) {
    members.group.acknowledge(request.consumer);
  }
}

void Consumers::drop_waiting(const std::string& key, const std::string& consumer, std::vector<Answer>* answers) {
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (it->key != key || it->request.consumer != consumer) {
      ++it;
      continue;
    }
    if (answers != nullptr) {
      answers->push_back({it->caller, fail(Code::kCancelled, "the consumer polled again before this was answered")});
    }
    it = waiting_.erase(it);
  }
}

void Consumers::poll(Instant now, Caller caller, PollRequest request, Source source, std::vector<Answer>& answers) {
  auto key = find_or_make(request);
  if (!key) {
    answers.push_back({std::move(caller), tl::unexpected(key.error())});
    return;
  }
  Members& members = groups_.at(*key);
  drop_waiting(*key, request.consumer, &answers);
  auto joined = join(now, members, request, caller.origin);
  if (!joined) {
    answers.push_back({std::move(caller), tl::unexpected(joined.error())});
    return;
  }
  settle(members, request);
  changed(now);
  source.engine.watch();
  if (!members.fresh) members.fresh = source.engine.refresh();
  const Instant deadline = now + request.timeout;
  waiting_.push_back({std::move(caller), std::move(request), std::move(*key), deadline, false});
  serve(now, source, answers);
}

bool Consumers::answer(Instant now, Waiting& waiting, Source& source, const std::vector<Extent>& extents,
                       std::size_t share, std::vector<Answer>& answers) {
  Members& members = groups_.at(waiting.key);
  Group& group = members.group;
  const std::string& consumer = waiting.request.consumer;
  const bool can_position = source.engine.ready() && members.fresh && source.engine.is_fresh(*members.fresh);
  for (std::uint32_t i = 0; i < partitions_ && can_position; ++i) {
    if (!group.has_position(i)) group.seek(i, start_of(waiting.request, extents[i]));
  }
  if (now >= waiting.deadline && starts_at_end(waiting.request) && !group.has_position(partitions_ - 1)) {
    waiting.late = true;
    if (now < waiting.deadline + kPositionPatience) return false;
    group.poll_ends(consumer);
    answers.push_back({waiting.caller, fail(Code::kUnavailable,
                                            "the end of the stream is not known, because its brokers do not "
                                            "answer: poll again")});
    return true;
  }
  const std::size_t max = std::min(share, waiting.request.max);
  std::size_t bytes = 0;
  wire::Dynamic::Array rows;
  for (const Group::Want& want : group.wants(consumer, extents)) {
    if (rows.size() >= max || bytes >= services_.limits.poll_bytes_max) break;
    auto records =
        source.engine.fetch(want.partition, want.from,
                            std::min<std::size_t>(max - rows.size(), static_cast<std::size_t>(want.below - want.from)),
                            services_.limits.poll_bytes_max - bytes);
    if (!records) {
      if (!rows.empty()) break;
      group.poll_ends(consumer);
      answers.push_back({waiting.caller, tl::unexpected(records.error())});
      return true;
    }
    std::erase_if(*records, [&](const StoredRecord& record) { return record.offset >= want.below; });
    if (records->empty()) continue;
    group.deal(consumer, want, records->back().offset);
    for (StoredRecord& record : *records) {
      bytes += record.record.bytes();
      rows.push_back(record_row(record));
    }
  }
  const bool at_end =
      rows.empty() && source.closed && group.at_end(consumer, extents, now - services_.limits.writer_lease);
  if (rows.empty() && !at_end && now < waiting.deadline) return false;
  group.poll_ends(consumer);
  services_.counters.records_out += rows.size();
  services_.counters.bytes_out += bytes;
  if (!rows.empty()) changed(now);
  Member& member = members.by_name.at(consumer);
  wire::Dynamic::Map result;
  if (!rows.empty()) ++member.delivery;
  result["delivery"] = member.delivery;
  result["records"] = std::move(rows);
  result["closed"] = at_end;
  answers.push_back({waiting.caller, wire::Dynamic(std::move(result))});
  return true;
}

void Consumers::serve(Instant now, Source source, std::vector<Answer>& answers) {
  if (waiting_.empty()) return;
  const auto extents = extents_of(source.engine);
  // Once per round: what is there now is divided among all, not what the ones before left over.
  std::map<std::string, std::size_t> shares;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    auto share = shares.find(it->key);
    if (share == shares.end()) {
      share = shares.emplace(it->key, groups_.at(it->key).group.fair_share(extents, kPollRecordsMax)).first;
    }
    it = answer(now, *it, source, extents, share->second, answers) ? waiting_.erase(it) : std::next(it);
  }
}

void Consumers::answer_all(const Result<wire::Dynamic>& result, std::vector<Answer>& answers) {
  for (Waiting& waiting : waiting_) answers.push_back({std::move(waiting.caller), result});
  waiting_.clear();
}

wire::Dynamic Consumers::nothing() {
  wire::Dynamic::Map result;
  result["records"] = wire::Dynamic::Array{};
  result["closed"] = false;
  return result;
}

Result<> Consumers::commit(const Origin& origin, const wire::Dynamic& params) {
  const std::string name = params.text_or("group", "default");
  const std::string consumer = params.text_or("consumer", "");
  const auto* offsets = params["offsets"].as_map();
  if (offsets == nullptr) return fail(Code::kInvalid, "a commit needs 'offsets', a map from partition to next offset");
  const bool seek = params.bool_or("seek", false);
  bool found = false;
  for (auto& [key, members] : groups_) {
    const std::string group_name = key.substr(0, key.find('\n'));
    if (group_name != name) continue;
    found = true;
    for (const auto& [partition_text, next_value] : *offsets) {
      std::uint32_t partition = 0;
      const auto [end, error] =
          std::from_chars(partition_text.data(), partition_text.data() + partition_text.size(), partition);
      const auto* next = next_value.as_int();
      if (error != std::errc() || *end != '\0' || next == nullptr || partition >= partitions_) {
        return fail(Code::kInvalid, "'" + partition_text + "' is not a partition with an offset of this stream");
      }
      if (seek) {
        members.group.seek(partition, *next);
        continue;
      }
      for (const auto& [member_name, member] : members.by_name) {
        if (consumer.empty() ? member.origin == origin : member_name == consumer) {
          members.group.acknowledge(member_name, partition, *next);
        }
      }
    }
  }
  if (!found) return fail(Code::kNotFound, "the stream has no consumer group '" + name + "'");
  return flush();
}

void Consumers::remove_member(Members& members, const std::string& consumer) {
  services_.counters.redelivered += static_cast<std::uint64_t>(members.group.leave(consumer));
  members.by_name.erase(consumer);
}

Result<> Consumers::leave(const Origin& origin, const wire::Dynamic& params) {
  const std::string name = params.text_or("group", "default");
  const std::string consumer = params.text_or("consumer", "");
  for (auto& [key, members] : groups_) {
    if (key.substr(0, key.find('\n')) != name) continue;
    std::vector<std::string> leaving;
    for (const auto& [member_name, member] : members.by_name) {
      if (consumer.empty() ? member.origin == origin : member_name == consumer) leaving.push_back(member_name);
    }
    for (const std::string& member : leaving) {
      drop_waiting(key, member, nullptr);
      remove_member(members, member);
      dirty_ = true;
    }
  }
  return flush();
}

void Consumers::alive(Instant now, const Origin& origin) {
  if (auto it = origins_.find(origin); it != origins_.end()) it->second = now;
}

void Consumers::gone(const Origin& origin) {
  if (origins_.erase(origin) == 0) return;
  std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.caller.origin == origin; });
  for (auto& [key, members] : groups_) {
    std::vector<std::string> leaving;
    for (const auto& [name, member] : members.by_name) {
      if (member.origin == origin) leaving.push_back(name);
    }
    for (const std::string& name : leaving) remove_member(members, name);
  }
}

void Consumers::agent_gone(AgentId agent) {
  std::vector<Origin> leaving;
  for (const auto& [origin, heard] : origins_) {
    if (origin.agent == agent) leaving.push_back(origin);
  }
  for (const Origin& origin : leaving) gone(origin);
}

Instant Consumers::next_deadline() const {
  Instant next = flush_at_;
  for (const Waiting& waiting : waiting_) {
    // One whose deadline went by waits for its position, which is announced on the descriptor.
    next = std::min(next, waiting.late ? waiting.deadline + kPositionPatience : waiting.deadline);
  }
  for (const auto& [origin, heard] : origins_) {
    if (origin.agent != services_.self) next = std::min(next, heard + services_.limits.consumer_lease);
  }
  return next;
}

void Consumers::on_wake(Instant now) {
  std::vector<Origin> silent;
  for (const auto& [origin, heard] : origins_) {
    if (origin.agent != services_.self && heard + services_.limits.consumer_lease <= now) silent.push_back(origin);
  }
  for (const Origin& origin : silent) gone(origin);
  // A disk that cannot take positions now gets another chance; a loss only means that records are dealt again.
  if (dirty_ && flush_at_ <= now && !flush()) flush_at_ = now + seconds(1);
}

wire::Dynamic Consumers::rows(const std::vector<Extent>& extents) const {
  wire::Dynamic::Array rows;
  for (const auto& [key, members] : groups_) {
    wire::Dynamic::Map row;
    wire::Dynamic::Map committed;
    for (std::uint32_t i = 0; i < partitions_; ++i) committed[std::to_string(i)] = members.group.committed(i);
    wire::Dynamic::Array consumers;
    for (const auto& [name, member] : members.by_name) consumers.emplace_back(name);
    row["group"] = key.substr(0, key.find('\n'));
    row["mode"] = members.broadcast                            ? "broadcast"
                  : members.group.mode() == GroupMode::kShared ? "shared"
                                                               : "partitioned";
    if (members.broadcast) row["consumer"] = key.substr(key.find('\n') + 1);
    row["consumers"] = std::move(consumers);
    row["lag"] = members.group.lag(extents);
    row["lost"] = members.group.lost();
    row["committed"] = std::move(committed);
    rows.emplace_back(std::move(row));
  }
  return rows;
}

void Consumers::check_invariants() const {
  for (const auto& [key, members] : groups_) {
    members.group.check_invariants();
    for (const auto& [name, member] : members.by_name) {
      SHOAL_CHECK(origins_.contains(member.origin), "a consumer's process is not watched");
    }
  }
  for (const Waiting& waiting : waiting_) SHOAL_CHECK(groups_.contains(waiting.key), "a poll waits in no group");
}

}  // namespace shoal::streams
