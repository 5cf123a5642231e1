// What administrators see.
#include <algorithm>

#include "storage/model/store_impl.h"

namespace shoal::storage {

wire::Dynamic Store::Impl::describe(const Manifest& manifest, bool here) const {
  wire::Dynamic::Array holders;
  for (const wire::Address& holder : manifest.holders) holders.emplace_back(holder.agent.hex());
  wire::Dynamic::Map policy;
  policy["replicas"] = manifest.policy.replicas;
  policy["wait_for"] = level_name(manifest.policy.wait_for);
  policy["ephemeral"] = manifest.policy.ephemeral;
  wire::Dynamic::Map row;
  row["id"] = manifest.object.hex();
  row["bytes"] = manifest.bytes;
  row["type"] = manifest.type;
  row["copies"] = manifest.holders.size();
  row["here"] = here;
  row["holders"] = std::move(holders);
  row["policy"] = std::move(policy);
  return row;
}

void Store::Impl::on(const in::Query& query) {
  if (query.method == "objects") {
    const std::int64_t most = static_cast<std::int64_t>(config.limits.listed_max);
    const auto limit = static_cast<std::size_t>(std::clamp<std::int64_t>(query.params.int_or("limit", most), 0, most));
    wire::Dynamic::Array rows;
    for (const auto& [object, known] : objects) {
      if (rows.size() >= limit) break;
      rows.push_back(describe(known.manifest, known.here));
    }
    emit(out::Answer{query.id, wire::Dynamic(std::move(rows))});
    return;
  }
  if (query.method == "locate") {
    auto object = ObjectId::from_hex_text(query.params.text_or("object", ""));
    if (!object) {
      emit(out::Answer{query.id, fail(Code::kInvalid, "'object' must be an object id: 32 hexadecimal digits")});
      return;
    }
    if (searches.size() >= config.limits.searches_max) {
      emit(out::Answer{query.id, fail(Code::kExhausted, "too many look-ups are under way; try again")});
      return;
    }
    Search search;
    search.purpose = Search::Purpose::kQuery;
    search.object = *object;
    search.request = query.id;
    start_search(std::move(search), config.timeouts.locate);
    return;
  }
  if (query.method == "store") {
    wire::Dynamic::Map usage;
    usage["objects_here"] = here_count;
    usage["bytes_here"] = here_bytes;
    usage["directory_entries"] = objects.size() - here_count;
    usage["records"] = records.size();
    usage["copies_in_flight"] = copies_in_flight;
    usage["copies_waiting"] = starved.size();
    usage["pulls_waiting"] = pull_queue.size();
    usage["puts_waiting"] = puts.size();
    usage["look_ups"] = searches.size();
    usage["repairs"] = counters.repairs;
    usage["refused"] = counters.refused;
    usage["bad_frames"] = counters.bad_frames;
    usage["copies_lost"] = counters.lost;
    usage["restarts_seen"] = counters.restarts_seen;
    emit(out::Answer{query.id, wire::Dynamic(std::move(usage))});
    return;
  }
  emit(out::Answer{query.id, fail(Code::kUnsupported,
                                  "the store answers 'objects', 'locate' and 'store', not '" + query.method + "'")});
}

}  // namespace shoal::storage
