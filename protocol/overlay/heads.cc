// Elections and announcements: the sending around the rules of election.h.
#include <algorithm>
#include <tuple>
#include <utility>

#include "protocol/overlay/core.h"

namespace shoal::overlay {

using message::Announcement;
using message::Kind;

namespace {

bool well_formed(const Announcement& word) {
  const auto contacts_ok = [](const std::vector<Contact>& contacts) {
    return contacts.size() <= kAboveMax && std::all_of(contacts.begin(), contacts.end(), [](const Contact& c) {
             return c.endpoint.size() <= kEndpointBytesMax && c.curve_key.size() <= kKeyBytesMax;
           });
  };
  return !word.head.is_zero() && word.name.size() <= kNameBytesMax && word.path.size() <= wire::Address::kPathMax &&
         !word.path.empty() && word.path.back() == word.region && word.downward.size() <= kSummaryBytesMax &&
         word.roll.voters.size() <= kTableMax && word.roll.incoming.size() <= kTableMax &&
         word.roll.witness.endpoint.size() <= kEndpointBytesMax && word.roll.witness.curve_key.size() <= kKeyBytesMax &&
         contacts_ok(word.above) && contacts_ok(word.beyond);
}

auto version_of(const Announcement& word) {
  return std::tie(word.epoch, word.version);
}

}  // namespace

std::optional<AgentId> Core::head() const {
  if (!home_ || !home_->word || home_->region.find(home_->word->head) == nullptr) return std::nullopt;
  if (home_->word->head == config_.id && !is_head_) return std::nullopt;
  return home_->word->head;
}

Epoch Core::head_epoch() const {
  return home_ && home_->word ? home_->word->epoch : Epoch();
}

// ---- standing for election ----

// Looked at every tick.
void Core::tend_heads() {
  if (!home_ || !admitted_) return;
  if (is_head_) {
    keep_roll();
    if (reassert_ && election_at_ == Instant::never()) election_at_ = now_;
  } else if (!headless()) {
    candidacy_.stop();
    election_at_ = Instant::never();
  } else if (election_at_ == Instant::never()) {
    call_election();
  }
}

bool Core::headless() const {
  if (!home_->word) return true;
  // There was a later head than the one everybody talks of; a restart made this agent forget all but its
  // roll.
  const auto ballot = ballots_.find(home_->region.id());
  if (ballot != ballots_.end() && ballot->second.roll.epoch > home_->word->epoch) return true;
  const AgentId head = home_->word->head;
  if (head == config_.id) return !is_head_;
  const Member* member = home_->region.find(head);
  return member == nullptr || life_of(member->incarnation) > home_->word->life;
}

// Candidates in order of preference: whoever can be dialled, then the lowest id; voters only, while one
// lives.
std::vector<AgentId> Core::electable() const {
  std::set<AgentId> voters;
  if (auto it = ballots_.find(home_->region.id()); it != ballots_.end()) voters = everyone(it->second.roll);
  std::vector<AgentId> dialable;
  std::vector<AgentId> others;
  bool any_voter = false;
  for (const auto& [id, member] : home_->region.living()) {
    any_voter = any_voter || (home_->region.is_native(member) && voters.count(id) != 0);
  }
  for (const auto& [id, member] : home_->region.living()) {
    if (!home_->region.is_native(member) || (any_voter && voters.count(id) == 0)) continue;
    (member.endpoint.empty() ? others : dialable).push_back(id);
  }
  dialable.insert(dialable.end(), others.begin(), others.end());
  return dialable;
}

void Core::call_election() {
  if (!admitted_ || !headless()) return;
  const std::vector<AgentId> candidates = electable();
  const auto me = std::find(candidates.begin(), candidates.end(), config_.id);
  if (me == candidates.end()) return;
  Duration wait = kElectionRank * (me - candidates.begin()) * scale_;
  // Without any word yet there may be a head that this agent has not heard of.
  if (!home_->word && everyone(home_ballot().roll).size() > 1) wait = wait + kElectionRetry * scale_;
  election_at_ = now_ + wait;
}

void Core::run_for_head() {
  election_at_ = Instant::never();
  if (!home_ || !admitted_ || home_->isolated) return;
  if (!headless() && !(is_head_ && reassert_)) return candidacy_.stop();
  const std::vector<AgentId> candidates = electable();
  const auto me = std::find(candidates.begin(), candidates.end(), config_.id);
  if (me == candidates.end()) return;
  if (!candidacy_.active() || candidacy_.refused()) stand();
  ask_for_votes();
  conclude_candidacy();
  if (!candidacy_.active()) return;
  const Duration retry = kElectionRetry * scale_;
  election_at_ = now_ + retry + kElectionRank / 3 * (me - candidates.begin()) * scale_ +
                 microseconds(rng_.between(0, retry.us / 4));
}

void Core::stand() {
  Ballot& ballot = home_ballot();
  const Epoch epoch = std::max({ballot.promised, candidacy_.refused_up_to(), head_epoch()}).next();
  ballot.promised = epoch;
  ballot.promised_to = config_.id;
  save_ballot(ballot);
  candidacy_.stand(config_.id, epoch, ballot.roll, now_);
}

void Core::ask_for_votes() {
  const message::Roll& roll = candidacy_.roll();
  const message::VoteRequest request{home_->region.id(), candidacy_.epoch(), roll.epoch, roll.version};
  const Bytes body = wire::encode(request);
  std::set<AgentId> voters = everyone(roll);
  if (!roll.witness.agent.is_zero()) {
    voters.insert(roll.witness.agent);
    links_.contact(roll.witness, now_, *out_);
  }
  voters.erase(config_.id);
  for (AgentId voter : voters) send_bytes(voter, Kind::kVoteRequest, body, true);
}

void Core::conclude_candidacy() {
  // Votes count for the list they were asked under.
  if (newer(home_ballot().roll, candidacy_.roll())) return candidacy_.stop();
  const auto outcome = candidacy_.outcome(absent_voters(), home_->path.size() > 1, kForceAfter * scale_, now_);
  if (outcome == Candidacy::Outcome::kOpen) return;
  const bool forced = outcome == Candidacy::Outcome::kForced;
  // Alone on the roll is a majority, however it came about.
  become_head(forced ? forced_epoch(candidacy_.epoch(), config_.id) : candidacy_.epoch(), forced);
}

std::set<AgentId> Core::absent_voters() const {
  std::set<AgentId> absent;
  for (const auto& [id, gone] : home_->region.gone()) {
    const bool known_incarnation = gone.record.incarnation.value() != 0;
    if (known_incarnation && (gone.proven || gone.record.status == Status::kLeft)) absent.insert(id);
  }
  return absent;
}

void Core::on_vote_request(AgentId source, const message::VoteRequest& request) {
  if (!home_ || !admitted_) return;
  auto it = ballots_.find(request.region);
  if (it == ballots_.end()) return drop();
  Ballot& ballot = it->second;
  bool head_lives = false;
  if (request.region == home_->region.id()) {
    const Member* candidate = home_->region.find(source);
    if (candidate == nullptr || !home_->region.is_native(*candidate)) return drop();
    const Member* head = home_->word ? home_->region.find(home_->word->head) : nullptr;
    head_lives =
        head != nullptr && head->id != source && head->status == Status::kAlive && !home_->isolated && !headless();
  } else {
    if (ballot.roll.witness.agent != config_.id) return drop();
    const Member* head = home_->region.guest_for(request.region);
    head_lives = head != nullptr && head->id != source && head->status == Status::kAlive;
    // One who is not on the list has no vote to ask for, but may have missed that there is a head.
    if (!head_lives && everyone(ballot.roll).count(source) == 0) return drop();
  }
  const message::Vote vote = ballot.answer(source, request, head_lives);
  if (vote.answer == message::Answer::kGranted) {
    save_ballot(ballot);
    if (election_at_ != Instant::never()) election_at_ = std::max(election_at_, now_ + kElectionRetry * scale_);
  }
  send(source, Kind::kVote, vote, true);
}

void Core::on_vote(AgentId source, const message::Vote& vote) {
  if (!home_ || vote.region != home_->region.id() || !candidacy_.active()) return;
  const bool voter = everyone(candidacy_.roll()).count(source) != 0 || candidacy_.roll().witness.agent == source;
  if (!voter) return drop();
  candidacy_.take(source, vote);
  if (vote.answer == message::Answer::kOldRoll && vote.roll && newer(*vote.roll, home_ballot().roll) &&
      vote.roll->voters.size() <= kTableMax && vote.roll->incoming.size() <= kTableMax) {
    home_ballot().roll = *vote.roll;
    save_ballot(home_ballot());
  }
  if (vote.answer == message::Answer::kHeadLives || vote.answer == message::Answer::kOldRoll) {
    candidacy_.stop();
    election_at_ = now_ + kElectionRetry * scale_;
    const Contact& witness = candidacy_.roll().witness;
    if (source == witness.agent && home_->region.find(source) == nullptr && !home_join_.active()) {
      // The head that lives is one this agent has never met, for instance because it was admitted by somebody who took
      // that head for dead: the witness brings them together.
      home_join_.begin({witness}, message::Role::kNative, home_->region.id(), now_);
      drive_joiner(home_join_);
    }
    if (links_.up(source) && home_->region.find(source) != nullptr) send_digest(*home_, source);
    return;
  }
  conclude_candidacy();
}

// ---- being head ----

void Core::become_head(Epoch epoch, bool forced) {
  Ballot& ballot = home_ballot();
  ballot.promised = epoch;
  ballot.promised_to = config_.id;
  ballot.roll.epoch = epoch;
  ballot.roll.version = 1;
  if (forced) {
    // The old list can no longer be brought together.
    ballot.roll.voters.clear();
    ballot.roll.incoming.clear();
    for (const auto& [id, member] : home_->region.living()) {
      if (home_->region.is_native(member)) ballot.roll.voters.push_back(id);
    }
  }
  save_ballot(ballot);
  candidacy_.stop();
  election_at_ = Instant::never();
  reassert_ = false;
  is_head_ = true;
  head_epoch_ = epoch;
  ++guest_version_;
  roll_keeper_.begin(ballot.roll, now_);
  home_->word = compose_word();
  home_->word->version = 1;
  rewire_ = true;
  emit(out::HeadChanged{Scope::kHome, config_.id, epoch, true});
  flood_word(*home_, AgentId(), true);
  above_at_ = now_ + kAboveEvery * scale_;
  parent_seen_ = now_;
  orphan_at_ = Instant::never();
  if (parent_) publish_self(*parent_, kFlushGap);
  join_parent();
}

void Core::step_down() {
  if (!is_head_) return;
  is_head_ = false;
  reassert_ = false;
  candidacy_.stop();
  parent_join_.stop();
  leave_parent(true);
  rewire_ = true;
}

// Moves the electoral roll to the natives that live. A region of two needs a third voice.
void Core::keep_roll() {
  std::vector<AgentId> voters;
  for (const auto& [id, member] : home_->region.living()) {
    if (home_->region.is_native(member)) voters.push_back(id);
  }
  Contact witness = roll_keeper_.roll().witness;
  if (home_->path.size() == 1) witness = {};
  if (parent_ && parent_->word) {
    const Member* above = parent_->region.find(parent_->word->head);
    if (above != nullptr && above->status == Status::kAlive && !above->endpoint.empty()) {
      witness = {above->id, above->endpoint, above->curve_key};
    }
  }
  if (voters.size() == 2 && !witness.agent.is_zero()) {
    voters.push_back(witness.agent);
    std::sort(voters.begin(), voters.end());
  }
  if (roll_keeper_.advance(std::move(voters), witness, config_.id, head_epoch_, home_->word->version + 1,
                           kRollGap * scale_, now_)) {
    publish_word(true);
    return;
  }
  constexpr std::uint64_t kRemindTicks = 5;
  if (ticks_ % kRemindTicks != 0) return;
  const std::set<AgentId> absent = absent_voters();
  const std::vector<AgentId> waiting_for = roll_keeper_.waiting_for();
  bool reachable = waiting_for.empty();
  for (AgentId voter : waiting_for) {
    reachable = reachable || absent.count(voter) == 0;
    if (links_.up(voter)) send(voter, Kind::kAnnounce, *home_->word, true);
  }
  // Those whose word is missing are gone for good: begin anew with those that live, under a forced epoch.
  if (!reachable) reassert_ = true;
}

Announcement Core::compose_word() const {
  Announcement word;
  word.region = home_->region.id();
  word.name = home_->region.name();
  word.head = config_.id;
  word.epoch = head_epoch_;
  word.version = home_->word ? home_->word->version : 0;
  word.roll = roll_keeper_.roll();
  word.path = home_->path;
  word.above = contacts_above();
  word.beyond = parent_ && parent_->word ? parent_->word->above : known_.beyond;
  word.downward = downward_;
  word.life = life_;
  word.orphaned = orphaned();
  return word;
}

void Core::publish_word(bool roll_changed) {
  if (!is_head_) return;
  Announcement word = compose_word();
  if (word.region == home_->word->region && word.roll == home_->word->roll && word.path == home_->word->path &&
      word.above == home_->word->above && word.beyond == home_->word->beyond &&
      word.downward == home_->word->downward && word.orphaned == home_->word->orphaned) {
    return;
  }
  ++word.version;
  known_.above = word.above;
  known_.beyond = word.beyond;
  known_at_ = std::min(known_at_, now_ + kKnownGap * scale_);
  home_->word = std::move(word);
  if (roll_changed && home_ballot().learn(*home_->word)) save_ballot(home_ballot());
  flood_word(*home_, AgentId(), roll_changed);
  const AgentId witness = home_->word->roll.witness.agent;
  if (roll_changed && !witness.is_zero()) send(witness, Kind::kAnnounce, *home_->word, true);
}

std::vector<Contact> Core::contacts_above() const {
  if (!parent_) return known_.above;
  std::vector<Contact> contacts;
  const auto add = [&](const Member& member) {
    if (contacts.size() < kAboveMax && member.id != config_.id && !member.endpoint.empty() &&
        member.status == Status::kAlive) {
      contacts.push_back({member.id, member.endpoint, member.curve_key});
    }
  };
  const AgentId head = parent_->word ? parent_->word->head : AgentId();
  if (const Member* member = parent_->region.find(head)) add(*member);
  for (const bool native : {true, false}) {
    for (const auto& [id, member] : parent_->region.living()) {
      if (parent_->region.is_native(member) == native && id != head) add(member);
    }
  }
  return contacts.empty() ? known_.above : contacts;
}

// ---- hearing a head ----

void Core::on_announce(AgentId source, AgentId neighbour, const Announcement& word) {
  if (!well_formed(word)) return drop();
  if (Attachment* attachment = at(word.region)) {
    const bool again = attachment->word && version_of(*attachment->word) == version_of(word);
    // A reminder from the head itself: the acknowledgement was lost.
    if (again && source == word.head && attachment->scope == Scope::kHome)
      return acknowledge_roll(home_ballot(), source);
    return take_word(*attachment, word, neighbour);
  }
  const Member* guest = home_ ? home_->region.find(source) : nullptr;
  const bool duty = guest != nullptr && guest->home == word.region && word.roll.witness.agent == config_.id;
  if (!duty || (ballots_.count(word.region) == 0 && ballots_.size() > kDutiesMax)) return drop();
  Ballot& ballot = ballots_[word.region];
  ballot.region = word.region;
  if (ballot.learn(word)) save_ballot(ballot);
  acknowledge_roll(ballot, source);
}

void Core::take_word(Attachment& at, const Announcement& word, AgentId from) {
  if (!well_formed(word) || word.region != at.region.id()) return drop();
  if (at.word && version_of(word) <= version_of(*at.word)) return;
  const AgentId former_head = at.word ? at.word->head : AgentId();
  const Epoch former_epoch = at.word ? at.word->epoch : Epoch();
  const Bytes former_downward = at.word ? at.word->downward : Bytes();
  at.word = word;
  at.region.set_name(word.name);
  if (at.scope == Scope::kHome) {
    adopt_home_word(word);
  } else {
    std::vector<RegionId> path = word.path;
    at.path = path;
    path.push_back(home_->region.id());
    if (path != address_.path) announce_at_ = std::min(announce_at_, now_);
    if (word.above != known_.beyond) announce_at_ = std::min(announce_at_, now_ + kAnnounceGap);
    set_path(std::move(path));
  }
  if (word.head != former_head || word.epoch != former_epoch) {
    rewire_ = true;
    emit(out::HeadChanged{at.scope, word.head, word.epoch, false});
  }
  if (word.downward != former_downward) emit(out::DownwardChanged{word.downward, at.scope});
  flood_word(at, from, false);
}

void Core::adopt_home_word(const Announcement& word) {
  if (word.head != config_.id) step_down();
  if (!is_head_) {
    known_.above = word.above;
    known_.beyond = word.beyond;
    known_at_ = std::min(known_at_, now_ + kKnownGap * scale_);
    set_path(word.path);
  }
  Ballot& ballot = home_ballot();
  const bool changed = ballot.learn(word);
  if (changed) save_ballot(ballot);
  if (changed || word.epoch < ballot.promised) acknowledge_roll(ballot, word.head);
}

void Core::acknowledge_roll(const Ballot& ballot, AgentId head) {
  if (head == config_.id || everyone(ballot.roll).count(config_.id) == 0) return;
  send(head, Kind::kRollAck, message::RollAck{ballot.region, ballot.roll.epoch, ballot.roll.version, ballot.promised},
       true);
}

void Core::on_roll_ack(AgentId source, const message::RollAck& ack) {
  if (!is_head_ || ack.region != home_->region.id()) return;
  if (ack.promised <= head_epoch_) return roll_keeper_.ack(source, ack.epoch, ack.version);
  // It has promised a later epoch to somebody and cannot follow this one any more.
  reassert_ = true;
  candidacy_.note_refusal(ack.promised);
}

void Core::flood_word(const Attachment& at, AgentId except, bool after_persist) {
  if (!at.word || !admitted_) return;
  const Bytes body = wire::encode(*at.word);
  for (AgentId peer : gossip_links(at)) {
    if (peer != except) send_bytes(peer, Kind::kAnnounce, body, after_persist);
  }
}

Ballot& Core::home_ballot() {
  Ballot& ballot = ballots_[home_->region.id()];
  ballot.region = home_->region.id();
  return ballot;
}

}  // namespace shoal::overlay
