#include "agent/daemon/checkpoint_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>

#include "agent/packing/directory_archive.h"
#include "protocol/identity/crypto.h"
#include "protocol/wire/codec.h"

namespace shoal::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kKind = "SHOALCKP";
constexpr std::string_view kUnfinished = "new.";
constexpr std::size_t kPieceBytes = 1U << 20;

bool is_digest(std::string_view text) {
  return text.size() == 2 * identity::kDigestBytes &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

// Reads a file to its end, piece by piece. Returns its size.
template <class Take>
Result<std::uint64_t> read_through(const std::string& path, Take take) {
  auto fd = storage::open_file(path, O_RDONLY);
  if (!fd) return tl::unexpected<Error>(fd.error());
  std::string piece(kPieceBytes, '\0');
  for (std::uint64_t offset = 0;;) {
    auto got = storage::read_at(fd->get(), piece.data(), piece.size(), offset, path);
    if (!got) return tl::unexpected<Error>(got.error());
    if (*got == 0) return offset;
    const std::string_view part(piece.data(), *got);
    if (Result<> taken = take(part, offset); !taken) return tl::unexpected<Error>(taken.error());
    offset += *got;
  }
}

bool is_possible(const CheckpointRecord& record) {
  return std::all_of(record.values.begin(), record.values.end(), [&](const SavedValue& value) {
    const bool plain = value.name.find('/') == std::string::npos && value.name != "." && value.name != "..";
    return value.output < record.entry.outputs.size() && record.entry.outputs[value.output].held && plain &&
           is_digest(value.digest) && value.form <= ValueTable::Form::kDirectory;
  });
}

}  // namespace

Result<CheckpointFolder::Opened> CheckpointFolder::open(const std::string& dir) {
  std::error_code error;
  fs::create_directories(dir + "/values", error);
  if (error)
    return fail(Code::kUnavailable, fmt::format("the checkpoint folder {} cannot be made: {}", dir, error.message()));
  auto journal = storage::RecordFile::open(dir + "/journal", kKind, kFormat);
  if (!journal) return tl::unexpected<Error>(journal.error());
  Opened opened{CheckpointFolder(dir, std::move(journal->file)), {}, journal->cut_bytes, 0};
  std::map<TaskId, CheckpointRecord> last;
  for (const auto& bytes : journal->records) {
    auto record = wire::decode<CheckpointRecord>(bytes);
    if (!record || !is_possible(*record))
      return fail(Code::kCorrupt,
                  fmt::format("{}/journal says what cannot be; remove the folder, or name another one", dir));
    last.insert_or_assign(record->entry.task, std::move(*record));
  }
  std::set<std::string> named;
  std::map<std::string, bool> whole;  // by digest: many tasks may leave the same
  for (auto& [task, record] : last) {
    const std::size_t before = record.values.size();
    std::erase_if(record.values, [&](const SavedValue& value) {
      auto known = whole.find(value.digest);
      if (known == whole.end()) known = whole.emplace(value.digest, opened.folder.is_whole(value)).first;
      return !known->second;
    });
    opened.lost_values += before - record.values.size();
    for (const auto& value : record.values) named.insert(value.digest);
    opened.records.push_back(std::move(record));
  }
  opened.folder.remove_all_but(named);
  return opened;
}

bool CheckpointFolder::is_whole(const SavedValue& value) const {
  identity::Sha256 hash;
  auto size = read_through(path_of(value), [&](std::string_view part, std::uint64_t) -> Result<> {
    hash.update(part);
    return {};
  });
  return size && *size == value.bytes && hex(hash.finish()) == value.digest;
}

// Only what has a name of ours: a person may have put something beside it.
void CheckpointFolder::remove_all_but(const std::set<std::string>& named) const {
  std::error_code error;
  for (fs::directory_iterator it(values_dir(), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if ((is_digest(name) && !named.contains(name)) || name.starts_with(kUnfinished)) fs::remove(it->path(), ignored);
  }
}

Result<SavedValue> CheckpointFolder::save(const std::string& path, ValueTable::Form form, const std::string& name) {
  const std::string fresh = values_dir() + "/" + std::string(kUnfinished) + "value";
  const std::string archive = values_dir() + "/" + std::string(kUnfinished) + "archive";
  ::unlink(fresh.c_str());
  if (form == ValueTable::Form::kDirectory) {
    ::unlink(archive.c_str());
    if (auto packed = packing::pack_directory(path, archive); !packed) return tl::unexpected<Error>(packed.error());
  }
  SavedValue value;
  value.form = form;
  value.name = name;
  auto out = storage::open_file(fresh, O_CREAT | O_EXCL | O_RDWR);
  if (!out) return tl::unexpected<Error>(out.error());
  identity::Sha256 hash;
  auto size = read_through(form == ValueTable::Form::kDirectory ? archive : path,
                           [&](std::string_view part, std::uint64_t offset) {
                             hash.update(part);
                             return storage::write_all(out->get(), part, offset, fresh);
                           });
  ::unlink(archive.c_str());
  if (!size) {
    ::unlink(fresh.c_str());
    return tl::unexpected<Error>(size.error());
  }
  value.bytes = *size;
  value.digest = hex(hash.finish());
  const std::string target = path_of(value);
  std::error_code error;
  if (fs::exists(target, error)) {  // found whole, or written by this run
    ::unlink(fresh.c_str());
    return value;
  }
  // Nobody writes to it any more: who opens it through a task's parameter must not, either.
  if (::fchmod(out->get(), 0400) != 0 || ::fdatasync(out->get()) != 0 ||
      std::rename(fresh.c_str(), target.c_str()) != 0) {
    const Error why = storage::system_error(errno, "cannot keep", target);
    ::unlink(fresh.c_str());
    return tl::unexpected<Error>(why);
  }
  fresh_values_ = true;
  return value;
}

Result<> CheckpointFolder::append(const std::vector<CheckpointRecord>& records) {
  if (fresh_values_) {
    if (auto synced = storage::sync_directory(values_dir()); !synced) return synced;
    fresh_values_ = false;
  }
  std::vector<Bytes> encoded;
  encoded.reserve(records.size());
  for (const auto& record : records) {
    Bytes bytes = wire::encode(record);
    if (bytes.size() <= storage::RecordFile::kRecordBytesMax) encoded.push_back(std::move(bytes));
  }
  return journal_.append(encoded);
}

}  // namespace shoal::daemon
