// Between agents: outboxes on their way to the owners of streams, and requests to those owners.
#include <fmt/format.h>

#include <algorithm>

#include "streams/broker/broker_impl.h"

namespace shoal::streams {
namespace {

constexpr std::size_t kForwardBytes = 1U << 20;  // of one message, if more is waiting

std::uint16_t number(MessageKind kind) {
  return static_cast<std::uint16_t>(kind);
}

}  // namespace

template <class Message>
void Broker::Impl::send(const wire::Address& target, std::uint16_t kind, const Message& message) {
  wire::Envelope envelope;
  envelope.kind = kind;
  envelope.source = config_.address;
  envelope.target = target;
  envelope.body = wire::encode(message);
  outputs.emplace_back(out::Send{std::move(envelope)});
}
template void Broker::Impl::send(const wire::Address&, std::uint16_t, const GoneMessage&);
template void Broker::Impl::send(const wire::Address&, std::uint16_t, const ReplyMessage&);
template void Broker::Impl::send(const wire::Address&, std::uint16_t, const ForwardedMessage&);

// ---- outboxes ----

void Broker::Impl::pump(Instant now, Stream& stream) {
  touch(stream.info.name);
  Forwarder& forwarder = stream.forwarder;
  if (!stream.outbox || stream.outbox->empty() || now < forwarder.not_before) return;
  if (forwarder.in_flight && (now < forwarder.answer_due || (stream.sink && stream.sink->busy()))) return;
  auto message = stream.outbox->next(kForwardBytes);
  if (!message) {
    trace(fmt::format("outbox of stream {}: {}", stream.info.name, message.error().message));
    forwarder.not_before = now + config_.limits.retry_max;
    return;
  }
  if (!*message) return;
  if (forwarder.in_flight) {  // no answer came: ask less often
    forwarder.pause = std::min(std::max(forwarder.pause * 2, config_.limits.retry_first), config_.limits.retry_max);
  }
  forwarder.in_flight = true;
  forwarder.next = (*message)->next;
  forwarder.answer_due = now + std::max(config_.limits.request_timeout, forwarder.pause);
  if (stream.info.is_kafka()) {
    pump_kafka(now, stream, std::move(**message));
  } else if (stream.owned) {
    const std::uint64_t id = next_id_++;
    own_forwards_[id] = stream.info.name;
    Caller caller{Caller::Kind::kNobody, {config_.address.agent, {}}, id, {}, {}};
    stream.owned->forward(now, std::move(caller), **message, answers_);
  } else {
    send(stream.info.owner, number(MessageKind::kForward), **message);
  }
}

// Records go to Kafka, operations on writers to the owner: never both under way, so they keep their order.
void Broker::Impl::pump_kafka(Instant now, Stream& stream, ForwardMessage message) {
  const bool operations = read_batch_header(message.batches.front())->control;
  for (std::size_t i = 0; i < message.batches.size(); ++i) {
    auto header = read_batch_header(message.batches[i]);
    if (header->control == operations) continue;
    message.next = header->base_offset;
    message.batches.resize(i);
  }
  stream.forwarder.next = message.next;
  if (operations) {
    if (stream.owned) {
      const std::uint64_t id = next_id_++;
      own_forwards_[id] = stream.info.name;
      Caller caller{Caller::Kind::kNobody, {config_.address.agent, {}}, id, {}, {}};
      stream.owned->forward(now, std::move(caller), message, answers_);
    } else {
      send(stream.info.owner, number(MessageKind::kForward), message);
    }
    return;
  }
  if (!stream.sink) {
    auto options = kafka_options(stream.info);
    if (options) options->reads = false;
    auto engine =
        options ? open_kafka(std::move(*options)) : Result<std::unique_ptr<Engine>>(tl::unexpected(options.error()));
    if (!engine) {
      trace(fmt::format("stream {}: {}", stream.info.name, engine.error().message));
      stream.forwarder.in_flight = false;
      stream.forwarder.not_before = now + config_.limits.retry_max;
      return;
    }
    stream.sink = std::make_unique<KafkaSink>(std::move(*engine));
  }
  stream.sink->send(message);
  if (auto result = stream.sink->take_result()) forwarded(now, stream.info.name, *result);
}

void Broker::Impl::forwarded(Instant now, const std::string& name, const Result<Offset>& next) {
  const auto it = streams_.find(name);
  if (it == streams_.end() || !it->second.outbox) return;
  Stream& stream = it->second;
  Forwarder& forwarder = stream.forwarder;
  touch(name);
  if (next) {
    const Offset before = stream.outbox->cursor();
    if (auto moved = stream.outbox->advance(*next); !moved) trace(moved.error().message);
    counters_.records_forwarded += static_cast<std::uint64_t>(stream.outbox->cursor() - before);
    if (*next < forwarder.next) return;  // of an earlier message; the one under way is still to be answered
    if (!forwarder.reachable) trace(fmt::format("stream {}: records flow again", name));
    forwarder = {};
    pump(now, stream);
    return;
  }
  if (forwarder.reachable) {
    trace(fmt::format("stream {}: records wait in the outbox: {}", name, next.error().message));
  }
  forwarder.reachable = false;
  forwarder.in_flight = false;
  forwarder.pause = std::min(std::max(forwarder.pause * 2, config_.limits.retry_first), config_.limits.retry_max);
  forwarder.not_before = now + forwarder.pause;
  if (next.error().code == Code::kNotFound) {  // moved, or made anew: the registration knows
    const std::uint64_t id = next_id_++;
    record_queries_[id] = {RecordUse::kCheck, name, {}};
    outputs.emplace_back(out::GetRecord{id, record_name(name)});
  }
}

// ---- requests to owners ----

std::string Broker::Impl::delivery_key(const Request& request) {
  return request.name + "\n" + request.params.text_or("group", "default") + "\n" +
         request.params.text_or("consumer", "");
}

void Broker::Impl::send_request(Instant now, Request request, const Stream& stream) {
  if (remotes_.size() >= config_.limits.pending_max) {
    reply(std::move(request.caller),
          fail(Code::kExhausted, "too many requests to other agents are under way: try again"));
    return;
  }
  Remote remote;
  remote.owner = stream.info.owner;
  remote.client_due = now;
  Duration patience = config_.limits.request_timeout;
  if (request.caller.kind == Caller::Kind::kGather) patience = std::min(patience, seconds(1));
  if (request.method == "streams.poll") {
    const std::int64_t timeout = std::clamp<std::int64_t>(request.params.int_or("timeout_ms", 1000), 0, 600'000);
    remote.client_due = now + milliseconds(timeout);
    Client& client = clients_[request.caller.origin.client];
    client.owners.insert(remote.owner.agent);
    const auto delivered = client.deliveries.find(delivery_key(request));
    (*request.params.as_map())["delivered"] = delivered == client.deliveries.end() ? 0 : delivered->second;
    alive_at_ = std::min(alive_at_, now + config_.limits.consumer_lease / 3);
  }
  remote.give_up = remote.client_due + patience;
  remote.request = std::move(request);
  const std::uint64_t id = next_id_++;
  Remote& kept = remotes_[id] = std::move(remote);
  transmit(now, id, kept);
}

void Broker::Impl::transmit(Instant now, std::uint64_t id, Remote& remote) {
  RequestMessage message;
  message.id = id;
  message.client = remote.request.caller.origin.client.value();
  message.method = remote.request.method;
  message.params = remote.request.params;
  if (remote.request.method == "streams.poll") {
    (*message.params.as_map())["timeout_ms"] = std::max<std::int64_t>((remote.client_due - now).us / 1000, 0);
  }
  remote.send_at = Instant::never();
  remote.sent = true;
  send(remote.owner, number(MessageKind::kRequest), message);
}

void Broker::Impl::remote_reply(std::uint64_t id, Result<wire::Dynamic> result) {
  const auto it = remotes_.find(id);
  if (it == remotes_.end()) return;
  Remote remote = std::move(it->second);
  remotes_.erase(it);
  Request& request = remote.request;
  if (!result && result.error().code == Code::kNotFound && !request.again &&
      request.caller.kind == Caller::Kind::kClient && request.method != "streams.delete") {
    request.again = true;  // the owner may have changed since the registration was read
    look_up(std::move(request));
    return;
  }
  const auto stream = streams_.find(request.name);
  if (result && stream != streams_.end()) {
    if (request.method == "streams.poll") note_delivery(request, *result);
    if (request.method == "streams.add_writer") writer_added(request, stream->second);
    if (request.method == "streams.status" && result->as_map() != nullptr)
      add_outbox(*result->as_map(), stream->second);
    if (request.method == "streams.delete" && !stream->second.owned) {
      timers_.erase({stream->second.timer, request.name});
      streams_.erase(stream);
      remove_tree(outbox_directory(request.name));
    }
  }
  reply(std::move(request.caller), std::move(result));
}

void Broker::Impl::note_delivery(const Request& request, const wire::Dynamic& result) {
  const auto client = clients_.find(request.caller.origin.client);
  if (client == clients_.end()) return;
  if (const auto* delivery = result["delivery"].as_int()) client->second.deliveries[delivery_key(request)] = *delivery;
  if (const auto* records = result["records"].as_array()) counters_.records_out += records->size();
}

// The owner did not answer in time. A poll has then simply found nothing; registering a writer can wait in the outbox.
void Broker::Impl::remote_failed(Instant now, Remote remote) {
  Request& request = remote.request;
  const auto stream = streams_.find(request.name);
  if (request.method == "streams.poll") {
    reply(std::move(request.caller), Consumers::nothing());
    return;
  }
  if (request.method == "streams.add_writer" && stream != streams_.end() && !stream->second.owned) {
    auto outbox = outbox_of(stream->second);
    auto queued = outbox ? (*outbox)->append(Operation::kAddWriter, request.params.text_or("writer", ""))
                         : Result<>(tl::unexpected(outbox.error()));
    if (queued) {
      writer_added(request, stream->second);
      reply(std::move(request.caller), wire::Dynamic(wire::Dynamic::Map{{"queued", true}}));
      pump(now, stream->second);
    } else {
      reply(std::move(request.caller), tl::unexpected(queued.error()));
    }
    return;
  }
  reply(std::move(request.caller),
        fail(Code::kUnavailable, fmt::format("agent {}, which owns stream '{}', does not answer: try again later",
                                             remote.owner.agent.brief(), request.name)));
}

void Broker::Impl::on_unreachable(Instant now, AgentId agent) {
  for (auto& [name, stream] : streams_) {
    if (stream.info.owner.agent != agent || !stream.forwarder.in_flight || stream.owned) continue;
    if (stream.sink && stream.sink->busy()) continue;
    forwarded(now, name, fail(Code::kUnavailable, "there is no way to its owner " + agent.brief()));
  }
  for (auto& [id, remote] : remotes_) {
    if (remote.owner.agent != agent) continue;
    remote.send_at = now + config_.limits.retry_first;
    if (remote.request.method == "streams.poll") remote.give_up = std::min(remote.give_up, remote.client_due);
    // A writer is registered through the outbox rather than kept waiting.
    if (remote.request.method == "streams.add_writer")
      remote.give_up = std::min(remote.give_up, now + milliseconds(500));
    if (remote.request.caller.kind == Caller::Kind::kGather) remote.give_up = now;
  }
}

void Broker::Impl::on_reachable(Instant now, AgentId agent) {
  heard_from(agent);
  for (auto& [name, stream] : streams_) {
    if (stream.info.owner.agent != agent || stream.owned || !stream.outbox) continue;
    stream.forwarder.not_before = now;
    pump(now, stream);
  }
  for (auto& [id, remote] : remotes_) {
    if (remote.owner.agent == agent && remote.send_at != Instant::never()) remote.send_at = now;
  }
}

void Broker::Impl::on_agent_dead(Instant now, AgentId agent) {
  on_unreachable(now, agent);
  for (auto& [name, stream] : streams_) {
    if (!stream.owned) continue;
    stream.owned->consumers().agent_gone(agent);
    stream.owned->on_news(now, answers_);
    if (stream.owned->writing_agents().contains(agent)) {
      agent_leases_.try_emplace(agent, now + config_.limits.agent_lease);
    }
    touch(name);
  }
}

void Broker::Impl::heard_from(AgentId agent) {
  agent_leases_.erase(agent);
}

// Owners keep records for our consumers, and streams open for our writers, as long as they hear of them.
void Broker::Impl::send_alive(Instant now) {
  std::map<AgentId, AliveMessage> messages;
  for (const auto& [client, state] : clients_) {
    for (const AgentId owner : state.owners) messages[owner].clients.push_back(client.value());
  }
  for (const auto& [key, writer] : local_writers_) {
    const auto it = streams_.find(key.first);
    if (it != streams_.end() && !it->second.owned) messages[it->second.info.owner.agent];
  }
  alive_at_ = messages.empty() ? Instant::never() : now + config_.limits.consumer_lease / 3;
  for (const auto& [name, stream] : streams_) {
    const auto it = messages.find(stream.info.owner.agent);
    if (it == messages.end()) continue;
    send(stream.info.owner, number(MessageKind::kAlive), it->second);
    messages.erase(it);
  }
}

void Broker::Impl::on_frame(Instant now, const wire::Envelope& envelope) {
  const AgentId agent = envelope.source.agent;
  heard_from(agent);
  switch (static_cast<MessageKind>(envelope.kind)) {
    case MessageKind::kRequest: {
      auto message = wire::decode<RequestMessage>(envelope.body);
      if (!message) return;
      Caller caller{Caller::Kind::kAgent, {agent, ClientId(message->client)}, message->id, envelope.source, {}};
      auto name = parse_name(message->params);
      if (!name) {
        reply(std::move(caller), tl::unexpected(name.error()));
        return;
      }
      find(now, {std::move(caller), std::move(message->method), std::move(message->params), std::move(*name), false});
      return;
    }
    case MessageKind::kReply: {
      auto message = wire::decode<ReplyMessage>(envelope.body);
      if (!message) return;
      remote_reply(message->id, message->code == 0
                                    ? Result<wire::Dynamic>(std::move(message->result))
                                    : Result<wire::Dynamic>(fail(static_cast<Code>(message->code), message->message)));
      return;
    }
    case MessageKind::kForward: {
      auto message = wire::decode<ForwardMessage>(envelope.body);
      if (!message) return;
      Caller caller{Caller::Kind::kForward, {agent, {}}, 0, envelope.source, message->stream};
      const auto it = streams_.find(message->stream);
      if (it == streams_.end() || !it->second.owned) {
        reply(std::move(caller), fail(Code::kNotFound, "agent " + config_.address.agent.brief() +
                                                           " does not own stream '" + message->stream + "'"));
        return;
      }
      touch(message->stream);
      it->second.owned->forward(now, std::move(caller), *message, answers_);
      return;
    }
    case MessageKind::kForwarded: {
      auto message = wire::decode<ForwardedMessage>(envelope.body);
      const auto it = message ? streams_.find(message->stream) : streams_.end();
      if (it == streams_.end() || it->second.info.owner.agent != agent) return;
      if (!it->second.forwarder.in_flight) return;
      forwarded(now, message->stream,
                message->code == 0 ? Result<Offset>(message->next)
                                   : Result<Offset>(fail(static_cast<Code>(message->code), message->message)));
      return;
    }
    case MessageKind::kAlive: {
      auto message = wire::decode<AliveMessage>(envelope.body);
      if (!message) return;
      for (auto& [name, stream] : streams_) {
        if (!stream.owned) continue;
        for (const std::uint64_t client : message->clients)
          stream.owned->consumers().alive(now, {agent, ClientId(client)});
        touch(name);
      }
      return;
    }
    case MessageKind::kGone: {
      auto message = wire::decode<GoneMessage>(envelope.body);
      if (!message) return;
      for (auto& [name, stream] : streams_) {
        const Origin origin{agent, ClientId(message->client)};
        if (!stream.owned || !stream.owned->consumers().knows(origin)) continue;
        stream.owned->consumers().gone(origin);
        stream.owned->on_news(now, answers_);
        touch(name);
      }
      return;
    }
  }
}

}  // namespace shoal::streams
