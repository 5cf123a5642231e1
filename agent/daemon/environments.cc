#include "agent/daemon/environments.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace shoal::daemon {

namespace {

constexpr Duration kFailureRemembered = seconds(10);
constexpr Duration kTouchEvery = seconds(10);  // on the disk

}  // namespace

Environments::Environments(agent::Reactor& reactor, std::string dir, environment::Machine machine,
                           std::uint64_t bytes_max, Ports ports)
    : cache_(std::move(dir)),
      machine_(std::move(machine)),
      bytes_max_(bytes_max),
      ports_(std::move(ports)),
      thread_(reactor) {}

bool Environments::failed_lately(const Environment& environment) const {
  return environment.state == State::kFailed && ports_.now() < environment.failed + kFailureRemembered;
}

const environment::Surroundings* Environments::ready(EnvironmentId id) {
  const auto found = known_.find(id);
  if (found == known_.end() || found->second.state != State::kReady) return nullptr;
  Environment& one = found->second;
  if (ports_.now() - one.touched > kTouchEvery) {
    one.touched = ports_.now();
    thread_.run([this, id] { cache_.touch(id); }, [] {});
  }
  return &one.surroundings;
}

void Environments::build(EnvironmentId id, std::vector<wire::Address> holders, Built done) {
  if (const auto* found = ready(id)) {
    done(*found);
    return;
  }
  Environment& one = known_[id];
  if (failed_lately(one)) {
    done(tl::unexpected<Error>(one.problem));
    return;
  }
  one.builders.push_back(std::move(done));
  if (one.state == State::kBuilding) return;
  one.holders.insert(one.holders.end(), holders.begin(), holders.end());
  if (one.state != State::kFetching) start(id);
}

void Environments::bring(EnvironmentId id, std::vector<wire::Address> holders, Known done) {
  Environment& one = known_[id];
  if (one.manifest && one.state != State::kFailed) {
    done(*one.manifest);
    return;
  }
  one.bringers.push_back(std::move(done));
  one.holders.insert(one.holders.end(), holders.begin(), holders.end());
  if (one.state == State::kFetching || one.state == State::kBuilding) return;
  one.state = State::kFetching;
  auto manifest = std::make_shared<Result<environment::Manifest>>(environment::Manifest{});
  thread_.run([this, id, manifest] { *manifest = cache_.manifest(id); },
              [this, id, manifest] {
                if (!*manifest && manifest->error().code == Code::kNotFound) return fetch(id);
                on_bundle(id, std::move(*manifest));
              });
}

// Builds with the bundle that is on the disk, or fetches it first.
void Environments::start(EnvironmentId id) {
  known_[id].state = State::kBuilding;
  struct Job {
    Result<environment::Manifest> manifest = environment::Manifest{};
    bool built = false;
  };
  auto job = std::make_shared<Job>();
  thread_.run([this, id, job] { job->manifest = cache_.make_ready(id, machine_, job->built); },
              [this, id, job, began = ports_.now()] {
                if (!job->manifest && job->manifest.error().code == Code::kNotFound) return fetch(id);
                on_built(id, std::move(job->manifest), job->built, began);
              });
}

void Environments::fetch(EnvironmentId id) {
  Environment& one = known_[id];
  one.state = State::kFetching;
  if (one.holders.empty()) {
    give_up(id, Error{Code::kNotFound, fmt::format("nobody is known to have environment {}; submit it again with "
                                                   "--environment",
                                                   id.brief())});
    return;
  }
  ports_.fetch(id, std::exchange(one.holders, {}), [this, id](Result<std::string> path) {
    if (!path) return give_up(id, path.error());
    auto manifest = std::make_shared<Result<environment::Manifest>>(environment::Manifest{});
    thread_.run([this, id, manifest, file = *path] { *manifest = cache_.take_bundle(id, file); },
                [this, id, manifest] { on_bundle(id, std::move(*manifest)); });
  });
}

void Environments::take(EnvironmentId id, const std::string& path, Known done) {
  auto manifest = std::make_shared<Result<environment::Manifest>>(environment::Manifest{});
  thread_.run([this, id, path, manifest] { *manifest = cache_.take_bundle(id, path); },
              [this, id, manifest, done = std::move(done)] {
                if (*manifest) {
                  Environment& one = known_[id];
                  one.manifest = **manifest;
                  if (one.state == State::kFailed) one.state = State::kHere;  // whoever brings it wants another try
                }
                done(std::move(*manifest));
              });
}

