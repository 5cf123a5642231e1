// What passes over a link once it is up, and how it ends.
#include <cerrno>

#include "protocol/link/transport_impl.h"

namespace shoal::link {
namespace {

constexpr Duration kProbeTime = seconds(1);
constexpr std::size_t kProbesMax = 64;
constexpr Duration kHangUpLinger = milliseconds(500);

}  // namespace

// ---- sending ----

Result<> Transport::Impl::send(AgentId neighbour, FrameKind kind, std::string_view body, std::uint64_t frames,
                               std::uint64_t bytes) {
  if (bytes > config_.limits.frame_bytes_max || body.size() - bytes > kControlBytesMax) {
    counters_.refused_too_big += frames;
    return fail(Code::kInvalid, "a frame of " + std::to_string(bytes) + " bytes is above the limit of " +
                                    std::to_string(config_.limits.frame_bytes_max) + "; send it in pieces");
  }
  const auto link = links_.find(neighbour);
  if (link == links_.end()) {
    counters_.refused_no_link += frames;
    return fail(Code::kUnavailable, "there is no link to agent " + neighbour.brief() + " now");
  }
  Connection& c = *find(link->second);
  int error = c.flow.may_send(body.size()) ? 0 : EAGAIN;
  if (error == 0) error = transmit(c, kind, body);
  if (error == 0) {
    c.flow.sent(body.size());
    counters_.frames_sent += frames;
    counters_.bytes_sent += bytes;
    return {};
  }
  if (error == EAGAIN) {
    c.flow.refused();
    counters_.refused_exhausted += frames;
    return fail(Code::kExhausted, "agent " + neighbour.brief() + " takes in slower than this one sends; wait for it");
  }
  counters_.refused_no_link += frames;
  lost(c, "the connection was closed", true);
  return fail(Code::kUnavailable, "the link to agent " + neighbour.brief() + " has just broken");
}

Result<> Transport::Impl::send_control(AgentId neighbour, FrameKind kind, std::string_view body) {
  const auto link = links_.find(neighbour);
  if (link == links_.end() || transmit(*find(link->second), kind, body) != 0) {
    return fail(Code::kUnavailable, "there is no link to agent " + neighbour.brief() + " now");
  }
  return {};
}

Result<> Transport::Impl::update_identity(const identity::CertificateChain& chain) {
  if (auto valid = check_own_chain(chain); !valid) return valid;
  config_.chain = chain;
  const Bytes body = wire::encode(chain);
  for (const auto& [agent, id] : links_) transmit(*find(id), FrameKind::kIdentity, body);
  return {};
}

// ---- receiving ----

void Transport::Impl::handle_linked(Connection& c, FrameKind kind, std::string_view body) {
  if (kind == FrameKind::kData || kind == FrameKind::kBatch) return deliver(c, kind, body);
  if (body.size() > kControlBytesMax) return drop_frame();
  switch (kind) {
    case FrameKind::kCredit: {
      auto credit = wire::decode<Credit>(body, kControlLimits);
      if (!credit || !c.flow.credited(credit->taken_in)) return drop_frame();
      if (c.flow.take_writable()) queue(event::Writable{c.agent});
      return;
    }
    case FrameKind::kBye: {
      const AgentId agent = c.agent;
      links_.erase(agent);
      if (c.dialled) {
        erase(c);
      } else {
        end(c, FrameKind::kBye, {});
      }
      return report_down(agent, "the other side hung up", std::nullopt);
    }
    case FrameKind::kIdentity:
      return handle_identity(c, body);
    case FrameKind::kRenewalAsk: {
      auto ask = wire::decode<identity::RenewalAsk>(body, kControlLimits);
      if (!ask) return drop_frame();
      return queue(event::RenewalRequest{c.agent, std::move(*ask)});
    }
    case FrameKind::kRenewalAnswer: {
      auto answer = wire::decode<Answer<identity::CertificateChain>>(body, kControlLimits);
      if (!answer) return drop_frame();
      return queue(event::RenewalAnswer{c.agent, answer->result()});
    }
    default:
      return drop_frame();
  }
}

void Transport::Impl::deliver(Connection& c, FrameKind kind, std::string_view body) {
  c.flow.received(body.size());
  batch_.clear();
  if (kind == FrameKind::kData) {
    batch_.push_back(body);
  } else if (!split_batch(body, batch_)) {
    drop_frame();
    batch_.clear();
  }
  for (std::string_view frame : batch_) {
    ++counters_.frames_received;
    counters_.bytes_received += frame.size();
    queue(event::Frame{c.agent, Bytes(frame)});
  }
  if (c.flow.credit_due()) transmit(c, FrameKind::kCredit, wire::encode(Credit{c.flow.tell()}));
}

void Transport::Impl::handle_identity(Connection& c, std::string_view body) {
  auto certificate = identity::verify_certificate_bytes(body, config_.realm, wall_now(), config_.terms);
  // A new certificate for this link must be for the same agent and the key that encrypts it.
  if (!certificate || certificate->agent != c.agent || certificate->curve_key != c.certificate.curve_key) {
    return drop_frame();
  }
  c.certificate = std::move(*certificate);
  queue(event::CertificateChanged{c.agent, c.certificate});
}

// ---- the end of a link ----

void Transport::Impl::hang_up(AgentId neighbour) {
  finish_downs_of(neighbour);
  if (Connection* c = dialling(neighbour)) erase(*c);
  const auto link = links_.find(neighbour);
  if (link == links_.end()) return;
  Connection& c = *find(link->second);
  links_.erase(link);
  if (!c.dialled) return end(c, FrameKind::kBye, {});
  transmit(c, FrameKind::kBye, {});
  erase(c, kHangUpLinger);
}

void Transport::Impl::lost(Connection& c, std::string reason, bool probe) {
  const bool linked = c.stage == Stage::kLinked;
  const bool awaited = linked || c.dialled;  // the caller knows of it
  const AgentId agent = c.agent;
  const auto address = probe ? probe_address(c) : std::nullopt;
  if (linked) links_.erase(agent);
  erase(c);
  if (awaited) report_down(agent, std::move(reason), address);
}

// Where to ask whether the process of a broken link still listens. Of one that dialled us, only what it
// announced *on the very host that it came from*: behind a NAT, the announced address may belong to somebody
// else here.
std::optional<TcpAddress> Transport::Impl::probe_address(const Connection& c) const {
  if (c.dialled) return c.peer ? c.peer : numeric_address(c.target);
  const auto announced = numeric_address(c.announced);
  return announced && c.peer && announced->host == c.peer->host ? announced : std::nullopt;
}

void Transport::Impl::report_down(AgentId agent, std::string reason, std::optional<TcpAddress> probe_at) {
  const std::uint64_t id = next_id_++;
  if (!probe_at || downs_.size() >= kProbesMax) {
    ++counters_.links_down;
    return queue(event::LinkDown{agent, false, std::move(reason)});
  }
  auto& down =
      downs_.emplace(id, PendingDown{agent, std::move(reason), Probe(*probe_at), now_ + kProbeTime}).first->second;
  const Probe::Verdict verdict = down.probe.verdict();
  if (verdict != Probe::Verdict::kPending) return finish_down(id, verdict == Probe::Verdict::kRefused);
  wait_set_.add(down.probe.fd(), id * 2, true);
  deadlines_.emplace(down.deadline, id);
}

void Transport::Impl::finish_down(std::uint64_t id, bool refused) {
  auto node = downs_.extract(id);
  PendingDown& down = node.mapped();
  deadlines_.erase({down.deadline, id});
  if (down.probe.fd() >= 0) wait_set_.remove(down.probe.fd());
  ++counters_.links_down;
  if (refused) down.reason += "; nothing listens there";
  queue(event::LinkDown{down.agent, refused, std::move(down.reason)});
}

void Transport::Impl::finish_downs_of(AgentId agent) {
  for (auto it = downs_.begin(); it != downs_.end();) {
    const std::uint64_t id = it->first;
    const bool theirs = it->second.agent == agent;
    ++it;
    if (theirs) finish_down(id, false);
  }
}

}  // namespace shoal::link
