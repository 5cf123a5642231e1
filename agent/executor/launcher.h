// agent/executor/launcher.h
//
// Starts the executor processes of one language and interpreter, each under a token of its own that it says when it
// connects, and tells when each has ended. Python executors are forked by a zygote that has done the imports (docs/
// client-protocol.md §5), or, should that not work, started one by one; C++ executors are the application's own
// program.
//
// Thread-safety: none; works in turns of the reactor.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "agent/executor/executor_config.h"
#include "agent/executor/output_log.h"
#include "agent/executor/process.h"
#include "agent/reactor/reactor.h"

namespace shoal::executor {

struct ExecutorEnd {
  std::string token;
  Ending ending;
  std::string said;  // the last line it wrote to stderr (or stdout)
};

class Launcher {
 public:
  // `command` starts one executor. `zygote_command`, if not empty, starts a process that forks them.
  struct Recipe {
    std::vector<std::string> command;
    std::vector<std::string> zygote_command;
    std::map<std::string, std::string> environment;
  };
  struct Events {
    std::function<void(const ExecutorEnd&)> ended;               // once for every start(), never from inside it
    std::function<OutputOwner(const std::string& token)> owner;  // whose output an executor's output is just now
  };

  Launcher(agent::Reactor& reactor, const ExecutorConfig& config, OutputLog& log, Recipe recipe, Events events);
  ~Launcher();  // kills all
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  // Starts an executor that will connect with `token`.
  void start(const std::string& token);
  // The executor has connected: its output streams are open, names of them in the file system are removed.
  void connected(const std::string& token);
  // To the process, or to its process group when it leads one. SIGKILL also ends a start that hangs.
  void signal(const std::string& token, int number);
  void signal_group(const std::string& token, int number);
  // Attributes what the executor wrote so far to its present owner; true when there was something.
  bool drain_output(const std::string& token);
  // Ends the zygote if no executor needs it.
  void rest();
  // Signals everything, the zygote included. No start() after this.
  void stop(int number);
  std::size_t alive() const { return children_.size() + (zygote_ ? 1 : 0); }

 private:
  struct Child {
    std::unique_ptr<Process> process;  // started by us; otherwise forked by the zygote
    pid_t pid = -1;
    Fd pid_fd;
    bool leads_group = false;          // of processes; known once connected
    std::array<std::string, 2> fifos;  // names of the output pipes until the executor has opened them
    std::unique_ptr<OutputReader> out;
    std::unique_ptr<OutputReader> err;
  };

  void start_direct(const std::string& token);
  void start_forked(const std::string& token);
  Result<> open_zygote();
  void on_control(std::uint32_t events);
  void take_line(std::string_view line);
  void on_forked(pid_t pid);
  void on_exited(pid_t pid, int wait_status);
  void on_zygote_gone(const Ending& ending);
  void finish(const std::string& token, Ending ending);
  void remove_fifos(Child& child);
  Result<> open_fifos(Child& child, const std::string& token);
  void report();

  agent::Reactor& reactor_;
  const ExecutorConfig& config_;
  OutputLog& log_;
  Recipe recipe_;
  Events events_;
  std::map<std::string, Child> children_;  // by token
  std::unique_ptr<Process> zygote_;
  std::unique_ptr<OutputReader> zygote_out_;
  std::unique_ptr<OutputReader> zygote_err_;
  Fd control_;
  std::string control_input_;
  std::deque<std::string> forking_;  // tokens, in the order asked
  bool zygote_ready_ = false;
  bool zygote_broken_ = false;
  bool stopping_ = false;
  std::vector<ExecutorEnd> ends_;
  agent::Reactor::TimerId report_timer_ = 0;
};

}  // namespace shoal::executor
