#include "storage/engine/engine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "storage/engine/completions.h"
#include "storage/engine/directory.h"
#include "storage/engine/journals.h"
#include "storage/engine/key_value.h"
#include "storage/engine/objects.h"

namespace shoal::storage {
namespace {

constexpr std::string_view kNodePrefix = "n/";

}  // namespace

struct Engine::Impl {
  EngineConfig config;
  Fd lock;
  Completions completions;
  std::unique_ptr<KeyValueStore> store;
  std::unique_ptr<Objects> objects;  // before `store` in destruction: it commits through it
  std::unique_ptr<Journals> journals;
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::open(EngineConfig config) {
  while (config.dir.size() > 1 && config.dir.back() == '/') config.dir.pop_back();
  auto impl = std::make_unique<Impl>();
  impl->config = std::move(config);
  const EngineConfig& settings = impl->config;
  auto lock = claim_directory(settings.dir);
  if (!lock) return tl::unexpected<Error>(lock.error());
  impl->lock = std::move(*lock);
  // The key-value lane may use half of what objects must leave free, so that an agent with a full disk can
  // still note down what it is told.
  auto store = KeyValueStore::open({settings.dir + "/kv", settings.sync, settings.reserve_bytes / 2});
  if (!store) return tl::unexpected<Error>(store.error());
  impl->store = std::move(*store);
  auto objects = Objects::open(settings, *impl->store, impl->completions);
  if (!objects) return tl::unexpected<Error>(objects.error());
  impl->objects = std::move(*objects);
  const std::string journals = settings.dir + "/journals";
  if (auto made = make_directory(journals); !made) return tl::unexpected<Error>(made.error());
  impl->journals = std::make_unique<Journals>(journals, settings.sync, settings.reserve_bytes / 2, impl->completions);
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

int Engine::event_fd() const {
  return impl_->completions.fd();
}
void Engine::poll_completions(std::vector<Completion>& out) {
  impl_->completions.poll(out);
}

// ---- key-value lane ----

void Engine::persist(std::vector<KeyValue> batch, std::uint64_t completion, Durability durability) {
  std::vector<Write> writes;
  writes.reserve(batch.size());
  for (KeyValue& one : batch) {
    Write write{std::string(kNodePrefix) + one.key, std::nullopt};
    if (!one.value.empty()) write.value = std::move(one.value);
    writes.push_back(std::move(write));
  }
  impl_->store->commit(std::move(writes), durability, [impl = impl_.get(), completion](const Result<>& result) {
    impl->completions.push(completion, result);
  });
}

Result<std::map<std::string, Bytes>> Engine::load(std::string_view prefix) const {
  std::map<std::string, Bytes> out;
  auto scanned = impl_->store->scan(std::string(kNodePrefix) + std::string(prefix),
                                    [&](std::string_view key, std::string_view value) {
                                      out.emplace(key.substr(kNodePrefix.size()), Bytes(value));
                                      return true;
                                    });
  if (!scanned) return tl::unexpected<Error>(scanned.error());
  return out;
}

// ---- objects ----

void Engine::put_async(Manifest manifest, Payload content, std::uint64_t completion, Verify verify) {
  impl_->objects->enqueue(Objects::Put{std::move(manifest), std::move(content), verify}, completion);
}
void Engine::put_manifest(Manifest manifest, std::uint64_t completion) {
  impl_->objects->enqueue(Objects::PutManifest{std::move(manifest)}, completion);
}
void Engine::erase(ObjectId object, std::uint64_t completion) {
  impl_->objects->enqueue(Objects::Erase{object}, completion);
}
void Engine::compact(std::uint64_t completion) {
  impl_->objects->enqueue(Objects::Compact{}, completion);
}

Result<Bytes> Engine::get(ObjectId object) const {
  return impl_->objects->read(object, 0, UINT64_MAX);
}
Result<Bytes> Engine::get_range(ObjectId object, std::uint64_t offset, std::uint64_t length) const {
  return impl_->objects->read(object, offset, length);
}
bool Engine::contains(ObjectId object) const {
  return impl_->objects->find(object).has_value();
}
Result<Manifest> Engine::manifest(ObjectId object) const {
  return impl_->objects->manifest(object);
}
std::vector<Manifest> Engine::manifests() const {
  return impl_->objects->manifests();
}

Usage Engine::usage() const {
  Usage usage;
  impl_->objects->totals(usage);
  usage.disk_free_bytes = free_bytes(impl_->config.dir);
  return usage;
}

Result<Mapping> Engine::map(ObjectId object) const {
  auto entry = impl_->objects->find(object);
  if (!entry) return tl::unexpected<Error>(entry.error());
  Mapping mapping;
  mapping.length_ = entry->length;
  if (!entry->in_segment) {
    auto bytes = impl_->objects->read(object, 0, UINT64_MAX);
    if (!bytes) return tl::unexpected<Error>(bytes.error());
    mapping.inline_ = std::move(*bytes);
    return mapping;
  }
  auto segment = impl_->objects->checked_segment(entry->extent);
  if (!segment && segment.error().code == Code::kNotFound) {  // compacted away meanwhile: it is elsewhere now
    entry = impl_->objects->find(object);
    if (!entry) return tl::unexpected<Error>(entry.error());
    segment = impl_->objects->checked_segment(entry->extent);
  }
  if (!segment && segment.error().code == Code::kNotFound) {
    return fail(Code::kCorrupt, "the file that holds object " + object.hex() + " is gone; use another copy");
  }
  if (!segment) return tl::unexpected<Error>(segment.error());
  mapping.fd_ = ::fcntl((*segment)->get(), F_DUPFD_CLOEXEC, 0);
  if (mapping.fd_ < 0) return tl::unexpected<Error>(system_error(errno, "cannot map object", object.hex()));
  mapping.offset_ = entry->extent.offset;
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t from = mapping.offset_ / page * page;
  mapping.mapped_bytes_ = static_cast<std::size_t>(mapping.offset_ - from + mapping.length_);
  void* base = ::mmap(nullptr, mapping.mapped_bytes_, PROT_READ, MAP_SHARED, mapping.fd_, static_cast<off_t>(from));
  if (base == MAP_FAILED) return tl::unexpected<Error>(system_error(errno, "cannot map object", object.hex()));
  mapping.base_ = base;
  return mapping;
}

// ---- journals ----

void Engine::append(const std::string& journal, const Bytes& record, std::uint64_t completion) {
  impl_->journals->append(journal, record, completion);
}
Result<std::vector<Bytes>> Engine::read_journal(const std::string& journal) const {
  return impl_->journals->read(journal);
}
void Engine::remove_journal(const std::string& journal) {
  impl_->journals->remove(journal);
}

// ---- mapping ----

Mapping::Mapping(Mapping&& other) noexcept {
  *this = std::move(other);
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(offset_, other.offset_);
  std::swap(length_, other.length_);
  std::swap(base_, other.base_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
  inline_.swap(other.inline_);
  return *this;
}

Mapping::~Mapping() {
  if (base_ != nullptr) ::munmap(base_, mapped_bytes_);
  if (fd_ >= 0) ::close(fd_);
}

std::string_view Mapping::content() const {
  if (base_ == nullptr) return inline_;
  return {static_cast<const char*>(base_) + (mapped_bytes_ - length_), static_cast<std::size_t>(length_)};
}

}  // namespace shoal::storage
