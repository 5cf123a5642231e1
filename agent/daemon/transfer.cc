#include "agent/daemon/transfer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace shoal::daemon {
namespace {

constexpr std::uint16_t kAsk = static_cast<std::uint16_t>(wire::Plane::kData) << 8 | 1;
constexpr std::uint16_t kPart = static_cast<std::uint16_t>(wire::Plane::kData) << 8 | 2;

struct AskMessage {
  std::uint64_t id = 0;
  std::string key;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.key, self.offset, self.length);
  }
};

struct PartMessage {
  std::uint64_t id = 0;
  std::uint8_t code = 0;
  std::string message;
  std::uint64_t total = 0;
  ValueTable::Form form = ValueTable::Form::kMemory;
  std::uint64_t offset = 0;
  Bytes bytes;
  std::string name;
  bool pending = false;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.code, self.message, self.total, self.form, self.offset, self.bytes, self.name, self.pending);
  }
};

}  // namespace

struct Transfer::Fetch {
  std::uint64_t id = 0;
  std::string key;
  std::vector<wire::Address> holders;
  std::size_t holder = 0;  // index of the one that is asked now
  std::vector<Done> done;
  bool active = false;
  bool sized = false;      // the first part told the total
  bool pending = false;    // its holder is packing it
  bool unpacking = false;  // it is all here
  std::uint64_t total = 0;
  std::uint64_t asked = 0;                           // bytes asked for so far, from the start
  std::uint64_t received = 0;                        // bytes written
  std::map<std::uint64_t, std::uint32_t> under_way;  // offset → length
  ValueTable::Incoming incoming;
  Instant deadline = Instant::never();
  std::string last_problem;
};

Transfer::Transfer(ValueTable& values, ReadPart read, Unpack unpack, Send send, TransferLimits limits)
    : values_(values), read_(std::move(read)), unpack_(std::move(unpack)), send_(std::move(send)), limits_(limits) {}

Transfer::~Transfer() {
  for (auto& [id, fetch] : fetches_) {
    if (fetch.incoming.fd < 0) continue;
    ::close(fetch.incoming.fd);
    values_.discard(fetch.incoming.value);
    if (!fetch.incoming.archive.empty()) ::unlink(fetch.incoming.archive.c_str());
  }
}

void Transfer::fetch(Instant now, const std::string& key, std::vector<wire::Address> holders, Done done) {
  if (auto it = by_key_.find(key); it != by_key_.end()) {
    fetches_.at(it->second).done.push_back(std::move(done));
    return;
  }
  const std::uint64_t id = ++last_id_;
  Fetch& fetch = fetches_[id];
  fetch.id = id;
  fetch.key = key;
  fetch.holders = std::move(holders);
  fetch.done.push_back(std::move(done));
  by_key_.emplace(key, id);
  waiting_.push_back(id);
  start_waiting(now);
}

void Transfer::start_waiting(Instant now) {
  while (active_ < limits_.active_max && !waiting_.empty()) {
    const std::uint64_t id = waiting_.front();
    waiting_.pop_front();
    auto it = fetches_.find(id);
    if (it == fetches_.end()) continue;
    ++active_;
    it->second.active = true;
    start(now, it->second);
  }
}

void Transfer::start(Instant now, Fetch& fetch) {
  if (fetch.holder >= fetch.holders.size()) {
    const std::string why = fetch.last_problem.empty() ? "nobody is known to hold it" : fetch.last_problem;
    finish(now, fetch.id, fail(Code::kUnavailable, fmt::format("{} cannot be brought here: {}", fetch.key, why)));
    return;
  }
  fetch.under_way.clear();
  fetch.asked = fetch.received;
  ask_more(now, fetch);
}

void Transfer::ask_more(Instant now, Fetch& fetch) {
  const std::uint32_t window = fetch.sized ? limits_.window : 1;
  while (fetch.under_way.size() < window && (!fetch.sized || fetch.asked < fetch.total)) {
    wire::Envelope envelope;
    envelope.kind = kAsk;
    envelope.target = fetch.holders[fetch.holder];
    envelope.body = wire::encode(AskMessage{fetch.id, fetch.key, fetch.asked, limits_.part_bytes});
    if (!send_(std::move(envelope))) {
      next_holder(now, fetch, "agent " + fetch.holders[fetch.holder].agent.brief() + " cannot be reached");
      return;
    }
    fetch.under_way.emplace(fetch.asked, limits_.part_bytes);
    fetch.asked += limits_.part_bytes;
  }
  fetch.deadline = now + limits_.silence;
}

void Transfer::next_holder(Instant now, Fetch& fetch, const std::string& why) {
  fetch.last_problem = why;
  ++fetch.holder;
  start(now, fetch);
}

void Transfer::finish(Instant now, std::uint64_t id, Result<client::Value> result) {
  auto node = fetches_.extract(id);
  Fetch& fetch = node.mapped();
  by_key_.erase(fetch.key);
  if (fetch.active) --active_;
  if (fetch.incoming.fd >= 0) ::close(fetch.incoming.fd);
  if (!result) {
    values_.discard(fetch.incoming.value);
    if (!fetch.incoming.archive.empty()) ::unlink(fetch.incoming.archive.c_str());
  }
  for (auto& done : fetch.done) done(result);
  start_waiting(now);
}

