#include "tools/sim/describe.h"

#include <vector>

namespace shoal::sim {
namespace {

std::string number(std::uint64_t value) {
  return std::to_string(value);
}

std::string text(const client::Value& value) {
  if (const auto* shared = std::get_if<client::Shared>(&value)) return "arena:" + shared->name;
  if (const auto* inline_value = std::get_if<client::Inline>(&value))
    return "inline(" + number(inline_value->bytes.size()) + ")";
  return value.index() == 0 ? "nothing" : "value#" + number(value.index());
}

std::string text(const wire::Envelope& e) {
  return " kind=" + number(e.kind >> 8) + "." + number(e.kind & 0xff) + " " + e.source.agent.brief() + "->" +
         e.target.agent.brief() + " hops=" + number(e.hops) + " body=" + number(e.body.size());
}

std::string text(const std::vector<client::Access>& accesses) {
  std::string out;
  for (const auto& access : accesses) {
    constexpr const char* kDirections[] = {"in", "out", "inout", "concurrent", "commutative", "delete"};
    out += std::string(out.empty() ? "" : ", ") + kDirections[static_cast<std::size_t>(access.direction)];
    if (access.kind == client::AccessKind::kCollection) {
      out += " [" + text(access.items) + "]";
    } else if (access.kind == client::AccessKind::kDatum) {
      out += " d" + number(access.datum.value());
    }
  }
  return out;
}

std::string text(const std::vector<client::Argument>& arguments) {
  std::string out;
  for (const auto& argument : arguments) {
    out += std::string(out.empty() ? "" : ", ") + text(argument.value);
    if (!argument.items.empty()) out += "[" + text(argument.items) + "]";
  }
  return out;
}

struct Line {
  std::string operator()(const node::in::Start&) const { return "Start"; }
  std::string operator()(const node::in::Wake&) const { return "Wake"; }
  std::string operator()(const node::in::Leave&) const { return "Leave"; }
  std::string operator()(const node::in::Frame& m) const { return "Frame" + text(m.envelope); }
  std::string operator()(const node::in::LinkUp& m) const { return "LinkUp " + m.neighbour.brief(); }
  std::string operator()(const node::in::LinkDown& m) const {
    return "LinkDown " + m.neighbour.brief() + (m.refused ? " refused" : "");
  }
  std::string operator()(const node::in::Durable& m) const { return "Durable " + number(m.ticket.value()); }
  std::string operator()(const node::in::OverlayQuery& m) const { return "OverlayQuery " + m.method; }
  std::string operator()(const scheduler::in::OpenApp& m) const { return "OpenApp " + m.app.brief(); }
  std::string operator()(const scheduler::in::ClientGone& m) const { return "ClientGone " + number(m.client.value()); }
  std::string operator()(const scheduler::in::ClientMessage& m) const {
    return "client " + number(m.client.value()) + " " + std::visit(*this, m.message);
  }
  std::string operator()(const client::Register& m) const { return "Register " + m.name; }
  std::string operator()(const client::Submit& m) const {
    std::string out = "Submit";
    for (const auto& call : m.calls) {
      out +=
          " task " + number(call.task.value()) + " f" + number(call.function.low()) + "(" + text(call.accesses) + ")";
    }
    return out;
  }
  std::string operator()(const client::PutData& m) const {
    return "PutData d" + number(m.datum.value()) + "=" + text(m.value);
  }
  std::string operator()(const client::Wait& m) const {
    std::string out = "Wait " + number(m.request) + " for";
    for (const DatumId datum : m.data) out += " d" + number(datum.value());
    return out;
  }
  std::string operator()(const client::Barrier& m) const { return "Barrier " + number(m.request); }
  std::string operator()(const client::Release& m) const {
    std::string out = "Release";
    for (const DatumId datum : m.data) out += " d" + number(datum.value());
    return out;
  }
  std::string operator()(const scheduler::in::AttemptsDone& m) const {
    std::string out = "AttemptsDone";
    for (const auto& result : m.results) {
      out += " " + number(result.attempt) + " outcome " + number(static_cast<std::uint64_t>(result.outcome));
      for (const auto& value : result.outputs) out += " " + text(value);
    }
    return out;
  }
  std::string operator()(const scheduler::in::Fetched& m) const {
    return "Fetched " + m.key + (m.ok ? " " + text(m.value) : " failed: " + m.message);
  }
  std::string operator()(const storage::in::Put& m) const { return "Put " + m.manifest.object.brief(); }
  std::string operator()(const storage::in::Locate& m) const { return "Locate " + m.object.brief(); }
  std::string operator()(const storage::in::Delete& m) const { return "Delete " + m.object.brief(); }
  std::string operator()(const storage::in::SetRecord& m) const { return "SetRecord " + m.name; }
  std::string operator()(const storage::in::GetRecord& m) const { return "GetRecord " + m.name; }
  std::string operator()(const storage::in::Pulled& m) const {
    return "Pulled " + m.object.brief() + (m.result ? "" : " failed: " + m.result.error().message);
  }
  std::string operator()(const storage::in::Corrupt& m) const { return "Corrupt " + m.object.brief(); }

