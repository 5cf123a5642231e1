// protocol/wire/client.h
//
// What local processes and their agent say to each other over the agent's Unix socket: drivers (an application's main
// program, or a task that calls tasks), executors (processes that run tasks) and the command line. A frame is a 4-byte
// little-endian length and a msgpack array [kind, message], where a message is the array of its fields (codec.h).
// sdk/python/shoal/_protocol.py mirrors this file; docs/client-protocol.md describes the conversation.
//
// Values of a task never pass through the agent's core: up to kInlineMax bytes they travel inside messages as opaque
// bytes, above that they are files of the agent's shared-memory arena, named here.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/wire/codec.h"
#include "protocol/wire/dynamic.h"

namespace shoal::client {

constexpr std::uint32_t kProtocolVersion = 1;
constexpr std::size_t kInlineMax = 16 << 10;
constexpr std::size_t kFrameMax = 64 << 20;

enum class Kind : std::uint8_t {
  // client to agent
  kHello = 1,
  kRegister = 2,
  kSubmit = 3,
  kPutData = 4,
  kWait = 5,
  kBarrier = 6,
  kRelease = 7,
  kRequest = 8,
  kOpenGroup = 9,
  kCloseGroup = 10,
  kCancelGroup = 11,
  // agent to client
  kWelcome = 64,
  kReply = 65,
  kValues = 66,
  kEvent = 67,
  // agent to executor
  kFunction = 96,
  kRun = 97,
  kCancel = 98,
  // executor to agent
  kDone = 128,
  kBlocked = 129,
};

// Directions as PyCOMPSs has them.
enum class Direction : std::uint8_t { kIn = 0, kOut = 1, kInOut = 2, kConcurrent = 3, kCommutative = 4, kInDelete = 5 };

// A value, wherever it is. Exactly one of:
struct Inline {  // the bytes themselves, at most kInlineMax of them unless they are a file's or an object's name
  Bytes bytes;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.bytes);
  }
  friend bool operator==(const Inline&, const Inline&) = default;
};
struct Shared {  // a file of the arena directory that Welcome names; immutable once named here
  std::string name;
  std::uint64_t bytes = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.name, self.bytes);
  }
  friend bool operator==(const Shared&, const Shared&) = default;
};
struct FilePath {  // a file or directory on this host
  std::string path;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.path);
  }
  friend bool operator==(const FilePath&, const FilePath&) = default;
};
struct ObjectRef {  // a persistent object of the store
  ObjectId object;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.object);
  }
  friend bool operator==(const ObjectRef&, const ObjectRef&) = default;
};
struct Nothing {  // no value (yet)
  std::uint8_t unused = 0;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.unused);
  }
  friend bool operator==(const Nothing&, const Nothing&) = default;
};
using Value = std::variant<Nothing, Inline, Shared, FilePath, ObjectRef>;  // [index, [fields]]

enum class AccessKind : std::uint8_t {
  kLiteral = 0,     // `value`, read only, not tracked
  kDatum = 1,       // `datum`: an object of the program or the future of a result
  kFile = 2,        // `path`: tracked by its absolute path
  kDirectory = 3,   // `path`
  kStream = 4,      // `path`: the stream's name; direction IN reads, OUT writes
  kCollection = 5,  // `items`, of any depth; the container itself is `datum` when it is tracked
  kObject = 6,      // `value` holds an ObjectRef: a persistent object
  kStdout = 7,      // `path`: standard output of a binary goes there (kFile otherwise)
  kStderr = 8,
  kStdin = 9,
};

struct Access {
  Direction direction = Direction::kIn;
  AccessKind kind = AccessKind::kLiteral;
  DatumId datum;
  Value value;
  std::string path;
  std::vector<Access> items;
  std::string name;  // of the parameter: for messages and templates
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.direction, self.kind, self.datum, self.value, self.path, self.items, self.name);
  }
};

enum class OnFailure : std::uint8_t { kRetry = 0, kFail = 1, kIgnore = 2, kCancelSuccessors = 3 };

