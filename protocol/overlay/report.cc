// Views for people, and what must always hold.
#include "protocol/base/check.h"
#include "protocol/overlay/core.h"

namespace shoal::overlay {

using wire::Dynamic;

namespace {

const char* text_of(Status status) {
  switch (status) {
    case Status::kAlive:
      return "alive";
    case Status::kSuspect:
      return "suspect";
    case Status::kDead:
      return "dead";
    case Status::kLeft:
      return "left";
  }
  return "unknown";
}

Dynamic describe(const Attachment& at, const Member& member, const LinkTable& links, AgentId self) {
  Dynamic::Map labels;
  for (const auto& [key, value] : member.labels) labels[key] = value;
  const bool native = at.region.is_native(member);
  return Dynamic::Map{
      {"id", member.id.hex()},
      {"name", member.name},
      {"endpoint", member.endpoint},
      {"status", text_of(member.status)},
      {"region", native ? at.region.name() : member.home_name},
      {"region_id", member.home.hex()},
      {"role", at.word && at.word->head == member.id ? "head"
               : native                              ? "member"
                                                     : "guest"},
      {"scope", at.scope == Scope::kHome ? "home" : "parent"},
      {"link", member.id == self               ? "self"
               : links.up(member.id)           ? "direct"
               : member.status < Status::kDead ? "relayed"
                                               : "none"},
      {"incarnation", static_cast<std::int64_t>(member.incarnation.value())},
      {"labels", std::move(labels)},
      {"state", member.state},
  };
}

Dynamic::Array agents_of(const Attachment& at, const LinkTable& links, AgentId self) {
  Dynamic::Array agents;
  for (const auto& [id, member] : at.region.living()) agents.push_back(describe(at, member, links, self));
  for (const auto& [id, gone] : at.region.gone()) agents.push_back(describe(at, gone.record, links, self));
  return agents;
}

Dynamic tree_of(const Attachment* at, const LinkTable& links, AgentId self) {
  if (at == nullptr) return {};
  Dynamic::Array natives;
  Dynamic::Array children;
  for (const auto& [id, member] : at->region.living()) {
    (at->region.is_native(member) ? natives : children).push_back(describe(*at, member, links, self));
  }
  Dynamic::Array path;
  for (RegionId region : at->path) path.emplace_back(region.hex());
  return Dynamic::Map{
      {"id", at->region.id().hex()},
      {"name", at->region.name()},
      {"path", std::move(path)},
      {"head", at->word ? Dynamic(at->word->head.hex()) : Dynamic()},
      {"epoch", static_cast<std::int64_t>(at->word ? at->word->epoch.value() : 0)},
      {"agents", std::move(natives)},
      {"children", std::move(children)},
  };
}

}  // namespace

const std::map<AgentId, Member>& Core::members(Scope scope) const {
  static const std::map<AgentId, Member> kNobody;
  const Attachment* attachment = attachment_of(scope);
  return attachment == nullptr ? kNobody : attachment->region.living();
}

Dynamic Core::report(std::string_view method) const {
  if (method == "agents") {
    Dynamic::Array agents;
    if (home_) agents = agents_of(*home_, links_, config_.id);
    if (parent_) {
      for (auto& agent : agents_of(*parent_, links_, config_.id)) {
        const std::string* id = (*agent.as_map())["id"].as_text();
        if (*id != config_.id.hex()) agents.push_back(std::move(agent));
      }
    }
    return Dynamic::Map{{"agents", std::move(agents)}};
  }
  if (method == "topology") {
    return Dynamic::Map{
        {"self", config_.id.hex()},
        {"region", tree_of(attachment_of(Scope::kHome), links_, config_.id)},
        {"parent", tree_of(attachment_of(Scope::kParent), links_, config_.id)},
    };
  }
  if (method != "status") {
    return Dynamic::Map{{"error", "no view called '" + std::string(method) + "': ask for status, agents or topology"}};
  }
  std::int64_t up = 0;
  for (const auto& [peer, link] : links_.all()) up += link.up() ? 1 : 0;
  Dynamic::Array path;
  for (RegionId region : address_.path) path.emplace_back(region.hex());
  const auto known_head = head();
  const auto found = home_ ? ballots_.find(home_->region.id()) : ballots_.end();
  const Ballot* ballot = found == ballots_.end() ? nullptr : &found->second;
  const std::string& join_error = home_ ? parent_join_.last_error() : home_join_.last_error();
  return Dynamic::Map{
      {"id", config_.id.hex()},
      {"name", config_.name},
      {"endpoint", config_.endpoint},
      {"incarnation", static_cast<std::int64_t>(incarnation_.value())},
      {"joined", home_.has_value() && admitted_},
      {"region", home_ ? home_->region.name() : ""},
      {"region_id", home_ ? home_->region.id().hex() : ""},
      {"path", std::move(path)},
      {"is_head", is_head_},
      {"head", known_head ? Dynamic(known_head->hex()) : Dynamic()},
      {"epoch", static_cast<std::int64_t>(head_epoch().value())},
      {"voters", static_cast<std::int64_t>(ballot == nullptr ? 0 : everyone(ballot->roll).size())},
      {"promised", static_cast<std::int64_t>(ballot == nullptr ? 0 : ballot->promised.value())},
      {"attached", parent_.has_value()},
      {"isolated", isolated()},
      {"members", static_cast<std::int64_t>(home_ ? home_->region.living().size() : 0)},
      {"links", up},
      {"suspects", static_cast<std::int64_t>(detector_.size())},
      {"health", static_cast<std::int64_t>(detector_.health())},
      {"joining", home_join_.active() || parent_join_.active()},
      {"join_error", join_error},
      {"frames_dropped", static_cast<std::int64_t>(counters_.frames_dropped)},
      {"joins_admitted", static_cast<std::int64_t>(counters_.joins_admitted)},
      {"joins_refused", static_cast<std::int64_t>(counters_.joins_refused)},
      {"suspicions", static_cast<std::int64_t>(counters_.suspicions)},
      {"refutations", static_cast<std::int64_t>(counters_.refutations)},
      {"tables_sent", static_cast<std::int64_t>(counters_.syncs_sent)},
  };
}

void Core::check_invariants() const {
  SHOAL_CHECK(out_ == nullptr, "a step is under way");
  links_.check_invariants();
  SHOAL_CHECK(ballots_.size() <= kDutiesMax + 1, "too many ballots");
  SHOAL_CHECK(address_.path.size() <= wire::Address::kPathMax, "the path is too deep");
  SHOAL_CHECK(!is_head_ || (home_ && home_->word), "a head without a region");
  SHOAL_CHECK(!parent_ || is_head_, "only a head has a seat in the parent region");
  if (!home_) return;
  home_->region.check_invariants();
  SHOAL_CHECK(home_->region.find(config_.id) != nullptr, "an agent is missing from its own region");
  SHOAL_CHECK(!address_.path.empty() && address_.path.back() == home_->region.id(), "the path does not end at home");
  SHOAL_CHECK(life_of(incarnation_) == life_, "the incarnation is not of this life");
  SHOAL_CHECK(home_->region.find(config_.id)->incarnation == incarnation_, "the own record has another incarnation");
  if (is_head_) {
    SHOAL_CHECK(home_->word->head == config_.id && home_->word->epoch == head_epoch_,
                "a head does not speak for itself");
    const auto ballot = ballots_.find(home_->region.id());
    SHOAL_CHECK(ballot != ballots_.end() && ballot->second.promised >= head_epoch_, "a head did not promise its epoch");
  }
  if (parent_) parent_->region.check_invariants();
}

}  // namespace shoal::overlay