  std::string operator()(const node::out::Send& m) const {
    return "Send via " + m.neighbour.brief() + text(m.envelope) + " after=" + number(m.after.value());
  }
  std::string operator()(const node::out::Dial& m) const { return "Dial " + m.neighbour.brief() + " " + m.endpoint; }
  std::string operator()(const node::out::HangUp& m) const { return "HangUp " + m.neighbour.brief(); }
  std::string operator()(const node::out::WakeAt& m) const { return "WakeAt " + std::to_string(m.at.us); }
  std::string operator()(const node::out::Persist& m) const {
    return "Persist " + m.key + " (" + number(m.value.size()) + " B) ticket " + number(m.ticket.value());
  }
  std::string operator()(const node::out::Answer& m) const { return "Answer " + number(m.id); }
  std::string operator()(const node::out::MemberGone& m) const {
    return "MemberGone " + m.agent.brief() + (m.proven ? " proven" : "");
  }
  std::string operator()(const scheduler::out::Journal& m) const {
    return "Journal task " + number(m.entry.task.value());
  }
  std::string operator()(const node::out::AddressChanged& m) const {
    return "AddressChanged depth " + number(m.self.path.size());
  }
  std::string operator()(const node::out::Trace& m) const { return "Trace " + m.event; }
  std::string operator()(const node::out::Stopped&) const { return "Stopped"; }
  std::string operator()(const scheduler::out::ToClient& m) const {
    return "to client " + number(m.client.value()) + " " + std::visit(*this, m.message);
  }
  std::string operator()(const client::Values& m) const {
    std::string out = "Values " + number(m.request);
    for (const auto& value : m.values) {
      out +=
          " d" + number(value.datum.value()) + "=" + (value.code == 0 ? text(value.value) : "error: " + value.message);
    }
    return out;
  }
  std::string operator()(const client::Reply& m) const {
    return "Reply " + number(m.request) + (m.code == 0 ? "" : " error: " + m.message);
  }
  std::string operator()(const client::Event& m) const { return "Event " + m.topic; }
  std::string operator()(const scheduler::out::Launch& m) const {
    std::string out = "Launch";
    for (const auto& attempt : m.attempts) {
      out += " " + number(attempt.attempt) + "=task " + number(attempt.task.value()) + "/" +
             number(attempt.instance.value()) + " f" + number(attempt.function.low()) + "(" + text(attempt.arguments) +
             ")";
    }
    return out;
  }
  std::string operator()(const scheduler::out::Kill& m) const {
    std::string out = "Kill";
    for (const std::uint64_t attempt : m.attempts) out += " " + number(attempt);
    return out;
  }
  std::string operator()(const scheduler::out::Fetch& m) const {
    std::string out = "Fetch " + m.key + " from";
    for (const auto& holder : m.holders) out += " " + holder.agent.brief();
    return out;
  }
  std::string operator()(const scheduler::out::Keep& m) const { return "Keep " + m.key + "=" + text(m.value); }
  std::string operator()(const scheduler::out::Drop& m) const {
    std::string out = "Drop";
    for (const auto& key : m.keys) out += " " + key;
    return out;
  }
  std::string operator()(const storage::out::Pull& m) const { return "Pull " + m.manifest.object.brief(); }
  std::string operator()(const storage::out::Erase& m) const { return "Erase " + m.object.brief(); }
  std::string operator()(const storage::out::PutDone& m) const {
    return "PutDone " + number(m.request) +
           (m.receipt ? " level " + number(static_cast<std::uint64_t>(m.receipt->level)) + " copies " +
                            number(m.receipt->copies)
                      : " error: " + m.receipt.error().message);
  }
  std::string operator()(const storage::out::Located& m) const {
    return "Located " + number(m.request) +
           (m.manifest ? " holders " + number(m.manifest->holders.size()) : " error: " + m.manifest.error().message);
  }
  std::string operator()(const storage::out::RecordSet& m) const {
    return "RecordSet " + number(m.request) +
           (m.record ? " epoch " + number(m.record->epoch.value()) : " error: " + m.record.error().message);
  }
  std::string operator()(const storage::out::RecordGot& m) const {
    return "RecordGot " + number(m.request) +
           (m.record ? " epoch " + number(m.record->epoch.value()) : " error: " + m.record.error().message);
  }
  template <class... T>
  std::string operator()(const std::variant<T...>& m) const {
    return std::visit(*this, m);
  }
  template <class T>
  std::string operator()(const T&) const {
    return "(another kind)";
  }
};

}  // namespace

std::string describe(const node::Input& input) {
  return std::visit(Line{}, input);
}
std::string describe(const node::Effect& effect) {
  return std::visit(Line{}, effect);
}

}  // namespace shoal::sim