// What a task asks of the place that runs it, and what to do when it fails. Declared once per function, may be
// overridden per call.
struct TaskOptions {
  std::map<std::string, std::string> constraints;  // keys of scheduler/requirement.h and resources.h; values resolved
  OnFailure on_failure = OnFailure::kRetry;
  std::uint32_t retries = 3;     // executions after the first
  std::uint64_t timeout_ms = 0;  // 0: none
  bool priority = false;
  bool streams = false;              // a stream task: lives until its streams close
  std::vector<std::string> command;  // a binary: argument vector; "{{name}}" stands for a parameter. Empty: a function
  std::string working_dir;
  bool fail_by_exit_value = true;
  bool is_replicated = false;
  bool is_distributed = false;
  EnvironmentId environment;  // of a function: one of Hello's; zero: the application's own. Calls cannot change it
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.constraints, self.on_failure, self.retries, self.timeout_ms, self.priority, self.streams, self.command,
      self.working_dir, self.fail_by_exit_value, self.is_replicated, self.is_distributed, self.environment);
  }
};

struct Hello {
  std::uint32_t version = kProtocolVersion;
  std::string role;          // "driver", "executor", "cli"
  std::optional<AppId> app;  // a driver that `shoal run` started has one; otherwise the agent makes one
  std::string name;          // of the program, for people
  std::uint64_t pid = 0;
  std::string python;  // interpreter that executors of this app are to be started with; empty: none needed
  std::optional<std::uint64_t> parent_attempt;  // set by a driver that is itself a task
  std::string working_dir;
  std::vector<std::string> python_path;  // prepended to sys.path of executors on the same host
  std::string checkpoint;                // of a driver: the folder of its checkpoint; empty: none
  std::string checkpoint_policy;         // scheduler/checkpoint_policy.h
  std::vector<std::string> checkpoint_avoid;
  // Of a driver: bundles that the agent has, that of the program first (zero: none), then others that its functions
  // name. Its tasks run where these can be built.
  std::vector<EnvironmentId> environments;
  std::string scheduler = {};  // a name of scheduler/policy.h; empty: what the agent is set to
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.role, self.app, self.name, self.pid, self.python, self.parent_attempt, self.working_dir,
      self.python_path, self.checkpoint, self.checkpoint_policy, self.checkpoint_avoid, self.environments,
      self.scheduler);
  }
};

struct Welcome {
  std::uint32_t version = kProtocolVersion;
  AgentId agent;
  AppId app;
  std::string arena;  // directory of shared-memory files, on this host
  std::uint64_t inline_max = kInlineMax;
  std::uint64_t client = 0;  // makes names of new arena files unique: "<client>.<counter>"
  std::string note = {};     // a line for people about what was asked for in Hello
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.agent, self.app, self.arena, self.inline_max, self.client, self.note);
  }
};

struct Register {
  FunctionId function;
  std::string name;      // module.qualified_name
  std::string language;  // "python", "c++", "command"
  Bytes payload;         // pickled function; empty for "c++" (looked up by name) and "command"
  TaskOptions options;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.function, self.name, self.language, self.payload, self.options);
  }
};

struct TaskCall {
  TaskId task;  // 1, 2, 3 … in the order of the program
  FunctionId function;
  std::vector<Access> accesses;  // parameters in order, then results as OUT data
  std::optional<TaskOptions> options;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.task, self.function, self.accesses, self.options);
  }
};

struct Submit {
  std::vector<TaskCall> calls;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.calls);
  }
};

// Gives a datum its first version: an object of the main program that a task is about to use.
struct PutData {
  DatumId datum;
  Value value;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.datum, self.value);
  }
};

struct Wait {  // answered by Values once all are final
  std::uint64_t request = 0;
  std::vector<DatumId> data;
  std::vector<std::string> files;  // absolute paths: brought to where the program knows them
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.request, self.data, self.files);
  }
};

