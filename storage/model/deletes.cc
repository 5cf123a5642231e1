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

// All holders are found: bury the births that were found.
void Store::Impl::bury(const Search& search) {
  if (!search.found) {
    emit(out::DeleteDone{search.request, tl::unexpected<Error>(located(search).error())});
    return;
  }
  const std::uint64_t id = ++last_number;
  PendingDelete& pending = deletes[id];
  pending.request = search.request;
  std::vector<std::uint64_t> births = search.found->births;
  if (births.empty()) births.push_back(0);
  for (std::uint64_t birth : births) {
    const Record tombstone{tombstone_name(search.object, birth), Bytes(), Epoch(1), config.id, false};
    if (accept(tombstone) == Accepted::kRefused) {
      deletes.erase(id);
      emit(out::DeleteDone{search.request,
                           fail(Code::kExhausted, "this agent has no room for more names, which deletions need")});
      return;
    }
    pending.names.push_back(tombstone.name);
  }
  for (const wire::Address& holder : search.found->holders) {
    if (holder.agent != config.id) pending.waiting.emplace(holder.agent, holder);
  }
  send_forgets(id);
  const std::vector<std::string> names = pending.names;
  wait_durable(names, {Waiter::Kind::kDelete, id});
}

void Store::Impl::send_forgets(std::uint64_t id) {
  PendingDelete& pending = deletes.at(id);
  ++pending.tries;
  pending.deadline = now + config.timeouts.forget / kForgetTries;
  arm(TimerKind::kDelete, pending.deadline, id);
  msg::Forget forget{id, {}};
  for (const std::string& name : pending.names) forget.tombstones.push_back(records.at(name).record);
  for (const auto& [agent, address] : pending.waiting) send(address, forget);
}

// Done when it is durable here and the holders that can be reached have dropped their copies. One that cannot
// learns of it from the directory when it announces its copy again.
void Store::Impl::settle_delete(std::uint64_t id) {
  auto it = deletes.find(id);
  if (it == deletes.end() || !it->second.waiting.empty() || !durable(it->second.names)) return;
  disarm(TimerKind::kDelete, it->second.deadline, id);
  emit(out::DeleteDone{it->second.request, {}});
  deletes.erase(it);
}

void Store::Impl::expire_delete(std::uint64_t id) {
  auto it = deletes.find(id);
  if (it == deletes.end() || it->second.deadline > now) return;
  if (it->second.tries < kForgetTries) return send_forgets(id);
  if (!durable(it->second.names)) {
    emit(out::DeleteDone{
        it->second.request,
        fail(Code::kTimeout, "this agent's disk has not confirmed the deletion. Check the disk, then try again")});
    deletes.erase(it);
    return;
  }
  it->second.waiting.clear();
  settle_delete(id);
}

void Store::Impl::on_message(const wire::Address& from, const msg::Forget& forget) {
  if (forget.tombstones.size() > 2 * kBirthsMax || forgets.size() >= kForgetsMax) {
    ++counters.bad_frames;
    return;
  }
  std::vector<std::string> names;
  for (const Record& tombstone : forget.tombstones) {
    if (!buried_by(tombstone.name) || accept(tombstone) == Accepted::kRefused) return;
    names.push_back(tombstone.name);
  }
  const std::uint64_t id = ++last_number;
  forgets.emplace(id, std::pair(from, forget.id));
  wait_durable(names, {Waiter::Kind::kForgotten, id});
}

void Store::Impl::on_message(const wire::Address& from, const msg::Forgotten& forgotten) {
  auto it = deletes.find(forgotten.id);
  if (it == deletes.end() || it->second.waiting.erase(from.agent) == 0) return;
  settle_delete(forgotten.id);
}

// ---- tombstones kept here ----

std::vector<Record> Store::Impl::tombstones_for(const Manifest& manifest) const {
  std::vector<Record> found;
  std::vector<std::uint64_t> births = manifest.births;
  if (births.empty()) births.push_back(0);
  for (std::uint64_t birth : births) {
    auto it = records.find(tombstone_name(manifest.object, birth));
    if (it == records.end()) return {};
    found.push_back(it->second.record);
  }
  return found;
}

void Store::Impl::strike_buried(Manifest& manifest) const {
  auto& births = manifest.births;
  births.erase(
      std::remove_if(births.begin(), births.end(),
                     [&](std::uint64_t birth) { return records.contains(tombstone_name(manifest.object, birth)); }),
      births.end());
  if (births.size() > kBirthsMax) births.erase(births.begin(), births.end() - static_cast<std::ptrdiff_t>(kBirthsMax));
}

void Store::Impl::apply_tombstone(const Record& record) {
  const auto buried = buried_by(record.name);
  if (!buried) return;
  auto it = objects.find(buried->object);
  if (it == objects.end()) return;
  if (tombstones_for(it->second.manifest).empty()) {
    strike_buried(it->second.manifest);
    return;
  }
  if (it->second.here) {
    forget_copy(buried->object, {Code::kCancelled, "the object was deleted meanwhile"});
    emit(out::Erase{buried->object});
  }
  objects.erase(buried->object);
}

bool Store::Impl::durable(const std::vector<std::string>& names) const {
  return std::all_of(names.begin(), names.end(),
                     [this](const std::string& name) { return records.at(name).ticket == 0; });
}

// Persists complete in the order in which they were given out: the last one stands for all.
void Store::Impl::wait_durable(const std::vector<std::string>& names, Waiter waiter) {
  std::uint64_t ticket = 0;
  for (const std::string& name : names) ticket = std::max(ticket, records.at(name).ticket);
  if (ticket == 0) {
    ready(waiter, 0);
  } else {
    persists.at(ticket).waiters.push_back(waiter);
  }
}

}  // namespace shoal::storage
