#include "tools/sim/store_clients.h"

#include <algorithm>
#include <utility>

#include "tools/sim/agent.h"

namespace shoal::sim {
namespace {

constexpr std::uint64_t kRecordNames = 6;

std::string object_name(ObjectId object) {
  return "object " + object.brief();
}

}  // namespace

StoreClients::StoreClients(World& world, Rng rng) : world_(world), rng_(rng) {
  world.observe(*this);
}

std::uint64_t StoreClients::ask(std::uint32_t agent, Waiting waiting) {
  waiting.agent = agent;
  waiting.since = world_.now();
  waiting_[++last_request_] = std::move(waiting);
  return last_request_;
}

// ---- actions ----

void StoreClients::put(std::uint32_t agent, storage::Level wait_for) {
  SimAgent& here = world_.agent(agent);
  if (here.disk().full() || here.core().address().path.empty()) return;
  const ObjectId id{rng_.next(), rng_.next()};
  Object& object = objects_[id];
  object.content = rng_.next();
  object.bytes = rng_.chance(200'000) ? rng_.below(4'000'000) : rng_.below(40'000);
  object.policy.replicas = static_cast<std::uint32_t>(rng_.between(1, 3));
  object.policy.wait_for = wait_for;
  if (wait_for >= storage::Level::kRegion && object.policy.replicas < 2) object.policy.replicas = 2;
  storage::Manifest manifest{id, object.bytes, "bytes", object.policy, {here.core().address()}};
  here.store_object(manifest, object.content, [this, agent, manifest] {
    Waiting waiting;
    waiting.object = manifest.object;
    const std::uint64_t request = ask(agent, waiting);
    world_.agent(agent).take(node::in::Storage(storage::in::Put{request, manifest}));
  });
}

void StoreClients::read_some(std::uint32_t agent) {
  std::vector<ObjectId> candidates;
  for (const auto& [id, object] : objects_) {
    if (object.acknowledged && !object.deleted) candidates.push_back(id);
  }
  if (candidates.empty()) return;
  Waiting waiting;
  waiting.kind = Kind::kRead;
  waiting.object = candidates[rng_.below(candidates.size())];
  const ObjectId object = waiting.object;
  const std::uint64_t request = ask(agent, waiting);
  world_.agent(agent).take(node::in::Storage(storage::in::Locate{request, object}));
}

void StoreClients::delete_some(std::uint32_t agent) {
  std::vector<ObjectId> candidates;
  for (const auto& [id, object] : objects_) {
    if (object.acknowledged && !object.deleted) candidates.push_back(id);
  }
  if (candidates.size() < 3) return;
  Waiting waiting;
  waiting.kind = Kind::kDelete;
  waiting.object = candidates[rng_.below(candidates.size())];
  objects_[waiting.object].deleted = true;
  const ObjectId object = waiting.object;
  const std::uint64_t request = ask(agent, waiting);
  world_.agent(agent).take(node::in::Storage(storage::in::Delete{request, object}));
}

void StoreClients::set_record(std::uint32_t agent) {
  if (world_.agent(agent).core().address().path.empty()) return;
  Waiting waiting;
  waiting.kind = Kind::kSet;
  waiting.name = "alias/n" + std::to_string(rng_.below(kRecordNames));
  waiting.written = rng_.next();
  storage::in::SetRecord set;
  set.name = waiting.name;
  set.value = wire::encode(waiting.written);
  set.wait_for = rng_.chance(500'000) ? storage::Level::kRegion : storage::Level::kLocal;
  set.request = ask(agent, waiting);
  world_.agent(agent).take(node::in::Storage(std::move(set)));
}

void StoreClients::get_record(std::uint32_t agent) {
  Waiting waiting;
  waiting.kind = Kind::kGet;
  waiting.name = "alias/n" + std::to_string(rng_.below(kRecordNames));
  const std::string name = waiting.name;
  const std::uint64_t request = ask(agent, waiting);
  world_.agent(agent).take(node::in::Storage(storage::in::GetRecord{request, name}));
}

void StoreClients::act(std::uint32_t agent) {
  const std::uint64_t dice = rng_.below(100);
  if (dice < 40) {
    put(agent, rng_.chance(600'000) ? storage::Level::kRegion : storage::Level::kLocal);
  } else if (dice < 70) {
    read_some(agent);
  } else if (dice < 75) {
    delete_some(agent);
  } else if (dice < 88) {
    set_record(agent);
  } else {
    get_record(agent);
  }
}

// ---- replies ----

void StoreClients::on_store(std::uint32_t agent, const node::out::Storage& reply) {
  const auto take = [&](std::uint64_t request) -> std::optional<Waiting> {
    auto it = waiting_.find(request);
    if (it == waiting_.end()) {
      world_.violate("S1", "store request " + std::to_string(request) + " is answered twice");
      return std::nullopt;
    }
    if (it->second.agent != agent) return std::nullopt;
    Waiting waiting = std::move(it->second);
    waiting_.erase(it);
    return waiting;
  };
  if (const auto* done = std::get_if<storage::out::PutDone>(&reply)) {
    if (auto waiting = take(done->request)) on_put(*waiting, done->receipt);
  } else if (const auto* located = std::get_if<storage::out::Located>(&reply)) {
    if (auto waiting = take(located->request)) on_located(*waiting, located->manifest);
  } else if (const auto* deleted = std::get_if<storage::out::DeleteDone>(&reply)) {
    take(deleted->request);
  } else if (const auto* set = std::get_if<storage::out::RecordSet>(&reply)) {
    if (auto waiting = take(set->request)) on_record_set(*waiting, set->record);
  } else if (const auto* got = std::get_if<storage::out::RecordGot>(&reply)) {
    if (auto waiting = take(got->request)) on_record_got(*waiting, got->record);
  }
}

std::vector<std::uint32_t> StoreClients::intact_copies(ObjectId object) const {
  std::vector<std::uint32_t> out;
  for (std::uint32_t i = 0; i < world_.agents(); ++i) {
    const auto& objects = world_.agent(i).disk().objects();
    auto it = objects.find(object);
    if (it != objects.end() && !it->second.damaged) out.push_back(i);
  }
  return out;
}

// S3: at the moment of the acknowledgement the durable model has what the receipt says.
void StoreClients::on_put(const Waiting& waiting, const Result<storage::Receipt>& receipt) {
  if (!receipt) return;  // refused or too late, with a reason: nothing was promised
  Object& object = objects_[waiting.object];
  object.receipt = receipt->level;
  object.acknowledged = true;
  ++acknowledged_;
  const std::vector<std::uint32_t> copies = intact_copies(waiting.object);
  const auto promised =
      static_cast<std::size_t>(receipt->level >= storage::Level::kRegion ? std::max(2U, receipt->copies) : 1U);
  if (!object.deleted && copies.size() < promised) {
    world_.violate("S3", object_name(waiting.object) + " is acknowledged with " + std::to_string(promised) +
                             " copies and has " + std::to_string(copies.size()) + " durable ones");
  }
}

void StoreClients::on_located(const Waiting& waiting, const Result<storage::Manifest>& manifest) {
  if (!manifest) {
    if (waiting.kind == Kind::kAuditRead)
      last_problem_ = object_name(waiting.object) + " cannot be located from " +
                      world_.agent(waiting.agent).config().name + ": " + manifest.error().message;
    return;  // unreachable during faults
  }
  read_from(waiting, *manifest, 0);
}

void StoreClients::read_from(Waiting waiting, storage::Manifest manifest, std::size_t holder) {
  if (holder >= manifest.holders.size()) {
    if (waiting.kind == Kind::kAuditRead)
      last_problem_ = object_name(waiting.object) + " cannot be read from " + world_.agent(waiting.agent).config().name;
    return;
  }
  SimAgent& here = world_.agent(waiting.agent);
  if (!here.up()) return;
  const wire::Address from = manifest.holders[holder];
  here.read_object(
      waiting.object, from, [this, waiting, manifest = std::move(manifest), holder](std::optional<StoredObject> found) {
        if (!found) {
          read_from(waiting, manifest, holder + 1);
          return;
        }
        Object& object = objects_[waiting.object];
        if (found->content != object.content) {  // S6
          world_.violate("S6", object_name(waiting.object) + " was read with other bytes than were written");
        }
        if (waiting.kind == Kind::kAuditRead) object.audited = true;
      });
}

void StoreClients::on_record_set(const Waiting& waiting, const Result<storage::Record>& record) {
  if (!record) return;
  Name& name = names_[waiting.name];
  name.acknowledged = std::max(name.acknowledged, record->epoch);
  name.safe_at.insert(waiting.agent);
  ++acknowledged_;
}

void StoreClients::on_record_got(const Waiting& waiting, const Result<storage::Record>& record) {
  if (waiting.kind != Kind::kAuditGet) return;
  Name& name = names_[waiting.name];
  if (!record) {
    last_problem_ = waiting.name + " cannot be read from " + world_.agent(waiting.agent).config().name + ": " +
                    record.error().message;
  } else if (record->epoch < name.acknowledged) {
    last_problem_ = waiting.name + " is read in epoch " + std::to_string(record->epoch.value()) + " but epoch " +
                    std::to_string(name.acknowledged.value()) + " was acknowledged";
  } else {
    name.audited = true;
  }
}

void StoreClients::on_stopped(std::uint32_t agent) {
  std::erase_if(waiting_, [agent](const auto& pair) { return pair.second.agent == agent; });
}

// ---- faults ----

bool StoreClients::survives_without(std::uint32_t agent) const {
  for (const auto& [id, object] : objects_) {
    if (!object.acknowledged || object.deleted || object.excused || object.receipt < storage::Level::kRegion) continue;
    const auto copies = intact_copies(id);
    const auto others = std::count_if(copies.begin(), copies.end(), [&](std::uint32_t i) {
      return i != agent && !world_.agent(i).gone() && !world_.agent(i).left();
    });
    const bool here = std::find(copies.begin(), copies.end(), agent) != copies.end();
    if (here && others == 0) return false;
  }
  const auto& kept = world_.agent(agent).disk().objects();
  return std::none_of(kept.begin(), kept.end(), [this](const auto& stored) { return is_being_put(stored.first); });
}

// Between a copy and the receipt that counts it, nothing could notice that the copy is lost.
bool StoreClients::is_being_put(ObjectId object) const {
  return std::any_of(waiting_.begin(), waiting_.end(), [object](const auto& pair) {
    return pair.second.kind == Kind::kPut && pair.second.object == object;
  });
}

void StoreClients::excuse(std::uint32_t agent) {
  for (auto& [id, object] : objects_) {
    const auto copies = intact_copies(id);
    const auto others = std::count_if(copies.begin(), copies.end(), [&](std::uint32_t i) {
      return i != agent && !world_.agent(i).gone() && !world_.agent(i).left();
    });
    if (others == 0) object.excused = true;
  }
  // A name acknowledged `local` may be known to its writer only.
  for (auto& [text, name] : names_) {
    if (name.safe_at.count(agent) != 0) name.excused = true;
  }
}

bool StoreClients::flip_a_bit(std::uint32_t agent) {
  std::vector<ObjectId> candidates;
  for (const auto& [id, stored] : world_.agent(agent).disk().objects()) {
    const auto copies = intact_copies(id);
    const auto living = std::count_if(copies.begin(), copies.end(), [&](std::uint32_t i) {
      return i != agent && !world_.agent(i).gone() && !world_.agent(i).left();
    });
    if (!stored.damaged && living > 0 && !is_being_put(id)) candidates.push_back(id);
  }
  if (candidates.empty()) return false;
  return world_.agent(agent).disk().flip_bit(candidates[rng_.below(candidates.size())]);
}

// ---- audit ----

void StoreClients::audit(std::uint32_t agent) {
  for (auto& [id, object] : objects_) {
    if (!object.acknowledged || object.deleted || object.excused || object.audited) continue;
    Waiting waiting;
    waiting.kind = Kind::kAuditRead;
    waiting.object = id;
    const std::uint64_t request = ask(agent, waiting);
    world_.agent(agent).take(node::in::Storage(storage::in::Locate{request, id}));
  }
  for (auto& [text, name] : names_) {
    if (name.excused || name.audited || name.acknowledged == Epoch()) continue;
    Waiting waiting;
    waiting.kind = Kind::kAuditGet;
    waiting.name = text;
    const std::uint64_t request = ask(agent, waiting);
    world_.agent(agent).take(node::in::Storage(storage::in::GetRecord{request, text}));
  }
}

std::string StoreClients::shortfall() const {
  for (const auto& [id, object] : objects_) {
    if (!object.acknowledged || object.deleted || object.excused) continue;
    if (!object.audited) return object_name(id) + " was acknowledged and cannot be read (" + last_problem_ + ")";
  }
  for (const auto& [text, name] : names_) {
    if (!name.excused && !name.audited && name.acknowledged != Epoch())
      return text + " was acknowledged and is not found (" + last_problem_ + ")";
  }
  std::map<RegionId, std::size_t> natives;
  for (std::uint32_t i = 0; i < world_.agents(); ++i) {
    if (world_.agent(i).up() && !world_.agent(i).core().address().path.empty()) {
      ++natives[world_.agent(i).core().address().path.back()];
    }
  }
  for (const auto& [id, object] : objects_) {
    if (!object.acknowledged || object.deleted || object.excused) continue;
    const auto copies = intact_copies(id);
    std::size_t living = 0;
    std::size_t possible = 0;
    for (const std::uint32_t i : copies) {
      if (!world_.agent(i).up()) continue;
      ++living;
      possible = std::max(possible, natives[world_.agent(i).core().address().path.back()]);
    }
    const std::size_t wanted = std::min<std::size_t>(object.policy.replicas, possible);
    if (living < wanted) {
      return object_name(id) + " (receipt level " + std::to_string(static_cast<int>(object.receipt)) +
             ", first copy on " + (copies.empty() ? "nobody" : world_.agent(copies[0]).config().name) + ") has " +
             std::to_string(living) + " living copies of " + std::to_string(wanted);
    }
  }
  return {};
}

std::string StoreClients::stuck() const {
  std::string out;
  for (const auto& [request, waiting] : waiting_) {
    out += "store request " + std::to_string(request) + " (kind " + std::to_string(static_cast<int>(waiting.kind)) +
           ") on " + world_.agent(waiting.agent).config().name + " since " + std::to_string(waiting.since.us / 1000) +
           " ms; ";
  }
  return out;
}

}  // namespace shoal::sim
