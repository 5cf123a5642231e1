// Streams and sources: their requests, their names in the store, their frames.
#include "agent/daemon/impl.h"

namespace shoal::daemon {
namespace {

// Stand-ins for clients of other agents are numbered from here; real clients count up from 1, sources have
// the last one.
constexpr std::uint64_t kRemoteClients = 1ULL << 62;

Result<streams::Registration> registration_of(const Result<storage::Record>& record) {
  if (!record) return tl::unexpected<Error>(record.error());
  if (record->deleted) return fail(Code::kNotFound, "there is no such stream");
  return streams::Registration{record->name, record->value, record->epoch};
}

}  // namespace

void Daemon::Impl::request_streams(const Requester& from, const std::string& method, const Params& params) {
  ClientId client = from.client;
  if (from.remote) {
    client = ClientId(kRemoteClients + ++last_call);
    remote_clients[client] = from;
  }
  std::vector<streams::Output> outputs;
  broker->on_request(agent::Reactor::now(), client, from.request, method, params, outputs);
  carry_out(outputs);
}

void Daemon::Impl::request_edge(const Requester& from, const std::string& method, const Params& params) {
  ClientId client = from.client;
  if (from.remote) {
    client = ClientId(kRemoteClients + ++last_call);
    remote_clients[client] = from;
  }
  std::vector<edge::Output> outputs;
  edge->on_request(agent::Reactor::now(), client, from.request, method, params, outputs);
  carry_out(outputs);
}

void Daemon::Impl::carry_out(std::vector<streams::Output>& outputs) {
  struct Visitor {
    Impl& self;
    void operator()(streams::out::Reply& reply) const {
      if (reply.client == streams::kEdgeClient) {
        std::vector<edge::Output> edge_outputs;
        self.edge->on_reply(agent::Reactor::now(), reply.request, reply.result, edge_outputs);
        self.carry_out(edge_outputs);
        return;
      }
      if (auto remote = self.remote_clients.extract(reply.client); !remote.empty()) {
        self.reply(remote.mapped(), std::move(reply.result));
        return;
      }
      self.reply({reply.client, reply.request, std::nullopt}, std::move(reply.result));
    }
    void operator()(streams::out::Send& send) const {
      const AgentId target = send.envelope.target.agent;
      if (self.route(std::move(send.envelope))) return;
      std::vector<streams::Output> more;
      self.broker->on_unreachable(agent::Reactor::now(), target, more);
      self.carry_out(more);
    }
    void operator()(streams::out::GetRecord& get) const {
      storage::in::GetRecord input;
      input.name = get.name;
      self.call_store<storage::in::GetRecord, storage::out::RecordGot>(
          input, [&self = self, id = get.id](storage::out::RecordGot& got) {
            std::vector<streams::Output> more;
            self.broker->on_record(agent::Reactor::now(), id, registration_of(got.record), more);
            self.carry_out(more);
          });
    }
    void operator()(streams::out::SetRecord& set) const {
      storage::in::SetRecord input;
      input.name = set.name;
      input.value = std::move(set.value);
      input.must_be_new = set.must_be_new;
      input.expected = set.expected;
      input.remove = set.remove;
      self.call_store<storage::in::SetRecord, storage::out::RecordSet>(
          input, [&self = self, id = set.id](storage::out::RecordSet& done) {
            std::vector<streams::Output> more;
            auto written = done.record ? Result<streams::Registration>(streams::Registration{
                                             done.record->name, done.record->value, done.record->epoch})
                                       : tl::unexpected<Error>(done.record.error());
            self.broker->on_record(agent::Reactor::now(), id, written, more);
            self.carry_out(more);
          });
    }
    void operator()(streams::out::ListRecords& list) const {
      storage::in::ListRecords input;
      input.prefix = list.prefix;
      self.call_store<storage::in::ListRecords, storage::out::RecordsListed>(
          input, [&self = self, id = list.id](storage::out::RecordsListed& listed) {
            std::vector<streams::Registration> registrations;
            for (const auto& record : listed.records) {
              if (!record.deleted) registrations.push_back({record.name, record.value, record.epoch});
            }
            std::vector<streams::Output> more;
            self.broker->on_records(agent::Reactor::now(), id, registrations, more);
            self.carry_out(more);
          });
    }
    void operator()(streams::out::Trace& trace) const { spdlog::info("streams: {}", trace.event); }
  };
  for (auto& output : outputs) std::visit(Visitor{*this}, output);
}

void Daemon::Impl::carry_out(std::vector<edge::Output>& outputs) {
  struct Visitor {
    Impl& self;
    void operator()(edge::out::Reply& reply) const {
      if (auto remote = self.remote_clients.extract(reply.client); !remote.empty()) {
        self.reply(remote.mapped(), std::move(reply.result));
        return;
      }
      self.reply({reply.client, reply.request, std::nullopt}, std::move(reply.result));
    }
    void operator()(edge::out::Publish& publish) const {
      std::vector<streams::Output> more;
      self.broker->on_request(agent::Reactor::now(), streams::kEdgeClient, publish.id, publish.method, publish.params,
                              more);
      self.carry_out(more);
    }
    void operator()(edge::out::Trace& trace) const { spdlog::info("edge: {}", trace.event); }
  };
  for (auto& output : outputs) std::visit(Visitor{*this}, output);
}

void Daemon::Impl::wake_streams() {
  const Instant now = agent::Reactor::now();
  std::vector<streams::Output> outputs;
  broker->on_wake(now, outputs);
  carry_out(outputs);
  std::vector<edge::Output> edge_outputs;
  edge->on_wake(now, edge_outputs);
  carry_out(edge_outputs);
}

}  // namespace shoal::daemon
