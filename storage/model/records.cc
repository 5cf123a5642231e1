// Writes of names. A write is decided at the highest region that can be reached, so that a connected realm
// agrees; a cut-off part decides for itself, and after the cut the newest epoch wins everywhere.
#include <algorithm>
#include <utility>

#include "protocol/base/check.h"
#include "storage/model/placement.h"
#include "storage/model/store_impl.h"
#include "storage/model/tombstone.h"

namespace shoal::storage {
namespace {

constexpr std::size_t kRecentDecisionsMax = 1'024;

msg::Decided decided_message(std::uint64_t id, const Result<Record>& record, std::int32_t depth) {
  msg::Decided decided;
  decided.id = id;
  decided.depth = depth;
  if (record) {
    decided.record = *record;
  } else {
    decided.code = static_cast<std::uint8_t>(record.error().code);
    decided.message = record.error().message;
  }
  return decided;
}

}  // namespace

Result<> Store::Impl::check_record(const std::string& name, std::size_t value_bytes) const {
  if (name.empty()) return fail(Code::kInvalid, "the name is empty");
  if (name.size() > config.limits.record_name_bytes_max) {
    return fail(Code::kInvalid,
                "the name is longer than " + std::to_string(config.limits.record_name_bytes_max) + " bytes");
  }
  if (value_bytes > config.limits.record_value_bytes_max) {
    return fail(Code::kExhausted, "the value of '" + name + "' is larger than " +
                                      std::to_string(config.limits.record_value_bytes_max) +
                                      " bytes; store it as an object and name that");
  }
  return {};
}

// ---- records kept here ----

Store::Impl::Accepted Store::Impl::accept(const Record& record) {
  if (!check_record(record.name, record.value.size())) {
    ++counters.bad_frames;
    return Accepted::kRefused;
  }
  auto it = records.find(record.name);
  if (it == records.end()) {
    if (records.size() >= config.limits.records_max) {
      ++counters.refused;
      return Accepted::kRefused;
    }
    it = records.emplace(record.name, StoredRecord{}).first;
  } else {
    if (supersedes(it->second.record, record)) return Accepted::kOlder;
    if (!supersedes(record, it->second.record)) return Accepted::kSame;
  }
  StoredRecord& stored = it->second;
  stored.record = record;
  ++stored.spread.revision;
  stored.ticket = ++last_number;
  persists[stored.ticket].name = record.name;
  emit(out::PersistRecord{stored.ticket, record});
  apply_tombstone(record);
  spread(record.name, stored);
  return Accepted::kNew;
}

void Store::Impl::ready(const Waiter& waiter, std::uint64_t ticket) {
  switch (waiter.kind) {
    case Waiter::Kind::kAck: {
      auto it = acks.find(waiter.number);
      if (it == acks.end()) return;
      it->second.tickets.erase(ticket);
      return send_ack_if_durable(waiter.number);
    }
    case Waiter::Kind::kSet:
      return settle_set(waiter.number);
    case Waiter::Kind::kDecided: {
      auto it = outcomes.find(waiter.number);
      if (it == outcomes.end()) return;
      const auto [record, depth] = std::move(it->second);
      outcomes.erase(it);
      return finish_decision(waiter.number, record, depth);
    }
    case Waiter::Kind::kDelete:
      return settle_delete(waiter.number);
    case Waiter::Kind::kForgotten: {
      auto it = forgets.find(waiter.number);
      if (it == forgets.end()) return;
      send(it->second.first, msg::Forgotten{it->second.second});
      forgets.erase(it);
      return;
    }
  }
}

// ---- a client's request ----

void Store::Impl::on(const in::SetRecord& set) {
  auto refuse = [&](const Error& error) {
    ++counters.refused;
    emit(out::RecordSet{set.request, tl::unexpected<Error>(error)});
  };
  if (auto ok = check_record(set.name, set.value.size()); !ok) return refuse(ok.error());
  if (set.name.front() == kInternalPrefix)
    return refuse({Code::kInvalid, "names that start with '~' belong to the store"});
  if (auto ok = possible(set.wait_for, "'" + set.name + "'"); !ok) return refuse(ok.error());
  if (sets.size() >= config.limits.requests_max || decisions.size() >= config.limits.searches_max) {
    return refuse({Code::kExhausted, "too many writes of names are under way; try again"});
  }
  const std::uint64_t id = ++last_number;
  PendingSet& pending = sets[id];
  pending.request = set.request;
  pending.name = set.name;
  pending.level = set.wait_for;
  pending.deadline = now + config.timeouts.record_set;
  sets_by_name[set.name].insert(id);
  arm(TimerKind::kSet, pending.deadline, id);

  Deciding& deciding = decisions[id];
  msg::Decide& decide = deciding.decide;
  decide.id = id;
  decide.name = set.name;
  decide.value = set.value;
  decide.must_be_new = set.must_be_new;
  decide.expected = set.expected;
  decide.remove = set.remove;
  decide.writer = config.id;
  decide.token = session ^ id;
  decide.patience = config.timeouts.decide;
  pass_decision_on(id);
}

// ---- who decides ----

// Stage 0: the region above, if there is a way. Stages 1 and 2: the two first directory agents of this
// region. Last: this agent, so that a name can be written even when nobody else answers.
void Store::Impl::pass_decision_on(std::uint64_t id) {
  Deciding& deciding = decisions.at(id);
  msg::Decide onward = deciding.decide;
  auto known = records.find(onward.name);
  if (known != records.end() && (!onward.seen || supersedes(known->second.record, *onward.seen))) {
    onward.seen = known->second.record;
  }
  onward.id = id;
  const std::uint64_t key = placement_key(onward.name);
  const std::vector<AgentId> directory = home_directory(key, kRecordDirectory);
  bool decide_self = deciding.decide.here;
  AgentId next;
  while (!decide_self && next.is_zero()) {
    const int stage = deciding.stage++;
    if (stage == 0) {
      const std::vector<AgentId> up = upward(key, 1);
      if (!up.empty()) next = up.front();
      onward.patience = deciding.decide.patience * 3 / 4;
      onward.here = false;
    } else if (stage <= 2) {
      if (static_cast<std::size_t>(stage) > directory.size()) continue;
      const AgentId candidate = directory[static_cast<std::size_t>(stage) - 1];
      decide_self = candidate == config.id;
      if (!decide_self) next = candidate;
      onward.patience = deciding.decide.patience / 2;
      onward.here = true;
    } else {
      decide_self = true;
    }
  }
  if (!decide_self) {
    const Peer* other = peer(next);
    SHOAL_CHECK(other != nullptr, "a directory agent must be a peer");
    deciding.waiting_for = next;
    deciding.deadline = now + (onward.here ? onward.patience : deciding.decide.patience);
    arm(TimerKind::kDecide, deciding.deadline, id);
    send(other->address, onward);
    return;
  }
  const Result<Record> record = decide_here(onward);
  if (!record) return finish_decision(id, record, home_depth());
  outcomes.emplace(id, std::pair(record, home_depth()));
  wait_durable({record->name}, {Waiter::Kind::kDecided, id});
}

Result<Record> Store::Impl::decide_here(const msg::Decide& decide) {
  const std::pair write(decide.writer, decide.token);
  if (auto recent = recent_decisions.find(write); recent != recent_decisions.end()) {
    if (recent->second.name == decide.name && records.contains(decide.name)) return recent->second;
  }
  auto it = records.find(decide.name);
  std::optional<Record> current;
  if (it != records.end()) current = it->second.record;
  if (decide.seen && decide.seen->name == decide.name && (!current || supersedes(*decide.seen, *current))) {
    current = decide.seen;
  }
  const bool taken = current && !current->deleted;
  if (decide.must_be_new && taken)
    return fail(Code::kExists, "'" + decide.name + "' exists already; choose another name");
  const Epoch epoch = current ? current->epoch : Epoch();
  if (decide.expected && *decide.expected != epoch) {
    return fail(Code::kStale, "'" + decide.name + "' is at epoch " + std::to_string(epoch.value()) + ", not at " +
                                  std::to_string(decide.expected->value()) + "; read it again and decide anew");
  }
  if (decide.remove && !taken) return fail(Code::kNotFound, "there is no '" + decide.name + "' to remove");
  Record record{decide.name, decide.remove ? Bytes() : decide.value, epoch.next(), decide.writer, decide.remove};
  if (accept(record) != Accepted::kNew) {
    return fail(Code::kExhausted, "agent " + config.id.brief() + " has no room for more names; remove some");
  }
  recent_decisions[write] = record;
  recent_order.push_back(write);
  if (recent_order.size() > kRecentDecisionsMax) {
    recent_decisions.erase(recent_order.front());
    recent_order.pop_front();
  }
  return record;
}

void Store::Impl::finish_decision(std::uint64_t id, const Result<Record>& record, std::int32_t depth) {
  auto it = decisions.find(id);
  if (it == decisions.end()) return;
  const Deciding deciding = std::move(it->second);
  disarm(TimerKind::kDecide, deciding.deadline, id);
  decisions.erase(it);
  if (deciding.asker) {
    send(*deciding.asker, decided_message(deciding.asker_id, record, depth));
  } else {
    decision_made(id, record, depth);
  }
}

// Our client's write is decided: keep it here, and let it reach the level asked for.
void Store::Impl::decision_made(std::uint64_t id, const Result<Record>& record, std::int32_t depth) {
  auto it = sets.find(id);
  if (it == sets.end()) return;
  if (!record) return finish_set(id, record);
  it->second.decided = *record;
  it->second.decided_depth = depth;
  if (accept(*record) == Accepted::kRefused) {
    return finish_set(
        id, fail(Code::kExhausted, "this agent has no room for more names; remove some or use another agent"));
  }
  wait_durable({record->name}, {Waiter::Kind::kSet, id});
}

// ---- levels of a record ----

void Store::Impl::settle_set(std::uint64_t id) {
  auto it = sets.find(id);
  if (it == sets.end() || !it->second.decided) return;
  const PendingSet& set = it->second;
  auto stored = records.find(set.name);
  if (stored == records.end() || stored->second.ticket != 0) return;
  bool at_home = false;
  bool in_parent = set.decided_depth < home_depth();
  for (const Spread::Told& told : stored->second.spread.told) {
    if (told.revision != stored->second.spread.revision) continue;
    const Peer* other = peer(told.agent);
    if (!other) continue;
    at_home = at_home || is_home(other->address);
    in_parent = in_parent || ancestor_depth(other->address) == home_depth() - 1;
  }
  const bool region_done = at_home || home.size() < 2;
  bool done = false;
  switch (set.level) {
    case Level::kMemory:
    case Level::kProcess:
    case Level::kLocal:
      done = true;
      break;
    case Level::kRegion:
      done = at_home;
      break;
    case Level::kParent:
      done = region_done && in_parent;
      break;
    case Level::kCloud:
      done = has_parent() ? region_done && (set.decided_depth == 0 || (home_depth() == 1 && in_parent)) : at_home;
      break;
  }
  if (done) finish_set(id, *set.decided);
}

void Store::Impl::settle_sets_of(const std::string& name) {
  auto it = sets_by_name.find(name);
  if (it == sets_by_name.end()) return;
  const std::set<std::uint64_t> ids = it->second;
  for (std::uint64_t id : ids) settle_set(id);
}

void Store::Impl::expire_set(std::uint64_t id) {
  auto it = sets.find(id);
  if (it == sets.end()) return;
  const PendingSet& set = it->second;
  auto stored = records.find(set.name);
  std::string message = "'" + set.name + "' did not reach level '" + level_name(set.level) + "' in time; ";
  if (!set.decided) {
    message += "nobody decided about it. Read it to see whether it was written, then try again";
  } else if (stored != records.end() && stored->second.ticket == 0) {
    message += "it is durable here and is carried on when the agents above can be reached";
  } else {
    message += "this agent's disk has not confirmed it. Check the disk, then try again";
  }
  finish_set(id, fail(Code::kTimeout, std::move(message)));
}

void Store::Impl::finish_set(std::uint64_t id, Result<Record> record) {
  auto it = sets.find(id);
  const PendingSet set = std::move(it->second);
  disarm(TimerKind::kSet, set.deadline, id);
  sets.erase(it);
  auto named = sets_by_name.find(set.name);
  named->second.erase(id);
  if (named->second.empty()) sets_by_name.erase(named);
  if (auto deciding = decisions.find(id); deciding != decisions.end()) {
    disarm(TimerKind::kDecide, deciding->second.deadline, id);
    decisions.erase(deciding);
    outcomes.erase(id);
  }
  emit(out::RecordSet{set.request, std::move(record)});
}

// ---- messages ----

void Store::Impl::on_message(const wire::Address& from, const msg::Decide& decide) {
  auto refuse = [&](Code code, std::string why) {
    send(from, decided_message(decide.id, fail(code, std::move(why)), home_depth()));
  };
  if (auto ok = check_record(decide.name, decide.value.size()); !ok || decide.name.front() == kInternalPrefix) {
    ++counters.bad_frames;
    return refuse(Code::kInvalid, ok ? "names that start with '~' belong to the store" : ok.error().message);
  }
  if (decisions.size() >= config.limits.searches_max) {
    ++counters.refused;
    return refuse(Code::kExhausted, "agent " + config.id.brief() + " decides about too many names at once; try again");
  }
  const std::uint64_t id = ++last_number;
  Deciding& deciding = decisions[id];
  deciding.asker = from;
  deciding.asker_id = decide.id;
  deciding.decide = decide;
  deciding.decide.patience.us = std::clamp<std::int64_t>(decide.patience.us, 0, config.timeouts.record_set.us);
  if (deciding.decide.seen && !check_record(deciding.decide.seen->name, deciding.decide.seen->value.size())) {
    deciding.decide.seen.reset();
  }
  pass_decision_on(id);
}

void Store::Impl::on_message(const wire::Address& from, const msg::Decided& decided) {
  auto it = decisions.find(decided.id);
  if (it == decisions.end() || it->second.waiting_for != from.agent || it->second.deadline == Instant::never()) return;
  const auto code = static_cast<Code>(decided.code);
  disarm(TimerKind::kDecide, it->second.deadline, decided.id);
  it->second.deadline = Instant::never();
  if (decided.code == 0 && decided.record && decided.record->name == it->second.decide.name) {
    return finish_decision(decided.id, *decided.record, decided.depth);
  }
  const bool an_answer =
      code == Code::kExists || code == Code::kStale || code == Code::kNotFound || code == Code::kInvalid;
  if (an_answer) return finish_decision(decided.id, fail(code, decided.message), decided.depth);
  pass_decision_on(decided.id);
}

}  // namespace shoal::storage
