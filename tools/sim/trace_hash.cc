#include "tools/sim/trace_hash.h"

#include <type_traits>

#include "protocol/wire/codec.h"

namespace shoal::sim {
namespace {

// Walks a message by its fields and feeds every leaf to the hash: as strict as encoding it, at a tenth of the cost.
class Walk {
 public:
  explicit Walk(TraceHash& hash) : hash_(hash) {}

  template <class... T>
  void all(const T&... values) {
    (one(values), ...);
  }

  template <class T>
  void one(const T& value) {
    if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) {
      hash_.add(static_cast<std::uint64_t>(value));
    } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
      hash_.add(std::string_view(value));
    } else if constexpr (wire::Message<T>) {
      T::fields(value, [this](const auto&... field) { this->all(field...); });
    } else {
      more(value);
    }
  }

 private:
  template <class Tag>
  void more(const Id128<Tag>& id) {
    hash_.add(id.high());
    hash_.add(id.low());
  }
  template <class Tag, class Rep>
  void more(const Number<Tag, Rep>& number) {
    hash_.add(static_cast<std::uint64_t>(number.value()));
  }
  void more(Instant at) { hash_.add(static_cast<std::uint64_t>(at.us)); }
  void more(const wire::Dynamic& value) { hash_.add(std::string_view(wire::encode(value))); }
  template <class T>
  void more(const std::optional<T>& value) {
    hash_.add(value.has_value() ? 1 : 0);
    if (value) one(*value);
  }
  template <class T>
  void more(const std::vector<T>& items) {
    hash_.add(items.size());
    for (const auto& item : items) one(item);
  }
  template <class K, class V>
  void more(const std::map<K, V>& items) {
    hash_.add(items.size());
    for (const auto& [key, value] : items) all(key, value);
  }
  template <class... T>
  void more(const std::variant<T...>& value) {
    hash_.add(value.index());
    std::visit([this](const auto& alternative) { this->one(alternative); }, value);
  }
  template <class T>
  void more(const Result<T>& result) {
    hash_.add(result.has_value() ? 1 : 0);
    if constexpr (!std::is_void_v<T>) {
      if (result) one(*result);
    }
    if (!result) all(result.error().code, result.error().message);
  }

  // Inputs and effects, which never travel and so have no field lists of their own.
  void more(const node::in::Start&) {}
  void more(const node::in::Wake&) {}
  void more(const node::in::Leave&) {}
  void more(const node::in::Frame& m) { all(m.neighbour, m.envelope); }
  void more(const node::in::LinkUp& m) { all(m.neighbour); }
  void more(const node::in::LinkDown& m) { all(m.neighbour, m.refused); }
  void more(const node::in::Durable& m) { all(m.ticket); }
  void more(const node::in::OverlayQuery& m) { all(m.id, m.method); }
  void more(const scheduler::in::OpenApp& m) { all(m.client, m.app, m.hello, m.journal, m.replay, m.save); }
  void more(const scheduler::in::ClientMessage& m) { all(m.client, m.message); }
  void more(const scheduler::in::GroupMessage& m) { all(m.client, m.kind, m.group); }
  void more(const scheduler::in::ClientGone& m) { all(m.client); }
  void more(const scheduler::in::CancelApp& m) { all(m.app); }
  void more(const scheduler::in::Exclude& m) { all(m.agent, m.excluded); }
  void more(const scheduler::in::Query& m) { all(m.id, m.method, m.params); }
  void more(const scheduler::in::AttemptsDone& m) { all(m.results); }
  void more(const scheduler::in::AttemptBlocked& m) { all(m.attempt, m.blocked); }
  void more(const scheduler::in::Fetched& m) { all(m.key, m.ok, m.message, m.value); }
  void more(const storage::in::Put& m) { all(m.request, m.manifest); }
  void more(const storage::in::Locate& m) { all(m.request, m.object); }
  void more(const storage::in::Delete& m) { all(m.request, m.object); }
  void more(const storage::in::SetRecord& m) {
    all(m.request, m.name, m.value, m.must_be_new, m.expected, m.remove, m.wait_for);
  }
  void more(const storage::in::GetRecord& m) { all(m.request, m.name); }
  void more(const storage::in::ListRecords& m) { all(m.request, m.prefix); }
  void more(const storage::in::Pulled& m) { all(m.object, m.result); }
  void more(const storage::in::Corrupt& m) { all(m.object); }
  void more(const storage::in::Query& m) { all(m.id, m.method, m.params); }

  void more(const node::out::Send& m) { all(m.neighbour, m.envelope, m.after); }
  void more(const node::out::Dial& m) { all(m.neighbour, m.endpoint, m.curve_key); }
  void more(const node::out::HangUp& m) { all(m.neighbour); }
  void more(const node::out::WakeAt& m) { all(m.at); }
  void more(const node::out::Persist& m) { all(m.ticket, m.lane, m.key, m.value); }
  void more(const node::out::Answer& m) { all(m.id, m.result); }
  void more(const node::out::AddressChanged& m) { all(m.self); }
  void more(const node::out::MemberGone& m) { all(m.agent, m.proven); }
  void more(const node::out::Trace& m) { all(m.event); }
  void more(const node::out::Stopped&) {}
  void more(const scheduler::out::ToClient& m) { all(m.client, m.message); }
  void more(const scheduler::out::Launch& m) { all(m.language, m.python, m.functions, m.attempts); }
  void more(const scheduler::out::Kill& m) { all(m.attempts, m.timed_out); }
  void more(const scheduler::out::Fetch& m) { all(m.key, m.bytes, m.holders); }
  void more(const scheduler::out::Keep& m) { all(m.key, m.value); }
  void more(const scheduler::out::Drop& m) { all(m.keys); }
  void more(const scheduler::out::Journal& m) { all(m.app, m.entry); }
  void more(const scheduler::out::Save& m) { all(m.app, m.entry); }
  void more(const storage::out::Pull& m) { all(m.manifest); }
  void more(const storage::out::Erase& m) { all(m.object); }
  void more(const storage::out::PutDone& m) { all(m.request, m.receipt); }
  void more(const storage::out::Located& m) { all(m.request, m.manifest); }
  void more(const storage::out::DeleteDone& m) { all(m.request, m.result); }
  void more(const storage::out::RecordSet& m) { all(m.request, m.record); }
  void more(const storage::out::RecordGot& m) { all(m.request, m.record); }
  void more(const storage::out::RecordsListed& m) { all(m.request, m.records); }

  TraceHash& hash_;
};

}  // namespace

void TraceHash::add(std::string_view bytes) {
  // Eight bytes at a time, assembled by hand so that byte order does not matter; a frame is hashed twice per hop.
  std::uint64_t h = state_ ^ bytes.size();
  while (bytes.size() >= 8) {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < 8; ++i) word |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
    h = (h ^ word) * 0x9fb21c651e98df25ULL;
    h ^= h >> 32;
    bytes.remove_prefix(8);
  }
  for (char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  state_ = mix64(h);
}

void TraceHash::add_input(std::uint32_t agent, Instant now, const node::Input& input) {
  add(std::uint64_t{agent} << 8 | input.index());
  add(static_cast<std::uint64_t>(now.us));
  std::visit([this](const auto& m) { Walk(*this).one(m); }, input);
}

void TraceHash::add_effect(std::uint32_t agent, const node::Effect& effect) {
  add(std::uint64_t{agent} << 8 | 0x80 | effect.index());
  std::visit([this](const auto& m) { Walk(*this).one(m); }, effect);
}

}  // namespace shoal::sim
