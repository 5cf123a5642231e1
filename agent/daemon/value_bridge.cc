// Values of applications and objects of the store, on their way between disk, arena and other agents.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "agent/daemon/impl.h"
#include "agent/packing/directory_archive.h"

namespace shoal::daemon {
namespace {

constexpr std::string_view kObjectPrefix = "object/";
constexpr Duration kSpareFor = seconds(10);  // after the last one was added
constexpr std::string_view kEnvironmentPrefix = "environment/";

std::optional<ObjectId> object_of(std::string_view key) {
  if (!key.starts_with(kObjectPrefix)) return std::nullopt;
  key.remove_prefix(kObjectPrefix.size());
  return ObjectId::from_hex_text(key.substr(0, key.find('#')));
}

Result<Transfer::Part> read_file_part(const std::string& path, std::uint64_t offset, std::uint32_t length) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(Code::kNotFound, fmt::format("{} cannot be read: {}", path, std::strerror(errno)));
  Transfer::Part part;
  const off_t end = ::lseek(fd, 0, SEEK_END);
  part.total = end < 0 ? 0 : static_cast<std::uint64_t>(end);
  if (offset < part.total) {
    part.bytes.resize(std::min<std::uint64_t>(length, part.total - offset));
    const ssize_t got = ::pread(fd, part.bytes.data(), part.bytes.size(), static_cast<off_t>(offset));
    if (got < 0) {
      ::close(fd);
      return fail(Code::kUnavailable, fmt::format("{} cannot be read: {}", path, std::strerror(errno)));
    }
    part.bytes.resize(static_cast<std::size_t>(got));
  }
  ::close(fd);
  return part;
}

}  // namespace

Result<Transfer::Part> Daemon::Impl::read_part(const std::string& key, std::uint64_t offset, std::uint32_t length) {
  if (auto object = object_of(key)) {
    auto manifest = engine->manifest(*object);
    if (!manifest) return tl::unexpected<Error>(manifest.error());
    auto bytes = engine->get_range(*object, offset, length);
    if (!bytes) {
      if (bytes.error().code == Code::kCorrupt) inputs.emplace_back(node::in::Storage(storage::in::Corrupt{*object}));
      return tl::unexpected<Error>(bytes.error());
    }
    return Transfer::Part{manifest->bytes, ValueTable::Form::kMemory, {}, std::move(*bytes), false};
  }
  if (key.starts_with(kEnvironmentPrefix)) {
    const auto id = EnvironmentId::from_hex_text(std::string_view(key).substr(kEnvironmentPrefix.size()));
    if (!id) return fail(Code::kInvalid, "no environment has such a name");
    auto part = read_file_part(environments->bundle_path(*id), offset, length);
    if (part) part->form = ValueTable::Form::kFile;
    return part;
  }
  const client::Value* value = values->find(key);
  if (value == nullptr) return fail(Code::kNotFound, "it is not here any more");
  auto path = values->path_of(*value);
  if (!path) return fail(Code::kNotFound, "it is not a stored value");
  if (!std::holds_alternative<client::FilePath>(*value)) return read_file_part(*path, offset, length);
  std::error_code ignored;
  const bool directory = std::filesystem::is_directory(*path, ignored);
  auto part = directory ? read_directory_part(key, *path, offset, length) : read_file_part(*path, offset, length);
  if (part) {
    part->form = directory ? ValueTable::Form::kDirectory : ValueTable::Form::kFile;
    part->name = std::filesystem::path(*path).filename().string();
  }
  return part;
}

// The archive is made at the first question and kept as long as the value.
Result<Transfer::Part> Daemon::Impl::read_directory_part(const std::string& key, const std::string& path,
                                                         std::uint64_t offset, std::uint32_t length) {
  auto known = archives.find(key);
  if (known == archives.end()) {
    const std::string archive = fmt::format("{}/{}.tar", values->files_dir(), ++last_archive);
    archives[key] = {archive, false, std::nullopt};
    auto packed = std::make_shared<Result<>>();
    worker->run([packed, path, archive] { *packed = packing::pack_directory(path, archive); },
                [this, packed, key, archive] { on_packed(key, archive, *packed); });
  } else if (known->second.ready) {
    return read_file_part(known->second.path, offset, length);
  } else if (known->second.error) {
    const Error error = *known->second.error;
    archives.erase(known);  // the next who asks has it tried again
    return tl::unexpected<Error>(error);
  }
  Transfer::Part part;
  part.pending = true;
  return part;
}

void Daemon::Impl::on_packed(const std::string& key, const std::string& archive, const Result<>& packed) {
  auto known = archives.find(key);
  if (known == archives.end() || known->second.path != archive) {
    ::unlink(archive.c_str());  // the value was dropped meanwhile
  } else if (packed) {
    known->second.ready = true;
  } else {
    spdlog::warn("a directory cannot be sent to another agent: {}", packed.error().message);
    known->second.error = packed.error();
  }
}

