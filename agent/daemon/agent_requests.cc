// What can be asked about the agent itself.
#include <fmt/format.h>
#include <unistd.h>

#include "agent/daemon/impl.h"
#include "scheduler/state.h"

namespace shoal::daemon {
namespace {

constexpr std::size_t kAttemptsShown = 16;
constexpr Duration kTreeTimeout = seconds(2);  // for each level below

}  // namespace

wire::Dynamic Daemon::Impl::status() const {
  const auto overlay_status = node->overlay().report("status");
  wire::Dynamic::Map out;
  if (const auto* map = overlay_status.as_map()) out = *map;
  out["agent"] = identity.id().hex();
  out["name"] = name;
  out["version"] = SHOAL_VERSION;
  out["pid"] = static_cast<std::int64_t>(getpid());
  out["endpoint"] = transport->endpoint();
  out["http"] = gateway ? gateway->url() : "";
  out["uptime_ms"] = (agent::Reactor::now() - started).us / 1000;
  out["rss_bytes"] = resident_bytes();
  out["links"] = transport->counters().links_now;
  out["clients"] = clients->clients();
  out["apps_running"] = apps->running();
  out["values"] = values->size();
  out["objects"] = engine->usage().objects;
  out["object_bytes"] = engine->usage().object_bytes;
  out["home"] = home.dir();
  out["python"] = python;
  out["attempts_finished"] = executors->counters().finished;
  out["executors"] = executors->counters().executors;
  out["confinement"] = executors->confinement();
  wire::Dynamic::Array running;
  for (const auto& [attempt, function] : attempts_running) {
    if (running.size() == kAttemptsShown) break;
    running.emplace_back(function);
  }
  out["attempts_running"] = std::move(running);
  out["unix_ms"] = wall_now().unix_ms;
  out["streams"] = broker->counters().streams_owned;
  if (const auto head = node->overlay().head()) out["head_name"] = agent_name(head->hex());
  const auto& members = node->overlay().members(overlay::Scope::kHome);
  if (const auto own = members.find(identity.id()); own != members.end()) {
    for (auto& [key, value] : describe_member(own->second)) out.emplace(key, std::move(value));
  }
  return wire::Dynamic(std::move(out));
}

// What an agent is and has, as its region knows it.
wire::Dynamic::Map Daemon::Impl::describe_member(const overlay::Member& member) const {
  wire::Dynamic::Map labels;
  for (const auto& [key, value] : member.labels) labels[key] = value;
  wire::Dynamic::Map row{{"agent", member.id.hex()},
                         {"name", member.name},
                         {"status", member.status == overlay::Status::kSuspect ? "suspect" : "alive"},
                         {"endpoint", member.endpoint},
                         {"labels", std::move(labels)},
                         {"computing_units", wire::Dynamic()}};
  if (const auto load = scheduler::decode_state(member.state)) {
    row["computing_units"] = load->resources.computing_units;
    row["units_free"] = static_cast<double>(load->free64()) / static_cast<double>(scheduler::kUnit64);
    row["memory_mb"] = load->resources.memory_mb;
    row["architecture"] = load->resources.architecture;
    row["queued"] = load->queued;
  }
  return row;
}

std::string Daemon::Impl::agent_name(const std::string& hex) const {
  const auto id = AgentId::from_hex_text(hex);
  if (!id) return hex;
  for (const auto scope : {overlay::Scope::kHome, overlay::Scope::kParent}) {
    const auto& members = node->overlay().members(scope);
    if (auto member = members.find(*id); member != members.end()) return member->second.name;
  }
  const auto far = far_names.find(*id);
  return far == far_names.end() ? id->brief() : far->second;
}

void Daemon::Impl::request_status(const Requester& from, const Params& /*params*/) {
  reply(from, status());
}

void Daemon::Impl::request_agents(const Requester& from, const Params& /*params*/) {
  wire::Dynamic::Array rows;
  const auto head = node->overlay().head();
  for (const auto scope : {overlay::Scope::kHome, overlay::Scope::kParent}) {
    for (const auto& [id, member] : node->overlay().members(scope)) {
      const bool guest =
          !node->address().path.empty() && scope == overlay::Scope::kHome && member.home != node->address().path.back();
      auto row = describe_member(member);
      if (guest) {
        // What a head says of itself in the region above stands for its whole region.
        for (const char* of_region : {"units_free", "memory_mb", "architecture", "queued"}) row.erase(of_region);
        row["computing_units"] = wire::Dynamic();
      }
      row["scope"] = scope == overlay::Scope::kHome ? (guest ? "child" : "home") : "parent";
      if (excluded.contains(id)) row["excluded"] = true;
      row["region"] = member.home_name;
      row["head"] = head == id || guest;
      row["role"] = row["head"] == wire::Dynamic(true) ? "head" : "member";
      rows.emplace_back(std::move(row));
    }
  }
  reply(from, wire::Dynamic(wire::Dynamic::Map{{"agents", std::move(rows)}}));
}

// The whole tree: asked upward until the root, then each head asks the heads below it.
void Daemon::Impl::request_topology(const Requester& from, const Params& params) {
  gather_topology(params.bool_or("down", false), [this, from](Answer answer) { reply(from, std::move(answer)); });
}

// The whole tree by way of the regions above, or with `down` what hangs on this region. Names in it are remembered.
void Daemon::Impl::gather_topology(bool down, std::function<void(Answer)> done) {
  const auto& overlay = node->overlay();
  const auto& path = node->address().path;
  if (!down && path.size() > 1) {
    std::optional<wire::Address> above;
    if (!overlay.is_head()) {
      if (auto head = overlay.head()) above = wire::Address{*head, path};
    } else {
      const std::vector<RegionId> parent(path.begin(), path.end() - 1);
      for (const auto& [id, member] : overlay.members(overlay::Scope::kParent)) {
        if (id != identity.id() && member.home == parent.back() && member.status == overlay::Status::kAlive) {
          above = wire::Address{id, parent};
          break;
        }
      }
    }
    if (above) {
      ask_agent(*above, "agent.topology", {}, kTreeTimeout * 4, [this, done](Answer answer) {
        if (!answer) {
          gather_topology(true, done);  // cut off from above: show what is below
          return;
        }
        learn_names(*answer);
        done(std::move(answer));
      });
      return;
    }
  }
  struct Tree {
    wire::Dynamic::Map region;
    wire::Dynamic::Array children;
    std::size_t missing = 0;
  };
  auto tree = std::make_shared<Tree>();
  wire::Dynamic::Array agents;
  std::vector<std::pair<wire::Address, std::string>> heads;
  for (const auto& [id, member] : overlay.members(overlay::Scope::kHome)) {
    if (!path.empty() && member.home != path.back()) {
      wire::Address head{id, path};
      head.path.push_back(member.home);
      heads.emplace_back(std::move(head), member.home_name);
      continue;
    }
    tree->region["region"] = member.home_name;
    auto row = describe_member(member);
    row["head"] = overlay.head() == id;
    agents.emplace_back(std::move(row));
  }
  tree->region["count"] = agents.size();
  tree->region["agents"] = std::move(agents);
  tree->missing = heads.size();
  const auto finish = [this, done, tree] {
    tree->region["children"] = std::move(tree->children);
    const wire::Dynamic whole(std::move(tree->region));
    learn_names(whole);
    done(whole);
  };
  if (heads.empty()) {
    finish();
    return;
  }
  for (const auto& [head, region] : heads) {
    ask_agent(head, "agent.topology", {{"down", true}}, kTreeTimeout, [tree, finish, name = region](Answer answer) {
      tree->children.push_back(answer ? std::move(*answer)
                                      : wire::Dynamic(wire::Dynamic::Map{
                                            {"region", name}, {"error", answer.error().message}, {"count", 0}}));
      if (--tree->missing == 0) finish();
    });
  }
}

void Daemon::Impl::learn_names(const wire::Dynamic& region) {
  if (const auto* agents = region["agents"].as_array()) {
    for (const auto& agent : *agents) {
      const auto id = AgentId::from_hex_text(agent.text_or("agent", ""));
      if (id && far_names.size() < kFarNamesMax) far_names[*id] = agent.text_or("name", id->brief());
    }
  }
  if (const auto* children = region["children"].as_array()) {
    for (const auto& child : *children) learn_names(child);
  }
}

// Gives every row the name of its agent. Those of other regions may have to be asked for, once.
void Daemon::Impl::name_agents(wire::Dynamic::Array rows, std::function<void(wire::Dynamic::Array)> done) {
  const bool all_known = std::all_of(rows.begin(), rows.end(), [this](const wire::Dynamic& row) {
    const auto id = AgentId::from_hex_text(row.text_or("agent", ""));
    return !id || agent_name(id->hex()) != id->brief();
  });
  const auto fill = [this](wire::Dynamic::Array& list) {
    for (auto& row : list) {
      if (auto* map = row.as_map()) (*map)["agent_name"] = agent_name(row.text_or("agent", ""));
    }
  };
  if (all_known) {
    fill(rows);
    done(std::move(rows));
    return;
  }
  auto kept = std::make_shared<wire::Dynamic::Array>(std::move(rows));
  gather_topology(false, [kept, fill, done](const Answer&) {
    fill(*kept);
    done(std::move(*kept));
  });
}

void Daemon::Impl::request_stop(const Requester& from, const Params& /*params*/) {
  reply(from, wire::Dynamic(wire::Dynamic::Map{{"stopping", true}}));
  begin_stop("asked by a client");
}

void Daemon::Impl::request_leave(const Requester& from, const Params& params) {
  request_stop(from, params);
}

void Daemon::Impl::request_token(const Requester& from, const Params& params) {
  const std::int64_t life_ms =
      std::clamp<std::int64_t>(params.int_or("life_ms", identity::TokenBook::kLifeMs), 1000, 7LL * 24 * 3600 * 1000);
  make_token(params.text_or("child_region", ""), life_ms, [this, from](const Result<identity::JoinToken>& token) {
    if (!token) {
      reply(from, tl::unexpected<Error>(token.error()));
    } else {
      reply(from,
            wire::Dynamic(wire::Dynamic::Map{{"token", token->text()}, {"expires_unix_ms", token->expires.unix_ms}}));
    }
  });
}

// Calls back once the token is written down: one that was given away must be known after a crash.
void Daemon::Impl::make_token(const std::string& child_region, std::int64_t life_ms,
                              std::function<void(Result<identity::JoinToken>)> done) {
  if (!identity.issuer()) {
    done(fail(Code::kDenied,
              "this agent does not issue certificates: create the token at the agent where the realm was founded"));
    return;
  }
  const std::string endpoint = node->overlay().members(overlay::Scope::kHome).at(identity.id()).endpoint;
  if (endpoint.empty()) {
    done(fail(Code::kUnavailable,
              "this agent only dials out, so nobody could redeem the token here; start it with --listen"));
    return;
  }
  auto token =
      tokens.create({identity.id(), {endpoint}, identity.keys.curve.public_key}, child_region, wall_now(), life_ms);
  if (!token) {
    done(tl::unexpected<Error>(token.error()));
    return;
  }
  const std::uint64_t completion = ++last_completion;
  engine_calls[completion] = [done = std::move(done), token = *token](Result<> written) {
    done(written ? Result<identity::JoinToken>(token) : tl::unexpected<Error>(written.error()));
  };
  engine->persist({{"d/tokens", tokens.serialize()}}, completion);
}

}  // namespace shoal::daemon
