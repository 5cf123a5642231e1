// Deletion: a tombstone that spreads like a record, and word straight to the holders.
#include <algorithm>
#include <utility>

#include "storage/model/placement.h"
#include "storage/model/store_impl.h"
#include "storage/model/tombstone.h"

namespace shoal::storage {
namespace {

constexpr int kForgetTries = 3;
constexpr std::size_t kForgetsMax = 4'096;

}  // namespace

void Store::Impl::on(const in::Delete& request) {
  if (searches.size() >= config.limits.searches_max || deletes.size() >= config.limits.requests_max) {
    ++counters.refused;
    emit(out::DeleteDone{request.request, fail(Code::kExhausted, "too many requests are under way; try again")});
    return;
  }
  Search search;
  search.purpose = Search::Purpose::kDelete;
  search.object = request.object;
  search.request = request.request;
  start_search(std::move(search), config.timeouts.locate);
}

// All holders are found: bury the birth that was found.
void Store::Impl::bury(const Search& search) {
  if (!search.found) {
    emit(out::DeleteDone{search.request, tl::unexpected<Error>(located(search).error())});
    return;
  }
  const std::string name = tombstone_name(search.object);
  Record tombstone{name, Bytes(), search.found->birth.next(), config.id, false};
  const Accepted accepted = accept(tombstone);
  if (accepted == Accepted::kRefused) {
    emit(out::DeleteDone{search.request, fail(Code::kExhausted, "this agent has no room for more names, which deletions need")});
    return;
  }
  const std::uint64_t id = ++last_number;
  PendingDelete& pending = deletes[id];
  pending.request = search.request;
  pending.name = name;
  for (const wire::Address& holder : search.found->holders) {
    if (holder.agent != config.id) pending.waiting.emplace(holder.agent, holder);
  }
  send_forgets(id);
  wait_durable(name, {Waiter::Kind::kDelete, id});
}

void Store::Impl::send_forgets(std::uint64_t id) {
  PendingDelete& pending = deletes.at(id);
  ++pending.tries;
  pending.deadline = now + config.timeouts.forget / kForgetTries;
  arm(TimerKind::kDelete, pending.deadline, id);
  for (const auto& [agent, address] : pending.waiting) send(address, msg::Forget{id, records.at(pending.name).record});
}

// Done when it is durable here and the holders that can be reached have dropped their copies. One that cannot learns
// of it from the directory when it announces its copy again.
void Store::Impl::settle_delete(std::uint64_t id) {
  auto it = deletes.find(id);
  if (it == deletes.end() || records.at(it->second.name).ticket != 0 || !it->second.waiting.empty()) return;
  disarm(TimerKind::kDelete, it->second.deadline, id);
  emit(out::DeleteDone{it->second.request, {}});
  deletes.erase(it);
}

void Store::Impl::expire_delete(std::uint64_t id) {
  auto it = deletes.find(id);
  if (it == deletes.end() || it->second.deadline > now) return;
  if (it->second.tries < kForgetTries) return send_forgets(id);
  if (records.at(it->second.name).ticket != 0) {
    emit(out::DeleteDone{it->second.request,
                         fail(Code::kTimeout, "this agent's disk has not confirmed the deletion. Check the disk, then try again")});
    deletes.erase(it);
    return;
  }
  it->second.waiting.clear();
  settle_delete(id);
}

void Store::Impl::on_message(const wire::Address& from, const msg::Forget& forget) {
  if (!buried_by(forget.tombstone.name) || forgets.size() >= kForgetsMax) {
    ++counters.bad_frames;
    return;
  }
  if (accept(forget.tombstone) == Accepted::kRefused) return;
  const std::uint64_t id = ++last_number;
  forgets.emplace(id, std::pair(from, forget.id));
  wait_durable(forget.tombstone.name, {Waiter::Kind::kForgotten, id});
}

void Store::Impl::on_message(const wire::Address& from, const msg::Forgotten& forgotten) {
  auto it = deletes.find(forgotten.id);
  if (it == deletes.end() || it->second.waiting.erase(from.agent) == 0) return;
  settle_delete(forgotten.id);
}

void Store::Impl::apply_tombstone(const Record& record, Origin origin) {
  auto object = buried_by(record.name);
  if (!object) return;
  auto it = objects.find(*object);
  if (it == objects.end() || it->second.manifest.birth >= record.epoch) return;
  Known& known = it->second;
  if (known.here && known.fresh && origin == Origin::kDirectory) {
    // Put in this life, deleted in an earlier one: this is a new birth of the same content.
    known.manifest.birth = record.epoch;
    changed(*object, known);
    return;
  }
  if (known.here) {
    forget_copy(*object, {Code::kCancelled, "the object was deleted meanwhile"});
    emit(out::Erase{*object});
  }
  objects.erase(*object);
}

}  // namespace shoal::storage
