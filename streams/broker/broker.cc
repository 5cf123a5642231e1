#include "streams/broker/broker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "protocol/base/check.h"
#include "streams/broker/broker_impl.h"

namespace shoal::streams {
namespace {

std::int64_t clock_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Broker::Impl::Impl(BrokerConfig config) : config_(std::move(config)) {
  if (!config_.wall_ms) config_.wall_ms = clock_ms;
  // Numbers of an earlier life must not come back: answers to it may still be under way.
  next_id_ = static_cast<std::uint64_t>(clock_ms()) << 20;
}

Broker::Impl::~Impl() {
  streams_.clear();  // engines and outboxes before what they use
  lookups_.clear();
  commits_.reset();
  if (wake_fd_ >= 0) ::close(wake_fd_);
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

Result<> Broker::Impl::start() {
  for (const char* folder : {"", "/streams", "/outbox"}) {
    if (auto made = make_directories(config_.dir + folder); !made) return made;
  }
  const std::string lock = config_.dir + "/lock";
  lock_fd_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (lock_fd_ < 0) return file_error("open", lock, errno);
  if (::flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    return fail(Code::kDenied, config_.dir + " is in use by another process: stop it, or use another state directory");
  }
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) return file_error("make an eventfd for", config_.dir, errno);
  commits_ = std::make_unique<GroupCommit>(wake_fd_);
  load_streams();
  load_outboxes();
  return {};
}

Services Broker::Impl::services() {
  return {config_.address.agent, config_.limits, config_.wall_ms, *commits_, wake_fd_, counters_};
}

Result<KafkaOptions> Broker::Impl::kafka_options(const StreamInfo& info) const {
  auto url = parse_kafka_url(info.url);
  if (!url) return tl::unexpected(url.error());
  KafkaOptions options;
  options.bootstrap = url->bootstrap;
  options.topic = url->topic;
  options.partitions = info.partitions;
  options.client_id = "shoal-" + config_.address.agent.brief();
  options.wake_fd = wake_fd_;
  return options;
}

OwnedStream::KafkaFactory Broker::Impl::kafka_factory() {
  return [this](const StreamInfo& info) -> Result<std::unique_ptr<Engine>> {
    auto options = kafka_options(info);
    if (!options) return tl::unexpected(options.error());
    return open_kafka(std::move(*options));
  };
}

// A directory that cannot be read costs that stream, not the agent: it is left alone and said so.
void Broker::Impl::load_streams() {
  for (const std::string& entry : list_directory(config_.dir + "/streams")) {
    const std::string directory = config_.dir + "/streams/" + entry;
    auto owned = OwnedStream::load(directory, services(), kafka_factory());
    if (!owned) {
      if (owned.error().code == Code::kNotFound) {
        remove_tree(directory);  // made by a life that ended before it wrote the meta file
      } else {
        trace(fmt::format("stream {} not loaded: {}", unescape_name(entry), owned.error().message));
      }
      continue;
    }
    Stream& stream = streams_[(*owned)->info().name];
    stream.info = (*owned)->info();
    stream.owned = std::move(*owned);
    for (const AgentId agent : stream.owned->writing_agents()) {
      if (agent != config_.address.agent) agent_leases_[agent] = Instant::never();
    }
    for (const std::string& writer : stream.owned->writers_of(config_.address.agent)) {
      local_writers_[{stream.info.name, writer}] = {};
    }
    touch(stream.info.name);
  }
}

void Broker::Impl::load_outboxes() {
  for (const std::string& entry : list_directory(config_.dir + "/outbox")) {
    const std::string directory = config_.dir + "/outbox/" + entry;
    auto outbox = Outbox::open(directory, nullptr, services());
    if (!outbox) {
      if (outbox.error().code == Code::kNotFound) {
        remove_tree(directory);
      } else {
        trace(fmt::format("outbox of {} not loaded: {}", unescape_name(entry), outbox.error().message));
      }
      continue;
    }
    Stream& stream = streams_[(*outbox)->info().name];
    if (!stream.owned) stream.info = (*outbox)->info();
    for (const std::string& writer : (*outbox)->writers()) local_writers_[{stream.info.name, writer}] = {};
    stream.outbox = std::move(*outbox);
    touch(stream.info.name);
  }
}

void Broker::Impl::on_request(Instant now, ClientId client, std::uint64_t request, const std::string& method,
                              const wire::Dynamic& params) {
  Caller caller{Caller::Kind::kClient, {config_.address.agent, client}, request, {}, {}};
  clients_.try_emplace(client);
  if (method == "streams.list") {
    list(std::move(caller));
    return;
  }
  static const std::set<std::string> kMethods = {"streams.open",    "streams.add_writer", "streams.close",
                                                 "streams.publish", "streams.poll",       "streams.commit",
                                                 "streams.leave",   "streams.status",     "streams.delete"};
  if (!kMethods.contains(method)) {
    reply(std::move(caller), fail(Code::kUnsupported, "there is no request '" + method + "'"));
    return;
  }
  auto name = parse_name(params);
  if (!name) {
    reply(std::move(caller), tl::unexpected(name.error()));
    return;
  }
  find(now, {std::move(caller), method, params, std::move(*name), false});
}

void Broker::Impl::on_client_gone(Instant now, ClientId client) {
  const Origin origin{config_.address.agent, client};
  for (auto& [name, stream] : streams_) {
    if (stream.owned && stream.owned->consumers().knows(origin)) {
      stream.owned->consumers().gone(origin);
      stream.owned->on_news(now, answers_);
      touch(name);
    }
  }
  for (auto& [key, writer] : local_writers_) {
    if (writer.client == client && writer.lease_ends == Instant::never()) {
      writer.lease_ends = now + config_.limits.writer_lease;
    }
  }
  const auto is_of_client = [&](const Caller& caller) {
    return caller.kind == Caller::Kind::kClient && caller.origin.client == client;
  };
  std::erase_if(remotes_, [&](const auto& entry) { return is_of_client(entry.second.request.caller); });
  for (auto& [name, lookup] : lookups_) {
    // The request that is being carried out stays: its stream is made in any case.
    if (lookup.waiting.size() < 2) continue;
    lookup.waiting.erase(std::remove_if(lookup.waiting.begin() + 1, lookup.waiting.end(),
                                        [&](const Request& request) { return is_of_client(request.caller); }),
                         lookup.waiting.end());
  }
  const auto it = clients_.find(client);
  if (it == clients_.end()) return;
  for (const AgentId owner : it->second.owners) {
    for (const auto& [name, stream] : streams_) {
      if (stream.info.owner.agent != owner) continue;
      send(stream.info.owner, static_cast<std::uint16_t>(MessageKind::kGone), GoneMessage{client.value()});
      break;
    }
  }
  clients_.erase(it);
}

void Broker::Impl::on_address(Instant now, const wire::Address& address) {
  if (address == config_.address) return;
  config_.address = address;
  for (auto& [name, stream] : streams_) {
    if (!stream.owned) continue;
    stream.info.owner = address;
    if (auto saved = stream.owned->set_info(stream.info); !saved) trace(saved.error().message);
    stream.check_at = now;  // compares, and registers the new address
    touch(name);
  }
}

void Broker::Impl::on_news(Instant now) {
  std::uint64_t count = 0;
  while (::read(wake_fd_, &count, sizeof count) > 0) {
  }
  const std::uint64_t durable = commits_->done();
  while (!queued_.empty() && queued_.front().ticket <= durable) {
    answers_.push_back(std::move(queued_.front().answer));
    queued_.pop_front();
  }
  probed();
  for (auto& [name, stream] : streams_) {
    if (stream.owned && (stream.info.is_kafka() || stream.info.durability == Durability::kLocal)) {
      stream.owned->on_news(now, answers_);
      touch(name);
    }
    if (stream.sink) {
      if (auto result = stream.sink->take_result()) forwarded(now, name, *result);
    }
  }
}

void Broker::Impl::end_leases(Instant now) {
  std::vector<std::pair<std::string, std::string>> ended;
  for (const auto& [key, writer] : local_writers_) {
    if (writer.lease_ends <= now) ended.push_back(key);
  }
  for (const auto& key : ended) {
    local_writers_.erase(key);
    const auto it = streams_.find(key.first);
    if (it == streams_.end()) continue;
    trace(fmt::format("stream {}: the lease of writer {} ended, its process is gone", key.first, key.second));
    Stream& stream = it->second;
    Result<> done;
    if (stream.owned && !stream.info.is_kafka()) {
      done = stream.owned->apply(Operation::kLeaseEnded, key.second, config_.address.agent);
      stream.owned->on_news(now, answers_);
    } else if (auto outbox = outbox_of(stream)) {
      done = (*outbox)->append(Operation::kLeaseEnded, key.second);
      if (done) done = (*outbox)->note_writer(key.second, false);
      pump(now, stream);
    }
    if (!done) trace(done.error().message);
    touch(key.first);
  }
  for (auto it = agent_leases_.begin(); it != agent_leases_.end();) {
    if (it->second > now) {
      ++it;
      continue;
    }
    for (auto& [name, stream] : streams_) {
      if (!stream.owned) continue;
      for (const std::string& writer : stream.owned->writers_of(it->first)) {
        trace(fmt::format("stream {}: the lease of writer {} ended, its agent {} is gone", name, writer,
                          it->first.brief()));
        if (auto done = stream.owned->apply(Operation::kLeaseEnded, writer, it->first); !done)
          trace(done.error().message);
      }
      stream.owned->on_news(now, answers_);
      touch(name);
    }
    it = agent_leases_.erase(it);
  }
}

void Broker::Impl::on_wake(Instant now) {
  if (!started_) {  // leases from before the restart begin now, because only now the time is known
    started_ = true;
    for (auto& [key, writer] : local_writers_) {
      if (writer.client == ClientId{} && writer.lease_ends == Instant::never()) {
        writer.lease_ends = now + config_.limits.writer_lease;
      }
    }
    for (auto& [agent, ends] : agent_leases_) ends = std::min(ends, now + config_.limits.agent_lease);
    for (auto& [name, stream] : streams_) stream.check_at = now;
  }
  on_news(now);
  end_leases(now);
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const std::string name = timers_.begin()->second;
    timers_.erase(timers_.begin());
    Stream& stream = streams_.at(name);
    stream.timer = Instant::never();
    touch(name);
    if (stream.owned) {
      stream.owned->on_wake(now, answers_);
      if (stream.check_at <= now) {
        stream.check_at = now + seconds(30);
        const std::uint64_t id = next_id_++;
        record_queries_[id] = {RecordUse::kCheck, name, {}};
        outputs.emplace_back(out::GetRecord{id, record_name(name)});
      }
    }
    if (stream.outbox) pump(now, stream);
  }
  std::vector<std::uint64_t> due;
  for (const auto& [id, remote] : remotes_) {
    if (std::min(remote.give_up, remote.send_at) <= now) due.push_back(id);
  }
  for (const std::uint64_t id : due) {
    const auto it = remotes_.find(id);
    if (it == remotes_.end()) continue;
    if (it->second.give_up <= now) {
      Remote remote = std::move(it->second);
      remotes_.erase(it);
      remote_failed(now, std::move(remote));
    } else {
      transmit(now, id, it->second);
    }
  }
  if (alive_at_ <= now) send_alive(now);
}

void Broker::Impl::deliver(Instant now, Answer answer) {
  switch (answer.caller.kind) {
    case Caller::Kind::kClient:
      outputs.emplace_back(out::Reply{answer.caller.origin.client, answer.caller.request, std::move(answer.result)});
      return;
    case Caller::Kind::kAgent: {
      ReplyMessage message;
      message.id = answer.caller.request;
      if (answer.result) {
        message.result = std::move(*answer.result);
      } else {
        message.code = static_cast<std::uint8_t>(answer.result.error().code);
        message.message = answer.result.error().message;
      }
      send(answer.caller.address, static_cast<std::uint16_t>(MessageKind::kReply), message);
      return;
    }
    case Caller::Kind::kForward: {
      ForwardedMessage message;
      message.stream = answer.caller.stream;
      if (answer.result) {
        message.next = answer.result->int_or("next", 0);
      } else {
        message.code = static_cast<std::uint8_t>(answer.result.error().code);
        message.message = answer.result.error().message;
      }
      send(answer.caller.address, static_cast<std::uint16_t>(MessageKind::kForwarded), message);
      return;
    }
    case Caller::Kind::kGather:
      gathered(answer.caller.request, std::move(answer.result));
      return;
    case Caller::Kind::kNobody: {
      const auto it = own_forwards_.find(answer.caller.request);
      if (it == own_forwards_.end()) return;
      const std::string name = it->second;
      own_forwards_.erase(it);
      forwarded(now, name,
                answer.result ? Result<Offset>(answer.result->int_or("next", 0))
                              : Result<Offset>(tl::unexpected(answer.result.error())));
      return;
    }
  }
}

void Broker::Impl::finish(Instant now) {
  while (!answers_.empty()) {
    std::vector<Answer> answers = std::exchange(answers_, {});
    for (Answer& answer : answers) deliver(now, std::move(answer));
  }
  for (const std::string& name : touched_) {
    const auto it = streams_.find(name);
    if (it == streams_.end()) continue;
    const Instant due = deadline_of(it->second);
    if (due == it->second.timer) continue;
    timers_.erase({it->second.timer, name});
    it->second.timer = due;
    if (due != Instant::never()) timers_.insert({due, name});
  }
  touched_.clear();
}

Instant Broker::Impl::deadline_of(const Stream& stream) const {
  Instant due = Instant::never();
  if (stream.owned) due = std::min(stream.owned->next_deadline(), stream.check_at);
  if (stream.outbox && !stream.outbox->empty()) {
    due = std::min(due, stream.forwarder.in_flight ? stream.forwarder.answer_due : stream.forwarder.not_before);
  }
  return due;
}

Instant Broker::Impl::next_deadline() const {
  if (!started_) return Instant{};
  Instant due = std::min(alive_at_, timers_.empty() ? Instant::never() : timers_.begin()->first);
  for (const auto& [id, remote] : remotes_) due = std::min({due, remote.give_up, remote.send_at});
  for (const auto& [key, writer] : local_writers_) due = std::min(due, writer.lease_ends);
  for (const auto& [agent, ends] : agent_leases_) due = std::min(due, ends);
  return due;
}

BrokerCounters Broker::Impl::counters() const {
  counters_.streams_owned = 0;
  counters_.outbox_bytes = 0;
  counters_.polls_waiting = remotes_.size();
  for (const auto& [name, stream] : streams_) {
    if (stream.owned) {
      ++counters_.streams_owned;
      counters_.polls_waiting += stream.owned->consumers().waiting();
    }
    if (stream.outbox) counters_.outbox_bytes += stream.outbox->bytes();
  }
  return counters_;
}

void Broker::Impl::check_invariants() const {
  for (const auto& [name, stream] : streams_) {
    SHOAL_CHECK(name == stream.info.name, "a stream is filed under another name");
    if (stream.owned) stream.owned->check_invariants();
    if (stream.outbox) stream.outbox->check_invariants();
    if (stream.timer != Instant::never()) SHOAL_CHECK(timers_.contains({stream.timer, name}), "a timer got lost");
  }
  for (const auto& [name, lookup] : lookups_) SHOAL_CHECK(!lookup.waiting.empty(), "a lookup for nobody");
  SHOAL_CHECK(answers_.empty(), "answers were not delivered");
}

// ---- Broker ----

Broker::Broker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Broker::~Broker() = default;

Result<std::unique_ptr<Broker>> Broker::open(BrokerConfig config) {
  auto impl = std::make_unique<Impl>(std::move(config));
  auto started = impl->start();
  if (!started) return tl::unexpected(started.error());
  return std::unique_ptr<Broker>(new Broker(std::move(impl)));
}

bool Broker::handles(const std::string& method) {
  return method.starts_with("streams.");
}

namespace {

// Runs one entry point and moves its outputs to the caller.
template <class Impl, class Entry>
void enter(Impl& impl, std::vector<Output>& out, Entry&& entry) {
  entry();
  out.insert(out.end(), std::make_move_iterator(impl.outputs.begin()), std::make_move_iterator(impl.outputs.end()));
  impl.outputs.clear();
}

}  // namespace

void Broker::on_request(Instant now, ClientId client, std::uint64_t request, const std::string& method,
                        const wire::Dynamic& params, std::vector<Output>& out) {
  enter(*impl_, out, [&] {
    impl_->on_request(now, client, request, method, params);
    impl_->finish(now);
  });
}
void Broker::on_frame(Instant now, const wire::Envelope& envelope, std::vector<Output>& out) {
  enter(*impl_, out, [&] {
    impl_->on_frame(now, envelope);
    impl_->finish(now);
  });
}
void Broker::on_client_gone(Instant now, ClientId client, std::vector<Output>& out) {
  enter(*impl_, out, [&] {
    impl_->on_client_gone(now, client);
    impl_->finish(now);
  });
}
void Broker::on_record(Instant now, std::uint64_t id, const Result<Registration>& record, std::vector<Output>& out) {
  enter(*impl_, out, [&] {
    impl_->on_record(now, id, record);
    impl_->finish(now);
  });
}
void Broker::on_records(Instant now, std::uint64_t id, const std::vector<Registration>& records,
                        std::vector<Output>& out) {
  enter(*impl_, out, [&] {
    impl_->on_records(now, id, records);
    impl_->finish(now);
  });
}
void Broker::on_unreachable(Instant now, AgentId agent, std::vector<Output>& out) {
  enter(*impl_, out, [&] {
    impl_->on_unreachable(now, agent);
    impl_->finish(now);
  });
}
void Broker::on_reachable(Instant now, AgentId agent, std::vector<Output>& out) {
  enter(*impl_, out, [&] {
    impl_->on_reachable(now, agent);
    impl_->finish(now);
  });
}
void Broker::on_agent_dead(Instant now, AgentId agent, std::vector<Output>& out) {
  enter(*impl_, out, [&] {
    impl_->on_agent_dead(now, agent);
    impl_->finish(now);
  });
}
void Broker::on_address(Instant now, const wire::Address& address, std::vector<Output>& out) {
  enter(*impl_, out, [&] {
    impl_->on_address(now, address);
    impl_->finish(now);
  });
}
void Broker::on_wake(Instant now, std::vector<Output>& out) {
  enter(*impl_, out, [&] {
    impl_->on_wake(now);
    impl_->finish(now);
  });
}
Instant Broker::next_deadline() const {
  return impl_->next_deadline();
}
int Broker::fd() const {
  return impl_->fd();
}
BrokerCounters Broker::counters() const {
  return impl_->counters();
}
void Broker::check_invariants() const {
  impl_->check_invariants();
}

}  // namespace shoal::streams
