#include "sdk/cpp/agent_runtime.h"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

#include "shoal/shoal.hpp"

namespace shoal::sdk {

namespace {

constexpr std::size_t kCallsPerBatch = 64;
constexpr std::size_t kWaitDataMax = 1024;
constexpr auto kFlushAfter = std::chrono::milliseconds(1);

client::Hello hello_of(std::optional<std::uint64_t> parent_attempt) {
  client::Hello hello;
  hello.role = "driver";
  hello.python = own_program();  // executors run this same program
  hello.name = std::filesystem::path(hello.python).filename().string();
  hello.pid = static_cast<std::uint64_t>(::getpid());
  hello.parent_attempt = parent_attempt;
  hello.working_dir = std::filesystem::current_path().string();
  const char* app = ::getenv("SHOAL_APP");
  if (app != nullptr && !parent_attempt) hello.app = AppId::from_hex_text(app);
  if (const char* folder = ::getenv("SHOAL_CHECKPOINT"); folder != nullptr && !parent_attempt) {
    const char* policy = ::getenv("SHOAL_CHECKPOINT_POLICY");
    hello.checkpoint = *folder == '\0' ? "" : std::filesystem::absolute(folder).string();
    hello.checkpoint_policy = policy == nullptr ? "" : policy;
  }
  // "<id of the program's environment, or -> NAME=<id> …"; tasks of this SDK name none of their own.
  if (const char* environment = ::getenv("SHOAL_ENVIRONMENT")) {
    const std::string_view text(environment);
    if (auto id = EnvironmentId::from_hex_text(text.substr(0, text.find(' ')))) hello.environments.push_back(*id);
  }
  return hello;
}

}  // namespace

AgentRuntime::AgentRuntime(const std::string& path, std::optional<std::uint64_t> parent_attempt, WaitHooks hooks)
    : connection_(path), hooks_(std::move(hooks)), welcome_(greet(connection_, hello_of(parent_attempt))) {
  arena_ = Arena(welcome_.arena, welcome_.client, welcome_.inline_max);
  flusher_ = std::thread([this] { flush_late(); });
}

AgentRuntime::~AgentRuntime() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  flusher_.join();
}

DatumId AgentRuntime::new_datum() {
  const std::lock_guard lock(mutex_);
  return DatumId(++last_datum_);
}

client::Value AgentRuntime::store(Bytes blob) {
  const std::lock_guard lock(mutex_);
  return arena_.store(std::move(blob));
}

Bytes AgentRuntime::load(const client::Value& value) {
  return arena_.load(value);
}

void AgentRuntime::submit(const Registration& task, std::vector<client::Access> accesses) {
  Lock lock(mutex_);
  if (registered_.insert(task.function).second) {
    flush(lock);
    connection_.send(client::Kind::kRegister, client::Register{task.function, task.name, "c++", {}, task.options});
  }
  client::TaskCall& call = calls_.emplace_back();
  call.task = TaskId(++last_task_);
  call.function = task.function;
  call.accesses = std::move(accesses);
  if (calls_.size() >= kCallsPerBatch || std::chrono::steady_clock::now() - last_flush_ >= kFlushAfter) {
    flush(lock);
  } else if (calls_.size() == 1) {
    changed_.notify_all();  // the flusher
  }
}

void AgentRuntime::flush(Lock&) {
  if (!calls_.empty()) {
    client::Submit submit;
    submit.calls.swap(calls_);
    connection_.send(client::Kind::kSubmit, submit);
  }
  if (!released_.empty()) {
    client::Release release;
    release.data.swap(released_);
    connection_.send(client::Kind::kRelease, release);
  }
  last_flush_ = std::chrono::steady_clock::now();
}

void AgentRuntime::flush_late() {
  Lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !calls_.empty(); });
    if (closing_) return;
    changed_.wait_until(lock, last_flush_ + kFlushAfter, [this] { return closing_ || calls_.empty(); });
    try {
      if (!broken_) flush(lock);
    } catch (const Failure&) {
      broken_ = true;  // whoever waits next is told
    }
    if (broken_) calls_.clear();
  }
}

