// agent/daemon/home.h
//
// The directory of one agent: where everything lies, and who uses it now.
//
//   config.toml  identity/  realm/  contacts    what it was told and who it is
//   state/  streams/                            what it must not lose
//   files/  work/  logs/                        task files, unpacked programs, output
//   shoald.pid  run/shoald.sock  run/ready      while it runs
//
// `run` is a link to the runtime directory of the user or the system where there is one, so that whoever knows the home
// finds the socket.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/identity/token.h"

namespace shoal::daemon {

// Where an agent asks for admission when it starts for the first time.
struct Admission {
  std::vector<identity::Contact> contacts;
  std::string child_region;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.contacts, self.child_region);
  }
};

// What a running agent tells other processes on its host (run/ready, JSON).
struct Ready {
  std::uint64_t pid = 0;
  std::string agent;
  std::string name;
  std::string endpoint;
  std::string http;
};

class Home {
 public:
  explicit Home(std::string dir) : dir_(std::move(dir)) {}

  const std::string& dir() const { return dir_; }
  std::string at(const std::string& name) const { return dir_ + "/" + name; }
  std::string socket() const;  // a short path under the temporary directory when the home's own would be too long
  std::string arena(AgentId agent) const;

  // Makes the directories but `run`. kUnavailable when the home cannot be written, with what to do.
  Result<> prepare() const;

  // Makes `run`: a link to `runtime` unless that is empty. Only for who holds the lock.
  Result<> prepare_run(const std::string& runtime) const;

  // Takes the home for this process until it ends. kUnavailable naming the process that has it.
  Result<int> lock() const;

  Result<Admission> read_admission() const;  // empty when the agent has none
  Result<> write_admission(const Admission& admission) const;

  Result<> write_ready(const Ready& ready) const;
  Result<Ready> read_ready() const;  // kUnavailable when no agent runs here
  void clear_ready() const;

 private:
  std::string dir_;
};

// Replaces the file at `path` in one step and synced: a crash leaves the old content or the new.
Result<> replace_file(const std::string& path, std::string_view content, unsigned mode = 0600);
Result<std::string> read_file(const std::string& path);

}  // namespace shoal::daemon
