#include "protocol/overlay/links.h"

#include <algorithm>

#include "protocol/base/check.h"

namespace shoal::overlay {

LinkTable::LinkTable(AgentId self, bool dialable, std::int64_t scale)
    : self_(self), dialable_(dialable), scale_(scale) {}

Link* LinkTable::find(AgentId neighbour) {
  return index_.find(neighbour);
}

const Link* LinkTable::find(AgentId neighbour) const {
  return index_.find(neighbour);
}

bool LinkTable::up(AgentId neighbour) const {
  const Link* link = find(neighbour);
  return link != nullptr && link->up();
}

void LinkTable::want(const std::set<AgentId>& watched, const std::set<AgentId>& star,
                     const std::map<AgentId, Contact>& peers, Instant now) {
  for (auto& [id, link] : links_) {
    if (link.watched && watched.count(id) == 0) link.watched = false;
    if (link.star && star.count(id) == 0) link.star = false;
  }
  for (const auto& [id, peer] : peers) {
    Link* link = find_or_add(peer, now);
    if (link == nullptr) continue;
    if (watched.count(id) != 0 && !link->watched) {
      link->watched = true;
      link->heard = std::max(link->heard, now + kLinkGrace * scale_);
    }
    link->star = star.count(id) != 0;
  }
}

void LinkTable::contact(const Contact& peer, Instant now, std::vector<Output>& out) {
  Link* link = find_or_add(peer, now);
  if (link == nullptr) return;
  link->contact_until = now + kContactFor * scale_;
  if (link->state == Link::State::kDown && !link->peer.endpoint.empty()) dial(*link, now, out);
}

bool LinkTable::demand(const Contact& peer, Instant now) {
  Link* link = find(peer.agent);
  if (link == nullptr || link->demanded_until <= now) {
    const auto demanded = std::count_if(links_.begin(), links_.end(),
                                        [now](const auto& entry) { return entry.second.demanded_until > now; });
    if (static_cast<std::size_t>(demanded) >= kDemandLinksMax) return false;
    link = find_or_add(peer, now);
    if (link == nullptr) return false;
  }
  link->demanded_until = now + kDemandFor * scale_;
  return true;
}

bool LinkTable::on_up(AgentId neighbour, Instant now) {
  Link* link = find_or_add(Contact{neighbour, {}, {}}, now);
  if (link == nullptr) return false;
  link->state = Link::State::kUp;
  link->changed = now;
  link->heard = std::max(link->heard, now);
  link->failures = 0;
  link->fresh = true;
  return true;
}

void LinkTable::on_down(AgentId neighbour, Instant now) {
  Link* link = find(neighbour);
  if (link == nullptr) return;
  // The first attempt after a break is made at once: it often tells a dead process from a lost connection.
  const Duration wait = kDialFirst * (std::int64_t{1} << std::min(link->failures, 6U));
  link->next_dial = link->up() ? now : now + std::min(wait, kDialLast) * scale_;
  link->broken = link->up();
  if (!link->up()) ++link->failures;
  link->state = Link::State::kDown;
  link->changed = now;
  link->peer_watches_until = now;
  link->fresh = false;
}

void LinkTable::encourage(AgentId peer, Instant now) {
  Link* link = find(peer);
  if (link == nullptr || link->state != Link::State::kDown) return;
  link->failures = 0;
  link->next_dial = now;
}

void LinkTable::drive(Instant now, std::vector<Output>& out) {
  for (auto it = links_.begin(); it != links_.end();) {
    Link& link = it->second;
    const bool wanted = link.wanted(now);
    switch (link.state) {
      case Link::State::kUp:
        if (!wanted && now - link.heard > kUnwantedAfter * scale_) {
          out.emplace_back(out::HangUp{it->first});
          it = erase(it);
          continue;
        }
        break;
      case Link::State::kDialing:
        if (!wanted || now - link.changed > kDialTimeout * scale_) {
          out.emplace_back(out::HangUp{it->first});
          on_down(it->first, now);
        }
        break;
      case Link::State::kDown:
        if (!wanted) {
          it = erase(it);
          continue;
        }
        if (now >= link.next_dial && may_dial(link, now)) dial(link, now, out);
        break;
    }
    ++it;
  }
}

void LinkTable::hang_up_all(std::vector<Output>& out) {
  for (const auto& [id, link] : links_) {
    if (link.state != Link::State::kDown) out.emplace_back(out::HangUp{id});
  }
  links_.clear();
  index_.clear();
}

std::map<AgentId, Link>::iterator LinkTable::erase(std::map<AgentId, Link>::iterator it) {
  index_.erase(it->first);
  return links_.erase(it);
}

bool LinkTable::dials(const Contact& peer) const {
  if (peer.endpoint.empty()) return false;
  return !dialable_ || self_ < peer.agent;
}

void LinkTable::forgive(Duration lateness, Instant now) {
  for (auto& [id, link] : links_) {
    link.heard = std::max(link.heard, std::min(link.heard + lateness, now));
  }
}

void LinkTable::check_invariants() const {
  SHOAL_CHECK(links_.size() <= kLinksMax, "too many links");
  SHOAL_CHECK(links_.count(self_) == 0, "a link to itself");
  SHOAL_CHECK(index_.size() == links_.size(), "a link is missing from the index");
  for (const auto& [id, link] : links_) SHOAL_CHECK(id == link.peer.agent, "a link is filed under another id");
}

Link* LinkTable::find_or_add(const Contact& peer, Instant now) {
  if (peer.agent == self_ || peer.agent.is_zero()) return nullptr;
  Link* link = find(peer.agent);
  if (link == nullptr) {
    if (links_.size() >= kLinksMax) return nullptr;
    link = &links_[peer.agent];
    index_.insert(peer.agent, link);
    link->changed = now;
    link->heard = now;
    link->peer.agent = peer.agent;
  }
  if (!peer.endpoint.empty()) link->peer = peer;
  return link;
}

void LinkTable::dial(Link& link, Instant now, std::vector<Output>& out) {
  link.state = Link::State::kDialing;
  link.changed = now;
  out.emplace_back(out::Dial{link.peer.agent, link.peer.endpoint, link.peer.curve_key});
}

bool LinkTable::may_dial(const Link& link, Instant now) const {
  if (link.peer.endpoint.empty()) return false;
  // After a break both ends try at once, and when the other end fails to dial in its turn, this one does.
  return dials(link.peer) || link.contact_until > now || link.failures > 0 || link.broken ||
         now - link.changed > kOtherDials * scale_;
}

}  // namespace shoal::overlay
