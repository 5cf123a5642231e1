// Several store machines in virtual time, with a network that delays, loses what crosses a cut, and forgets
// what was sent to the dead; disks that keep what was persisted; and a membership oracle with a detection
// delay. What the tests of this folder share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "protocol/base/hash.h"
#include "storage/model/messages.h"
#include "storage/model/store.h"

namespace shoal::storage::testing {

inline AgentId agent_id(std::uint64_t n) {
  return AgentId(mix64(n), n);
}
inline RegionId region_id(std::uint64_t n) {
  return RegionId(mix64(n ^ 77), n);
}
inline ObjectId object_id(std::uint64_t n) {
  return ObjectId(mix64(n ^ 4711), mix64(n));
}

class Cluster {
 public:
  explicit Cluster(std::uint64_t seed = 1) : rng_(seed) {}

  struct Agent {
    AgentId id;
    std::string host;
    std::vector<RegionId> path;
    std::unique_ptr<Store> store;  // empty: dead
    std::uint64_t life = 0;
    std::map<ObjectId, Manifest> disk;      // bytes and manifests that are durable
    std::map<std::string, Record> records;  // durable records
    bool disk_full = false;
    std::map<std::uint64_t, Output> answers;  // by request
    std::set<AgentId> sees;                   // peers it was told of
    wire::Address address() const { return {id, path}; }
  };

  // Adds an agent (number `n`) to the region at `path` (numbers, root first).
  AgentId add(std::uint64_t n, const std::vector<std::uint64_t>& path, std::string host = "") {
    Agent agent;
    agent.id = agent_id(n);
    agent.host = host.empty() ? "host" + std::to_string(n) : host;
    for (std::uint64_t region : path) agent.path.push_back(region_id(region));
    const AgentId id = agent.id;
    agents_.emplace(id, std::move(agent));
    order_.push_back(id);
    boot(id);
    return id;
  }

