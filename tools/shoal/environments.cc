#include "tools/shoal/environments.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/daemon/home.h"
#include "agent/daemon/python_path.h"
#include "agent/environment/pack.h"

namespace shoal::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kPartBytes = 4U << 20;
constexpr auto kAskEvery = std::chrono::milliseconds(50);
constexpr auto kSayEvery = std::chrono::seconds(1);

// A directory that goes when the command ends.
class Scratch {
 public:
  Scratch() {
    std::error_code error;
    std::string name = (fs::temp_directory_path(error) / "environment-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Lines for people, at most one a second: what is quick is not told.
class Progress {
 public:
  Progress(bool wanted, std::string name) : wanted_(wanted), name_(std::move(name)), said_(Clock::now()) {}
  void say(const std::string& line) {
    if (!wanted_ || Clock::now() - said_ < kSayEvery) return;
    said_ = Clock::now();
    complain(fmt::format("environment {}: {}", name_, line));
  }

 private:
  bool wanted_;
  std::string name_;
  Clock::time_point said_;
};

Result<environment::Bundle> pack_here(const environment::Description& description, const std::string& scratch,
                                      Progress& progress) {
  environment::PackOptions options;
  options.scratch = scratch;
  options.progress = [&](const std::string& line) { progress.say(line); };
  options.python = daemon::find_python(description.python.empty() ? "" : "python" + description.python);
  if (options.python.empty()) {
    options.python = daemon::find_python("");
    options.python_suits = false;
  }
  return environment::pack(description, options);
}

// The bundle, part by part, to the agent of this host.
Result<> upload(const Context& context, const environment::Bundle& bundle, Progress& progress) {
  auto client = Client::connect(daemon::Home(context.home).socket());
  if (!client) return tl::unexpected<Error>(client.error());
  client->set_timeout(context.timeout.value_or(seconds(120)));  // the last part is answered once all is checked
  const std::string id = bundle.id.hex();
  auto found = client->request("environment.find", {{"environment", id}});
  if (!found) return tl::unexpected<Error>(found.error());
  if (found->bool_or("here", false)) return {};
  std::ifstream file(bundle.path, std::ios::binary);
  std::string part(kPartBytes, '\0');
  std::uint64_t offset = 0;
  while (offset < bundle.bytes) {
    file.read(part.data(), static_cast<std::streamsize>(part.size()));
    const auto got = static_cast<std::size_t>(file.gcount());
    if (got == 0) return fail(Code::kUnavailable, fmt::format("cannot read {}", bundle.path));
    auto sent = client->request(
        "environment.put",
        {{"environment", id}, {"offset", offset}, {"size", bundle.bytes}, {"bytes", Bytes(part.substr(0, got))}});
    if (!sent) return tl::unexpected<Error>(sent.error());
    offset += got;
    progress.say(fmt::format("handing {} of {} to the agent", human_bytes(static_cast<std::int64_t>(offset)),
                             human_bytes(static_cast<std::int64_t>(bundle.bytes))));
  }
  return {};
}

Result<> wait_until_built(const Context& context, const std::string& id, Progress& progress) {
  auto client = context.connect();
  if (!client) return tl::unexpected<Error>(client.error());
  client->set_timeout(seconds(30));
  const auto begin = Clock::now();
  for (;;) {
    auto answer = client->request("environment.build", {{"environment", id}});
    if (!answer) return tl::unexpected<Error>(answer.error());
    const std::string state = answer->text_or("state", "");
    if (state == "ready") return {};
    const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
    if (context.timeout && passed > std::chrono::microseconds(context.timeout->us))
      return fail(Code::kTimeout, fmt::format("environment {} is still {} at agent {}", id.substr(0, 8), state,
                                              answer->text_or("agent", "?")));
    progress.say(
        fmt::format("{} at agent {}, {} so far", state, answer->text_or("agent", "?"), human_ms(passed.count())));
    std::this_thread::sleep_for(kAskEvery);
  }
}

bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

}  // namespace

Result<PreparedEnvironment> prepare_environment(const Context& context, const std::string& said, bool build) {
  auto description = environment::read_description(said);
  if (!description) return tl::unexpected<Error>(description.error());
  Progress progress(!context.quiet, description->name);
  const Scratch scratch;
  if (scratch.path().empty())
    return fail(Code::kUnavailable, "no temporary directory can be made; set TMPDIR to one that is writable");
  auto bundle = pack_here(*description, scratch.path(), progress);
  if (!bundle) return tl::unexpected<Error>(bundle.error());
  if (auto sent = upload(context, *bundle, progress); !sent) return tl::unexpected<Error>(sent.error());
  const std::string id = bundle->id.hex();
  if (build) {
    if (auto built = wait_until_built(context, id, progress); !built) return tl::unexpected<Error>(built.error());
  }
  return PreparedEnvironment{"", id};
}

Result<std::vector<PreparedEnvironment>> prepare_environments(const Context& context) {
  std::vector<PreparedEnvironment> out;
  const auto given = context.options.find("environment");
  if (given == context.options.end()) return out;
  for (const auto& said : given->second) {
    const auto equals = said.find('=');
    std::error_code ignored;
    const bool named = equals != std::string::npos && is_name(said.substr(0, equals)) && !fs::exists(said, ignored);
    const std::string name = named ? said.substr(0, equals) : "";
    const bool twice = std::any_of(out.begin(), out.end(), [&](const auto& one) { return one.name == name; });
    if (twice) {
      return fail(Code::kInvalid, name.empty() ? std::string("a program has one environment of its own; give others a "
                                                             "name: --environment NAME=FILE")
                                               : fmt::format("--environment names {} twice", name));
    }
    auto prepared = prepare_environment(context, named ? said.substr(equals + 1) : said, !named);
    if (!prepared) return tl::unexpected<Error>(prepared.error());
    prepared->name = name;
    out.push_back(std::move(*prepared));
  }
  return out;
}

}  // namespace shoal::cli
