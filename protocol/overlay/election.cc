#include "protocol/overlay/election.h"

#include <algorithm>
#include <tuple>

#include "protocol/base/hash.h"

namespace shoal::overlay {

namespace {

// A majority of `voters`, counting only those that are not absent when `absent` is given.
bool majority_of(const std::vector<AgentId>& voters, const std::set<AgentId>& granted) {
  const auto yes = std::count_if(voters.begin(), voters.end(), [&](AgentId v) { return granted.count(v) != 0; });
  return static_cast<std::size_t>(yes) * 2 > voters.size();
}

bool all_granted_or_absent(const std::vector<AgentId>& voters, const std::set<AgentId>& granted,
                           const std::set<AgentId>& absent) {
  return std::all_of(voters.begin(), voters.end(),
                     [&](AgentId v) { return granted.count(v) != 0 || absent.count(v) != 0; });
}

}  // namespace

bool newer(const message::Roll& a, const message::Roll& b) {
  return std::tie(a.epoch, a.version) > std::tie(b.epoch, b.version);
}

std::set<AgentId> everyone(const message::Roll& roll) {
  std::set<AgentId> all(roll.voters.begin(), roll.voters.end());
  all.insert(roll.incoming.begin(), roll.incoming.end());
  return all;
}

bool majority(const message::Roll& roll, const std::set<AgentId>& granted) {
  return majority_of(roll.voters, granted) && (roll.incoming.empty() || majority_of(roll.incoming, granted));
}

Epoch forced_epoch(Epoch after, AgentId agent) {
  constexpr std::uint64_t kOwnMask = (std::uint64_t{1} << (kForcedShift - kForcedRoomBits)) - 1;
  const std::uint64_t own = combine64(agent.high(), agent.low()) & kOwnMask;
  return Epoch((((after.value() >> kForcedShift) + 1) << kForcedShift) | own << kForcedRoomBits);
}

message::Vote Ballot::answer(AgentId candidate, const message::VoteRequest& request, bool head_lives) {
  message::Vote vote{region, request.epoch, message::Answer::kGranted, promised, std::nullopt};
  const bool repeated = request.epoch == promised && candidate == promised_to;
  if (std::tie(request.roll_epoch, request.roll_version) < std::tie(roll.epoch, roll.version)) {
    vote.answer = message::Answer::kOldRoll;
    vote.roll = roll;
  } else if (head_lives) {
    vote.answer = message::Answer::kHeadLives;
  } else if (request.epoch <= promised && !repeated) {
    vote.answer = message::Answer::kPromised;
  } else {
    promised = request.epoch;
    promised_to = candidate;
    vote.promised = promised;
  }
  return vote;
}

bool Ballot::learn(const message::Announcement& word) {
  bool changed = false;
  if (word.epoch > promised) {
    promised = word.epoch;
    promised_to = word.head;
    changed = true;
  }
  if (newer(word.roll, roll)) {
    roll = word.roll;
    changed = true;
  }
  return changed;
}

void Candidacy::stand(AgentId self, Epoch epoch, const message::Roll& roll, Instant now) {
  if (!active_) since_ = now;
  active_ = true;
  refused_ = false;
  epoch_ = epoch;
  roll_ = roll;
  granted_ = {self};
}

void Candidacy::stop() {
  active_ = false;
  granted_.clear();
}

void Candidacy::take(AgentId voter, const message::Vote& vote) {
  if (!active_) return;
  note_refusal(vote.promised);
  if (vote.epoch != epoch_) return;
  if (vote.answer == message::Answer::kGranted) {
    granted_.insert(voter);
  } else {
    refused_ = true;
  }
}

Candidacy::Outcome Candidacy::outcome(const std::set<AgentId>& absent, bool attached, Duration patience,
                                      Instant now) const {
  if (!active_) return Outcome::kOpen;
  if (majority(roll_, granted_)) return Outcome::kWon;
  if (refused_) return Outcome::kOpen;
  if (all_granted_or_absent(roll_.voters, granted_, absent) &&
      all_granted_or_absent(roll_.incoming, granted_, absent)) {
    return Outcome::kForced;
  }
  if (now - since_ < patience) return Outcome::kOpen;
  const bool witnessed = !roll_.witness.agent.is_zero() && granted_.count(roll_.witness.agent) != 0;
  const bool root_pair = !attached && std::max(roll_.voters.size(), roll_.incoming.size()) <= 2;
  return witnessed || root_pair ? Outcome::kForced : Outcome::kOpen;
}

void RollKeeper::begin(const message::Roll& roll, Instant now) {
  roll_ = roll;
  acks_.clear();
  changed_ = now;
}

std::vector<AgentId> RollKeeper::waiting_for() const {
  std::vector<AgentId> missing;
  if (settled()) return missing;
  for (AgentId voter : everyone(roll_)) {
    auto it = acks_.find(voter);
    if (it == acks_.end() || it->second < std::pair(roll_.epoch, roll_.version)) missing.push_back(voter);
  }
  return missing;
}

void RollKeeper::ack(AgentId voter, Epoch epoch, std::uint64_t version) {
  if (everyone(roll_).count(voter) != 0) acks_[voter] = {epoch, version};
}

bool RollKeeper::advance(std::vector<AgentId> voters, const Contact& witness, AgentId self, Epoch epoch,
                         std::uint64_t version, Duration gap, Instant now) {
  acks_[self] = {roll_.epoch, roll_.version};
  const bool done = settled();
  if (!roll_.incoming.empty()) {
    if (done) {
      roll_.voters = std::move(roll_.incoming);
      roll_.incoming.clear();
    } else {
      if (voters == roll_.incoming || now - changed_ < gap) return false;
      roll_.incoming = std::move(voters);
      roll_.witness = witness;
    }
  } else {
    if (!done || now - changed_ < gap) return false;
    if (voters == roll_.voters && witness == roll_.witness) return false;
    roll_.incoming = std::move(voters);
    roll_.witness = witness;
  }
  roll_.epoch = epoch;
  roll_.version = version;
  changed_ = now;
  return true;
}

bool RollKeeper::settled() const {
  std::set<AgentId> have;
  for (const auto& [voter, at] : acks_) {
    if (at >= std::pair(roll_.epoch, roll_.version)) have.insert(voter);
  }
  return majority(roll_, have);
}

}  // namespace shoal::overlay
