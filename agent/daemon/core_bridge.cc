// Inputs into the core, effects out of it.
#include "agent/daemon/impl.h"

namespace shoal::daemon {
namespace {

constexpr std::string_view kManifestPrefix = "s/m/";

}  // namespace

void Daemon::Impl::feed(node::Input input) {
  inputs.push_back(std::move(input));
  drain();
}

// Carrying out an effect may give the core further inputs: they wait their turn, so that a step never nests
// in another.
void Daemon::Impl::drain() {
  if (draining) return;
  draining = true;
  while (!inputs.empty()) {
    node::Input input = std::move(inputs.front());
    inputs.pop_front();
    effects.clear();
    node->step(agent::Reactor::now(), std::move(input), effects);
    for (auto& effect : effects) carry_out(effect);
    flush_persists();
  }
  draining = false;
  rearm();
}

void Daemon::Impl::rearm() {
  Instant next = node_wake;
  next = std::min({next, transfer->next_deadline(), transport->next_deadline(), broker->next_deadline(),
                   edge->next_deadline(), stop_deadline});
  for (const auto& [id, ask] : asks) next = std::min(next, ask.deadline);
  reactor->set_timer(wake_timer, next);
}

void Daemon::Impl::carry_out(node::Effect& effect) {
  struct Visitor {
    Impl& self;
    void operator()(node::out::Send& send) const {
      if (send.after > self.durable) {
        self.held.push_back(std::move(send));
      } else {
        self.send_now(send);
      }
    }
    void operator()(node::out::Dial& dial) const {
      self.transport->dial(dial.neighbour, dial.endpoint, dial.curve_key);
    }
    void operator()(node::out::HangUp& hang_up) const { self.transport->hang_up(hang_up.neighbour); }
    void operator()(node::out::WakeAt& wake) const { self.node_wake = wake.at; }
    void operator()(node::out::Persist& persist) const {
      if (persist.lane == node::out::Lane::kAppended) {
        self.engine->append("app-" + persist.key.substr(persist.key.rfind('/') + 1), std::move(persist.value), 0);
        return;
      }
      if (persist.key.starts_with(kManifestPrefix)) {
        // The engine keeps a manifest beside its object, and forgets both together.
        if (auto manifest = wire::decode<storage::Manifest>(persist.value))
          self.engine->put_manifest(std::move(*manifest), 0);
        return;
      }
      self.persist_batch.push_back({std::move(persist.key), std::move(persist.value)});
      if (persist.ticket != Ticket()) self.persist_tickets.push_back(persist.ticket);
    }
    void operator()(node::out::Scheduler& output) const { self.on_scheduler_output(output); }
    void operator()(node::out::Storage& output) const { self.on_storage_output(output); }
    void operator()(node::out::Answer& answer) const {
      auto call = self.query_calls.extract(answer.id);
      if (!call.empty()) call.mapped()(std::move(answer.result));
    }
    void operator()(node::out::AddressChanged& changed) const {
      std::vector<streams::Output> outputs;
      self.broker->on_address(agent::Reactor::now(), changed.self, outputs);
      self.carry_out(outputs);
    }
    void operator()(node::out::MemberGone& gone) const {
      self.on_guardian_gone(gone.agent);
      self.on_master_gone(gone.agent, gone.proven);
    }
    void operator()(node::out::Trace& trace) const { spdlog::info("{}", trace.event); }
    void operator()(node::out::Stopped&) const {
      if (self.stopping) self.finish_stop();
    }
  };
  std::visit(Visitor{*this}, effect);
}

void Daemon::Impl::flush_persists() {
  if (persist_batch.empty()) return;
  const std::uint64_t completion = ++last_completion;
  persists_under_way[completion] = std::move(persist_tickets);
  persist_tickets.clear();
  engine->persist(std::move(persist_batch), completion);
  persist_batch.clear();
}

void Daemon::Impl::on_engine_events() {
  std::vector<storage::Completion> completions;
  engine->poll_completions(completions);
  for (auto& completion : completions) {
    if (auto call = engine_calls.extract(completion.id); !call.empty()) {
      call.mapped()(std::move(completion.result));
      continue;
    }
    auto batch = persists_under_way.extract(completion.id);
    if (batch.empty()) continue;
    if (!completion.result) {
      // Nothing of the batch is on disk, so nothing that waits for it may leave: whoever asked will time out
      // and be told.
      spdlog::error("state was not written: {}", completion.result.error().message);
      for (const Ticket ticket : batch.mapped()) {
        std::erase_if(held, [&](const node::out::Send& send) { return send.after == ticket; });
      }
      continue;
    }
    for (const Ticket ticket : batch.mapped()) {
      durable = std::max(durable, ticket);
      inputs.emplace_back(node::in::Durable{ticket});
    }
  }
  release_held();
  drain();
}

void Daemon::Impl::release_held() {
  while (!held.empty() && held.front().after <= durable) {
    send_now(held.front());
    held.pop_front();
  }
}

void Daemon::Impl::send_now(const node::out::Send& send) {
  if (auto sent = transport->send(send.neighbour, wire::encode(send.envelope)); !sent) {
    ++frames_refused;
    if (sent.error().code != Code::kUnavailable)
      spdlog::debug("frame to {} refused: {}", send.neighbour.brief(), sent.error().message);
  }
}

void Daemon::Impl::on_scheduler_output(node::out::Scheduler& output) {
  struct Visitor {
    Impl& self;
    void operator()(scheduler::out::ToClient& message) const { self.clients->send(message.client, message.message); }
    void operator()(scheduler::out::Launch& launch) const { self.start_launch(launch); }
    void operator()(scheduler::out::Kill& kill) const { self.kill_attempts(std::move(kill)); }
    void operator()(scheduler::out::Fetch& fetch) const { self.fetch_value(fetch); }
    void operator()(scheduler::out::Keep& keep) const { self.values->keep(keep.key, std::move(keep.value)); }
    void operator()(scheduler::out::Drop& drop) const {
      for (const auto& key : drop.keys) self.drop_value(key);
    }
    void operator()(scheduler::out::Journal& journal) const { self.on_journal(std::move(journal)); }
    void operator()(scheduler::out::Save& save) const { self.on_save(std::move(save)); }
  };
  std::visit(Visitor{*this}, output);
}

void Daemon::Impl::start_launch(scheduler::out::Launch& launch) {
  if (launch.language == "python" && launch.python.empty()) launch.python = python;
  for (const auto& function : launch.functions) function_names[function.function] = function.name;
  for (const auto& attempt : launch.attempts) {
    auto known = function_names.find(attempt.function);
    attempts_running[attempt.attempt] = known == function_names.end() ? launch.language : known->second;
  }
  if (!launch.environment.is_zero()) return hold_launch(std::move(launch));
  executors->launch(std::move(launch));
}

void Daemon::Impl::on_attempts_done(scheduler::in::AttemptsDone&& done) {
  for (const auto& result : done.results) attempts_running.erase(result.attempt);
  feed(node::in::Scheduler(std::move(done)));
}

}  // namespace shoal::daemon
