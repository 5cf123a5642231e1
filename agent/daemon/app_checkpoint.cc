// Checkpoints of the applications of this agent's drivers: app_checkpoint.h.
#include "agent/daemon/app_checkpoint.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "agent/daemon/impl.h"
#include "agent/packing/directory_archive.h"

namespace shoal::daemon {
namespace {

namespace fs = std::filesystem;
using scheduler::JournalEntry;

// Of values that wait for the disk, and stay in memory until they are there.
constexpr std::uint64_t kUnsavedBytesMax = 2ULL << 30;

}  // namespace

// A value on its way into the folder.
struct Daemon::Impl::Source {
  std::uint32_t output = 0;
  std::string path;
  bool is_held = false;  // a name of our own, to be removed
  ValueTable::Form form = ValueTable::Form::kMemory;
  std::string name;
  std::uint64_t bytes = 0;
  std::optional<Result<SavedValue>> saved;
};

void Daemon::Impl::notify_driver(ClientId client, const std::string& message) {
  spdlog::info("to a driver: {}", message);
  clients->send(client, client::Event{"app.notice", wire::Dynamic(wire::Dynamic::Map{{"message", message}})});
}

// ---- opening ----

void Daemon::Impl::open_app(ClientId client, AppId app, const client::Hello& hello, std::vector<JournalEntry> replay) {
  auto first_once = std::stable_partition(replay.begin(), replay.end(), [](const auto& e) { return !is_once(e); });
  if (first_once != replay.end()) {
    once_values[app].assign(std::make_move_iterator(first_once), std::make_move_iterator(replay.end()));
    replay.erase(first_once, replay.end());
    for (const auto& entry : once_values[app]) on_journal({app, entry});  // the next guardian is to have them as well
  }
  auto checkpoint = checkpoints.find(app);
  const bool save = checkpoint != checkpoints.end();
  if (save) checkpoint->second.is_open = true;
  std::map<EnvironmentId, std::vector<scheduler::Requirement>> asked;  // on_hello saw that they are here
  for (const EnvironmentId id : hello.environments) {
    const environment::Manifest* manifest = id.is_zero() ? nullptr : environments->manifest(id);
    if (manifest != nullptr) asked[id] = environment::requirements_of(*manifest);
  }
  inputs.emplace_back(node::in::Scheduler(
      scheduler::in::OpenApp{client, app, hello, mirrors.contains(app), std::move(replay), save, std::move(asked)}));
}

void Daemon::Impl::open_checkpoint(ClientId client, AppId app, const client::Hello& hello) {
  auto policy = scheduler::CheckpointPolicy::parse(hello.checkpoint_policy, hello.checkpoint_avoid);
  if (!policy) {
    clients->reject(client, policy.error());
    return;
  }
  // On the host of a guardian the folder may be another one, or none: the run goes on without it.
  std::error_code error;
  if (auto taken = replays.find(app); taken != replays.end() && !fs::exists(hello.checkpoint + "/journal", error)) {
    notify_driver(client,
                  fmt::format("the checkpoint folder {} is not on this host: from here on nothing is written to it",
                              hello.checkpoint));
    auto replay = replays.extract(taken);
    return open_app(client, app, hello, std::move(replay.mapped()));
  }
  Checkpoint& checkpoint = checkpoints[app];
  checkpoint.client = client;
  checkpoint.hello = hello;
  checkpoint.main_module = fs::path(hello.name).stem().string();
  checkpoint.policy = std::move(*policy);
  auto opened = std::make_shared<std::optional<Result<CheckpointFolder::Opened>>>();
  checkpoint_worker->run([opened, dir = hello.checkpoint] { *opened = CheckpointFolder::open(dir); },
                         [this, app, opened] {
                           on_checkpoint_open(app, **opened);
                           drain();
                         });
}

// What is taken from a folder, on its way to the scheduler.
struct Daemon::Impl::Restored {
  struct Directory {
    std::string archive;
    std::string path;
    std::size_t entry = 0;
    std::uint32_t output = 0;
    Result<> unpacked;
  };
  std::vector<JournalEntry> entries;
  std::vector<Directory> directories;
};

void Daemon::Impl::on_checkpoint_open(AppId app, Result<CheckpointFolder::Opened>& opened) {
  auto it = checkpoints.find(app);
  if (it == checkpoints.end()) return;
  Checkpoint& checkpoint = it->second;
  const ClientId client = checkpoint.client;
  if (checkpoint.ended) return finish_checkpoint(app);
  auto restored = std::make_shared<Restored>();
  if (!opened && !replays.contains(app)) {
    checkpoints.erase(it);
    clients->reject(client, opened.error());
    return;
  }
  if (!opened) {
    notify_driver(client, fmt::format("the program goes on without its checkpoint: {}", opened.error().message));
    return begin_restored(app, *restored);
  }
  if (opened->cut_bytes != 0 || opened->lost_values != 0) {
    notify_driver(client,
                  fmt::format("the checkpoint in {} was damaged: {} bytes at its end and {} values are lost, and "
                              "what they stood for runs again",
                              opened->folder.dir(), opened->cut_bytes, opened->lost_values));
  }
  if (!opened->records.empty() && !replays.contains(app)) {
    notify_driver(client, fmt::format("{} results are taken from the checkpoint in {}", opened->records.size(),
                                      opened->folder.dir()));
  }
  checkpoint.folder = std::make_shared<CheckpointFolder>(std::move(opened->folder));
  restore_values(checkpoint, opened->records, *restored);
  if (restored->directories.empty()) return begin_restored(app, *restored);
  checkpoint_worker->run(
      [restored] {
        for (auto& directory : restored->directories)
          directory.unpacked = packing::unpack_directory(directory.archive, directory.path);
      },
      [this, app, restored] {
        begin_restored(app, *restored);
        drain();
      });
}

// The saved values as values of this host: links into the folder, so that nothing is copied before it is used.
// Directories are unpacked: tasks look into them.
void Daemon::Impl::restore_values(Checkpoint& checkpoint, std::vector<CheckpointRecord>& records, Restored& restored) {
  for (auto& record : records) {
    for (const auto& value : record.values) {
      const std::string source = checkpoint.folder->path_of(value);
      auto adopted = values->adopt(fmt::format("saved.{}", value.output), source, value.bytes, value.form, value.name);
      if (!adopted) {  // it is made again if somebody needs it
        spdlog::warn("a value of the checkpoint in {} cannot be used: {}", checkpoint.folder->dir(),
                     adopted.error().message);
        continue;
      }
      if (value.form == ValueTable::Form::kDirectory) {
        const std::string path = *values->path_of(*adopted);
        ::unlink(path.c_str());
        restored.directories.push_back({source, path, restored.entries.size(), value.output, {}});
      }
      checkpoint.restored.push_back(*adopted);
      record.entry.outputs[value.output].value = std::move(*adopted);
    }
    restored.entries.push_back(std::move(record.entry));
  }
}

// Everything is where it belongs: the scheduler may have it, and what the driver said meanwhile.
void Daemon::Impl::begin_restored(AppId app, Restored& restored) {
  auto it = checkpoints.find(app);
  if (it == checkpoints.end()) return;
  Checkpoint& checkpoint = it->second;
  if (checkpoint.ended) return finish_checkpoint(app);
  for (const auto& directory : restored.directories) {
    if (directory.unpacked) continue;
    spdlog::warn("a directory of the checkpoint in {} cannot be used: {}", checkpoint.folder->dir(),
                 directory.unpacked.error().message);
    restored.entries[directory.entry].outputs[directory.output].value = client::Nothing{};
  }
  // A guardian has what its master told it, without large values; the folder has those, but not what the master had yet
  // to write there.
  if (auto told = replays.extract(app); !told.empty()) {
    std::set<TaskId> known;
    for (const auto& entry : restored.entries) known.insert(entry.task);
    for (auto& entry : told.mapped()) {
      if (known.contains(entry.task)) continue;
      restored.entries.push_back(entry);
      save_entry(app, std::move(entry));
    }
  }
  if (checkpoint.folder && checkpoint.policy.period() != Duration{}) {
    checkpoint.next_period = agent::Reactor::now() + checkpoint.policy.period();
    reactor->set_timer(checkpoint_timer, agent::Reactor::now());
  }
  const ClientId client = checkpoint.client;
  open_app(client, app, checkpoint.hello, std::move(restored.entries));
  for (auto& message : std::exchange(checkpoint.early, {})) on_client_message(client, message);
}

// ---- saving ----

void Daemon::Impl::on_save(scheduler::out::Save&& save) {
  save_entry(save.app, std::move(save.entry));
}

void Daemon::Impl::save_entry(AppId app, JournalEntry&& entry) {
  auto it = checkpoints.find(app);
  if (it == checkpoints.end() || !it->second.folder) return;
  Checkpoint& checkpoint = it->second;
  const TaskId task = entry.task;
  if (checkpoint.policy.avoids(entry.function, checkpoint.main_module)) return;
  std::vector<Source> sources = hold_values(app, checkpoint, entry);
  Checkpoint::Entry waiting;
  waiting.number = ++checkpoint.last_number;
  waiting.saved = sources.empty();
  waiting.due = is_once(entry) || checkpoint.ended;
  waiting.record.entry = std::move(entry);
  for (auto& output : waiting.record.entry.outputs) {
    if (output.held) output.value = client::Nothing{};
  }
  checkpoint.open.insert(waiting.number);
  const bool once = waiting.due;
  if (waiting.due && waiting.saved) {
    checkpoint.ready.push_back(std::move(waiting));
  } else {
    checkpoint.waiting.insert_or_assign(task, std::move(waiting));
  }
  if (!sources.empty()) save_values(app, task, std::move(sources));
  if (!once) {
    if (auto up_to = checkpoint.policy.finished(task)) make_due(checkpoint, *up_to);
  }
  pump_checkpoint(app);
}

// Files of values get a second name at once: the value itself may be dropped by the next effect.
std::vector<Daemon::Impl::Source> Daemon::Impl::hold_values(AppId app, Checkpoint& checkpoint,
                                                            const JournalEntry& entry) {
  std::vector<Source> sources;
  for (std::size_t i = 0; i < entry.outputs.size(); ++i) {
    const auto& output = entry.outputs[i];
    const auto path = output.held ? values->path_of(output.value) : std::nullopt;
    if (!path) continue;
    Source source;
    source.output = static_cast<std::uint32_t>(i);
    std::error_code error;
    const bool file = std::holds_alternative<client::FilePath>(output.value);
    const bool directory = file && fs::is_directory(*path, error);
    if (file) source.form = directory ? ValueTable::Form::kDirectory : ValueTable::Form::kFile;
    if (file) source.name = fs::path(*path).filename().string();
    if (!directory) source.bytes = fs::file_size(*path, error);
    if (error) continue;
    if (checkpoint.unsaved_bytes + source.bytes > kUnsavedBytesMax) {
      if (!std::exchange(checkpoint.told_lost, true)) {
        notify_driver(
            checkpoint.client,
            fmt::format("the disk of the checkpoint in {} is slower than the program: some large results are not "
                        "written, and would be computed again",
                        checkpoint.folder->dir()));
      }
      spdlog::debug("application {}: a result of task {} is not saved", app.brief(), entry.task.value());
      continue;
    }
    auto second_name = directory ? Result<std::string>(fail(Code::kUnsupported, "")) : values->hold(output.value);
    source.is_held = second_name.has_value();
    source.path = second_name ? *second_name : *path;
    checkpoint.unsaved_bytes += source.bytes;
    sources.push_back(std::move(source));
  }
  return sources;
}

void Daemon::Impl::save_values(AppId app, TaskId task, std::vector<Source> list) {
  auto sources = std::make_shared<std::vector<Source>>(std::move(list));
  checkpoint_worker->run(
      [sources, folder = checkpoints.at(app).folder] {
        for (auto& source : *sources) {
          source.saved = folder->save(source.path, source.form, source.name);
          if (source.is_held) ::unlink(source.path.c_str());
        }
      },
      [this, app, task, sources] {
        on_values_saved(app, task, *sources);
        drain();
      });
}

void Daemon::Impl::on_values_saved(AppId app, TaskId task, const std::vector<Source>& sources) {
  auto it = checkpoints.find(app);
  if (it == checkpoints.end()) return;
  Checkpoint& checkpoint = it->second;
  auto waiting = checkpoint.waiting.find(task);
  for (const auto& source : sources) {
    checkpoint.unsaved_bytes -= source.bytes;
    if (waiting == checkpoint.waiting.end()) continue;
    if (*source.saved) {
      SavedValue value = **source.saved;
      value.output = source.output;
      waiting->second.record.values.push_back(std::move(value));
    } else if (!std::exchange(checkpoint.told_lost, true)) {
      notify_driver(checkpoint.client,
                    fmt::format("a result cannot be written to the checkpoint, and would be computed "
                                "again (this is said once): {}",
                                source.saved->error().message));
    }
  }
  if (waiting == checkpoint.waiting.end()) return;
  waiting->second.saved = true;
  if (!waiting->second.due) return;
  checkpoint.ready.push_back(std::move(waiting->second));
  checkpoint.waiting.erase(waiting);
  pump_checkpoint(app);
}

void Daemon::Impl::make_due(Checkpoint& checkpoint, std::uint64_t up_to) {
  for (auto it = checkpoint.waiting.begin(); it != checkpoint.waiting.end() && it->first.value() <= up_to;) {
    it->second.due = true;
    if (!it->second.saved) {
      ++it;
      continue;
    }
    checkpoint.ready.push_back(std::move(it->second));
    it = checkpoint.waiting.erase(it);
  }
}

// One batch is written at a time; what becomes ready meanwhile makes the next one.
void Daemon::Impl::pump_checkpoint(AppId app) {
  auto it = checkpoints.find(app);
  if (it == checkpoints.end()) return;
  Checkpoint& checkpoint = it->second;
  while (!checkpoint.snapshots.empty() &&
         (checkpoint.open.empty() || *checkpoint.open.begin() > checkpoint.snapshots.begin()->first)) {
    reply(checkpoint.snapshots.begin()->second,
          wire::Dynamic(wire::Dynamic::Map{{"saved", checkpoint.folder != nullptr}}));
    checkpoint.snapshots.erase(checkpoint.snapshots.begin());
  }
  if (checkpoint.writing) return;
  if (checkpoint.ready.empty()) {
    if (checkpoint.ended && checkpoint.open.empty()) finish_checkpoint(app);
    return;
  }
  checkpoint.writing = true;
  auto records = std::make_shared<std::vector<CheckpointRecord>>();
  std::vector<std::uint64_t> numbers;
  for (auto& entry : std::exchange(checkpoint.ready, {})) {
    numbers.push_back(entry.number);
    records->push_back(std::move(entry.record));
  }
  auto written = std::make_shared<Result<>>();
  checkpoint_worker->run([written, records, folder = checkpoint.folder] { *written = folder->append(*records); },
                         [this, app, written, numbers = std::move(numbers)] {
                           on_checkpoint_written(app, numbers, *written);
                           drain();
                         });
}

void Daemon::Impl::on_checkpoint_written(AppId app, const std::vector<std::uint64_t>& numbers,
                                         const Result<>& written) {
  auto it = checkpoints.find(app);
  if (it == checkpoints.end()) return;
  Checkpoint& checkpoint = it->second;
  checkpoint.writing = false;
  for (const std::uint64_t number : numbers) checkpoint.open.erase(number);
  if (!written) {
    // What is there stays good; a disk that refuses once is not trusted with the rest of this run.
    notify_driver(checkpoint.client,
                  fmt::format("the program goes on without its checkpoint, which cannot be written: {}",
                              written.error().message));
    checkpoint.folder.reset();
    checkpoint.waiting.clear();
    checkpoint.ready.clear();
    checkpoint.open.clear();
  }
  pump_checkpoint(app);
}

void Daemon::Impl::on_checkpoint_timer() {
  const Instant now = agent::Reactor::now();
  Instant next = Instant::never();
  std::vector<AppId> due;
  for (auto& [app, checkpoint] : checkpoints) {
    if (checkpoint.next_period <= now) {
      make_due(checkpoint, scheduler::CheckpointPolicy::kAll);
      checkpoint.next_period = now + checkpoint.policy.period();
      due.push_back(app);
    }
    next = std::min(next, checkpoint.next_period);
  }
  reactor->set_timer(checkpoint_timer, next);
  for (const AppId app : due) pump_checkpoint(app);
}

// ---- the end ----

// The program has ended, in whatever way: all that it finished is written.
void Daemon::Impl::end_checkpoint(AppId app) {
  auto it = checkpoints.find(app);
  if (it == checkpoints.end() || it->second.ended) return;
  it->second.ended = true;
  it->second.next_period = Instant::never();
  if (!it->second.is_open) {
    it->second.early.clear();
    return;  // whoever opens it for the program finishes it
  }
  make_due(it->second, scheduler::CheckpointPolicy::kAll);
  pump_checkpoint(app);
}

void Daemon::Impl::finish_checkpoint(AppId app) {
  auto ended = checkpoints.extract(app);
  if (ended.empty()) return;
  for (const auto& value : ended.mapped().restored) values->discard(value);  // unless they were dropped already
  if (ended.mapped().exit) show_exit(*ended.mapped().exit);
}

}  // namespace shoal::daemon