  Agent& at(AgentId id) { return agents_.at(id); }
  Instant now() const { return now_; }
  const std::string& trace() const { return trace_; }
  StoreTimeouts timeouts;
  StoreLimits limits;
  Duration detection = milliseconds(4'500);
  std::uint64_t frames = 0;
  std::uint64_t pulls = 0;

  // ---- faults ----
  void kill(AgentId id) {
    at(id).store.reset();
    ++at(id).life;
    at(id).sees.clear();
    after(detection, [this] { refresh(); });
  }
  void restart(AgentId id) { boot(id); }
  void wipe(AgentId id) {
    at(id).disk.clear();
    at(id).records.clear();
  }
  // Cuts the region (and all below) off from its parent; the oracle notices after the detection delay.
  void cut(std::uint64_t region) {
    cuts_.insert(region_id(region));
    after(detection, [this] { refresh(); });
  }
  void heal() {
    cuts_.clear();
    after(milliseconds(100), [this] { refresh(); });
  }

  // ---- requests ----
  std::uint64_t put(AgentId id, ObjectId object, Level level, std::uint32_t replicas = 2, std::uint64_t bytes = 100) {
    in::Put put;
    put.request = ++last_request_;
    put.manifest.object = object;
    put.manifest.bytes = bytes;
    put.manifest.type = "bytes";
    put.manifest.policy = {replicas, level, false};
    at(id).disk[object] = put.manifest;
    step(id, put);
    return put.request;
  }
  template <class Request>
  std::uint64_t ask(AgentId id, Request request) {
    request.request = ++last_request_;
    step(id, request);
    return request.request;
  }
  std::uint64_t set(AgentId id, const std::string& name, const std::string& value, Level level = Level::kLocal) {
    in::SetRecord request;
    request.name = name;
    request.value = Bytes(value);
    request.wait_for = level;
    return ask(id, request);
  }

  // The answer to `request`, as soon as it is there, within `limit`; a test failure otherwise.
  template <class Answer>
  Answer wait(AgentId id, std::uint64_t request, Duration limit = seconds(20)) {
    const bool came = run_until([&] { return at(id).answers.contains(request); }, limit);
    EXPECT_TRUE(came) << "no answer within the limit";
    if (!came) return Answer{};
    return std::get<Answer>(at(id).answers.at(request));
  }
  Result<Manifest> locate(AgentId id, ObjectId object, Duration limit = seconds(2), std::vector<AgentId> failed = {}) {
    in::Locate request;
    request.object = object;
    request.failed = std::move(failed);
    return wait<out::Located>(id, ask(id, request), limit).manifest;
  }
  Result<Record> get(AgentId id, const std::string& name) {
    in::GetRecord request;
    request.name = name;
    return wait<out::RecordGot>(id, ask(id, request), seconds(2)).record;
  }
  // Agents that are alive and have the bytes.
  std::size_t copies(ObjectId object) {
    return static_cast<std::size_t>(std::count_if(agents_.begin(), agents_.end(), [&](const auto& one) {
      return one.second.store && one.second.disk.contains(object);
    }));
  }

  // ---- time ----
  void run(Duration span) {
    run_until([] { return false; }, span);
  }
  bool run_until(const std::function<bool()>& condition, Duration limit) {
    const Instant end = now_ + limit;
    while (!condition()) {
      Instant next = events_.empty() ? Instant::never() : events_.begin()->first.first;
      AgentId waking;
      for (AgentId id : order_) {
        if (!at(id).store || at(id).store->next_deadline() >= next) continue;
        next = at(id).store->next_deadline();
        waking = id;
      }
      if (next > end) {
        now_ = end;
        return condition();
      }
      now_ = std::max(now_, next);
      if (!waking.is_zero()) {
        step(waking, in::Wake{});
        continue;
      }
      auto event = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      event();
    }
    return true;
  }
  // Nothing armed, nothing under way.
  bool idle() const {
    return events_.empty() && std::all_of(agents_.begin(), agents_.end(), [](const auto& one) {
             return !one.second.store || one.second.store->next_deadline() == Instant::never();
           });
  }
  void settle() {
    run_until([this] { return idle(); }, seconds(60));
  }

  void step(AgentId id, const Input& input) {
    Agent& agent = at(id);
    if (!agent.store) return;
    std::vector<Output> outputs;
    agent.store->step(now_, input, outputs);
    // O(state): with many objects not after every step.
    if (++steps_ % (1 + agent.disk.size() / 16) == 0) agent.store->check_invariants();
    for (Output& output : outputs) carry_out(agent, output);
  }

 private:
  void after(Duration delay, std::function<void()> event) {
    events_.emplace(std::pair(now_ + delay, ++event_number_), std::move(event));
  }

  void boot(AgentId id) {
    Agent& agent = at(id);
    ++agent.life;
    agent.sees.clear();
    for (auto& [other, peer] : agents_) peer.sees.erase(id);
    StoreConfig config;
    config.id = id;
    config.host = agent.host;
    config.timeouts = timeouts;
    config.limits = limits;
    agent.store = std::make_unique<Store>(config, rng_.split(id.hex() + std::to_string(agent.life)));
    in::Recovered recovered;
    for (const auto& [object, manifest] : agent.disk) recovered.manifests.push_back(manifest);
    for (const auto& [name, record] : agent.records) recovered.records.push_back(record);
    step(id, recovered);
    after(milliseconds(1), [this] { refresh(); });
  }

  // Tells everyone who their head and peers are now.
  void refresh() {
    for (AgentId id : order_) {
      Agent& agent = at(id);
      if (!agent.store) continue;
      const std::optional<AgentId> head = head_of(agent.path);
      in::Self self{agent.address(), std::nullopt};
      if (agent.path.size() > 1 && head) self.above = at(*head).address();
      step(id, self);
      const bool is_head = head == id;
      for (AgentId other : order_) {
        Agent& peer = at(other);
        if (other == id) continue;
        std::vector<RegionId> parent = agent.path;
        parent.pop_back();
        const bool above = is_head && peer.path == parent;
        const bool visible = peer.store && (peer.path == agent.path || above) && !severed(agent.path, peer.path);
        if (visible && agent.sees.insert(other).second) {
          step(id, in::PeerUp{peer.address(), peer.host, above});
        } else if (!visible && agent.sees.erase(other) > 0) {
          step(id, in::PeerDown{other, false});
        }
      }
    }
  }
  std::optional<AgentId> head_of(const std::vector<RegionId>& path) {
    for (AgentId id : order_) {
      if (at(id).store && at(id).path == path) return id;
    }
    return std::nullopt;
  }
  bool severed(const std::vector<RegionId>& a, const std::vector<RegionId>& b) const {
    return std::any_of(cuts_.begin(), cuts_.end(), [&](RegionId region) {
      const bool a_in = std::find(a.begin(), a.end(), region) != a.end();
      const bool b_in = std::find(b.begin(), b.end(), region) != b.end();
      return a_in != b_in;
    });
  }

  void carry_out(Agent& agent, Output& output) {
    const AgentId id = agent.id;
    const std::uint64_t life = agent.life;
    auto mine = [this, id, life] { return at(id).store && at(id).life == life; };
    trace_ += std::to_string(now_.us) + ":" + std::to_string(output.index()) + ":" + id.brief() + "\n";
    if (auto* send = std::get_if<out::Send>(&output)) {
      ++frames;
      const AgentId target = send->envelope.target.agent;
      const Duration delay = microseconds(rng_.between(500, 5'000));
      after(delay, [this, target, envelope = send->envelope] {
        if (agents_.contains(target) && !severed(envelope.source.path, at(target).path))
          step(target, in::Frame{envelope});
      });
    } else if (auto* pull = std::get_if<out::Pull>(&output)) {
      ++pulls;
      after(milliseconds(4), [this, id, mine, manifest = pull->manifest] {
        if (mine()) finish_pull(id, manifest);
      });
    } else if (auto* persist = std::get_if<out::PersistManifest>(&output)) {
      if (agent.disk.contains(persist->manifest.object)) agent.disk[persist->manifest.object] = persist->manifest;
    } else if (auto* record = std::get_if<out::PersistRecord>(&output)) {
      after(milliseconds(2), [this, id, mine, ticket = record->ticket, value = record->record] {
        if (!mine()) return;
        at(id).records[value.name] = value;
        step(id, in::Persisted{ticket});
      });
    } else if (auto* erase = std::get_if<out::Erase>(&output)) {
      agent.disk.erase(erase->object);
    } else {
      keep_answer(agent, output);
    }
  }
  void finish_pull(AgentId id, const Manifest& manifest) {
    in::Pulled pulled{manifest.object, fail(Code::kUnavailable, "no holder has it")};
    for (const wire::Address& holder : manifest.holders) {
      auto it = agents_.find(holder.agent);
      if (it == agents_.end() || !it->second.store || !it->second.disk.contains(manifest.object)) continue;
      if (severed(at(id).path, it->second.path)) continue;
      pulled.result = {};
    }
    if (at(id).disk_full) pulled.result = fail(Code::kExhausted, "the disk is full");
    if (pulled.result) at(id).disk[manifest.object] = manifest;
    step(id, pulled);
  }
  void keep_answer(Agent& agent, Output& output) {
    std::uint64_t request = 0;
    if (auto* a = std::get_if<out::PutDone>(&output)) request = a->request;
    if (auto* a = std::get_if<out::Located>(&output)) request = a->request;
    if (auto* a = std::get_if<out::DeleteDone>(&output)) request = a->request;
    if (auto* a = std::get_if<out::RecordSet>(&output)) request = a->request;
    if (auto* a = std::get_if<out::RecordGot>(&output)) request = a->request;
    if (auto* a = std::get_if<out::RecordsListed>(&output)) request = a->request;
    if (auto* a = std::get_if<out::Answer>(&output)) request = a->id;
    EXPECT_FALSE(agent.answers.contains(request)) << "two answers to one request";
    agent.answers.emplace(request, output);
  }

  Rng rng_;
  Instant now_{1'000'000};
  std::map<AgentId, Agent> agents_;
  std::vector<AgentId> order_;
  std::set<RegionId> cuts_;
  std::map<std::pair<Instant, std::uint64_t>, std::function<void()>> events_;
  std::uint64_t event_number_ = 0;
  std::uint64_t last_request_ = 0;
  std::string trace_;
  std::uint64_t steps_ = 0;
};

}  // namespace shoal::storage::testing