void Daemon::Impl::drop_value(const std::string& key) {
  if (values->drop(key)) reactor->set_timer(spare_timer, agent::Reactor::now() + kSpareFor);
  auto known = archives.find(key);
  if (known == archives.end()) return;
  if (known->second.ready) ::unlink(known->second.path.c_str());
  archives.erase(known);
}

void Daemon::Impl::unpack_value(const std::string& archive, const std::string& directory,
                                std::function<void(Instant, Result<>)> done) {
  auto unpacked = std::make_shared<Result<>>();
  worker->run(
      [unpacked, archive, directory] {
        *unpacked = packing::unpack_directory(archive, directory);
        ::unlink(archive.c_str());
      },
      [unpacked, done = std::move(done)] { done(agent::Reactor::now(), *unpacked); });
}

void Daemon::Impl::fetch_value(const scheduler::out::Fetch& fetch) {
  if (auto object = object_of(fetch.key)) {
    fetch_object(fetch.key, *object);
    return;
  }
  if (const client::Value* here = values->find(fetch.key)) {
    inputs.emplace_back(node::in::Scheduler(scheduler::in::Fetched{fetch.key, true, {}, *here}));
    return;
  }
  transfer->fetch(
      agent::Reactor::now(), fetch.key, fetch.holders, [this, key = fetch.key](Result<client::Value> value) {
        scheduler::in::Fetched fetched{key, value.has_value(), value ? std::string() : value.error().message, {}};
        if (value) {
          values->keep(key, *value);
          fetched.value = *value;
        }
        inputs.emplace_back(node::in::Scheduler(std::move(fetched)));
      });
}

// A persistent object as a task's parameter: found through the directory, put into the arena.
void Daemon::Impl::fetch_object(const std::string& key, ObjectId object) {
  const auto finish = [this, key](Result<client::Value> value) {
    scheduler::in::Fetched fetched{key, value.has_value(), value ? std::string() : value.error().message, {}};
    if (value) {
      values->keep(key, *value);
      fetched.value = *value;
    }
    feed(node::in::Scheduler(std::move(fetched)));
  };
  storage::in::Locate locate;
  locate.object = object;
  call_store<storage::in::Locate, storage::out::Located>(locate, [this, key, object,
                                                                  finish](storage::out::Located& located) {
    if (!located.manifest) {
      finish(tl::unexpected<Error>(located.manifest.error()));
      return;
    }
    if (auto bytes = engine->get(object)) {
      auto incoming = values->create(key, bytes->size());
      if (!incoming) {
        finish(tl::unexpected<Error>(incoming.error()));
        return;
      }
      const bool whole = ::pwrite(incoming->fd, bytes->data(), bytes->size(), 0) == static_cast<ssize_t>(bytes->size());
      ::close(incoming->fd);
      finish(whole ? Result<client::Value>(incoming->value)
                   : fail(Code::kExhausted, "no room for the object in shared memory"));
      return;
    }
    auto holders = located.manifest->holders;
    std::erase_if(holders, [this](const wire::Address& holder) { return holder.agent == identity.id(); });
    transfer->fetch(agent::Reactor::now(), fmt::format("{}#{}", key, ++last_call), std::move(holders), finish);
  });
}

void Daemon::Impl::pull_object(const storage::out::Pull& pull) {
  const ObjectId object = pull.manifest.object;
  const auto finish = [this, object](Result<> result) {
    feed(node::in::Storage(storage::in::Pulled{object, std::move(result)}));
  };
  if (engine->contains(object)) {
    finish({});
    return;
  }
  auto holders = pull.manifest.holders;
  std::erase_if(holders, [this](const wire::Address& holder) { return holder.agent == identity.id(); });
  transfer->fetch(agent::Reactor::now(), fmt::format("{}{}#{}", kObjectPrefix, object.hex(), ++last_call),
                  std::move(holders), [this, manifest = pull.manifest, finish](Result<client::Value> value) {
                    if (!value) {
                      finish(tl::unexpected<Error>(value.error()));
                      return;
                    }
                    const std::uint64_t completion = ++last_completion;
                    engine_calls[completion] = [this, value = *value, finish](Result<> stored) {
                      values->discard(value);
                      finish(std::move(stored));
                    };
                    engine->put_async(manifest, storage::FileSource{*values->path_of(*value)}, completion,
                                      storage::Verify::kYes);
                  });
}

// Hashes, stores durably, and leaves the manifest's id and size filled in. `done` runs on the loop.
void Daemon::Impl::put_object(storage::Manifest manifest, storage::Payload payload,
                              std::function<void(Result<>)> done) {
  const std::uint64_t completion = ++last_completion;
  engine_calls[completion] = std::move(done);
  engine->put_async(std::move(manifest), std::move(payload), completion);
}

}  // namespace shoal::daemon