Frame AgentRuntime::await(Lock& lock, std::uint64_t request) {
  for (;;) {
    if (const auto found = answers_.find(request); found != answers_.end()) {
      Frame frame = std::move(found->second);
      answers_.erase(found);
      return frame;
    }
    if (broken_) throw Failure(Code::kUnavailable, "the agent closed the connection");
    if (receiving_) {
      changed_.wait(lock);
      continue;
    }
    receiving_ = true;
    lock.unlock();
    std::optional<Frame> frame;
    std::optional<Failure> failure;
    try {
      frame.emplace(connection_.receive());
    } catch (const Failure& error) {
      failure = error;
    }
    lock.lock();
    receiving_ = false;
    changed_.notify_all();
    if (failure) {
      broken_ = true;
      throw *failure;
    }
    std::uint64_t number = 0;
    const bool is_answer = frame->kind == client::Kind::kReply || frame->kind == client::Kind::kValues;
    if (is_answer && frame->document->root().at(1).size() > 0 &&
        wire::get(frame->document->root().at(1).at(0), number)) {
      answers_.insert_or_assign(number, std::move(*frame));
    }
  }
}

void AgentRuntime::put(DatumId datum, client::Value value) {
  Lock lock(mutex_);
  flush(lock);
  connection_.send(client::Kind::kPutData, client::PutData{datum, std::move(value)});
}

namespace {

// Tells the hooks for as long as it lives.
class Waiting {
 public:
  explicit Waiting(const AgentRuntime::WaitHooks& hooks) : hooks_(hooks) {
    if (hooks_.enter) hooks_.enter();
  }
  ~Waiting() {
    if (hooks_.leave) hooks_.leave();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  const AgentRuntime::WaitHooks& hooks_;
};

}  // namespace

std::vector<client::ValueResult> AgentRuntime::wait(const std::vector<DatumId>& data,
                                                    const std::vector<std::string>& files) {
  const Waiting waiting(hooks_);
  std::vector<client::ValueResult> out;
  std::size_t next = 0;
  do {
    client::Wait message;
    const std::size_t end = std::min(data.size(), next + kWaitDataMax);
    message.data.assign(data.begin() + static_cast<std::ptrdiff_t>(next),
                        data.begin() + static_cast<std::ptrdiff_t>(end));
    if (end == data.size()) message.files = files;
    next = end;
    Lock lock(mutex_);
    flush(lock);
    message.request = ++last_request_;
    connection_.send(client::Kind::kWait, message);
    auto values = await(lock, message.request).as<client::Values>();
    if (values.values.size() != message.data.size() + message.files.size()) {
      throw Failure(Code::kInvalid, "the agent answered a wait with another number of values");
    }
    for (auto& value : values.values) out.push_back(std::move(value));
  } while (next < data.size());
  return out;
}

void AgentRuntime::barrier(const std::string& group) {
  const Waiting waiting(hooks_);
  Lock lock(mutex_);
  flush(lock);
  const std::uint64_t request = ++last_request_;
  connection_.send(client::Kind::kBarrier, client::Barrier{request, group, false});
  const auto reply = await(lock, request).as<client::Reply>();
  if (reply.code != 0) throw Failure(static_cast<Code>(reply.code), reply.message);
}

void AgentRuntime::release(DatumId datum) noexcept {
  const std::lock_guard lock(mutex_);
  released_.push_back(datum);
}

void AgentRuntime::group(client::Kind kind, const std::string& name) {
  Lock lock(mutex_);
  flush(lock);
  connection_.send(kind, client::Group{name});
}

wire::Dynamic AgentRuntime::request(const std::string& method, wire::Dynamic::Map params) {
  Lock lock(mutex_);
  flush(lock);
  const std::uint64_t request = ++last_request_;
  connection_.send(client::Kind::kRequest, client::Request{request, method, wire::Dynamic(std::move(params))});
  auto reply = await(lock, request).as<client::Reply>();
  if (reply.code != 0) throw Failure(static_cast<Code>(reply.code), reply.message);
  return std::move(reply.result);
}

}  // namespace shoal::sdk
