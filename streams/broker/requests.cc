// What is asked of a stream that is known: here if this agent owns it, through its owner or an outbox if not.
#include <fmt/format.h>

#include "streams/broker/broker_impl.h"

namespace shoal::streams {

wire::Dynamic Broker::Impl::row(Instant now, const Stream& stream) const {
  wire::Dynamic::Map row;
  if (stream.owned) row = std::move(*stream.owned->row(now).as_map());
  const StreamInfo& info = stream.info;
  row["name"] = info.name;
  row["kind"] = info.kind;
  row["url"] = info.url;
  row["partition_count"] = info.partitions;
  row["durability"] = durability_name(info.durability);
  row["owner"] = info.owner.agent.hex();
  row["epoch"] = stream.epoch.value();
  row["reachable"] = true;
  add_outbox(row, stream);
  return row;
}

// Whoever opens wants the shape; the rest belongs to the status.
wire::Dynamic Broker::Impl::opened(const Stream& stream, bool created) const {
  wire::Dynamic::Map answer;
  answer["name"] = stream.info.name;
  answer["kind"] = stream.info.kind;
  answer["url"] = stream.info.url;
  answer["partitions"] = stream.info.partitions;
  answer["durability"] = durability_name(stream.info.durability);
  answer["owner"] = stream.info.owner.agent.hex();
  answer["epoch"] = stream.epoch.value();
  answer["closed"] = stream.owned && stream.owned->closed();
  answer["created"] = created;
  return answer;
}

void Broker::Impl::add_outbox(wire::Dynamic::Map& row, const Stream& stream) const {
  wire::Dynamic::Map outbox;
  outbox["records"] = stream.outbox ? stream.outbox->records() : 0;
  outbox["bytes"] = stream.outbox ? stream.outbox->bytes() : 0;
  outbox["dropped"] = stream.outbox ? stream.outbox->dropped() : 0;
  row["outbox"] = std::move(outbox);
}

void Broker::Impl::handle(Instant now, Request request, Stream& stream) {
  touch(stream.info.name);
  if (request.method == "streams.open") {
    reply(std::move(request.caller), opened(stream, false));
  } else if (stream.owned) {
    handle_owned(now, std::move(request), stream);
  } else if (request.caller.kind == Caller::Kind::kAgent) {
    reply(std::move(request.caller), fail(Code::kNotFound, "this agent does not own stream '" + request.name + "'"));
  } else {
    handle_elsewhere(now, std::move(request), stream);
  }
}

void Broker::Impl::handle_owned(Instant now, Request request, Stream& stream) {
  OwnedStream& owned = *stream.owned;
  const Caller& caller = request.caller;
  const auto done = [&](const Result<>& result) {
    reply(std::move(request.caller), result ? Result<wire::Dynamic>(wire::Dynamic(wire::Dynamic::Map{}))
                                            : Result<wire::Dynamic>(tl::unexpected(result.error())));
  };
  if (request.method == "streams.publish") {
    if (stream.info.is_kafka()) {
      publish_queued(now, std::move(request), stream);
      return;
    }
    auto publish = parse_publish(request.params, config_.wall_ms(), config_.limits.publish_bytes_max);
    if (!publish) {
      done(tl::unexpected(publish.error()));
      return;
    }
    counters_.records_in += publish->records.size();
    counters_.bytes_in += publish->bytes;
    owned.publish(now, std::move(request.caller), std::move(*publish), answers_);
  } else if (request.method == "streams.poll") {
    auto poll = parse_poll(request.params, caller.origin);
    if (!poll) {
      done(tl::unexpected(poll.error()));
    } else if (owned.consumers().waiting() >= config_.limits.polls_max) {
      done(fail(Code::kExhausted, "too many polls wait on this stream: use fewer consumers"));
    } else {
      if (caller.kind == Caller::Kind::kAgent && !poll->delivered) poll->delivered = 0;
      owned.poll(now, std::move(request.caller), std::move(*poll), answers_);
    }
  } else if (request.method == "streams.commit") {
    done(owned.consumers().commit(caller.origin, request.params));
    owned.on_news(now, answers_);
  } else if (request.method == "streams.leave") {
    done(owned.consumers().leave(caller.origin, request.params));
    owned.on_news(now, answers_);
  } else if (request.method == "streams.add_writer") {
    add_writer_owned(std::move(request), stream);
  } else if (request.method == "streams.close") {
    if (stream.info.is_kafka() && caller.kind == Caller::Kind::kClient) {
      close_queued(now, std::move(request), stream);
      return;
    }
    const std::string writer = request.params.text_or("writer", "");
    Result<> closed;
    if (request.params.bool_or("force", false)) {
      closed = owned.force_close("closed by request");
    } else if (writer.empty()) {
      closed = fail(Code::kInvalid, "a close needs 'writer', the name given to streams.add_writer, or 'force': true");
    } else {
      closed = owned.close_writer(writer, "all writers closed");
    }
    if (closed) {
      local_writers_.erase({request.name, writer});
      reply(std::move(request.caller), wire::Dynamic(wire::Dynamic::Map{{"closed", owned.closed()}}));
    } else {
      done(closed);
    }
    owned.on_news(now, answers_);
  } else if (request.method == "streams.status") {
    reply(std::move(request.caller), row(now, stream));
  } else if (request.method == "streams.delete") {
    remove(std::move(request), stream);
  } else {
    done(fail(Code::kUnsupported, "there is no request '" + request.method + "'"));
  }
}

void Broker::Impl::add_writer_owned(Request request, Stream& stream) {
  const std::string writer = request.params.text_or("writer", "");
  auto added = stream.owned->add_writer(writer, request.caller.origin.agent);
  if (!added) {
    reply(std::move(request.caller), tl::unexpected(added.error()));
    return;
  }
  if (request.caller.kind == Caller::Kind::kClient) writer_added(request, stream);
  reply(std::move(request.caller), wire::Dynamic(wire::Dynamic::Map{}));
}

void Broker::Impl::writer_added(const Request& request, Stream& stream) {
  const std::string writer = request.params.text_or("writer", "");
  local_writers_[{stream.info.name, writer}] = {request.caller.origin.client, Instant::never()};
  if (stream.owned && !stream.info.is_kafka()) return;
  alive_at_ = Instant{};  // tell the owner soon that this agent writes
  if (auto outbox = outbox_of(stream)) {
    if (auto noted = (*outbox)->note_writer(writer, true); !noted) trace(noted.error().message);
  }
}

Result<Outbox*> Broker::Impl::outbox_of(Stream& stream) {
  if (!stream.outbox) {
    auto outbox = Outbox::open(outbox_directory(stream.info.name), &stream.info, services());
    if (!outbox) return tl::unexpected(outbox.error());
    stream.outbox = std::move(*outbox);
  }
  return stream.outbox.get();
}

void Broker::Impl::handle_elsewhere(Instant now, Request request, Stream& stream) {
  if (request.method == "streams.publish") {
    publish_queued(now, std::move(request), stream);
  } else if (request.method == "streams.close") {
    close_queued(now, std::move(request), stream);
  } else if (request.method == "streams.poll") {
    auto poll = parse_poll(request.params, request.caller.origin);
    if (!poll) {
      reply(std::move(request.caller), tl::unexpected(poll.error()));
      return;
    }
    (*request.params.as_map())["consumer"] = poll->consumer;
    send_request(now, std::move(request), stream);
  } else {
    send_request(now, std::move(request), stream);
  }
}

// The records are this agent's responsibility once they are in the outbox; how they travel is no business of the
// publisher.
void Broker::Impl::publish_queued(Instant now, Request request, Stream& stream) {
  auto publish = parse_publish(request.params, config_.wall_ms(), config_.limits.publish_bytes_max);
  if (!publish) {
    reply(std::move(request.caller), tl::unexpected(publish.error()));
    return;
  }
  const std::size_t records = publish->records.size();
  const ProducerStamp stamp = publish->stamp;
  auto parts = spread(*publish, stream.info.partitions, static_cast<std::uint32_t>(counters_.records_in));
  auto outbox = outbox_of(stream);
  Result<> queued = !parts    ? Result<>(tl::unexpected(parts.error()))
                    : !outbox ? Result<>(tl::unexpected(outbox.error()))
                              : (*outbox)->append(*parts, stamp);
  if (!queued) {
    reply(std::move(request.caller), tl::unexpected(queued.error()));
    return;
  }
  counters_.records_in += records;
  counters_.bytes_in += publish->bytes;
  wire::Dynamic::Map result;
  result["offsets"] = wire::Dynamic::Array{-1, -1};
  result["partitions"] = wire::Dynamic::Array{};
  result["durability"] = durability_name(stream.info.durability);
  result["duplicate"] = false;
  result["queued"] = true;
  if (stream.info.durability == Durability::kLocal) {
    const std::uint64_t ticket = commits_->add((*outbox)->take_unsynced(), publish->bytes);
    queued_.push_back({ticket, {std::move(request.caller), wire::Dynamic(std::move(result))}});
  } else {
    reply(std::move(request.caller), wire::Dynamic(std::move(result)));
  }
  pump(now, stream);
}

// Closing must not overtake the records before it, so it takes the same way.
void Broker::Impl::close_queued(Instant now, Request request, Stream& stream) {
  const std::string writer = request.params.text_or("writer", "");
  const bool force = request.params.bool_or("force", false);
  if (writer.empty() && !force) {
    reply(std::move(request.caller),
          fail(Code::kInvalid, "a close needs 'writer', the name given to streams.add_writer, or 'force': true"));
    return;
  }
  auto outbox = outbox_of(stream);
  Result<> done = outbox ? (*outbox)->append(force ? Operation::kForceClose : Operation::kClose, writer)
                         : Result<>(tl::unexpected(outbox.error()));
  if (done && !writer.empty()) done = (*outbox)->note_writer(writer, false);
  if (!done) {
    reply(std::move(request.caller), tl::unexpected(done.error()));
    return;
  }
  local_writers_.erase({request.name, writer});
  reply(std::move(request.caller), wire::Dynamic(wire::Dynamic::Map{{"closed", false}, {"queued", true}}));
  pump(now, stream);
}

}  // namespace shoal::streams
