// Environments of applications: bundles in and out, and launches and programs that wait for them.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "agent/daemon/impl.h"
#include "agent/daemon/machine.h"
#include "scheduler/resources.h"

namespace shoal::daemon {
namespace {

constexpr std::size_t kUploadPartMax = 8U << 20;

Result<EnvironmentId> environment_in(const wire::Dynamic& params) {
  const std::string text = params.text_or("environment", "");
  if (auto id = EnvironmentId::from_hex_text(text)) return *id;
  return fail(Code::kInvalid, fmt::format("\"{}\" is not an environment's id; `shoal environments` lists them", text));
}

std::string state_name(Environments::State state) {
  switch (state) {
    case Environments::State::kHere:
      return "here";
    case Environments::State::kFetching:
      return "fetching";
    case Environments::State::kBuilding:
      return "building";
    case Environments::State::kReady:
      return "ready";
    case Environments::State::kFailed:
      return "failed";
  }
  return "unknown";
}

// Adds `bytes` to a file that has exactly `offset` bytes so far.
Result<std::uint64_t> append_part(const std::string& path, std::uint64_t offset, const Bytes& bytes) {
  const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC | (offset == 0 ? O_TRUNC : 0), 0600);
  if (fd < 0) return fail(Code::kUnavailable, fmt::format("cannot write {}: {}", path, std::strerror(errno)));
  struct stat info = {};
  const bool goes_on = ::fstat(fd, &info) == 0 && static_cast<std::uint64_t>(info.st_size) == offset;
  const ssize_t written = goes_on ? ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) : -1;
  const int problem = errno;
  ::close(fd);
  if (!goes_on) return fail(Code::kInvalid, "the parts of a bundle have to come in order, from 0");
  if (written != static_cast<ssize_t>(bytes.size()))
    return fail(Code::kExhausted, fmt::format("cannot write {}: {}", path, std::strerror(problem)));
  return offset + bytes.size();
}

}  // namespace

std::vector<EnvironmentId> AppSpec::bundles() const {
  std::vector<EnvironmentId> out;
  if (!bundle.is_zero()) out.push_back(bundle);
  for (const auto& [task, id] : task_bundles) out.push_back(id);
  return out;
}

std::unique_ptr<Environments> Daemon::Impl::open_environments() {
  const auto resources = resources_of(settings, python);
  Environments::Ports ports;
  ports.fetch = [this](EnvironmentId id, std::vector<wire::Address> holders, const Environments::Fetched& done) {
    fetch_bundle(id, std::move(holders), done);
  };
  ports.in_use = [this] { return environments_in_use(); };
  ports.now = [] { return agent::Reactor::now(); };
  return std::make_unique<Environments>(
      *reactor, home.at("environments"), environment::Machine{python, python_platform(python), resources.architecture},
      static_cast<std::uint64_t>(settings.integer("environments_mb")) << 20, std::move(ports));
}

void Daemon::Impl::fetch_bundle(EnvironmentId id, std::vector<wire::Address> holders,
                                const Environments::Fetched& done) {
  std::erase_if(holders, [this](const wire::Address& holder) { return holder.agent == identity.id(); });
  transfer->fetch(agent::Reactor::now(), "environment/" + id.hex(), std::move(holders),
                  [this, id, done](Result<client::Value> value) {
                    if (!value) {
                      done(tl::unexpected<Error>(value.error()));
                      return;
                    }
                    const auto path = values->path_of(*value);
                    const std::string kept = environments->upload_path("fetched." + id.hex());
                    std::error_code error;
                    const bool file = path && std::filesystem::is_regular_file(*path, error);
                    if (file) std::filesystem::rename(*path, kept, error);
                    values->discard(*value);
                    if (!file || error) {
                      done(fail(Code::kUnavailable, "the bundle of the environment did not come as a file"));
                    } else {
                      done(kept);
                    }
                  });
  rearm();
}

std::vector<EnvironmentId> Daemon::Impl::environments_in_use() const {
  std::vector<EnvironmentId> out = executors->environments_in_use();
  for (const auto& [app, ids] : app_environments) out.insert(out.end(), ids.begin(), ids.end());
  for (const auto& [id, launches] : held_launches) out.push_back(id);
  for (const auto& [app, one] : guarded) {
    const auto ids = one.spec.bundles();
    out.insert(out.end(), ids.begin(), ids.end());
  }
  return out;
}

