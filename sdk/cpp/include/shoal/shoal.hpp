// sdk/cpp/include/shoal/shoal.hpp
//
// Shoal for C++: a sequential program whose calls of task functions run in parallel on the agents of a shoal.
//
//   #include <shoal/shoal.hpp>
//
//   int square(int x) { return x * x; }
//   int add(int a, int b) { return a + b; }
//   const auto square_task = shoal::task(square, "square");
//   const auto add_task = shoal::task(add, "add");
//
//   int main(int argc, char** argv) {
//     shoal::Program program(argc, argv);              // first: agents run tasks in this same executable
//     shoal::Future<int> nine = square_task(3);
//     shoal::Future<int> sum = add_task(nine, square_task(4));   // depends on both
//     std::cout << sum.get() << '\n';                   // waits: 25
//   }
//
// Started by `shoal run` (or with SHOAL_SOCKET set) the calls become tasks of the agent; otherwise they run at once,
// one after the other, with the same result.
//
// A parameter's direction is in its type:
//   T, const T&, In<T>       read                     pass a T, or a Future<T>
//   T&, InOut<T>             read and written         pass a Future<T>
//   Out<T>                   written                  pass a Future<T>, which may be empty before
//   InFile, OutFile, InOutFile    a file              pass its path
//   StreamIn, StreamOut      a stream                 pass a Stream
//
// Values are numbers, std::string, Bytes, vectors, maps, pairs, optionals and variants of these, and structs with
//   template <class Self, class F> static void fields(Self& self, F&& f) { f(self.a, self.b); }
// They travel as msgpack, so Python tasks and programs can read them.
//
// Errors are exceptions: Failure. Everything here may be called from any thread, except inside tasks: there only from
// the thread that runs the task.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "protocol/base/result.h"
#include "protocol/wire/codec.h"
#include "shoal/runtime.hpp"

