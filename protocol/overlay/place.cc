// Where this agent lives: start, recovery, entering and leaving regions, and what of that is kept on disk.
#include <algorithm>
#include <utility>

#include "protocol/overlay/core.h"

namespace shoal::overlay {

namespace {
constexpr std::string_view kSelfKey = "self";
constexpr std::string_view kKnownKey = "known";
constexpr std::string_view kBallotPrefix = "ballot/";
}  // namespace

Core::Core(OverlayConfig config, const std::map<std::string, Bytes>& recovered, Rng rng)
    : config_(std::move(config)),
      rng_(rng),
      scale_(static_cast<std::int64_t>(config_.timeouts)),
      links_(config_.id, !config_.endpoint.empty(), scale_),
      detector_(scale_),
      home_join_(scale_),
      parent_join_(scale_) {
  config_.child_region.resize(std::min(config_.child_region.size(), kNameBytesMax));
  config_.region_name.resize(std::min(config_.region_name.size(), kNameBytesMax));
  address_.agent = config_.id;
  for (const auto& [key, value] : recovered) {
    if (key == kSelfKey) {
      if (auto self = wire::decode<SavedSelf>(value)) saved_ = std::move(*self);
    } else if (key == kKnownKey) {
      if (auto known = wire::decode<SavedKnown>(value)) known_ = std::move(*known);
      natives_saved_ = !known_.natives.empty();
    } else if (key.starts_with(kBallotPrefix)) {
      auto ballot = wire::decode<Ballot>(value);
      if (ballot && ballots_.size() <= kDutiesMax) ballots_[ballot->region] = std::move(*ballot);
    }
  }
  life_ = saved_.life + 1;
  incarnation_ = first_of_life(life_);
}

void Core::recover() {
  save_self();
  if (saved_.region.is_zero()) {
    if (config_.contacts.empty()) return found(config_.region_name, {});
    const auto role = config_.child_region.empty() ? message::Role::kNative : message::Role::kFounder;
    home_join_.begin(config_.contacts, role, RegionId(), now_);
    return drive_joiner(home_join_);
  }
  recovered_ = true;
  enter_home(saved_.region, saved_.region_name, saved_.path);
  std::vector<Contact> contacts;
  for (Member& record : std::exchange(known_.natives, {})) {
    // Whether they live is not known; what they say of themselves will be newer than this.
    record.incarnation = Incarnation();
    home_->region.remember(record, now_);
    if (!record.endpoint.empty() && record.id != config_.id) {
      contacts.push_back({record.id, record.endpoint, record.curve_key});
    }
  }
  rng_.shuffle(contacts);
  constexpr std::size_t kFellowsAsked = 8;
  if (contacts.size() > kFellowsAsked) contacts.resize(kFellowsAsked);
  admitted_ = false;
  asked_fellows_ = !contacts.empty();
  if (!asked_fellows_) return ask_configured();
  home_join_.begin(std::move(contacts), message::Role::kNative, saved_.region, now_);
  drive_joiner(home_join_);
}

// None of the fellows that this agent remembers answers. Those that its configuration names may know others.
void Core::ask_configured() {
  asked_fellows_ = false;
  if (config_.contacts.empty()) return go_on_alone();
  const bool founder = !config_.child_region.empty();
  home_join_.begin(config_.contacts, founder ? message::Role::kFounder : message::Role::kNative,
                   founder ? RegionId() : saved_.region, now_);
  drive_joiner(home_join_);
}

// Nobody of the old region answers: be the region, and meet the others when they return.
void Core::go_on_alone() {
  home_join_.stop();
  admitted_ = true;
  rewire_ = true;
  run_for_head();
}

void Core::found(std::string name, std::vector<RegionId> parent_path) {
  const std::uint64_t high = rng_.next();
  const RegionId id(high, rng_.next());
  std::vector<RegionId> path = std::move(parent_path);
  path.push_back(id);
  enter_home(id, name, std::move(path));
  Ballot& ballot = home_ballot();
  ballot.roll.voters = {config_.id};
  become_head(Epoch(1), false);
}

void Core::enter_home(RegionId id, const std::string& name, std::vector<RegionId> path) {
  if (!home_ || home_->region.id() != id) {
    home_.emplace(Scope::kHome, Region(id, name, config_.id), path);
    candidacy_.stop();
    home_graph_seen_ = 0;
  }
  admitted_ = true;
  rewire_ = true;
  publish_self(*home_, kFlushGap);
  home_->records.clear();  // whoever admitted this agent has told the others
  set_path(std::move(path));
  save_self();
}

void Core::enter_parent(const message::JoinReply& reply) {
  const bool same = parent_ && parent_->region.id() == reply.region;
  if (!same) {
    leave_parent(true);
    parent_.emplace(Scope::kParent, Region(reply.region, reply.name, config_.id), reply.path);
    parent_graph_seen_ = 0;
  }
  parent_seen_ = now_;
  rewire_ = true;
  publish_self(*parent_, kFlushGap);
  if (!same) parent_->records.clear();
  const AgentId contact = parent_join_.current().agent;
  for (const Member& member : reply.members) take_record(*parent_, member, contact);
  if (reply.word) take_word(*parent_, *reply.word, contact);
  std::vector<RegionId> path = parent_->path;
  path.push_back(home_->region.id());
  set_path(std::move(path));
  announce_at_ = now_;
}

// `announce`: the agent goes of its own will and says so.
void Core::leave_parent(bool announce) {
  if (!parent_) return;
  if (announce) {
    const message::Claim claim{config_.id, incarnation_, Status::kLeft, false, {}};
    const Bytes body = wire::encode(message::Delta{parent_->region.id(), {}, {claim}});
    for (AgentId peer : gossip_links(*parent_)) send_bytes(peer, Kind::kDelta, body);
  }
  std::vector<AgentId> members;
  for (const auto& [id, member] : parent_->region.living()) {
    if (id != config_.id) members.push_back(id);
  }
  parent_.reset();
  parent_graph_seen_ = 0;
  rewire_ = true;
  for (AgentId agent : members) {
    if (find_member(agent) == nullptr) detector_.clear(agent);
    emit(out::MemberDown{Scope::kParent, agent, true, false});
  }
}

// Two orphaned regions may attach to each other at the same time, or a longer circle closes. Each head on it
// sees its own region above itself; the one of the largest region id lets go and looks elsewhere.
void Core::break_circle() {
  if (!parent_ || !home_) return;
  const RegionId home = home_->region.id();
  const auto again = std::find(parent_->path.begin(), parent_->path.end(), home);
  if (again == parent_->path.end() || *std::max_element(again, parent_->path.end()) != home) return;
  leave_parent(true);
  set_path({home});
  publish_word(false);
}

void Core::set_path(std::vector<RegionId> path) {
  // Deeper than an address can be, or part of a circle that is about to be broken: keep the old one.
  if (path.size() > wire::Address::kPathMax || (!path.empty() && std::count(path.begin(), path.end(), path.back()) > 1))
    return;
  if (home_) home_->path = path;
  if (path == address_.path) return;
  address_.path = std::move(path);
  save_self();
  emit(out::AddressChanged{address_});
}

Member Core::own_record(const Attachment& at) const {
  Member record;
  record.id = config_.id;
  record.name = config_.name.substr(0, kNameBytesMax);
  record.endpoint = config_.endpoint;
  record.curve_key = config_.curve_key;
  record.labels = config_.labels;
  record.incarnation = incarnation_;
  if (home_) {
    record.home = home_->region.id();
    record.home_name = home_->region.name();
  }
  if (at.scope == Scope::kHome) {
    record.state = local_state_;
    record.state_version = home_version_;
  } else {
    record.head_epoch = head_epoch_;
    record.state = upward_;
    record.state_version = guest_version_;
  }
  return record;
}

void Core::save_self() {
  const SavedSelf now{life_, home_ ? home_->region.id() : saved_.region,
                      home_ ? home_->region.name() : saved_.region_name, home_ ? home_->path : saved_.path};
  if (now.life == saved_.life && now.region == saved_.region && now.path == saved_.path) return;
  const bool new_life = now.life != saved_.life;
  saved_ = now;
  emit(out::Persist{std::string(kSelfKey), wire::encode(saved_), new_life});
}

void Core::save_known() {
  known_at_ = Instant::never();
  if (!home_) return;
  SavedKnown now{{}, known_.above, known_.beyond};
  const auto remember = [&](const Member& member) {
    if (!home_->region.is_native(member) || now.natives.size() >= kNativesMax) return;
    Member record = member;
    record.state.clear();
    record.state_version = 0;
    record.status = Status::kAlive;
    now.natives.push_back(std::move(record));
  };
  for (const auto& [id, member] : home_->region.living()) {
    if (id != config_.id) remember(member);
  }
  // Those that are cut off are not forgotten: after a restart they may be the ones that answer.
  for (const auto& [id, gone] : home_->region.gone()) {
    if (gone.record.status == Status::kDead) remember(gone.record);
  }
  const Bytes value = wire::encode(now);
  if (now.natives.empty() && !natives_saved_ && now.above.empty()) return;
  natives_saved_ = !now.natives.empty();
  emit(out::Persist{std::string(kKnownKey), value});
}

void Core::save_ballot(const Ballot& ballot) {
  emit(out::Persist{std::string(kBallotPrefix) + ballot.region.hex(), wire::encode(ballot)});
}

// This agent's memory is older than others' memory of it (its disk was lost): go beyond what they know.
void Core::start_new_life(std::uint64_t at_least) {
  life_ = std::max(life_, at_least) + 1;
  save_self();
  set_incarnation(first_of_life(life_));
}

Attachment* Core::at(RegionId region) {
  if (home_ && home_->region.id() == region) return &*home_;
  if (parent_ && parent_->region.id() == region) return &*parent_;
  return nullptr;
}

Attachment* Core::attachment_of(Scope scope) {
  auto& slot = scope == Scope::kHome ? home_ : parent_;
  return slot ? &*slot : nullptr;
}

const Attachment* Core::attachment_of(Scope scope) const {
  const auto& slot = scope == Scope::kHome ? home_ : parent_;
  return slot ? &*slot : nullptr;
}

bool Core::knows(AgentId agent) const {
  for (const auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment == nullptr) continue;
    if (attachment->region.find(agent) != nullptr || attachment->region.find_gone(agent) != nullptr) return true;
  }
  return false;
}

const Member* Core::find_member(AgentId agent) const {
  for (const auto* attachment : {attachment_of(Scope::kHome), attachment_of(Scope::kParent)}) {
    if (attachment == nullptr) continue;
    if (const Member* member = attachment->region.find(agent)) return member;
  }
  return nullptr;
}

}  // namespace shoal::overlay
