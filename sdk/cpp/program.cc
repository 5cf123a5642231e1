#include "sdk/cpp/program.h"

#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <string_view>

#include "protocol/base/hash.h"
#include "sdk/cpp/agent_runtime.h"
#include "sdk/cpp/connection.h"
#include "sdk/cpp/local_runtime.h"
#include "shoal/shoal.hpp"

namespace shoal {

namespace sdk {

namespace {

// Task variables register before main(), in any order of files: made at first use, never destroyed.
std::map<std::string, std::shared_ptr<Registration>>& tasks() {
  static auto* all = new std::map<std::string, std::shared_ptr<Registration>>;
  return *all;
}

struct ProgramState {
  std::mutex mutex;
  std::unique_ptr<Runtime> runtime;
  std::function<Runtime&()> attempt_runtime;
};
ProgramState& state() {
  static auto* one = new ProgramState;
  return *one;
}

// Names are all that tells C++ functions apart.
FunctionId function_id(const std::string& name) {
  const std::string text = "c++" + std::string(1, '\0') + name;
  return FunctionId(hash64(text), combine64(hash64(text), hash64(name)));
}

}  // namespace

std::shared_ptr<Registration> register_task(const std::string& name, Invoker invoke) {
  auto registration = std::make_shared<Registration>(Registration{function_id(name), name, {}, std::move(invoke)});
  if (!tasks().emplace(name, registration).second) {
    std::fprintf(stderr, "shoal: two tasks of this program have the name '%s': give each its own\n", name.c_str());
    std::abort();
  }
  return registration;
}

const Registration* find_task(const std::string& name) {
  const auto found = tasks().find(name);
  return found == tasks().end() ? nullptr : found->second.get();
}

void set_attempt_runtime(std::function<Runtime&()> open) {
  const std::lock_guard lock(state().mutex);
  state().attempt_runtime = std::move(open);
}

Runtime& runtime() {
  ProgramState& program = state();
  std::function<Runtime&()> attempt;
  {
    const std::lock_guard lock(program.mutex);
    attempt = program.attempt_runtime;
    if (!attempt && !program.runtime) {
      const std::string path = socket_path();
      if (path.empty()) {
        program.runtime = std::make_unique<LocalRuntime>();
      } else {
        program.runtime = std::make_unique<AgentRuntime>(path, std::nullopt, AgentRuntime::WaitHooks{});
      }
    }
    if (!attempt) return *program.runtime;
  }
  return attempt();
}

bool wants_executor(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--shoal-executor") return true;
  }
  return false;
}

void close_program() {
  ProgramState& program = state();
  {
    const std::lock_guard lock(program.mutex);
    if (!program.runtime) return;
  }
  program.runtime->barrier({});
}

std::string absolute_path(const std::string& path) {
  return std::filesystem::absolute(path).lexically_normal().string();
}

void check(const client::ValueResult& result) {
  if (result.code != 0) throw Failure(static_cast<Code>(result.code), result.message);
}

wire::Limits value_limits(std::size_t bytes) {
  wire::Limits limits;
  limits.frame_bytes_max = bytes;
  limits.string_bytes_max = static_cast<std::uint32_t>(std::min<std::size_t>(bytes, UINT32_MAX));
  limits.items_max = limits.string_bytes_max;  // an item has at least a byte
  limits.depth_max = 64;
  return limits;
}

std::string file_for(const client::Argument& argument) {
  const auto* source = std::get_if<client::FilePath>(&argument.value);
  if (source == nullptr) throw Failure(Code::kInvalid, "a file parameter came without a file");
  if (argument.items.empty()) return source->path;
  const auto* target = std::get_if<client::FilePath>(&argument.items.front().value);
  if (target == nullptr) return source->path;
  std::error_code error;
  std::filesystem::copy(source->path, target->path,
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing,
                        error);
  if (error)
    throw Failure(Code::kUnavailable,
                  "cannot copy '" + source->path + "' to '" + target->path + "': " + error.message());
  return target->path;
}

client::Value file_value(const std::string& path) {
  if (!std::filesystem::exists(path))
    throw Failure(Code::kFailed, "the task did not write its output file '" + path + "'");
  return client::FilePath{path};
}

std::string stream_name(const client::Argument& argument) {
  if (const auto* path = std::get_if<client::FilePath>(&argument.value)) return path->path;
  if (const auto* name = std::get_if<client::Inline>(&argument.value)) return name->bytes;
  throw Failure(Code::kInvalid, "a stream parameter came without the stream's name");
}

void wrong_arguments(std::size_t wanted, std::size_t got) {
  throw Failure(Code::kInvalid,
                "the task takes " + std::to_string(wanted) + " arguments and was called with " + std::to_string(got));
}

}  // namespace sdk

Program::~Program() {
  try {
    sdk::close_program();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "shoal: %s\n", error.what());
  }
  // Values may be released after this; the runtime itself ends with the process.
}

Group::~Group() {
  try {
    sdk::runtime().group(client::Kind::kCloseGroup, name_);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "shoal: group '%s' is not closed: %s\n", name_.c_str(), error.what());
  }
}

void wait_file(const std::string& path) {
  const std::string wanted = sdk::absolute_path(path);
  const auto results = sdk::runtime().wait({}, {wanted});
  sdk::check(results.at(0));
  const auto* file = std::get_if<client::FilePath>(&results[0].value);
  if (file == nullptr || file->path == wanted) return;
  const std::string fresh = wanted + ".shoal-new";
  std::error_code error;
  std::filesystem::copy(file->path, fresh, std::filesystem::copy_options::overwrite_existing, error);
  if (!error) std::filesystem::rename(fresh, wanted, error);
  if (error)
    throw Failure(Code::kUnavailable, "cannot bring '" + file->path + "' to '" + wanted + "': " + error.message());
}

}  // namespace shoal
