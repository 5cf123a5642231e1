// Finding, making, listing and deleting streams: what the broker does with the registrations in the federated store.
#include <fmt/format.h>

#include <algorithm>

#include "protocol/base/hash.h"
#include "streams/broker/broker_impl.h"

namespace shoal::streams {

std::string Broker::Impl::stream_directory(const std::string& name) const {
  return config_.dir + "/streams/" + escape_name(name);
}
std::string Broker::Impl::outbox_directory(const std::string& name) const {
  return config_.dir + "/outbox/" + escape_name(name);
}

void Broker::Impl::find(Instant now, Request request) {
  const auto it = streams_.find(request.name);
  // Opening is the moment to learn that somebody else deleted the stream or moved it.
  const bool ask = it == streams_.end() || request.again || (request.method == "streams.open" && !it->second.owned);
  if (!ask) {
    handle(now, std::move(request), it->second);
  } else if (request.caller.kind == Caller::Kind::kAgent) {
    reply(std::move(request.caller), fail(Code::kNotFound, "this agent does not own stream '" + request.name + "'"));
  } else {
    look_up(std::move(request));
  }
}

void Broker::Impl::look_up(Request request) {
  const std::string name = request.name;
  const auto it = lookups_.find(name);
  if (it != lookups_.end()) {
    if (it->second.waiting.size() >= config_.limits.pending_max) {
      reply(std::move(request.caller), fail(Code::kExhausted, "too many requests wait for stream '" + name + "'"));
      return;
    }
    it->second.waiting.push_back(std::move(request));
    return;
  }
  Lookup& lookup = lookups_[name];
  lookup.id = next_id_++;
  lookup.waiting.push_back(std::move(request));
  record_queries_[lookup.id] = {RecordUse::kLookup, name, {}};
  outputs.emplace_back(out::GetRecord{lookup.id, record_name(name)});
}

void Broker::Impl::remember(const StreamInfo& info, Epoch epoch) {
  Stream& stream = streams_[info.name];
  stream.info = info;
  stream.epoch = epoch;
  if (stream.outbox) {
    if (auto saved = stream.outbox->set_info(info); !saved) trace(saved.error().message);
  }
  touch(info.name);
}

void Broker::Impl::on_record(Instant now, std::uint64_t id, const Result<Registration>& record) {
  const auto it = record_queries_.find(id);
  if (it == record_queries_.end()) return;
  const RecordQuery query = std::move(it->second);
  record_queries_.erase(it);
  switch (query.use) {
    case RecordUse::kCheck:
      checked(now, query.name, record);
      return;
    case RecordUse::kRenew:
      if (record && streams_.contains(query.name)) streams_[query.name].epoch = record->epoch;
      return;
    case RecordUse::kRemove:
      return;
    case RecordUse::kLookup:
      break;
  }
  const auto lookup = lookups_.find(query.name);
  if (lookup == lookups_.end()) return;
  if (lookup->second.stage == Lookup::Stage::kRegistering) {
    registered(now, query.name, record);
    return;
  }
  if (record) {
    auto info = wire::decode<StreamInfo>(record->value);
    const auto known = streams_.find(query.name);
    const bool is_ours = known != streams_.end() && known->second.owned;
    if (info && info->name == query.name && !is_ours && info->owner.agent != config_.address.agent) {
      remember(*info, record->epoch);
      resolved(now, query.name);
      return;
    }
    if (is_ours) {
      resolved(now, query.name);
      return;
    }
    // Registered as ours, but this agent's disk does not have it: it can only be made anew.
    not_found(now, query.name, Registering::kReplace);
    return;
  }
  if (record.error().code == Code::kNotFound) {
    not_found(now, query.name, Registering::kNew);
    return;
  }
  // The store cannot answer now. What this agent knows of the stream still serves.
  if (streams_.contains(query.name)) {
    resolved(now, query.name);
    return;
  }
  std::vector<Request> waiting = std::move(lookup->second.waiting);
  lookups_.erase(lookup);
  for (Request& request : waiting) reply(std::move(request.caller), tl::unexpected(record.error()));
}

void Broker::Impl::resolved(Instant now, const std::string& name) {
  const auto lookup = lookups_.find(name);
  std::vector<Request> waiting = std::move(lookup->second.waiting);
  lookups_.erase(lookup);
  for (Request& request : waiting) {
    const auto it = streams_.find(name);
    if (it == streams_.end()) {
      reply(std::move(request.caller), fail(Code::kNotFound, "stream '" + name + "' was deleted"));
    } else {
      handle(now, std::move(request), it->second);
    }
  }
}

// Nobody knows the name: whoever opens it makes the stream, everybody else is told.
void Broker::Impl::not_found(Instant now, const std::string& name, Registering registering) {
  const auto lookup = lookups_.find(name);
  std::vector<Request> waiting = std::move(lookup->second.waiting);
  lookups_.erase(lookup);
  const auto known = streams_.find(name);
  if (known != streams_.end() && !known->second.owned && (!known->second.outbox || known->second.outbox->empty())) {
    timers_.erase({known->second.timer, name});
    streams_.erase(known);
  }
  const auto opening = std::find_if(waiting.begin(), waiting.end(),
                                    [](const Request& request) { return request.method == "streams.open"; });
  std::vector<Request> later;
  std::optional<Request> first;
  for (auto it = waiting.begin(); it != waiting.end(); ++it) {
    if (it == opening) {
      first = std::move(*it);
    } else if (opening != waiting.end()) {
      later.push_back(std::move(*it));
    } else {
      reply(std::move(it->caller), fail(Code::kNotFound, "stream '" + name + "' does not exist: open it first"));
    }
  }
  if (!first) return;
  create(name, std::move(*first), registering);
  for (Request& request : later) find(now, std::move(request));
}

void Broker::Impl::create(const std::string& name, Request request, Registering registering) {
  if (streams_.size() >= config_.limits.streams_max) {
    reply(std::move(request.caller),
          fail(Code::kExhausted, fmt::format("this agent has {} streams, the most it allows: "
                                             "delete some with streams.delete",
                                             streams_.size())));
    return;
  }
  auto info = parse_open(request.params, config_.limits.partitions_max);
  if (!info) {
    reply(std::move(request.caller), tl::unexpected(info.error()));
    return;
  }
  info->owner = config_.address;
  info->incarnation = combine64(hash64(config_.address.agent.bytes()), next_id_++);
  std::vector<Request> waiting;
  waiting.push_back(std::move(request));
  if (!info->is_kafka()) {
    make(name, std::move(*info), std::move(waiting), registering);
    return;
  }
  // The topic may exist with partitions of its own; asking the cluster takes time.
  auto options = kafka_options(*info);
  if (!options) {
    reply(std::move(waiting.front().caller), tl::unexpected(options.error()));
    return;
  }
  Lookup& lookup = lookups_[name];
  lookup.stage = Lookup::Stage::kProbing;
  lookup.waiting = std::move(waiting);
  lookup.info = std::move(*info);
  lookup.registering = registering;
  lookup.probe = probe_kafka(std::move(*options));
}

void Broker::Impl::probed() {
  std::vector<std::pair<std::string, Result<std::uint32_t>>> found;
  for (auto& [name, lookup] : lookups_) {
    if (!lookup.probe) continue;
    if (auto partitions = lookup.probe->take_result()) found.emplace_back(name, std::move(*partitions));
  }
  for (auto& [name, partitions] : found) {
    Lookup lookup = std::move(lookups_.at(name));
    lookups_.erase(name);
    if (partitions) {
      lookup.info.partitions = *partitions;
      make(name, std::move(lookup.info), std::move(lookup.waiting), lookup.registering);
      continue;
    }
    for (Request& request : lookup.waiting) reply(std::move(request.caller), tl::unexpected(partitions.error()));
  }
}

void Broker::Impl::make(const std::string& name, StreamInfo info, std::vector<Request> waiting,
                        Registering registering) {
  const std::string directory = stream_directory(name);
  remove_tree(directory);
  const Bytes value = wire::encode(info);
  auto made = OwnedStream::create(directory, std::move(info), services(), kafka_factory());
  if (!made) {
    remove_tree(directory);
    for (Request& request : waiting) reply(std::move(request.caller), tl::unexpected(made.error()));
    return;
  }
  Lookup& lookup = lookups_[name];
  lookup.stage = Lookup::Stage::kRegistering;
  lookup.id = next_id_++;
  lookup.made = std::move(*made);
  lookup.waiting = std::move(waiting);
  record_queries_[lookup.id] = {RecordUse::kLookup, name, {}};
  outputs.emplace_back(
      out::SetRecord{lookup.id, record_name(name), value, registering == Registering::kNew, std::nullopt, false});
}

void Broker::Impl::registered(Instant now, const std::string& name, const Result<Registration>& record) {
  Lookup lookup = std::move(lookups_.at(name));
  lookups_.erase(name);
  if (!record) {
    lookup.made.reset();
    remove_tree(stream_directory(name));
    for (Request& request : lookup.waiting) {
      if (record.error().code == Code::kExists) {
        look_up(std::move(request));  // somebody was faster: use theirs
      } else {
        reply(std::move(request.caller), tl::unexpected(record.error()));
      }
    }
    return;
  }
  Stream& stream = streams_[name];
  stream.info = lookup.made->info();
  stream.epoch = record->epoch;
  stream.owned = std::move(lookup.made);
  stream.check_at = now + seconds(5);
  touch(name);
  trace(fmt::format("stream {} created", name));
  for (std::size_t i = 0; i < lookup.waiting.size(); ++i) {
    if (i == 0) {
      reply(std::move(lookup.waiting[i].caller), opened(stream, true));
    } else {
      handle(now, std::move(lookup.waiting[i]), stream);
    }
  }
}

// The registration of a stream that this agent uses, read again to see whether things changed.
void Broker::Impl::checked(Instant now, const std::string& name, const Result<Registration>& record) {
  const auto it = streams_.find(name);
  if (it == streams_.end()) return;
  Stream& stream = it->second;
  touch(name);
  auto info = record ? wire::decode<StreamInfo>(record->value) : Result<StreamInfo>(tl::unexpected(record.error()));
  if (!stream.owned) {
    if (info) remember(*info, record->epoch);
    return;
  }
  if (info && info->incarnation != stream.info.incarnation && info->owner.agent != config_.address.agent) {
    demote(now, stream, *info, record->epoch);
    return;
  }
  if (record) stream.epoch = record->epoch;
  const bool lost = !record && record.error().code == Code::kNotFound;
  if (lost || (info && info->owner != stream.info.owner)) {
    const std::uint64_t id = next_id_++;
    record_queries_[id] = {RecordUse::kRenew, name, {}};
    outputs.emplace_back(out::SetRecord{id, record_name(name), wire::encode(stream.info), false, std::nullopt, false});
  }
}

// Two agents made a stream of one name while they could not hear each other; the registration names the other one. What
// was appended here goes there, like anything else in an outbox.
void Broker::Impl::demote(Instant now, Stream& stream, const StreamInfo& winner, Epoch epoch) {
  const std::string name = stream.info.name;
  std::unique_ptr<OwnedStream> owned = std::move(stream.owned);
  owned->consumers().answer_all(Consumers::nothing(), answers_);
  stream.info = winner;
  stream.epoch = epoch;
  auto outbox = outbox_of(stream);
  Result<> moved = outbox ? Result<>() : Result<>(tl::unexpected(outbox.error()));
  for (std::uint32_t i = 0; moved && i < owned->engine().partitions(); ++i) {
    Offset at = owned->engine().extent(i).start;
    while (moved && at < owned->engine().extent(i).end) {
      auto records = owned->engine().fetch(i, at, 1'000, 1U << 20);
      if (!records || records->empty()) break;
      std::map<std::uint32_t, std::vector<Record>> part;
      for (StoredRecord& stored : *records) part[i % winner.partitions].push_back(std::move(stored.record));
      at = records->back().offset + 1;
      moved = (*outbox)->append(part, ProducerStamp{});
    }
  }
  for (const std::string& writer : owned->writers_of(config_.address.agent)) {
    if (moved) moved = (*outbox)->append(Operation::kAddWriter, writer);
    if (moved) moved = (*outbox)->note_writer(writer, true);
  }
  if (!moved) {  // keep it and try again at the next check
    trace(fmt::format("stream {} belongs to {} but cannot be moved there: {}", name, winner.owner.agent.brief(),
                      moved.error().message));
    stream.owned = std::move(owned);
    stream.info = stream.owned->info();
    return;
  }
  trace(fmt::format("stream {} was also created by {}, which keeps it: what was written here is sent there", name,
                    winner.owner.agent.brief()));
  owned.reset();
  remove_tree(stream_directory(name));
  pump(now, stream);
}

void Broker::Impl::remove(Request request, Stream& stream) {
  const std::string name = stream.info.name;
  stream.owned->consumers().answer_all(fail(Code::kNotFound, "stream '" + name + "' was deleted"), answers_);
  const std::uint64_t id = next_id_++;
  record_queries_[id] = {RecordUse::kRemove, name, {}};
  outputs.emplace_back(out::SetRecord{id, record_name(name), {}, false, std::nullopt, true});
  timers_.erase({stream.timer, name});
  streams_.erase(name);
  std::erase_if(local_writers_, [&](const auto& entry) { return entry.first.first == name; });
  remove_tree(stream_directory(name));
  remove_tree(outbox_directory(name));
  trace(fmt::format("stream {} deleted", name));
  reply(std::move(request.caller), wire::Dynamic(wire::Dynamic::Map{}));
}

void Broker::Impl::list(Caller caller) {
  const std::uint64_t id = next_id_++;
  lists_[id] = std::move(caller);
  outputs.emplace_back(out::ListRecords{id, "stream/"});
}

void Broker::Impl::on_records(Instant now, std::uint64_t id, const std::vector<Registration>& records) {
  const auto it = lists_.find(id);
  if (it == lists_.end()) return;
  const std::uint64_t gather = next_id_++;
  gathers_[gather].caller = std::move(it->second);
  lists_.erase(it);
  std::vector<std::string> elsewhere;
  for (const Registration& record : records) {
    auto info = wire::decode<StreamInfo>(record.value);
    if (!info || record_name(info->name) != record.name) continue;
    const auto known = streams_.find(info->name);
    if (known != streams_.end() && known->second.owned) continue;
    if (info->owner.agent == config_.address.agent) continue;  // registered, but gone from this disk
    remember(*info, record.epoch);
    elsewhere.push_back(info->name);
  }
  gathers_[gather].missing = elsewhere.size() + 1;
  for (const auto& [name, stream] : streams_) {
    if (stream.owned) gathers_[gather].rows[name] = row(now, stream);
  }
  for (const std::string& name : elsewhere) {
    Stream& stream = streams_.at(name);
    wire::Dynamic::Map unreachable = *row(now, stream).as_map();
    unreachable["reachable"] = false;
    gathers_[gather].rows[name] = std::move(unreachable);
    Request request;
    request.caller = {Caller::Kind::kGather, {config_.address.agent, {}}, gather, {}, {}};
    request.method = "streams.status";
    request.name = name;
    request.params = wire::Dynamic::Map{{"name", name}};
    send_request(now, std::move(request), stream);
  }
  gathered(gather, fail(Code::kNotFound, ""));  // the extra one of the count above
}

void Broker::Impl::gathered(std::uint64_t id, Result<wire::Dynamic> row) {
  const auto it = gathers_.find(id);
  if (it == gathers_.end()) return;
  if (row) it->second.rows[row->text_or("name", "")] = std::move(*row);
  if (--it->second.missing > 0) return;
  wire::Dynamic::Array rows;
  for (auto& [name, one] : it->second.rows) rows.push_back(std::move(one));
  wire::Dynamic::Map result;
  result["streams"] = std::move(rows);
  reply(std::move(it->second.caller), wire::Dynamic(std::move(result)));
  gathers_.erase(it);
}

}  // namespace shoal::streams
