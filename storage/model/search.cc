// Look-ups: what is known here, then the region's directory, then everyone and upwards.
#include <algorithm>
#include <utility>

#include "storage/model/placement.h"
#include "storage/model/store_impl.h"
#include "storage/model/tombstone.h"

namespace shoal::storage {
namespace {

constexpr std::size_t kTellBytesMax = 4U << 20;

}  // namespace

// ---- requests ----

void Store::Impl::on(const in::Locate& locate) {
  if (searches.size() >= config.limits.searches_max) {
    ++counters.refused;
    emit(out::Located{locate.request, fail(Code::kExhausted, "too many look-ups are under way; try again")});
    return;
  }
  Search search;
  search.purpose = Search::Purpose::kLocate;
  search.object = locate.object;
  search.request = locate.request;
  search.failed.insert(locate.failed.begin(), locate.failed.end());
  start_search(std::move(search), config.timeouts.locate);
}

void Store::Impl::on(const in::GetRecord& get) {
  if (auto ok = check_record(get.name, 0); !ok) {
    emit(out::RecordGot{get.request, tl::unexpected<Error>(ok.error())});
    return;
  }
  if (searches.size() >= config.limits.searches_max) {
    ++counters.refused;
    emit(out::RecordGot{get.request, fail(Code::kExhausted, "too many look-ups are under way; try again")});
    return;
  }
  Search search;
  search.purpose = Search::Purpose::kGet;
  search.what = msg::What::kRecord;
  search.name = get.name;
  search.request = get.request;
  start_search(std::move(search), config.timeouts.record_get);
}

void Store::Impl::on(const in::ListRecords& list) {
  Search search;
  search.purpose = Search::Purpose::kList;
  search.what = msg::What::kList;
  search.name = list.prefix.substr(0, config.limits.record_name_bytes_max);
  search.request = list.request;
  if (searches.size() >= config.limits.searches_max) {
    ++counters.refused;
    take_local(search);
    std::vector<Record> found;
    for (auto& [name, record] : search.records) found.push_back(record);
    emit(out::RecordsListed{list.request, std::move(found)});
    return;
  }
  start_search(std::move(search), config.timeouts.list);
}

// ---- running a search ----

std::uint64_t Store::Impl::start_search(Search search, Duration patience) {
  const std::uint64_t id = ++last_number;
  search.deadline = now + patience;
  take_local(search);
  Search& running = searches[id] = std::move(search);
  arm(TimerKind::kSearch, running.deadline, id);
  const bool enough = running.what == msg::What::kObject && running.purpose != Search::Purpose::kDelete &&
                      usable(running, running.purpose == Search::Purpose::kPeer);
  if (enough) {
    finish_search(id);
    return id;
  }
  ask_first(id, running);
  advance(id);
  return id;
}

void Store::Impl::take_local(Search& search) {
  switch (search.what) {
    case msg::What::kObject: {
      auto known = objects.find(search.object);
      if (known != objects.end()) merge_found(search, known->second.manifest);
      const std::string prefix = tombstones_of(search.object);
      for (auto it = records.lower_bound(prefix); it != records.end() && it->first.starts_with(prefix); ++it) {
        merge_record(search, it->second.record);
      }
      return;
    }
    case msg::What::kRecord: {
      auto it = records.find(search.name);
      if (it != records.end()) merge_record(search, it->second.record);
      return;
    }
    case msg::What::kList: {
      std::size_t bytes = 0;
      for (auto it = records.lower_bound(search.name); it != records.end() && it->first.starts_with(search.name);
           ++it) {
        if (it->first.front() == kInternalPrefix) continue;
        bytes += it->first.size() + it->second.record.value.size();
        if (search.records.size() >= config.limits.listed_max || bytes > kTellBytesMax) {
          search.complete = false;
          return;
        }
        merge_record(search, it->second.record);
      }
      return;
    }
  }
}

void Store::Impl::ask(std::uint64_t id, Search& search, AgentId agent, bool up) {
  const Peer* other = peer(agent);
  if (!other || !search.asked.insert({agent, up}).second) return;
  search.waiting.insert({agent, up});
  msg::Ask ask{id, search.what, search.object, search.name, up, (search.deadline - now) * 3 / 4};
  send(other->address, ask);
}

// The directory for an object; for a record also upwards, because a newer epoch may be known there; for a
// list everyone.
void Store::Impl::ask_first(std::uint64_t id, Search& search) {
  if (has_parent() && upward(0, 1).empty()) search.complete = false;
  const std::uint64_t key =
      search.what == msg::What::kObject ? placement_key(search.object) : placement_key(search.name);
  if (search.what == msg::What::kList) {
    search.widened = true;
    search.up_asked = true;
    bool first = true;
    for (AgentId agent : upward(key, is_head() ? parents.size() : 1)) {
      ask(id, search, agent, first);  // one of them asks further up
      first = false;
    }
    if (search.home) {
      for (AgentId agent : home) ask(id, search, agent, false);
    }
    return;
  }
  const std::size_t width = search.what == msg::What::kObject ? kObjectDirectory : kRecordDirectory;
  if (search.what == msg::What::kRecord || !search.home) {
    search.up_asked = true;
    for (AgentId agent : upward(key, width)) ask(id, search, agent, true);
  }
  if (search.home) {
    for (AgentId agent : home_directory(key, width)) ask(id, search, agent, false);
  }
  if (search.what == msg::What::kObject) {
    search.widen_at = std::min(now + config.timeouts.ask, search.deadline);
    arm(TimerKind::kWiden, search.widen_at, id);
  } else {
    search.widened = true;
  }
}

void Store::Impl::widen(std::uint64_t id, Search& search) {
  disarm(TimerKind::kWiden, search.widen_at, id);
  search.widen_at = Instant::never();
  search.widened = true;
  if (!search.up_asked) {
    search.up_asked = true;
    for (AgentId agent : upward(placement_key(search.object), kObjectDirectory)) ask(id, search, agent, true);
  }
  if (search.home) {
    for (AgentId agent : home) ask(id, search, agent, false);
  }
  for (AgentId agent : parents) ask(id, search, agent, false);
}

// A found object is usable when a holder may still be there. A thin one lists fewer copies than its policy
// wants: the other directory agent may know more.
bool Store::Impl::usable(const Search& search, bool thin_is_enough) const {
  if (search.what != msg::What::kObject || !search.found) return false;
  std::size_t alive = 0;
  for (const wire::Address& holder : search.found->holders) {
    if (search.failed.contains(holder.agent)) continue;
    if (holder.agent == config.id) return true;
    if (is_home(holder) && !is_peer_home(holder.agent)) continue;
    ++alive;
  }
  return thin_is_enough ? alive > 0 : alive >= std::min<std::size_t>(2, search.found->policy.replicas);
}

void Store::Impl::advance(std::uint64_t id) {
  auto it = searches.find(id);
  if (it == searches.end()) return;
  Search& search = it->second;
  const bool wants_all = search.what != msg::What::kObject || search.purpose == Search::Purpose::kDelete;
  if (!wants_all && usable(search, false)) return finish_search(id);
  if (!search.waiting.empty()) return;
  if (search.what == msg::What::kObject && !search.widened && (wants_all || !usable(search, true))) {
    widen(id, search);
    if (!search.waiting.empty()) return;
  }
  finish_search(id);
}

// Buried births are no find.
void Store::Impl::merge_found(Search& search, const Manifest& manifest) {
  const auto is_buried = [&](std::uint64_t birth) {
    return search.records.contains(tombstone_name(search.object, birth));
  };
  if (!manifest.births.empty() && std::all_of(manifest.births.begin(), manifest.births.end(), is_buried)) return;
  if (!search.found) {
    search.found = manifest;
    if (search.found->births.size() > kBirthsMax) search.found->births.resize(kBirthsMax);
    return;
  }
  Manifest& found = *search.found;
  for (std::uint64_t birth : manifest.births) {
    const bool listed = std::find(found.births.begin(), found.births.end(), birth) != found.births.end();
    if (!listed && found.births.size() < 2 * kBirthsMax) found.births.push_back(birth);
  }
  for (const wire::Address& holder : manifest.holders) {
    const bool listed = std::any_of(found.holders.begin(), found.holders.end(),
                                    [&](const wire::Address& one) { return one.agent == holder.agent; });
    if (!listed && found.holders.size() < config.limits.holders_max) found.holders.push_back(holder);
  }
}

void Store::Impl::merge_record(Search& search, const Record& record) {
  auto it = search.records.find(record.name);
  if (it == search.records.end()) {
    if (search.records.size() >= config.limits.listed_max) {
      search.complete = false;
      return;
    }
    search.records.emplace(record.name, record);
  } else if (supersedes(record, it->second)) {
    it->second = record;
  }
  const auto buried = buried_by(record.name);
  if (!search.found || !buried || buried->object != search.object) return;
  const auto& births = search.found->births;
  const bool dead = !births.empty() && std::all_of(births.begin(), births.end(), [&](std::uint64_t birth) {
    return search.records.contains(tombstone_name(search.object, birth));
  });
  if (dead) search.found.reset();
}

// ---- messages ----

void Store::Impl::on_message(const wire::Address& from, const msg::Ask& ask) {
  if (ask.what > msg::What::kList || ask.name.size() > config.limits.record_name_bytes_max) {
    ++counters.bad_frames;
    return;
  }
  Search search;
  search.purpose = Search::Purpose::kPeer;
  search.what = ask.what;
  search.object = ask.object;
  search.name = ask.name;
  search.asker = from;
  search.asker_id = ask.id;
  search.home = false;
  search.up = ask.up;
  const bool ways_up = ask.up && !upward(0, 1).empty();
  if (ways_up && searches.size() < config.limits.searches_max) {
    const Duration patience{std::clamp<std::int64_t>(ask.patience.us, 0, seconds(10).us)};
    start_search(std::move(search), patience);
    return;
  }
  take_local(search);
  if (ask.up && has_parent()) search.complete = false;
  msg::Tell tell;
  tell.id = ask.id;
  tell.complete = search.complete;
  tell.up = ask.up;
  if (search.found) tell.objects.push_back(std::move(*search.found));
  for (auto& [name, record] : search.records) tell.records.push_back(std::move(record));
  send(from, tell);
}

void Store::Impl::on_message(const wire::Address& from, const msg::Tell& tell) {
  auto it = searches.find(tell.id);
  if (it == searches.end() || it->second.waiting.erase({from.agent, tell.up}) == 0) return;
  Search& search = it->second;
  search.complete = search.complete && tell.complete;
  for (const Record& record : tell.records) {
    const bool asked_for = search.what == msg::What::kObject   ? record.name.starts_with(tombstones_of(search.object))
                           : search.what == msg::What::kRecord ? record.name == search.name
                                                               : record.name.starts_with(search.name);
    if (asked_for && check_record(record.name, record.value.size())) merge_record(search, record);
  }
  for (const Manifest& manifest : tell.objects) {
    if (manifest.object == search.object && acceptable(manifest) &&
        manifest.holders.size() <= 2 * config.limits.holders_max) {
      merge_found(search, manifest);
    }
  }
  advance(tell.id);
}

// ---- results ----

// Best first: here, in this region, elsewhere, then those believed down or just found failing.
Result<Manifest> Store::Impl::located(const Search& search) const {
  if (!search.found || search.found->holders.empty()) {
    if (!search.records.empty()) {
      return fail(Code::kNotFound, "object " + search.object.hex() + " was deleted");
    }
    if (search.silence || !search.complete) {
      return fail(Code::kTimeout,
                  "no copy of object " + search.object.hex() +
                      " is known to the agents that answered; others did not answer in time. Try again");
    }
    return fail(Code::kNotFound, "no agent knows an object " + search.object.hex());
  }
  if (!usable(search, true)) {
    std::string names;
    for (const wire::Address& holder : search.found->holders) names += " " + holder.agent.brief();
    return fail(Code::kUnavailable, "all known holders of object " + search.object.hex() +
                                        " are down or failed to serve it:" + names +
                                        ". It can be read again when one of them is back");
  }
  auto worth = [&](const wire::Address& holder) {
    if (search.failed.contains(holder.agent)) return 4;
    if (holder.agent == config.id) return 0;
    if (is_peer_home(holder.agent)) return 1;
    return is_home(holder) ? 3 : 2;
  };
  Manifest manifest = *search.found;
  manifest.holders.clear();
  for (int rank = 0; rank <= 4; ++rank) {
    for (const wire::Address& holder : search.found->holders) {
      if (worth(holder) == rank) manifest.holders.push_back(holder);
    }
  }
  return manifest;
}

Result<Record> Store::Impl::got(const Search& search) const {
  auto it = search.records.find(search.name);
  if (it != search.records.end() && !it->second.deleted) return it->second;
  if (it == search.records.end() && (search.silence || !search.complete)) {
    return fail(
        Code::kTimeout,
        "'" + search.name + "' is not known to the agents that answered; others did not answer in time. Try again");
  }
  return fail(Code::kNotFound, "there is no '" + search.name + "'");
}

void Store::Impl::finish_search(std::uint64_t id) {
  auto it = searches.find(id);
  Search search = std::move(it->second);
  searches.erase(it);
  disarm(TimerKind::kSearch, search.deadline, id);
  disarm(TimerKind::kWiden, search.widen_at, id);
  switch (search.purpose) {
    case Search::Purpose::kLocate:
      emit(out::Located{search.request, located(search)});
      return;
    case Search::Purpose::kGet:
      emit(out::RecordGot{search.request, got(search)});
      return;
    case Search::Purpose::kList: {
      std::vector<Record> found;
      for (auto& [name, record] : search.records) {
        if (!record.deleted && name.front() != kInternalPrefix) found.push_back(std::move(record));
      }
      emit(out::RecordsListed{search.request, std::move(found)});
      return;
    }
    case Search::Purpose::kQuery: {
      auto manifest = located(search);
      if (!manifest) {
        emit(out::Answer{search.request, tl::unexpected<Error>(manifest.error())});
      } else {
        auto known = objects.find(search.object);
        emit(out::Answer{search.request, describe(*manifest, known != objects.end() && known->second.here)});
      }
      return;
    }
    case Search::Purpose::kDelete:
      return bury(search);
    case Search::Purpose::kHeal: {
      const bool deleted = !search.found && !search.records.empty();
      if (deleted) {
        heals.erase(search.object);
        emit(out::Erase{search.object});
        return;
      }
      if (!usable(search, true) || pulls.size() >= config.limits.pulls_queued_max) return heal_later(search.object);
      queue_pull(*located(search), std::nullopt);
      return;
    }
    case Search::Purpose::kPeer: {
      msg::Tell tell;
      tell.id = search.asker_id;
      tell.complete = search.complete && !search.silence;
      tell.up = search.up;
      if (search.found) tell.objects.push_back(std::move(*search.found));
      for (auto& [name, record] : search.records) tell.records.push_back(std::move(record));
      send(search.asker, tell);
      return;
    }
  }
}

}  // namespace shoal::storage