void Transfer::on_frame(Instant now, const wire::Envelope& envelope) {
  if (envelope.kind == kAsk) {
    auto ask = wire::decode<AskMessage>(envelope.body);
    if (!ask) return;
    PartMessage reply;
    reply.id = ask->id;
    reply.offset = ask->offset;
    auto part = read_(ask->key, ask->offset, std::min(ask->length, limits_.part_bytes));
    if (part) {
      reply.total = part->total;
      reply.form = part->form;
      reply.name = std::move(part->name);
      reply.pending = part->pending;
      reply.bytes = std::move(part->bytes);
      bytes_out_ += reply.bytes.size();
    } else {
      reply.code = static_cast<std::uint8_t>(part.error().code);
      reply.message = part.error().message;
    }
    wire::Envelope answer;
    answer.kind = kPart;
    answer.target = envelope.source;
    answer.body = wire::encode(reply);
    send_(std::move(answer));
    return;
  }
  if (envelope.kind != kPart) return;
  auto part = wire::decode<PartMessage>(envelope.body);
  if (!part) return;
  auto it = fetches_.find(part->id);
  if (it == fetches_.end()) return;
  Fetch& fetch = it->second;
  if (fetch.holder >= fetch.holders.size() || fetch.holders[fetch.holder].agent != envelope.source.agent) return;
  auto expected = fetch.under_way.find(part->offset);
  if (expected == fetch.under_way.end()) return;
  fetch.under_way.erase(expected);
  if (part->code != 0) {
    next_holder(now, fetch, "agent " + envelope.source.agent.brief() + ": " + part->message);
    return;
  }
  if (part->pending) {
    fetch.pending = true;
    fetch.asked = fetch.received;
    fetch.deadline = now + limits_.again;
    return;
  }
  if (!fetch.sized) {
    auto incoming = values_.create(fetch.key, part->total, part->form, part->name);
    if (!incoming) {
      finish(now, fetch.id, tl::unexpected<Error>(incoming.error()));
      return;
    }
    fetch.incoming = *incoming;
    fetch.sized = true;
    fetch.total = part->total;
  }
  if (part->total != fetch.total || part->offset + part->bytes.size() > fetch.total ||
      (part->bytes.empty() && fetch.total > part->offset)) {
    next_holder(now, fetch, "agent " + envelope.source.agent.brief() + " has another value under that name");
    return;
  }
  const auto written =
      ::pwrite(fetch.incoming.fd, part->bytes.data(), part->bytes.size(), static_cast<off_t>(part->offset));
  if (written != static_cast<ssize_t>(part->bytes.size())) {
    finish(now, fetch.id,
           fail(Code::kExhausted, fmt::format("cannot write the fetched value: {}", std::strerror(errno))));
    return;
  }
  bytes_in_ += part->bytes.size();
  // Whole up to the first part that is still missing: a relay may have lost one in between.
  fetch.received = fetch.under_way.empty() ? std::min(fetch.asked, fetch.total) : fetch.under_way.begin()->first;
  if (fetch.received >= fetch.total && fetch.under_way.empty()) {
    if (fetch.incoming.archive.empty()) {
      finish(now, fetch.id, fetch.incoming.value);
    } else {
      unpack(fetch);
    }
    return;
  }
  ask_more(now, fetch);
}

void Transfer::unpack(Fetch& fetch) {
  ::close(std::exchange(fetch.incoming.fd, -1));
  fetch.unpacking = true;
  fetch.deadline = Instant::never();
  unpack_(fetch.incoming.archive, std::get<client::FilePath>(fetch.incoming.value).path,
          [this, id = fetch.id](Instant now, Result<> unpacked) {
            if (!fetches_.contains(id)) return;
            if (unpacked) {
              finish(now, id, fetches_.at(id).incoming.value);
            } else {
              finish(now, id, tl::unexpected<Error>(unpacked.error()));
            }
          });
}

void Transfer::on_wake(Instant now) {
  std::vector<std::uint64_t> silent;
  for (const auto& [id, fetch] : fetches_) {
    if (fetch.active && fetch.deadline <= now) silent.push_back(id);
  }
  for (std::uint64_t id : silent) {
    auto it = fetches_.find(id);
    if (it == fetches_.end()) continue;
    Fetch& fetch = it->second;
    if (std::exchange(fetch.pending, false)) {
      ask_more(now, fetch);
    } else {
      next_holder(now, fetch, "agent " + fetch.holders[fetch.holder].agent.brief() + " does not answer");
    }
  }
}

Instant Transfer::next_deadline() const {
  Instant next = Instant::never();
  for (const auto& [id, fetch] : fetches_) {
    if (fetch.active) next = std::min(next, fetch.deadline);
  }
  return next;
}

}  // namespace shoal::daemon