// Calls `done` once the program's environment is built here and those of its tasks are known.
void Daemon::Impl::with_environments(const AppSpec& spec, const std::vector<wire::Address>& holders,
                                     Environments::Built done) {
  std::vector<EnvironmentId> missing;
  for (const auto& [task, id] : spec.task_bundles) {
    if (environments->manifest(id) == nullptr) missing.push_back(id);
  }
  if (!missing.empty()) {
    environments->bring(missing.front(), holders,
                        [this, spec, holders, done = std::move(done)](const Result<environment::Manifest>& known) {
                          if (!known) {
                            done(tl::unexpected<Error>(known.error()));
                          } else {
                            with_environments(spec, holders, done);
                          }
                        });
  } else if (spec.bundle.is_zero()) {
    done(environment::Surroundings{});
  } else {
    environments->build(spec.bundle, holders, [this, done = std::move(done)](Result<environment::Surroundings> built) {
      if (built) {
        done(std::move(built));
      } else {
        done(fail(built.error().code, fmt::format("agent {}: {}", name, built.error().message)));
      }
    });
  }
}

void Daemon::Impl::hold_launch(scheduler::out::Launch&& launch) {
  const EnvironmentId id = launch.environment;
  const bool first = !held_launches.contains(id) && !stranded_functions.contains(id);
  if (const auto* surroundings = first ? environments->ready(id) : nullptr)
    return executors->launch(std::move(launch), *surroundings);
  const wire::Address holder = launch.environment_at;
  auto& held_here = held_launches[id];
  held_here.push_back(std::move(launch));
  if (held_here.size() > 1) return;  // somebody waits already
  environments->build(id, {holder}, [this, id](const Result<environment::Surroundings>& surroundings) {
    release_launches(id, surroundings);
    drain();
  });
}

void Daemon::Impl::release_launches(EnvironmentId id, const Result<environment::Surroundings>& surroundings) {
  auto waiting = held_launches.extract(id);
  if (waiting.empty()) return;
  if (surroundings) {
    // Functions are told to an agent once, also when the launch that told them could not start.
    auto stranded = stranded_functions.extract(id);
    if (!stranded.empty()) {
      for (auto& launch : stranded.mapped()) executors->launch(std::move(launch), *surroundings);
    }
    for (auto& launch : waiting.mapped()) executors->launch(std::move(launch), *surroundings);
    return;
  }
  const std::string why =
      fmt::format("agent {} cannot build environment {}: {}", name, id.brief(), surroundings.error().message);
  scheduler::in::AttemptsDone done;
  for (auto& launch : waiting.mapped()) {
    for (const auto& attempt : launch.attempts)
      done.results.push_back({attempt.attempt, client::Outcome::kNotStarted, why, {}, {}, 0});
    launch.attempts.clear();
    if (!launch.functions.empty()) stranded_functions[id].push_back(std::move(launch));
  }
  on_attempts_done(std::move(done));
}

// Attempts that wait for their environment are with no executor. Their time has not begun, so it cannot be over.
void Daemon::Impl::kill_attempts(scheduler::out::Kill kill) {
  scheduler::in::AttemptsDone done;
  for (auto& [id, launches] : held_launches) {
    for (auto& launch : launches) {
      const auto is_meant = [&](const client::Attempt& attempt) {
        return std::find(kill.attempts.begin(), kill.attempts.end(), attempt.attempt) != kill.attempts.end();
      };
      for (const auto& attempt : launch.attempts) {
        if (!is_meant(attempt) || kill.timed_out) continue;
        done.results.push_back(
            {attempt.attempt, client::Outcome::kCancelled, "cancelled before it started", {}, {}, 0});
      }
      if (!kill.timed_out) std::erase_if(launch.attempts, is_meant);
    }
  }
  if (!done.results.empty()) on_attempts_done(std::move(done));
  executors->kill(kill);
}

// Whether an idle agent of this kind could run the program itself.
bool Daemon::Impl::can_host(const scheduler::Resources& resources, const AppSpec& spec) const {
  scheduler::Resources with_units = resources;
  with_units.computing_units = std::max<std::uint32_t>(1, resources.computing_units);  // programs take none
  scheduler::Demand demand;
  demand.units = 0;
  if (spec.program.ends_with(".py")) demand.language = "python";
  if (const auto* manifest = spec.bundle.is_zero() ? nullptr : environments->manifest(spec.bundle))
    demand.requirements = environment::requirements_of(*manifest);
  return scheduler::can_meet(with_units, demand);
}

// The living ones of this region.
std::vector<wire::Address> Daemon::Impl::other_members() const {
  std::vector<wire::Address> out;
  for (const auto& [id, member] : node->overlay().members(overlay::Scope::kHome)) {
    if (id != identity.id() && member.status == overlay::Status::kAlive) out.push_back({id, node->address().path});
  }
  return out;
}

// ---- requests ----

void Daemon::Impl::request_environment_find(const Requester& from, const Params& params) {
  auto id = environment_in(params);
  if (!id) {
    reply(from, tl::unexpected<Error>(id.error()));
    return;
  }
  const bool here = ::access(environments->bundle_path(*id).c_str(), R_OK) == 0;
  reply(from, wire::Dynamic(wire::Dynamic::Map{{"environment", id->hex()}, {"here", here}}));
}

