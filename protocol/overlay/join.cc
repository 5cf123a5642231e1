// Asking for admission to a region, and granting it.
#include <algorithm>
#include <utility>

#include "protocol/overlay/core.h"

namespace shoal::overlay {

using message::JoinReply;
using message::Kind;
using message::Role;
using message::Verdict;

// ---- the side that asks ----

void Core::drive_joiner(Joiner& joiner) {
  if (&joiner == &home_join_ && recovered_ && !admitted_ && joiner.rounds() > 0) {
    return asked_fellows_ ? ask_configured() : go_on_alone();
  }
  if (joiner.phase() != Joiner::Phase::kDialing) return;
  if (links_.up(joiner.current().agent)) {
    ask(joiner);
  } else {
    links_.contact(joiner.current(), now_, *out_);
  }
}

void Core::ask(Joiner& joiner) {
  message::Join join;
  join.role = joiner.role();
  join.region = joiner.wanted();
  if (&joiner == &parent_join_) {
    if (!home_ || !is_head_) return joiner.stop();
    const Attachment seat(Scope::kParent, Region(RegionId(), "", config_.id), {});
    join.record = own_record(seat);
    join.rescue = attached() && parent_->word && parent_->word->orphaned;
  } else {
    join.child_region = config_.child_region;
    const Attachment seat(Scope::kHome, Region(RegionId(), "", config_.id), {});
    join.record = own_record(seat);
  }
  links_.contact(joiner.current(), now_, *out_);
  joiner.asked(now_);
  // The incarnation shows here first: it must be on disk by then.
  send(joiner.current().agent, Kind::kJoin, join, true);
}

void Core::on_join_reply(AgentId from, const JoinReply& reply) {
  for (Joiner* joiner : {&home_join_, &parent_join_}) {
    const bool asked = joiner->phase() == Joiner::Phase::kAsked && joiner->current().agent == from;
    if (!asked || joiner->role() != reply.asked) continue;
    switch (reply.verdict) {
      case Verdict::kAdmitted:
      case Verdict::kFound:
        take_admission(*joiner, reply);
        break;
      case Verdict::kRedirected:
        // Without an endpoint it has been asked to dial this agent.
        if ((reply.redirect.endpoint.empty() && config_.endpoint.empty()) || reply.redirect.agent == config_.id ||
            !joiner->redirect(reply.redirect, reply.role, now_)) {
          joiner->fail("sent from agent to agent without reaching one that admits", rng_, now_);
        }
        break;
      case Verdict::kRetry:
        if (reply.known >= incarnation_) {
          life_of(reply.known.next()) > life_ ? start_new_life(life_of(reply.known))
                                              : set_incarnation(reply.known.next());
        }
        joiner->retry(milliseconds(std::max<std::int64_t>(reply.retry_ms, 100)), reply.reason, now_);
        break;
      case Verdict::kRefused:
      default:
        joiner->fail(reply.reason.substr(0, kLabelBytesMax), rng_, now_);
        break;
    }
    drive_joiner(*joiner);
    return;
  }
  drop();
}

void Core::take_admission(Joiner& joiner, const JoinReply& reply) {
  const bool sane = reply.path.size() <= wire::Address::kPathMax && !reply.path.empty() &&
                    reply.path.back() == reply.region && reply.members.size() <= kTableMax &&
                    reply.name.size() <= kNameBytesMax;
  if (!sane) {
    drop();
    return joiner.fail("an answer that makes no sense", rng_, now_);
  }
  const Contact contact = joiner.current();
  if (&joiner == &parent_join_) {
    if (!is_head_ || reply.verdict != Verdict::kAdmitted) return joiner.stop();
    joiner.stop();
    enter_parent(reply);
    return;
  }
  joiner.stop();
  if (reply.verdict == Verdict::kFound) {
    if (home_) return go_on_alone();
    found(config_.child_region, reply.path);
    known_.above = {contact};
    join_parent();
    return;
  }
  enter_home(reply.region, reply.name, reply.path);
  for (const Member& member : reply.members) take_record(*home_, member, contact.agent);
  if (reply.word) take_word(*home_, *reply.word, contact.agent);
  save_known();
}

void Core::join_parent() {
  if (!is_head_ || parent_join_.active()) return;
  std::vector<Contact> contacts = parent_contacts();
  if (contacts.empty()) return;
  parent_join_.begin(std::move(contacts), Role::kGuest, RegionId(), now_);
  drive_joiner(parent_join_);
}

// Known members of the parent region first, then those of the region above it, then what the operator named.
std::vector<Contact> Core::parent_contacts() const {
  std::vector<Contact> contacts;
  std::set<AgentId> seen{config_.id};
  const auto add = [&](const Contact& contact) {
    const bool ours = home_ && home_->region.find(contact.agent) != nullptr;
    if (!contact.endpoint.empty() && !ours && seen.insert(contact.agent).second) contacts.push_back(contact);
  };
  if (parent_) {
    for (const auto& [id, member] : parent_->region.living()) {
      if (member.status == Status::kAlive) add({id, member.endpoint, member.curve_key});
    }
  }
  for (const Contact& contact : known_.above) add(contact);
  for (const Contact& contact : known_.beyond) add(contact);
  if (!config_.child_region.empty()) {
    for (const Contact& contact : config_.contacts) add(contact);
  }
  return contacts;
}

// A head without any living contact above looks for a new place for its region.
void Core::watch_parent() {
  if (!is_head_ || !home_) return;
  if (attached()) {
    parent_seen_ = now_;
    orphan_at_ = Instant::never();
    if (parent_join_.phase() == Joiner::Phase::kWaiting) parent_join_.stop();
    if (parent_->word && parent_->word->orphaned) leave_orphaned_parent();
  } else {
    const bool had_parent = home_->path.size() > 1 || !known_.above.empty() || !config_.child_region.empty();
    if (had_parent && orphan_at_ == Instant::never()) orphan_at_ = now_ + kOrphanedAfter * scale_;
    if (!parent_ || now_ - parent_seen_ > kParentLostAfter * scale_) join_parent();
  }
  if (home_->word->orphaned != orphaned()) announce_at_ = std::min(announce_at_, now_ + kAnnounceGap);
}

bool Core::attached() const {
  if (!parent_ || parent_->region.find(config_.id) == nullptr) return false;
  const auto& links = links_.all();
  return std::any_of(links.begin(), links.end(), [this](const auto& entry) {
    const bool recent = now_ - entry.second.heard < kSuspectAfter * scale_ + kKeepAlive * scale_;
    return entry.second.up() && recent && parent_->region.find(entry.first) != nullptr;
  });
}

bool Core::orphaned() const {
  if (!is_head_) return home_ && home_->word && home_->word->orphaned;
  return orphan_at_ == Instant::never() ? parent_ && parent_->word && parent_->word->orphaned : now_ >= orphan_at_;
}

// The tree above has lost its root, and this head may be the only one with contacts elsewhere: the regions
// above cannot attach to what is below them, so it goes first and they follow.
void Core::leave_orphaned_parent() {
  constexpr std::uint64_t kLookTicks = 10;
  if (parent_join_.active() || ticks_ % kLookTicks != 0 || config_.child_region.empty()) return;
  std::vector<Contact> elsewhere;
  for (const Contact& contact : config_.contacts) {
    if (find_member(contact.agent) == nullptr) elsewhere.push_back(contact);
  }
  parent_join_.begin(std::move(elsewhere), Role::kGuest, RegionId(), now_);
  drive_joiner(parent_join_);
}

// ---- the side that is asked ----

void Core::on_join(AgentId from, const message::Join& join) {
  JoinReply reply;
  reply.asked = reply.role = join.role;
  if (join.record.id != from || !well_formed(join.record) || join.record.status != Status::kAlive ||
      join.child_region.size() > kNameBytesMax) {
    drop();
    refuse(reply, "the record of the agent that asks is not valid");
  } else if (!home_ || (!admitted_ && join.region != home_->region.id())) {
    reply.verdict = Verdict::kRetry;
    reply.reason = "the contact is still joining";
    reply.retry_ms = 1000;
  } else if (join.role == Role::kFounder) {
    answer_founder(join, reply);
  } else {
    admit(join, reply);
  }
  if (reply.verdict == Verdict::kAdmitted || reply.verdict == Verdict::kFound) {
    reply.region = home_->region.id();
    reply.name = home_->region.name();
    reply.path = home_->path;
  }
  if (reply.verdict == Verdict::kAdmitted) {
    ++counters_.joins_admitted;
    for (const auto& [id, member] : home_->region.living()) reply.members.push_back(member);
    reply.word = home_->word;
  }
  send(from, Kind::kJoinReply, reply, true);
}

void Core::admit(const message::Join& join, JoinReply& reply) {
  Region& region = home_->region;
  Member record = join.record;
  const Member* living = region.find(record.id);
  const Region::Gone* gone = region.find_gone(record.id);
  const Duration flap_delay = region.flap_delay(record.id, now_);
  const bool guest = join.role == Role::kGuest;
  if (!join.region.is_zero() && join.region != region.id()) {
    const Member* head = guest ? nullptr : region.guest_for(join.region);
    if (head != nullptr && head->id != record.id) return redirect_down(*head, join, reply);
    return refuse(reply, "this agent lives in another region now");
  }
  if (!guest && !join.child_region.empty() && join.child_region != region.name()) {
    return refuse(reply, "this agent lives in region " + region.name() + ", not in " + join.child_region);
  }
  if (guest &&
      (record.home.is_zero() || std::find(home_->path.begin(), home_->path.end(), record.home) != home_->path.end())) {
    return refuse(reply, "the region would become its own parent");
  }
  if (guest && join.rescue && orphaned()) return refuse(reply, "this region has lost its own parent");
  if (guest && home_->path.size() >= wire::Address::kPathMax) {
    return refuse(reply, "the hierarchy is " + std::to_string(wire::Address::kPathMax) +
                             " levels deep already: attach higher up");
  }
  const std::size_t size = guest ? region.guests() : region.natives();
  const std::size_t size_max = guest ? kGuestsMax : kNativesMax;
  const bool replaces = living != nullptr || (guest && region.guest_for(record.home) != nullptr);
  if (!replaces && size >= size_max) {
    return refuse(reply, "region " + region.name() + " is full (" + std::to_string(size_max) +
                             "): join another region, or found a child region");
  }
  const Incarnation known = living != nullptr ? living->incarnation
                            : gone != nullptr ? gone->record.incarnation
                                              : Incarnation();
  if (known > record.incarnation || (gone != nullptr && known == record.incarnation && known.value() != 0)) {
    reply.verdict = Verdict::kRetry;
    reply.known = known;
    reply.reason = "the region knows this agent under a newer incarnation";
    return;
  }
  if (flap_delay > Duration{}) {
    reply.verdict = Verdict::kRetry;
    reply.retry_ms = static_cast<std::uint32_t>(flap_delay.us / 1000);
    reply.reason = "this agent died and came back too often";
    return;
  }
  if (!guest) {
    record.home = region.id();
    record.home_name = region.name();
  }
  take_record(*home_, record, config_.id);
  if (region.find(record.id) == nullptr) return refuse(reply, "a newer head speaks for that region");
  reply.verdict = Verdict::kAdmitted;
  if (!admitted_) {
    // A fellow that restarted as well: together they are the region again.
    admitted_ = true;
    rewire_ = true;
    home_join_.stop();
  }
}

// To the head of a child region, which is asked to dial when it cannot be dialled.
void Core::redirect_down(const Member& head, const message::Join& join, JoinReply& reply) {
  const Contact asker{join.record.id, join.record.endpoint, join.record.curve_key};
  if (head.endpoint.empty()) {
    if (asker.endpoint.empty()) {
      return refuse(reply, "neither this agent nor the head of region " + head.home_name +
                               " can be dialled: name another agent of that region as contact");
    }
    send(head.id, Kind::kDialMe, message::DialMe{asker});
  }
  reply.verdict = Verdict::kRedirected;
  reply.role = Role::kNative;
  reply.redirect = {head.id, head.endpoint, head.curve_key};
}

// Somebody wants to live in a child region of this one. Only the head decides, so that two who come at once
// do not found two regions of one name.
void Core::answer_founder(const message::Join& join, JoinReply& reply) {
  const Region& region = home_->region;
  for (const auto& [id, member] : region.living()) {
    if (region.is_native(member) || member.home_name != join.child_region) continue;
    if (id == join.record.id) continue;
    return redirect_down(member, join, reply);
  }
  const Member* head = home_->word ? region.find(home_->word->head) : nullptr;
  if (!is_head_ && head != nullptr && head->id != config_.id && !head->endpoint.empty() &&
      head->status == Status::kAlive) {
    reply.verdict = Verdict::kRedirected;
    reply.role = Role::kFounder;
    reply.redirect = {head->id, head->endpoint, head->curve_key};
    return;
  }
  if (home_->path.size() >= wire::Address::kPathMax) {
    return refuse(reply, "the hierarchy is " + std::to_string(wire::Address::kPathMax) +
                             " levels deep already: attach higher up");
  }
  std::erase_if(foundings_, [this](const auto& entry) { return entry.second.second <= now_; });
  auto it = foundings_.find(join.child_region);
  if (it != foundings_.end() && it->second.first != join.record.id) {
    reply.verdict = Verdict::kRetry;
    reply.retry_ms = 500;
    reply.reason = "another agent is founding that region";
    return;
  }
  if (it == foundings_.end() && foundings_.size() >= kFoundingsMax) {
    return refuse(reply, "too many regions are being founded here: try again in a minute");
  }
  foundings_[join.child_region] = {join.record.id, now_ + kFoundingFor * scale_};
  reply.verdict = Verdict::kFound;
}

void Core::refuse(JoinReply& reply, std::string reason) {
  ++counters_.joins_refused;
  reply.verdict = Verdict::kRefused;
  reply.reason = std::move(reason);
}

}  // namespace shoal::overlay
