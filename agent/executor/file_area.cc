#include "agent/executor/file_area.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "protocol/wire/blob.h"
#include "protocol/wire/dynamic.h"

namespace shoal::executor {

namespace {

namespace fs = std::filesystem;

Result<> place_value(client::Value& value, const std::string& files_dir) {
  auto* file = std::get_if<client::FilePath>(&value);
  if (file == nullptr || file->path.empty() || file->path.front() == '/') return {};
  const fs::path name(file->path);
  for (const fs::path& part : name) {
    if (part == "..")
      return fail(Code::kInvalid, fmt::format("the file name '{}' leads out of the agent's file area", file->path));
  }
  const fs::path place = fs::path(files_dir) / name;
  std::error_code error;
  fs::create_directories(place.parent_path(), error);
  if (error) {
    return fail(Code::kUnavailable,
                fmt::format("cannot create the directory '{}': {}", place.parent_path().string(), error.message()));
  }
  file->path = place.string();
  return {};
}

Result<> place_arguments(std::vector<client::Argument>& arguments, const std::string& files_dir) {
  for (client::Argument& argument : arguments) {
    if (auto placed = place_value(argument.value, files_dir); !placed) return placed;
    if (auto placed = place_arguments(argument.items, files_dir); !placed) return placed;
  }
  return {};
}

bool is_file(client::AccessKind kind) {
  switch (kind) {
    case client::AccessKind::kFile:
    case client::AccessKind::kDirectory:
    case client::AccessKind::kStdout:
    case client::AccessKind::kStderr:
    case client::AccessKind::kStdin:
      return true;
    default:
      return false;
  }
}

Result<> copy_arguments(const std::vector<client::Argument>& arguments) {
  for (const client::Argument& argument : arguments) {
    if (!is_file(argument.kind)) {
      if (auto copied = copy_arguments(argument.items); !copied) return copied;
      continue;
    }
    const auto* source = std::get_if<client::FilePath>(&argument.value);
    if (source == nullptr || argument.items.empty()) continue;
    std::error_code error;
    fs::remove_all(path_for(argument), error);
    fs::copy(source->path, path_for(argument), fs::copy_options::recursive, error);
    if (error) {
      return fail(Code::kUnavailable,
                  fmt::format("cannot copy '{}' to '{}': {}", source->path, path_for(argument), error.message()));
    }
  }
  return {};
}

const client::Argument* find_argument(const std::vector<client::Argument>& arguments, std::string_view name) {
  for (const client::Argument& argument : arguments) {
    if (argument.name == name) return &argument;
  }
  return nullptr;
}

std::optional<std::string> scalar_text(const client::Value& value) {
  const auto* bytes = std::get_if<client::Inline>(&value);
  if (bytes == nullptr) return std::nullopt;
  auto blob = wire::read_blob(bytes->bytes);
  if (!blob || blob->codec == wire::BlobCodec::kPickle) return std::nullopt;
  if (blob->codec == wire::BlobCodec::kRaw) return std::string(blob->body);
  auto scalar = wire::decode<wire::Dynamic>(blob->body);
  if (!scalar) return std::nullopt;
  if (const auto* text = scalar->as_text()) return *text;
  if (const auto* whole = scalar->as_int()) return std::to_string(*whole);
  if (const auto* real = scalar->as_real()) return fmt::format("{}", *real);
  if (const auto* truth = scalar->as_bool()) return *truth ? "True" : "False";  // as Python writes them
  return std::nullopt;
}

Result<std::string> text_of(const client::Attempt& attempt, std::string_view name) {
  const client::Argument* argument = find_argument(attempt.arguments, name);
  if (argument == nullptr) {
    return fail(Code::kInvalid,
                fmt::format("the command names '{{{{{}}}}}', and the task has no such parameter", name));
  }
  if (const std::string& path = path_for(*argument); !path.empty()) return path;
  if (auto text = scalar_text(argument->value)) return *text;
  return fail(Code::kInvalid,
              fmt::format("parameter '{}' cannot be put into a command: only files, numbers and texts can", name));
}

Result<std::string> fill_word(const client::Attempt& attempt, std::string_view word) {
  std::string out;
  for (;;) {
    const auto open = word.find("{{");
    const auto close = open == std::string_view::npos ? open : word.find("}}", open);
    if (close == std::string_view::npos) return out.append(word);
    auto text = text_of(attempt, word.substr(open + 2, close - open - 2));
    if (!text) return text;
    out.append(word.substr(0, open)).append(*text);
    word.remove_prefix(close + 2);
  }
}

}  // namespace

bool writes(client::Direction direction) {
  return direction != client::Direction::kIn && direction != client::Direction::kInDelete;
}

Result<> place_files(client::Attempt& attempt, const std::string& files_dir) {
  return place_arguments(attempt.arguments, files_dir);
}

const std::string& path_for(const client::Argument& argument) {
  static const std::string kNone;
  const client::Value& value =
      is_file(argument.kind) && !argument.items.empty() ? argument.items.front().value : argument.value;
  const auto* file = std::get_if<client::FilePath>(&value);
  return file == nullptr ? kNone : file->path;
}

Result<> copy_updated_files(const client::Attempt& attempt) {
  return copy_arguments(attempt.arguments);
}

Result<std::vector<std::string>> fill_command(const client::Attempt& attempt) {
  std::vector<std::string> out;
  out.reserve(attempt.command.size());
  for (const std::string& word : attempt.command) {
    auto filled = fill_word(attempt, word);
    if (!filled) return tl::unexpected<Error>(filled.error());
    out.push_back(std::move(*filled));
  }
  return out;
}

}  // namespace shoal::executor
