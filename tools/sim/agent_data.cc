// The data plane of a simulated agent: values between agents, and objects of the store. Bytes take the way that frames
// would take, one transfer at a time, and fail when a holder is dead, cut off, or does not have them.
#include <memory>
#include <utility>

#include "tools/sim/agent.h"

namespace shoal::sim {
namespace {

constexpr Duration kSilence = milliseconds(1500);  // without a byte: try the next holder

// Under this key the core finds a manifest again after a restart.
std::string manifest_key(ObjectId object) {
  return "s/m/" + object.hex();
}

}  // namespace

void SimAgent::transfer(const wire::Address& holder, std::uint64_t bytes,
                        std::function<void(std::optional<std::uint32_t>)> done) {
  const auto give_up = [this, done, life = life_] {
    if (life == life_) done(std::nullopt);
  };
  auto target = world_.index(holder.agent);
  auto route = world_.route(index_, holder);
  if (!target || !route) {
    world_.queue().after(milliseconds(20), give_up);
    return;
  }
  Duration time;
  for (std::size_t i = 1; i < route->size(); ++i) {
    const std::uint32_t from = (*route)[i - 1];
    const std::uint32_t to = (*route)[i];
    if (world_.network().separated(from, to) || world_.agent(to).paused()) {
      world_.queue().after(kSilence, give_up);
      return;
    }
    time = time + world_.network().transfer_time(to, from, bytes);
  }
  world_.queue().after(time, [this, done, give_up, life = life_, holder_life = world_.life(*target), target = *target] {
    if (life != life_) return;
    const bool lost = world_.life(target) != holder_life || world_.network().separated(index_, target);
    if (lost) {
      world_.queue().after(kSilence, give_up);
    } else {
      done(target);
    }
  });
}

// ---- values of applications ----

void SimAgent::carry_out_scheduler(const node::out::Scheduler& effect) {
  if (const auto* message = std::get_if<scheduler::out::ToClient>(&effect)) {
    for (Observer* observer : world_.observers()) observer->on_client(index_, *message);
  } else if (const auto* launch = std::get_if<scheduler::out::Launch>(&effect)) {
    executor_.launch(*launch);
  } else if (const auto* kill = std::get_if<scheduler::out::Kill>(&effect)) {
    executor_.kill(*kill);
  } else if (const auto* wanted = std::get_if<scheduler::out::Fetch>(&effect)) {
    auto here = kept_.find(wanted->key);
    if (here == kept_.end()) return fetch(*wanted, 0);
    world_.queue().after({}, [this, key = wanted->key, value = here->second, life = life_] {
      if (life == life_) take(node::in::Scheduler(scheduler::in::Fetched{key, true, {}, value}));
    });
  } else if (const auto* keep = std::get_if<scheduler::out::Keep>(&effect)) {
    kept_[keep->key] = keep->value;
  } else if (const auto* drop = std::get_if<scheduler::out::Drop>(&effect)) {
    for (const auto& key : drop->keys) {
      auto it = kept_.find(key);
      if (it == kept_.end()) continue;
      arena_.erase(it->second);
      kept_.erase(it);
    }
  }
}

void SimAgent::fetch(scheduler::out::Fetch wanted, std::size_t holder) {
  if (holder >= wanted.holders.size()) {
    world_.queue().after(milliseconds(1), [this, key = wanted.key, life = life_] {
      if (life != life_) return;
      take(node::in::Scheduler(scheduler::in::Fetched{key, false, "no holder has it or can be reached", {}}));
    });
    return;
  }
  const wire::Address from = wanted.holders[holder];
  const std::uint64_t announced = wanted.bytes;
  transfer(from, announced, [this, wanted = std::move(wanted), holder](std::optional<std::uint32_t> source) mutable {
    std::optional<Payload> payload;
    std::uint64_t bytes = 0;
    if (source) {
      const SimAgent& other = world_.agent(*source);
      auto kept = other.kept_.find(wanted.key);
      if (kept != other.kept_.end()) {
        payload = other.arena_.read(kept->second);
        bytes = other.arena_.size_of(kept->second);
      }
    }
    if (!payload) {
      fetch(std::move(wanted), holder + 1);
      return;
    }
    const client::Value value = kept_[wanted.key] = arena_.make(*payload, bytes);
    take(node::in::Scheduler(scheduler::in::Fetched{wanted.key, true, {}, value}));
  });
}

// ---- objects of the store ----

void SimAgent::carry_out_storage(const node::out::Storage& effect) {
  if (const auto* wanted = std::get_if<storage::out::Pull>(&effect)) {
    pull(wanted->manifest, 0);
  } else if (const auto* erase = std::get_if<storage::out::Erase>(&effect)) {
    disk_.erase_object(erase->object);
  } else {
    for (Observer* observer : world_.observers()) observer->on_store(index_, effect);
  }
}

void SimAgent::store_object(const storage::Manifest& manifest, std::uint64_t content, std::function<void()> done) {
  disk_.put_object(manifest.object, StoredObject{manifest.bytes, content, false}, manifest_key(manifest.object),
                   wire::encode(manifest), std::move(done));
}

void SimAgent::read_object(ObjectId object, const wire::Address& holder, Read read) {
  std::uint64_t bytes = 0;
  if (auto source = world_.index(holder.agent)) {
    const auto& objects = world_.agent(*source).disk_.objects();
    auto it = objects.find(object);
    if (it != objects.end()) bytes = it->second.bytes;
  }
  transfer(holder, bytes, [this, object, read = std::move(read)](std::optional<std::uint32_t> source) {
    if (!source) return read(std::nullopt);
    SimAgent& other = world_.agent(*source);
    auto it = other.disk_.objects().find(object);
    if (it == other.disk_.objects().end()) return read(std::nullopt);
    if (it->second.damaged) {  // every read is checked: the holder finds out and says so
      other.report_damaged(object);
      return read(std::nullopt);
    }
    read(it->second);
  });
}

// The bytes stay until the core wants them erased: they may be all that is left.
void SimAgent::report_damaged(ObjectId object) {
  take(node::in::Storage(storage::in::Corrupt{object}));
}

void SimAgent::scrub() {
  std::vector<ObjectId> damaged;
  for (const auto& [object, stored] : disk_.objects()) {
    if (stored.damaged) damaged.push_back(object);
  }
  for (const ObjectId object : damaged) {
    if (up()) report_damaged(object);
  }
}

void SimAgent::pull(storage::Manifest wanted, std::size_t holder) {
  const auto answer = [this](ObjectId object, Result<> result) {
    take(node::in::Storage(storage::in::Pulled{object, std::move(result)}));
  };
  if (holder >= wanted.holders.size() || disk_.full()) {
    const bool full = disk_.full();
    world_.queue().after(milliseconds(1), [answer, object = wanted.object, full, this, life = life_] {
      if (life != life_) return;
      answer(object, full ? Result<>(fail(Code::kExhausted, "the disk is full"))
                          : Result<>(fail(Code::kUnavailable, "no holder has it or can be reached")));
    });
    return;
  }
  const wire::Address from = wanted.holders[holder];
  if (from.agent == options_.config.id) return pull(std::move(wanted), holder + 1);
  const ObjectId object = wanted.object;
  read_object(object, from, [this, wanted = std::move(wanted), holder, answer](std::optional<StoredObject> found) {
    if (!found) return pull(wanted, holder + 1);
    store_object(wanted, found->content, [answer, object = wanted.object] { answer(object, Result<>()); });
  });
}

}  // namespace shoal::sim