void Environments::on_bundle(EnvironmentId id, Result<environment::Manifest> manifest) {
  if (!manifest) return give_up(id, manifest.error());
  Environment& one = known_[id];
  one.manifest = std::move(*manifest);
  one.state = State::kHere;
  for (auto& done : std::exchange(one.bringers, {})) done(*one.manifest);
  if (!known_[id].builders.empty()) start(id);
}

void Environments::on_built(EnvironmentId id, Result<environment::Manifest> manifest, bool built, Instant began) {
  if (!manifest) return give_up(id, manifest.error());
  Environment& one = known_[id];
  one.state = State::kReady;
  one.manifest = std::move(*manifest);
  one.surroundings = environment::surroundings_of(id, *one.manifest, cache_.built_path(id), machine_.architecture);
  one.touched = ports_.now();
  cache_.touch(id);
  if (built) {
    ++builds_;
    spdlog::info("environment {} ({}) was built in {} ms", id.brief(), one.manifest->name,
                 (ports_.now() - began).us / 1000);
    make_room(id);
  }
  const auto found = one.surroundings;
  for (auto& done : std::exchange(one.bringers, {})) done(*known_[id].manifest);
  for (auto& done : std::exchange(known_[id].builders, {})) done(found);
}

void Environments::give_up(EnvironmentId id, Error error) {
  Environment& one = known_[id];
  one.state = State::kFailed;
  one.failed = ports_.now();
  one.problem = error;
  spdlog::warn("environment {} cannot be used here: {}", id.brief(), error.message);
  for (auto& done : std::exchange(one.bringers, {})) done(tl::unexpected<Error>(error));
  for (auto& done : std::exchange(known_[id].builders, {})) done(tl::unexpected<Error>(error));
}

const environment::Manifest* Environments::manifest(EnvironmentId id) const {
  const auto found = known_.find(id);
  return found == known_.end() || !found->second.manifest ? nullptr : &*found->second.manifest;
}

Environments::State Environments::state(EnvironmentId id) const {
  const auto found = known_.find(id);
  return found == known_.end() ? State::kHere : found->second.state;
}

std::string Environments::problem(EnvironmentId id) const {
  const auto found = known_.find(id);
  return found == known_.end() ? std::string() : found->second.problem.message;
}

void Environments::list(std::function<void(std::vector<environment::Cache::Entry>)> done) {
  auto entries = std::make_shared<std::vector<environment::Cache::Entry>>();
  thread_.run([this, entries] { *entries = cache_.list(); },
              [entries, done = std::move(done)] { done(std::move(*entries)); });
}

bool Environments::is_in_use(EnvironmentId id) const {
  const auto in_use = ports_.in_use();
  if (std::find(in_use.begin(), in_use.end(), id) != in_use.end()) return true;
  const auto found = known_.find(id);
  if (found == known_.end()) return false;
  return found->second.state == State::kFetching || found->second.state == State::kBuilding;
}

void Environments::remove(EnvironmentId id, std::function<void(Result<>)> done) {
  if (is_in_use(id)) {
    done(fail(Code::kUnavailable, fmt::format("environment {} is in use; `shoal apps` shows by whom", id.brief())));
    return;
  }
  known_.erase(id);  // whoever wants it from now on waits behind the removal
  auto removed = std::make_shared<Result<>>();
  thread_.run([this, id, removed] { *removed = cache_.remove(id); },
              [removed, done = std::move(done)] { done(std::move(*removed)); });
}

// What was just built stays even if it is too large by itself: whoever had it built is about to use it.
void Environments::make_room(EnvironmentId just_built) {
  list([this, just_built](std::vector<environment::Cache::Entry> entries) {
    std::vector<EnvironmentId> kept = {just_built};
    for (const auto& entry : entries) {
      if (is_in_use(entry.id)) kept.push_back(entry.id);
    }
    for (const EnvironmentId id : environment::choose_victims(std::move(entries), kept, bytes_max_)) {
      remove(id, [id](const Result<>& removed) {
        if (removed)
          spdlog::info("environment {} was removed to make room (setting environments_mb)", id.brief());
        else
          spdlog::warn("environment {} was not removed: {}", id.brief(), removed.error().message);
      });
    }
  });
}

}  // namespace shoal::daemon
