#include "tools/shoal/pick.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace shoal::cli {
namespace {

constexpr std::size_t kPrefixLeast = 4;  // digits: fewer fit by chance

// The one value of `key` among the rows of `list` that begins with `prefix`.
Result<std::string> pick(const wire::Dynamic& answer, std::string_view list, std::string_view key,
                         const std::string& prefix, const std::string& what) {
  std::set<std::string> found;
  if (const auto* rows = answer[list].as_array()) {
    for (const auto& row : *rows) {
      if (auto value = row.text_or(key, ""); value.starts_with(prefix)) found.insert(std::move(value));
    }
  }
  if (found.empty())
    return fail(Code::kNotFound, fmt::format("there is no {0} \"{1}\"; `shoal {0}s` lists them", what, prefix));
  if (found.size() > 1)
    return fail(Code::kInvalid, fmt::format("\"{}\" fits {} {}s; give more of it", prefix, found.size(), what));
  return *found.begin();
}

}  // namespace

Result<PickedObject> pick_object(Client& client, const std::string& text) {
  if (ObjectId::from_hex_text(text)) return PickedObject{text, ""};
  auto named = client.request("store.get_alias", {{"alias", text}});
  if (named) return PickedObject{named->text_or("object", ""), text};
  if (named.error().code != Code::kNotFound) return tl::unexpected<Error>(named.error());
  const bool digits = text.size() >= kPrefixLeast && text.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!digits) return fail(Code::kNotFound, fmt::format("there is no object \"{}\"; `shoal objects` lists them", text));
  auto listed = client.request("store.list");
  if (!listed) return tl::unexpected<Error>(listed.error());
  auto id = pick(*listed, "objects", "object", text, "object");
  if (!id) return tl::unexpected<Error>(id.error());
  return PickedObject{*id, ""};
}

Result<std::string> pick_stream(Client& client, const std::string& text) {
  auto exact = client.request("streams.status", {{"name", text}});
  if (exact) return text;
  if (exact.error().code != Code::kNotFound) return tl::unexpected<Error>(exact.error());
  auto listed = client.request("streams.list");
  if (!listed) return tl::unexpected<Error>(listed.error());
  return pick(*listed, "streams", "name", text, "stream");
}

}  // namespace shoal::cli
