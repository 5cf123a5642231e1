#include "scheduler/fingerprint.h"

#include <string_view>

#include "protocol/base/hash.h"
#include "protocol/base/overloaded.h"

namespace shoal::scheduler {

namespace {

// Pickles with code in them name the package that unpacks it.
constexpr std::string_view kCode = "cloudpickle";

void add(std::uint64_t& print, const std::vector<client::Access>& accesses,
         const std::unordered_map<DatumId, std::uint64_t>& put) {
  print = combine64(print, accesses.size());
  for (const auto& access : accesses) {
    print =
        combine64(print, static_cast<std::uint64_t>(access.direction) << 8 | static_cast<std::uint64_t>(access.kind));
    print = combine64(print, access.datum.value());
    if (auto known = put.find(access.datum); known != put.end()) print = combine64(print, known->second);
    print = combine64(print, hash64(access.path));
    print = combine64(print, fingerprint(access.value));
    add(print, access.items, put);
  }
}

}  // namespace

std::uint64_t fingerprint(const client::Value& value) {
  return combine64(value.index(),
                   std::visit(Overloaded{[](const client::Nothing&) { return std::uint64_t{0}; },
                                         [](const client::Inline& v) {
                                           const bool code = v.bytes.find(kCode) != std::string_view::npos;
                                           return code ? std::uint64_t{1} : hash64(v.bytes);
                                         },
                                         [](const client::Shared& v) { return v.bytes; },
                                         [](const client::FilePath& v) { return hash64(v.path); },
                                         [](const client::ObjectRef& v) { return hash64(v.object.hex()); }},
                              value));
}

std::uint64_t fingerprint(const std::vector<client::Access>& accesses,
                          const std::unordered_map<DatumId, std::uint64_t>& put) {
  std::uint64_t print = 1;
  add(print, accesses, put);
  return print == 0 ? 1 : print;
}

}  // namespace shoal::scheduler