// One part of a bundle from a process of this host; the last one has it checked and kept.
void Daemon::Impl::request_environment_put(const Requester& from, const Params& params) {
  auto id = environment_in(params);
  const Bytes* bytes = params["bytes"].as_bytes();
  const std::int64_t offset = params.int_or("offset", -1);
  const std::int64_t size = params.int_or("size", -1);
  if (!id || bytes == nullptr || bytes->size() > kUploadPartMax || offset < 0 || size < 0 || from.remote ||
      static_cast<std::uint64_t>(size) > environment::kBundleBytesMax) {
    reply(from,
          id ? fail(Code::kInvalid,
                    fmt::format("environment.put takes \"bytes\" (at most {} MiB), \"offset\" and \"size\" (at most "
                                "{} MiB), from a process of the agent's host",
                                kUploadPartMax >> 20, environment::kBundleBytesMax >> 20))
             : tl::unexpected<Error>(id.error()));
    return;
  }
  const std::string path = environments->upload_path(fmt::format("upload.{}.{}", from.client.value(), id->hex()));
  const auto upload = uploads.try_emplace(from.client, path).first;
  if (upload->second != path) ::unlink(std::exchange(upload->second, path).c_str());  // it began another one
  auto received = append_part(path, static_cast<std::uint64_t>(offset), *bytes);
  if (!received || *received > static_cast<std::uint64_t>(size)) {
    ::unlink(path.c_str());
    uploads.erase(upload);
    reply(from,
          received ? fail(Code::kInvalid, "more came than was announced") : tl::unexpected<Error>(received.error()));
    return;
  }
  if (*received < static_cast<std::uint64_t>(size)) {
    reply(from, wire::Dynamic(wire::Dynamic::Map{{"received", *received}}));
    return;
  }
  uploads.erase(upload);
  environments->take(*id, path, [this, from](const Result<environment::Manifest>& taken) {
    reply(from, taken ? Answer(wire::Dynamic(wire::Dynamic::Map{{"name", taken->name}}))
                      : tl::unexpected<Error>(taken.error()));
  });
}

// Begins, unless it is under way, and says how far it is. Asked again and again by who waits.
void Daemon::Impl::request_environment_build(const Requester& from, const Params& params) {
  auto id = environment_in(params);
  if (!id) {
    reply(from, tl::unexpected<Error>(id.error()));
    return;
  }
  const auto holders = from.remote ? std::vector<wire::Address>{*from.remote} : std::vector<wire::Address>();
  environments->build(*id, holders, [](const Result<environment::Surroundings>&) {});
  const auto state = environments->state(*id);
  if (state == Environments::State::kFailed) {
    reply(from, fail(Code::kFailed, fmt::format("agent {} cannot build environment {}: {}", name, id->brief(),
                                                environments->problem(*id))));
    return;
  }
  const auto* manifest = environments->manifest(*id);
  reply(from, wire::Dynamic(wire::Dynamic::Map{{"environment", id->hex()},
                                               {"name", manifest == nullptr ? "" : manifest->name},
                                               {"state", state_name(state)},
                                               {"agent", name}}));
}

void Daemon::Impl::request_environment_list(const Requester& from, const Params& /*params*/) {
  environments->list([this, from](const std::vector<environment::Cache::Entry>& entries) {
    const auto in_use = environments_in_use();
    wire::Dynamic::Array rows;
    for (const auto& entry : entries) {
      const bool used = std::find(in_use.begin(), in_use.end(), entry.id) != in_use.end();
      auto state = environments->state(entry.id);
      if (entry.built && state == Environments::State::kHere) state = Environments::State::kReady;
      rows.emplace_back(wire::Dynamic::Map{{"environment", entry.id.hex()},
                                           {"name", entry.name},
                                           {"state", state_name(state)},
                                           {"bytes", entry.bytes},
                                           {"in_use", used},
                                           {"used_unix_ms", entry.used_unix_ms},
                                           {"problem", environments->problem(entry.id)}});
    }
    reply(from,
          wire::Dynamic(wire::Dynamic::Map{{"environments", std::move(rows)}, {"builds", environments->builds()}}));
  });
}

void Daemon::Impl::request_environment_remove(const Requester& from, const Params& params) {
  auto id = environment_in(params);
  if (!id) {
    reply(from, tl::unexpected<Error>(id.error()));
    return;
  }
  environments->remove(*id, [this, from, id = *id](const Result<>& removed) {
    reply(from, removed ? Answer(wire::Dynamic(wire::Dynamic::Map{{"environment", id.hex()}, {"removed", true}}))
                        : tl::unexpected<Error>(removed.error()));
  });
}

}  // namespace shoal::daemon
