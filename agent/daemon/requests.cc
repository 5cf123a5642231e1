// Everything that is asked by name, from here or from another agent.
#include <fmt/format.h>

#include <algorithm>

#include "agent/daemon/impl.h"

namespace shoal::daemon {
namespace {

constexpr std::uint16_t kAskKind = static_cast<std::uint16_t>(wire::Plane::kClient) << 8 | 1;
constexpr std::uint16_t kAnswerKind = static_cast<std::uint16_t>(wire::Plane::kClient) << 8 | 2;
constexpr std::uint16_t kEventKind = static_cast<std::uint16_t>(wire::Plane::kClient) << 8 | 3;
constexpr std::size_t kAsksMax = 10'000;
constexpr Duration kForwardTimeout = seconds(60);

// Bodies of the client plane. `client` names the waiting client at the agent that asks.
struct ClientAsk {
  std::uint64_t id = 0;
  std::uint64_t client = 0;
  std::string method;
  wire::Dynamic params;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.client, self.method, self.params);
  }
};
struct ClientAnswer {
  std::uint64_t id = 0;
  std::uint8_t code = 0;
  std::string message;
  wire::Dynamic result;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.id, self.code, self.message, self.result);
  }
};
struct ClientEventFrame {
  std::uint64_t client = 0;
  client::Event event;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.client, self.event);
  }
};

}  // namespace

void Daemon::Impl::on_request(const Requester& from, const std::string& method, const Params& params) {
  // A request for another agent is passed on, and its answer back.
  const std::string agent = params.text_or("agent", "");
  if (!agent.empty() && !from.remote) {
    auto address = find_agent(agent);
    if (!address) {
      reply(from, tl::unexpected<Error>(address.error()));
      return;
    }
    if (address->agent != identity.id()) {
      wire::Dynamic::Map onward = *params.as_map();
      onward.erase("agent");
      onward["client"] = from.client.value();
      ask_agent(*address, method, std::move(onward), kForwardTimeout,
                [this, from](Answer answer) { reply(from, std::move(answer)); });
      return;
    }
  }
  if (streams::Broker::handles(method)) {
    request_streams(from, method, params);
    return;
  }
  if (edge::Edge::handles(method)) {
    request_edge(from, method, params);
    return;
  }
  static const std::map<std::string, Handler, std::less<>> kHandlers = {
      {"agent.status", &Impl::request_status},
      {"agent.agents", &Impl::request_agents},
      {"agent.topology", &Impl::request_topology},
      {"agent.stop", &Impl::request_stop},
      {"agent.leave", &Impl::request_leave},
      {"agent.doctor", &Impl::request_doctor},
      {"agent.clock", &Impl::request_clock},
      {"token.create", &Impl::request_token},
      {"elastic.grow", &Impl::request_elastic_grow},
      {"elastic.shrink", &Impl::request_elastic_shrink},
      {"app.start", &Impl::request_app_start},
      {"app.attach", &Impl::request_app_attach},
      {"app.find", &Impl::request_app_find},
      {"app.list", &Impl::request_app_list},
      {"app.logs", &Impl::request_app_logs},
      {"app.task_logs", &Impl::request_app_task_logs},
      {"agent.task_log", &Impl::request_task_log},
      {"app.cancel", &Impl::request_app_cancel},
      {"app.journal", &Impl::request_app_journal},
      {"app.once", &Impl::request_app_once},
      {"app.snapshot", &Impl::request_app_snapshot},
      {"environment.find", &Impl::request_environment_find},
      {"environment.put", &Impl::request_environment_put},
      {"environment.build", &Impl::request_environment_build},
      {"environment.list", &Impl::request_environment_list},
      {"environment.remove", &Impl::request_environment_remove},
      {"guard.open", &Impl::request_guard_open},
      {"guard.append", &Impl::request_guard_append},
      {"guard.close", &Impl::request_guard_close},
      {"store.put", &Impl::request_store_put},
      {"store.get", &Impl::request_store_get},
      {"store.locate", &Impl::request_store_locate},
      {"store.delete", &Impl::request_store_delete},
      {"store.set_alias", &Impl::request_store_set_alias},
      {"store.get_alias", &Impl::request_store_get_alias},
      {"store.delete_alias", &Impl::request_store_delete_alias},
      {"store.list", &Impl::request_store_list},
  };
  if (method == "app.tasks" || method == "app.explain" || method == "app.trace") {
    wire::Dynamic::Map with_method = params.as_map() != nullptr ? *params.as_map() : wire::Dynamic::Map{};
    with_method["query"] = method.substr(4);
    request_app_query(from, wire::Dynamic(std::move(with_method)));
    return;
  }
  auto handler = kHandlers.find(method);
  if (handler == kHandlers.end()) {
    reply(from,
          fail(Code::kUnsupported,
               fmt::format("this agent knows no request \"{}\"; do the versions of client and agent match?", method)));
    return;
  }
  (this->*handler->second)(from, params);
}

