// agent/elastic/provider.h
//
// Where more agents come from. A provider starts and ends agents by name; that an agent has joined is seen by its
// membership, not here. Two kinds:
//
//   command   a program of the user's: `PROGRAM create NAME` with SHOAL_TOKEN (to join with) in its environment brings
//   an
//             agent of that name about, or begins to; `PROGRAM destroy NAME` ends it, and is no error for one that is
//             gone. Both are given `command_time_max`.
//   local     further agents of this build on this host, each with a home of its own; they end with this process.
//
// Thread-safety: none; works in turns of the reactor.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/executor/process.h"
#include "agent/reactor/reactor.h"
#include "protocol/base/result.h"

namespace shoal::elastic {

class Provider {
 public:
  using Done = std::function<void(Result<>)>;

  virtual ~Provider() = default;
  // Begins to create; `done` tells whether that worked so far. Called once, never from create().
  virtual void create(const std::string& name, const std::string& token, Done done) = 0;
  // Ends it, whatever its state; `done` once it is gone.
  virtual void destroy(const std::string& name, Done done) = 0;
  // This agent stops: what has to happen without it begins now. Nothing is told any more.
  virtual void abandon(const std::vector<std::string>& names) = 0;
  virtual std::string describe() const = 0;  // "local", "command /usr/bin/make-agent"
};

struct LocalAgents {
  std::string directory;  // of their homes
  std::string agent_program;
  std::string command_program;
  std::vector<std::string> settings;  // on top of --home, --name, --listen and --http
};

// `ended` is told of an agent that ended without having been asked to.
std::unique_ptr<Provider> make_local_provider(agent::Reactor& reactor, LocalAgents config,
                                              std::function<void(const std::string& name, std::string why)> ended);
std::unique_ptr<Provider> make_command_provider(agent::Reactor& reactor, std::string program, std::string log_path,
                                                Duration command_time_max = seconds(600));

}  // namespace shoal::elastic
