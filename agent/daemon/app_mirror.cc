// The master's side of app_guard.h: its applications' journals on their way to a guardian, and what waits for them.
#include <fmt/format.h>

#include <algorithm>

#include "agent/daemon/impl.h"
#include "protocol/base/hash.h"
#include "protocol/wire/codec.h"
#include "scheduler/state.h"

namespace shoal::daemon {
namespace {

constexpr std::size_t kProgramBytesMax = 16U << 20;  // larger programs do not travel
constexpr std::size_t kMirrorBytesMax = 64U << 20;   // of one application's journal
constexpr std::size_t kBatchBytes = 256U << 10;
constexpr Duration kGuardAnswerTime = seconds(3);
constexpr Duration kRetry = milliseconds(200);

std::size_t size_of(const scheduler::JournalEntry& entry) {
  std::size_t bytes = 32;
  for (const auto& output : entry.outputs) {
    const auto* value = std::get_if<client::Inline>(&output.value);
    bytes += 16 + (value != nullptr ? value->bytes.size() : 0);
  }
  return bytes;
}

}  // namespace

// A living native of the home region, or, when there is no other, of the one above; of those that can run the program.
// Different applications get different guardians, and every agent would choose the same for one.
std::optional<wire::Address> Daemon::Impl::choose_guardian(AppId app, const AppSpec& spec) const {
  const auto& overlay = node->overlay();
  std::vector<RegionId> path = overlay.address().path;
  for (const auto scope : {overlay::Scope::kHome, overlay::Scope::kParent}) {
    if (path.empty()) return std::nullopt;
    std::optional<wire::Address> best;
    std::uint64_t best_score = 0;
    for (const auto& [id, member] : overlay.members(scope)) {
      const bool native = member.home == path.back() && member.status == overlay::Status::kAlive;
      if (id == identity.id() || !native) continue;
      auto state = scheduler::decode_state(member.state);
      if (!state) continue;
      if (!can_host(state->resources, spec)) continue;
      const std::uint64_t score = combine64(combine64(app.high(), app.low()), combine64(id.high(), id.low()));
      if (best && score <= best_score) continue;
      best = wire::Address{id, path};
      best_score = score;
    }
    if (best) return best;
    path.pop_back();
  }
  return std::nullopt;
}

void Daemon::Impl::start_mirror(AppId app, AppSpec spec) {
  auto guardian = choose_guardian(app, spec);
  if (!guardian) return;
  if (spec.text.empty()) {
    auto text = read_file(spec.program);
    if (text && text->size() <= kProgramBytesMax) spec.text = Bytes(std::move(*text));
  }
  Mirror& mirror = mirrors[app];
  mirror.spec = std::move(spec);
  open_mirror(app, *guardian);
}

void Daemon::Impl::open_mirror(AppId app, const wire::Address& guardian) {
  Mirror& mirror = mirrors.at(app);
  mirror.guardian = guardian;
  mirror.open = false;
  mirror.asking = true;
  mirror.safe = 0;
  const std::uint64_t turn = ++mirror.turn;
  ask_agent(guardian, "guard.open", {{"app", app.hex()}, {"spec", wire::encode(mirror.spec)}}, kGuardAnswerTime,
            [this, app, turn](Answer answer) { on_mirror_answer(app, turn, 0, std::move(answer)); });
}

void Daemon::Impl::on_mirror_answer(AppId app, std::uint64_t turn, std::size_t safe, Answer answer) {
  auto it = mirrors.find(app);
  if (it == mirrors.end() || it->second.turn != turn) return;
  Mirror& mirror = it->second;
  mirror.asking = false;
  if (!answer) {
    switch (answer.error().code) {
      case Code::kStale:
        return give_up_app(app, answer.error().message);
      case Code::kNotFound:  // it was started anew
        return open_mirror(app, wire::Address(mirror.guardian));
      case Code::kUnavailable:
      case Code::kTimeout:
        reactor->set_timer(mirror_timer, agent::Reactor::now() + kRetry);
        return;
      default:
        spdlog::warn("application {} will not outlive this agent: {}", app.brief(), answer.error().message);
        return end_mirror(app);
    }
  }
  if (!mirror.open) {
    mirror.open = true;
    mirror.guardian_socket = answer->text_or("socket", "");
    tell_guardian(app, mirror);
  }
  mirror.safe = std::max(mirror.safe, safe);
  pump_mirror(app);
}

void Daemon::Impl::tell_guardian(AppId app, const Mirror& mirror) {
  auto watching = watchers.find(app);
  if (watching == watchers.end() || !mirror.open) return;
  for (const auto& watcher : watching->second) send_event(watcher.to, guardian_event(app, mirror, false));
}

client::Event Daemon::Impl::guardian_event(AppId app, const Mirror& mirror, bool moved) const {
  return {"app.guardian", wire::Dynamic(wire::Dynamic::Map{{"app", app.hex()},
                                                           {"agent", mirror.guardian.agent.hex()},
                                                           {"name", agent_name(mirror.guardian.agent.hex())},
                                                           {"socket", mirror.guardian_socket},
                                                           {"moved", moved}})};
}

void Daemon::Impl::on_journal(scheduler::out::Journal&& journal) {
  auto it = mirrors.find(journal.app);
  if (it == mirrors.end()) return;
  Mirror& mirror = it->second;
  mirror.bytes += size_of(journal.entry);
  mirror.entries.push_back(std::move(journal.entry));
  if (mirror.bytes > kMirrorBytesMax) {
    spdlog::warn("application {} has a journal of more than {} MiB: it will not outlive this agent",
                 journal.app.brief(), kMirrorBytesMax >> 20);
    end_mirror(journal.app);
    return;
  }
  pump_mirror(journal.app);
}

// Sends what the guardian does not have, one batch at a time, and shows what waits for nothing any more.
void Daemon::Impl::pump_mirror(AppId app) {
  auto it = mirrors.find(app);
  if (it == mirrors.end()) return;
  Mirror& mirror = it->second;
  if (mirror.open) release_output(app, mirror);
  if (!mirror.open || mirror.asking) return;
  if (mirror.safe == mirror.entries.size()) {
    if (mirror.ended && mirror.held.empty()) end_mirror(app);
    return;
  }
  JournalBatch batch;
  std::size_t bytes = 0;
  for (std::size_t i = mirror.safe; i < mirror.entries.size() && bytes < kBatchBytes; ++i) {
    bytes += size_of(mirror.entries[i]);
    batch.entries.push_back(mirror.entries[i]);
  }
  mirror.asking = true;
  const std::size_t safe = mirror.safe + batch.entries.size();
  ask_agent(
      mirror.guardian, "guard.append", {{"app", app.hex()}, {"first", mirror.safe}, {"entries", wire::encode(batch)}},
      kGuardAnswerTime,
      [this, app, turn = mirror.turn, safe](Answer answer) { on_mirror_answer(app, turn, safe, std::move(answer)); });
}

void Daemon::Impl::release_output(AppId app, Mirror& mirror) {
  while (!mirror.held.empty() && mirror.held.front().after <= mirror.safe) {
    const Mirror::Held part = std::move(mirror.held.front());
    mirror.held.pop_front();
    show_output(app, part.stream, part.text);
  }
}

// Bytes at the end of the driver's log that nobody is to see yet.
std::size_t Daemon::Impl::held_back(AppId app) const {
  std::size_t bytes = 0;
  if (auto it = mirrors.find(app); it != mirrors.end()) {
    for (const auto& part : it->second.held) bytes += part.text.size();
  }
  return bytes;
}

// Everything that waits is shown: there is no guardian to wait for.
void Daemon::Impl::end_mirror(AppId app) {
  auto ended = mirrors.extract(app);
  if (ended.empty()) return;
  Mirror& mirror = ended.mapped();
  for (const auto& part : mirror.held) show_output(app, part.stream, part.text);
  if (mirror.ended) show_exit(*mirror.ended);
  if (mirror.open)
    ask_agent(mirror.guardian, "guard.close", {{"app", app.hex()}}, kGuardAnswerTime, [](const Answer&) {});
}

// Another agent took this one for lost and runs the program itself: what is still here must not be seen.
void Daemon::Impl::give_up_app(AppId app, const std::string& why) {
  spdlog::warn("application {} is stopped here: {}", app.brief(), why);
  move_watchers(app);
  (void)apps->stop(app, Duration{});
}

// Whoever watches it here is sent to the guardian. Output that was held back is shown there.
void Daemon::Impl::move_watchers(AppId app) {
  auto mirror = mirrors.extract(app);
  auto watching = watchers.extract(app);
  if (mirror.empty() || watching.empty()) return;
  const client::Event event = guardian_event(app, mirror.mapped(), true);
  for (const auto& watcher : watching.mapped()) send_event(watcher.to, event);
}

void Daemon::Impl::on_mirror_timer() {
  std::vector<AppId> open;
  std::vector<AppId> shut;
  for (const auto& [app, mirror] : mirrors) {
    if (!mirror.asking) (mirror.open ? open : shut).push_back(app);
  }
  for (const AppId app : open) pump_mirror(app);
  for (const AppId app : shut) open_mirror(app, mirrors.at(app).guardian);
}

void Daemon::Impl::on_guardian_gone(AgentId agent) {
  std::vector<AppId> orphaned;
  for (const auto& [app, mirror] : mirrors) {
    if (mirror.guardian.agent == agent) orphaned.push_back(app);
  }
  for (const AppId app : orphaned) {
    if (auto guardian = choose_guardian(app, mirrors.at(app).spec)) {
      open_mirror(app, *guardian);
    } else {
      mirrors.at(app).open = false;
      end_mirror(app);
    }
  }
}

}  // namespace shoal::daemon
