// tests/unit/executor/harness.h
//
// What the tests of this folder share: a temporary directory, a reactor that runs until a condition holds, a client
// that speaks raw bytes, and a pool with everything around it.
#pragma once

#include <dirent.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <string>

#include "agent/executor/client_server.h"
#include "agent/executor/executor_pool.h"
#include "agent/reactor/reactor.h"
#include "protocol/wire/client.h"

namespace shoal::executor {

class TempDir {
 public:
  TempDir() {
    std::string path = (std::filesystem::temp_directory_path() / "shoal-test-XXXXXX").string();
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string at(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string read_all(const std::string& path) {
  std::ifstream in(path);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* dir = ::opendir("/proc/self/fd");
  while (::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count - 3;  // ".", ".." and the directory itself
}

inline bool process_exists(pid_t pid) {
  if (::kill(pid, 0) != 0) return false;
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");  // a zombie of another parent does not count
  std::string line;
  std::getline(stat, line);
  return line.find(") Z ") == std::string::npos && !line.empty();
}

// Runs turns until `condition` holds; false after ten seconds.
inline bool run_until(agent::Reactor& reactor, const std::function<bool()>& condition) {
  const Instant deadline = agent::Reactor::now() + seconds(10);
  while (!condition()) {
    if (agent::Reactor::now() > deadline) return false;
    reactor.run_once(agent::Reactor::now() + milliseconds(5));
  }
  return true;
}

inline std::unique_ptr<agent::Reactor> make_reactor() {
  auto reactor = agent::Reactor::create();
  EXPECT_TRUE(reactor.has_value());
  return std::move(*reactor);
}

template <class T>
std::string framed(client::Kind kind, const T& message) {
  wire::Encoder encoder;
  encoder.array(2);
  encoder.u64(static_cast<std::uint64_t>(kind));
  wire::put(encoder, message);
  const std::string_view body = encoder.view();
  std::string out;
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(body.size() >> shift & 0xff));
  return out.append(body);
}

inline std::string hello_frame(const std::string& role = "driver") {
  client::Hello hello;
  hello.role = role;
  return framed(client::Kind::kHello, hello);
}

// The far end of a connection, by hand.
class RawClient {
 public:
  explicit RawClient(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ~RawClient() { hang_up(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void hang_up() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  // As much as the socket takes now.
  std::size_t send(std::string_view bytes) const {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent > 0 ? static_cast<std::size_t>(sent) : 0;
  }
  // What is there now, appended to received(). False at the end of the connection.
  bool receive() {
    char bytes[65536];
    for (;;) {
      const ssize_t got = ::recv(fd_, bytes, sizeof bytes, MSG_DONTWAIT);
      if (got > 0) {
        received_.append(bytes, static_cast<std::size_t>(got));
        continue;
      }
      return got < 0 && errno == EAGAIN;
    }
  }
  const std::string& received() const { return received_; }
  // The first Reply among what was received.
  std::optional<client::Reply> reply() const {
    if (received_.size() < 4) return std::nullopt;
    auto document = wire::Document::parse(std::string_view(received_).substr(4));
    client::Reply out;
    if (!document || !wire::get(document->root().at(1), out)) return std::nullopt;
    return out;
  }

 private:
  int fd_ = -1;
  std::string received_;
};

// A pool with a reactor, a server, and executors of the fake SDK beside these tests.
class PoolBench {
 public:
  static constexpr std::uint64_t kFunction = 7;

  explicit PoolBench(const std::function<void(ExecutorConfig&)>& adjust = {}) : reactor(make_reactor()) {
    server = std::make_unique<ClientServer>(*reactor, [this](ClientEvent&& event) {
      if (!pool || !pool->take(event)) ++others;
    });
    EXPECT_TRUE(server->listen(dir.at("socket")).has_value());
    ExecutorConfig config;
    config.computing_units = 2;
    config.socket_path = dir.at("socket");
    config.python = "/usr/bin/python3";
    config.python_path = {SHOAL_FAKE_SDK_DIR};
    config.files_dir = dir.at("files");
    config.log_dir = dir.at("logs");
    if (adjust) adjust(config);
    pool = std::make_unique<ExecutorPool>(
        *reactor, *server, config,
        ExecutorPool::Events{[this](scheduler::in::AttemptsDone&& done) {
                               for (auto& result : done.results) {
                                 const auto attempt = result.attempt;
                                 EXPECT_TRUE(results.emplace(attempt, std::move(result)).second)
                                     << "two results for " << attempt;
                               }
                             },
                             [this](const scheduler::in::AttemptBlocked& b) { blocked.push_back(b); },
                             [this](const Output& o) { outputs.push_back(o); }});
  }
  ~PoolBench() {
    if (pool) pool->shutdown(agent::Reactor::now() + seconds(5));
  }

  static client::Attempt attempt(std::uint64_t number, const std::string& action) {
    client::Attempt out;
    out.attempt = number;
    out.app = AppId(1, 2);
    out.task = TaskId(number);
    out.function = FunctionId(kFunction, 0);
    client::Argument argument;
    argument.value = client::Inline{Bytes(action)};
    out.arguments.push_back(argument);
    return out;
  }

  static scheduler::out::Launch launch_of(std::vector<client::Attempt> attempts) {
    scheduler::out::Launch launch;
    launch.language = "python";
    launch.functions.push_back({FunctionId(kFunction, 0), "fake.act", "python", {}, {}});
    launch.attempts = std::move(attempts);
    return launch;
  }

  void launch(std::uint64_t number, const std::string& action) { pool->launch(launch_of({attempt(number, action)})); }

  // Runs it to its end.
  const client::AttemptResult& finish(std::uint64_t number, const std::string& action) {
    launch(number, action);
    return wait_for(number);
  }
  const client::AttemptResult& wait_for(std::uint64_t number) {
    EXPECT_TRUE(until([&] { return results.contains(number); })) << "attempt " << number << " has no result";
    return results[number];
  }
  bool until(const std::function<bool()>& condition) { return run_until(*reactor, condition); }

  static std::string text_of(const client::AttemptResult& result) {
    if (result.outputs.empty()) return "(no outputs)";
    const auto* bytes = std::get_if<client::Inline>(&result.outputs[0]);
    return bytes == nullptr ? "(not inline)" : std::string(bytes->bytes);
  }

  TempDir dir;
  std::unique_ptr<agent::Reactor> reactor;
  std::map<std::uint64_t, client::AttemptResult> results;
  std::vector<scheduler::in::AttemptBlocked> blocked;
  std::vector<Output> outputs;
  int others = 0;
  std::unique_ptr<ClientServer> server;
  std::unique_ptr<ExecutorPool> pool;
};

}  // namespace shoal::executor