struct Barrier {  // answered by Reply
  std::uint64_t request = 0;
  std::string group;  // empty: all tasks of the app
  bool no_more_tasks = false;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.request, self.group, self.no_more_tasks);
  }
};

struct Release {  // the program holds no handle to these any more
  std::vector<DatumId> data;
  std::vector<std::string> files;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.data, self.files);
  }
};

struct Group {
  std::string name;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.name);
  }
};

struct Request {  // everything that is not hot; answered by Reply. Methods: docs/client-protocol.md
  std::uint64_t request = 0;
  std::string method;  // "store.put", "streams.poll", "agents", …
  wire::Dynamic params;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.request, self.method, self.params);
  }
};

struct Reply {
  std::uint64_t request = 0;
  std::uint8_t code = 0;  // 0: done, else shoal::Code
  std::string message;
  wire::Dynamic result;
  Bytes error;  // what the executor sent about a task's exception, if that is the cause
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.request, self.code, self.message, self.result, self.error);
  }
};

struct ValueResult {
  DatumId datum;
  std::uint8_t code = 0;
  std::string message;
  Value value;
  Bytes error;
  std::string path;  // of a waited file
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.datum, self.code, self.message, self.value, self.error, self.path);
  }
};

struct Values {
  std::uint64_t request = 0;
  std::vector<ValueResult> values;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.request, self.values);
  }
};

struct Event {  // something a client subscribed to: output of its tasks, progress
  std::string topic;
  wire::Dynamic body;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.topic, self.body);
  }
};

// ---- executors ----
struct Function {
  FunctionId function;
  std::string name;
  std::string language;
  Bytes payload;
  std::vector<std::string> python_path;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.function, self.name, self.language, self.payload, self.python_path);
  }
};

// A parameter as the executor gets it: its value is local now.
struct Argument {
  Direction direction = Direction::kIn;
  AccessKind kind = AccessKind::kLiteral;
  Value value;
  std::vector<Argument> items;
  std::string name;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.direction, self.kind, self.value, self.items, self.name);
  }
};

struct Attempt {
  std::uint64_t attempt = 0;  // of this agent; unique while it runs
  AppId app;
  TaskId task;
  Instance instance;
  FunctionId function;
  std::vector<Argument> arguments;
  std::uint64_t timeout_ms = 0;
  std::vector<std::string> command;  // a binary with its parameters filled in
  std::string working_dir;
  bool fail_by_exit_value = true;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.attempt, self.app, self.task, self.instance, self.function, self.arguments, self.timeout_ms, self.command,
      self.working_dir, self.fail_by_exit_value);
  }
};

struct Run {
  std::vector<Attempt> attempts;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.attempts);
  }
};

struct Cancel {
  std::vector<std::uint64_t> attempts;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.attempts);
  }
};

enum class Outcome : std::uint8_t {
  kDone = 0,
  kException = 1,       // the function raised; `error` has the pickled exception and its traceback
  kGroupException = 2,  // a COMPSsException: cancels its group, never retried
  kTimedOut = 3,
  kCancelled = 4,
  kExecutorLost = 5,  // the process died; stated by the agent, never by an executor
  kInputMissing = 6,  // an input could not be made local; stated by the agent
  kReturned = 7,      // not started: the executor gives it back because an attempt ahead of it blocks
  kNotStarted = 8,    // no executor of its kind can be started there, or the executor cannot load such code at all
};

struct AttemptResult {
  std::uint64_t attempt = 0;
  Outcome outcome = Outcome::kDone;
  std::string message;  // one line for people
  Bytes error;
  std::vector<Value> outputs;  // of every access that writes, depth first, in order
  std::uint64_t run_us = 0;    // time inside the function
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.attempt, self.outcome, self.message, self.error, self.outputs, self.run_us);
  }
};

struct Done {
  std::vector<AttemptResult> results;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.results);
  }
};

struct Blocked {  // the attempt waits (a nested wait, an empty poll): its computing units may be lent
  std::uint64_t attempt = 0;
  bool blocked = false;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.attempt, self.blocked);
  }
};

}  // namespace shoal::client