namespace shoal {

// What went wrong, and what to do: a task that failed, an agent that is away, a value that does not fit.
class Failure : public std::runtime_error {
 public:
  Failure(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

// Thrown by a task: cancels the other tasks of its groups and is not retried.
class GroupFailure : public Failure {
 public:
  explicit GroupFailure(const std::string& message) : Failure(Code::kFailed, message) {}
};

// Open while a program uses Shoal. In a process that an agent started as an executor its constructor does not return.
class Program {
 public:
  Program(int argc, char** argv) {
    if (sdk::wants_executor(argc, argv)) sdk::run_executor();
  }
  // Waits for all tasks. Failures that nobody waited for are printed; call finish() to get them as exceptions.
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  void finish() { sdk::close_program(); }
};

namespace sdk {
template <class T>
Bytes pack(const T& value) {
  if constexpr (std::is_same_v<T, Bytes>) {
    return wire::make_blob(wire::BlobCodec::kRaw, value);
  } else {
    return wire::to_blob(value);
  }
}

wire::Limits value_limits(std::size_t bytes);

template <class T>
T unpack(const Bytes& bytes) {
  if constexpr (std::is_same_v<T, Bytes>) {
    auto blob = wire::read_blob(bytes);
    if (blob && blob->codec == wire::BlobCodec::kRaw) return Bytes(blob->body);
  }
  auto value = wire::from_blob<T>(bytes, value_limits(bytes.size()));
  if (!value) throw Failure(value.error().code, value.error().message);
  return std::move(*value);
}
}  // namespace sdk

// A value that is, or will be, the result of a task. Copies name the same value.
template <class T>
class Future {
 public:
  Future() = default;  // empty, until it is passed as Out or InOut

  // Waits for the tasks that write it. Throws Failure if one failed.
  T get() const {
    const sdk::Datum& datum = known();
    const auto results = datum.owner().wait({datum.id()}, {});
    sdk::check(results.at(0));
    return sdk::unpack<T>(datum.owner().load(results[0].value));
  }
  void wait() const {
    const sdk::Datum& datum = known();
    sdk::check(datum.owner().wait({datum.id()}, {}).at(0));
  }
  bool empty() const { return !datum_; }

  // For the library: the datum, made when there is none yet.
  const sdk::Datum& known() const {
    if (!datum_) throw Failure(Code::kInvalid, "this Future is empty: no task has been asked for its value");
    return *datum_;
  }
  const sdk::Datum& make() {
    if (!datum_) datum_ = std::make_shared<sdk::Datum>(sdk::runtime());
    return *datum_;
  }

 private:
  std::shared_ptr<sdk::Datum> datum_;
};

// Gives tasks a value of the program to share, and to update: it is sent once, not with every call.
template <class T>
Future<T> share(const T& value) {
  Future<T> out;
  const sdk::Datum& datum = out.make();
  datum.owner().put(datum.id(), datum.owner().store(sdk::pack(value)));
  return out;
}

// ---- parameter types ----
template <class T>
using In = const T&;
template <class T>
using InOut = T&;

template <class T>
class Out {
 public:
  explicit Out(T& value) : value_(&value) {}
  const Out& operator=(T value) const {
    *value_ = std::move(value);
    return *this;
  }
  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_;
};

struct InFile {
  std::string path;
};
struct OutFile {
  std::string path;
};
struct InOutFile {
  std::string path;
};

struct Record {
  Bytes value;
  std::string key;
  std::int64_t timestamp_ms = 0;
};

// A stream by its name. Publishes and polls raw records.
class Stream {
 public:
  // Opens the stream, creating it if it is not there. `url` as shoal://… or kafka://…; empty: the agent's own.
  static Stream open(const std::string& name, const std::string& url = {});
  explicit Stream(std::string name) : name_(std::move(name)) {}
  const std::string& name() const { return name_; }

  void publish(const std::vector<Record>& records) const;
  void publish(Bytes value) const { publish(std::vector<Record>{Record{std::move(value), {}, 0}}); }
  // Up to `records_max` records, waiting at most `timeout_ms` for the first. `closed` says that no more will come.
  std::vector<Record> poll(bool& closed, std::uint32_t records_max = 1000, std::uint32_t timeout_ms = 1000) const;
  void close() const;

 private:
  std::string name_;
};
struct StreamIn {
  Stream stream;
};
struct StreamOut {
  Stream stream;
};

// ---- tasks ----
namespace sdk {

// How a parameter of type P is passed, loaded and stored. Primary: read, by value.
template <class P>
struct Parameter {
  using Value = std::remove_cvref_t<P>;
  static client::Access access(Runtime& runtime, const Value& value) {
    client::Access out;
    out.value = runtime.store(pack(value));
    return out;
  }
  static client::Access access(Runtime&, const Future<Value>& future) {
    client::Access out;
    out.kind = client::AccessKind::kDatum;
    out.datum = future.known().id();
    return out;
  }
  struct Loaded {
    Value value;
    Loaded(const client::Argument& argument, Arena& arena) : value(unpack<Value>(arena.load(argument.value))) {}
    const Value& pass() { return value; }
    void store(const client::Argument&, Arena&, std::vector<client::Value>&) {}
  };
};

template <class T>
client::Access written(Future<T>& future, client::Direction direction) {
  client::Access out;
  out.kind = client::AccessKind::kDatum;
  out.direction = direction;
  if (direction == client::Direction::kInOut)
    out.datum = future.known().id();
  else
    out.datum = future.make().id();
  return out;
}

template <class T>
  requires(!std::is_const_v<T>)
struct Parameter<T&> {
  static client::Access access(Runtime&, Future<T>& future) { return written(future, client::Direction::kInOut); }
  struct Loaded {
    T value;
    Loaded(const client::Argument& argument, Arena& arena) : value(unpack<T>(arena.load(argument.value))) {}
    T& pass() { return value; }
    void store(const client::Argument&, Arena& arena, std::vector<client::Value>& out) {
      out.push_back(arena.store(pack(value)));
    }
  };
};

template <class T>
struct Parameter<Out<T>> {
  static client::Access access(Runtime&, Future<T>& future) { return written(future, client::Direction::kOut); }
  struct Loaded {
    T value{};
    Loaded(const client::Argument&, Arena&) {}
    Out<T> pass() { return Out<T>(value); }
    void store(const client::Argument&, Arena& arena, std::vector<client::Value>& out) {
      out.push_back(arena.store(pack(value)));
    }
  };
};

// The path a task works on; copies the source of a file that is read and written first.
std::string file_for(const client::Argument& argument);
client::Value file_value(const std::string& path);

template <class File, client::Direction kDirection>
struct FileParameter {
  static client::Access access(Runtime&, const std::string& path) {
    client::Access out;
    out.kind = client::AccessKind::kFile;
    out.direction = kDirection;
    out.path = absolute_path(path);
    return out;
  }
  struct Loaded {
    File file;
    Loaded(const client::Argument& argument, Arena&) : file{file_for(argument)} {}
    const File& pass() { return file; }
    void store(const client::Argument&, Arena&, std::vector<client::Value>& out) {
      if constexpr (kDirection != client::Direction::kIn) out.push_back(file_value(file.path));
    }
  };
};
template <>
struct Parameter<InFile> : FileParameter<InFile, client::Direction::kIn> {};
template <>
struct Parameter<OutFile> : FileParameter<OutFile, client::Direction::kOut> {};
template <>
struct Parameter<InOutFile> : FileParameter<InOutFile, client::Direction::kInOut> {};

std::string stream_name(const client::Argument& argument);

template <class End, client::Direction kDirection>
struct StreamParameter {
  static client::Access access(Runtime&, const Stream& stream) {
    client::Access out;
    out.kind = client::AccessKind::kStream;
    out.direction = kDirection;
    out.path = stream.name();
    return out;
  }
  struct Loaded {
    End end;
    Loaded(const client::Argument& argument, Arena&) : end{Stream(stream_name(argument))} {}
    const End& pass() { return end; }
    void store(const client::Argument&, Arena&, std::vector<client::Value>&) {}
  };
};
template <>
struct Parameter<StreamIn> : StreamParameter<StreamIn, client::Direction::kIn> {};
template <>
struct Parameter<StreamOut> : StreamParameter<StreamOut, client::Direction::kOut> {};

template <class P>
struct Parameter<const P&> : Parameter<P> {};
template <class P>
struct Parameter<const P> : Parameter<P> {};

[[noreturn]] void wrong_arguments(std::size_t wanted, std::size_t got);

template <class R, class... P, std::size_t... I>
std::vector<client::Value> invoke(R (*function)(P...), const std::vector<client::Argument>& arguments, Arena& arena,
                                  std::index_sequence<I...>) {
  if (arguments.size() < sizeof...(P)) wrong_arguments(sizeof...(P), arguments.size());
  // Braces: loaded from left to right.
  std::tuple<typename Parameter<P>::Loaded...> loaded{typename Parameter<P>::Loaded(arguments[I], arena)...};
  std::vector<client::Value> out;
  if constexpr (std::is_void_v<R>) {
    function(std::get<I>(loaded).pass()...);
    (std::get<I>(loaded).store(arguments[I], arena, out), ...);
  } else {
    R result = function(std::get<I>(loaded).pass()...);
    (std::get<I>(loaded).store(arguments[I], arena, out), ...);
    out.push_back(arena.store(pack(result)));
  }
  return out;
}

}  // namespace sdk

enum class OnFailure : std::uint8_t { kRetry = 0, kFail = 1, kIgnore = 2, kCancelSuccessors = 3 };

// A function whose calls are tasks. Made by task(); keep it in a variable at namespace scope, so that executors know
// it.
template <class R, class... P>
class Task {
 public:
  Task(R (*function)(P...), const std::string& name)
      : registration_(
            sdk::register_task(name, [function](const std::vector<client::Argument>& arguments, sdk::Arena& arena) {
              return sdk::invoke(function, arguments, arena, std::index_sequence_for<P...>{});
            })) {}

  // Calls it: returns at once, with the future of what the function will return (nothing for void).
  template <class... A>
  auto operator()(A&&... arguments) const {
    static_assert(sizeof...(A) == sizeof...(P),
                  "a task is called with as many arguments as its function has parameters");
    sdk::Runtime& runtime = sdk::runtime();
    std::vector<client::Access> accesses{sdk::Parameter<P>::access(runtime, arguments)...};
    if constexpr (std::is_void_v<R>) {
      runtime.submit(*registration_, std::move(accesses));
    } else {
      Future<std::remove_cvref_t<R>> result;
      client::Access& access = accesses.emplace_back();
      access.kind = client::AccessKind::kDatum;
      access.direction = client::Direction::kOut;
      access.datum = result.make().id();
      access.name = "$0";
      runtime.submit(*registration_, std::move(accesses));
      return result;
    }
  }

  // What its calls ask for; set before the first call.
  Task& constraint(const std::string& key, const std::string& value) {
    registration_->options.constraints[key] = value;
    return *this;
  }
  Task& computing_units(unsigned units) { return constraint("computing_units", std::to_string(units)); }
  Task& retries(std::uint32_t count) {
    registration_->options.retries = count;
    return *this;
  }
  Task& timeout_ms(std::uint64_t limit) {
    registration_->options.timeout_ms = limit;
    return *this;
  }
  Task& on_failure(OnFailure policy) {
    registration_->options.on_failure = static_cast<client::OnFailure>(policy);
    return *this;
  }
  Task& priority() {
    registration_->options.priority = true;
    return *this;
  }

 private:
  std::shared_ptr<sdk::Registration> registration_;
};

template <class R, class... P>
Task<R, P...> task(R (*function)(P...), const std::string& name) {
  return Task<R, P...>(function, name);
}

// ---- waiting ----
// Until all tasks (of the group) are final. Throws the first failure nobody has seen.
inline void barrier(const std::string& group = {}) {
  sdk::runtime().barrier(group);
}

// The values of all of them, in order, with one question to the agent. Throws the first failure among them.
template <class T>
std::vector<T> wait_on(const std::vector<Future<T>>& futures) {
  std::vector<T> out;
  if (futures.empty()) return out;
  sdk::Runtime& owner = futures.front().known().owner();
  std::vector<DatumId> data;
  data.reserve(futures.size());
  for (const Future<T>& future : futures) data.push_back(future.known().id());
  const auto results = owner.wait(data, {});
  out.reserve(futures.size());
  for (const client::ValueResult& result : results) {
    sdk::check(result);
    out.push_back(sdk::unpack<T>(owner.load(result.value)));
  }
  return out;
}

// Until the tasks that write the file are final; its last version is then at `path`.
void wait_file(const std::string& path);

// The tasks called while this lives belong to the group. Groups nest.
class Group {
 public:
  explicit Group(std::string name) : name_(std::move(name)) { sdk::runtime().group(client::Kind::kOpenGroup, name_); }
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
};
inline void cancel_group(const std::string& name) {
  sdk::runtime().group(client::Kind::kCancelGroup, name);
}

// ---- the store ----
namespace store {

struct PutOptions {
  std::uint32_t replicas = 0;      // 0: the agent's default
  std::string wait_for = "local";  // memory, process, local, region, parent, cloud
};
struct Receipt {
  std::string object;  // hexadecimal
  std::string level;
  std::int64_t copies = 0;
};

Receipt put_bytes(const Bytes& blob, const PutOptions& options);
Bytes get_bytes(const std::string& object_or_alias, bool is_alias);

// Makes a value persistent.
template <class T>
Receipt put(const T& value, const PutOptions& options = {}) {
  return put_bytes(sdk::pack(value), options);
}
template <class T>
T get(const std::string& object) {
  return sdk::unpack<T>(get_bytes(object, false));
}
template <class T>
T get_alias(const std::string& alias) {
  return sdk::unpack<T>(get_bytes(alias, true));
}
void set_alias(const std::string& alias, const std::string& object);

}  // namespace store

}  // namespace shoal