void Daemon::Impl::reply(const Requester& to, Answer answer) {
  if (to.remote) {
    ClientAnswer message;
    message.id = to.request;
    if (answer) {
      message.result = std::move(*answer);
    } else {
      message.code = static_cast<std::uint8_t>(answer.error().code);
      message.message = answer.error().message;
    }
    wire::Envelope envelope;
    envelope.kind = kAnswerKind;
    envelope.target = *to.remote;
    envelope.body = wire::encode(message);
    route(std::move(envelope));
    return;
  }
  client::Reply reply;
  reply.request = to.request;
  if (answer) {
    reply.result = std::move(*answer);
  } else {
    reply.code = static_cast<std::uint8_t>(answer.error().code);
    reply.message = answer.error().message;
  }
  clients->send(to.client, reply);
}

void Daemon::Impl::send_event(const Requester& to, const client::Event& event) {
  if (!to.remote) {
    clients->send(to.client, event);
    return;
  }
  wire::Envelope envelope;
  envelope.kind = kEventKind;
  envelope.target = *to.remote;
  envelope.body = wire::encode(ClientEventFrame{to.client.value(), event});
  route(std::move(envelope));
}

void Daemon::Impl::ask_agent(const wire::Address& agent, const std::string& method, wire::Dynamic::Map params,
                             Duration timeout, std::function<void(Answer)> done) {
  if (asks.size() >= kAsksMax) {
    done(fail(Code::kExhausted, "too many requests to other agents are under way; try again"));
    return;
  }
  ClientAsk message;
  message.id = ++last_call;
  message.client = static_cast<std::uint64_t>(wire::Dynamic(params).int_or("client", 0));
  params.erase("client");
  message.method = method;
  message.params = wire::Dynamic(std::move(params));
  wire::Envelope envelope;
  envelope.kind = kAskKind;
  envelope.target = agent;
  envelope.body = wire::encode(message);
  if (!route(std::move(envelope))) {
    done(fail(Code::kUnavailable,
              fmt::format("agent {} cannot be reached now; `shoal topology` shows who can", agent.agent.brief())));
    return;
  }
  asks[message.id] = {std::move(done), agent::Reactor::now() + timeout};
}

void Daemon::Impl::on_client_plane(const wire::Envelope& envelope) {
  if (envelope.kind == kAskKind) {
    auto ask = wire::decode<ClientAsk>(envelope.body);
    if (!ask) return;
    on_request({ClientId(ask->client), ask->id, envelope.source}, ask->method, ask->params);
  } else if (envelope.kind == kAnswerKind) {
    auto answer = wire::decode<ClientAnswer>(envelope.body);
    if (!answer) return;
    auto ask = asks.extract(answer->id);
    if (ask.empty()) return;
    if (answer->code == 0) {
      ask.mapped().done(std::move(answer->result));
    } else {
      ask.mapped().done(fail(static_cast<Code>(answer->code), std::move(answer->message)));
    }
  } else if (envelope.kind == kEventKind) {
    auto event = wire::decode<ClientEventFrame>(envelope.body);
    if (event) clients->send(ClientId(event->client), event->event);
  }
}

void Daemon::Impl::expire_asks() {
  const Instant now = agent::Reactor::now();
  std::vector<std::uint64_t> late;
  for (const auto& [id, ask] : asks) {
    if (ask.deadline <= now) late.push_back(id);
  }
  for (const std::uint64_t id : late) {
    auto ask = asks.extract(id);
    if (!ask.empty()) ask.mapped().done(fail(Code::kTimeout, "the other agent does not answer"));
  }
}

// By name, id or a unique prefix of it, among the members of this agent's regions.
Result<wire::Address> Daemon::Impl::find_agent(const std::string& text) const {
  std::vector<wire::Address> found;
  const auto consider = [&](const overlay::Member& member, std::vector<RegionId> path) {
    const bool match = member.name == text || (text.size() >= 4 && member.id.hex().starts_with(text));
    if (!match) return;
    if (path.empty() || member.home != path.back()) path.push_back(member.home);
    const bool known =
        std::any_of(found.begin(), found.end(), [&](const auto& address) { return address.agent == member.id; });
    if (!known) found.push_back({member.id, std::move(path)});
  };
  std::vector<RegionId> path = node->address().path;
  for (const auto& [id, member] : node->overlay().members(overlay::Scope::kHome)) consider(member, path);
  if (!path.empty()) path.pop_back();
  for (const auto& [id, member] : node->overlay().members(overlay::Scope::kParent)) consider(member, path);
  if (found.empty()) {
    return fail(Code::kNotFound,
                fmt::format("this agent knows no agent \"{}\"; `shoal agents` lists the ones it knows", text));
  }
  if (found.size() > 1)
    return fail(Code::kInvalid, fmt::format("\"{}\" fits {} agents; give more of its id", text, found.size()));
  return found.front();
}

}  // namespace shoal::daemon
