#include "tools/shoal/follow.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <utility>

#include "tools/shoal/command.h"
#include "tools/shoal/task_output.h"

namespace shoal::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Duration kTurn = milliseconds(200);
constexpr auto kTaskOutputEvery = std::chrono::milliseconds(400);
constexpr auto kTakeOver = std::chrono::seconds(30);

// Set by the signal handler, read by the loop that follows an application: the signal, and how often.
volatile std::sig_atomic_t signal_number = 0;
volatile std::sig_atomic_t signal_count = 0;

void on_signal(int number) {
  signal_number = number;
  signal_count = signal_count + 1;
}

class ProgressLine {
 public:
  explicit ProgressLine(bool wanted) : shown_(wanted && isatty(STDERR_FILENO) != 0), begin_(Clock::now()) {}
  void clear() {
    if (drawn_) std::fputs("\r\x1b[K", stderr);
    drawn_ = false;
  }
  void draw(const wire::Dynamic& counts) {
    const std::int64_t done = counts.int_or("done", 0);
    const std::int64_t total = counts.int_or("tasks", 0);
    if (!shown_ || total == 0) return;
    constexpr std::int64_t kWidth = 24;
    const auto full = static_cast<std::size_t>(done * kWidth / total);
    fmt::print(stderr, "\r\x1b[K[{}{}] {}/{} tasks, {} failed, {}", std::string(full, '#'),
               std::string(static_cast<std::size_t>(kWidth) - full, '.'), done, total, counts.int_or("failed", 0),
               left(done, total));
    drawn_ = true;
  }

 private:
  // How long the tasks known so far may take yet, at the pace so far.
  std::string left(std::int64_t done, std::int64_t total) const {
    const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin_).count();
    if (done == 0) return human_ms(passed) + " so far";
    return human_ms(passed * (total - done) / done) + " left";
  }

  bool shown_;
  bool drawn_ = false;
  Clock::time_point begin_;
};

class Following {
 public:
  Following(Client& client, std::string app, const FollowOptions& options)
      : client_(&client),
        app_(std::move(app)),
        options_(options),
        progress_(options.progress),
        tasks_(app_, "all", TaskOutput::Prefix::kTaskAndAgent, {}),
        begin_(Clock::now()) {}

  FollowEnd run() {
    if (auto attached = client_->request("app.attach", {{"app", app_}}); !attached) return lost(attached.error());
    while (true) {
      if (auto end = check_signals()) return *end;
      if (auto end = check_time()) return *end;
      auto event = client_->next_event(kTurn);
      if (!event && event.error().code != Code::kTimeout && !follow_to_guardian(event.error()))
        return lost(event.error());
      if (event && event->body.text_or("app", "") == app_ && on_event(*event)) return ended(*event);
      if (moved_) {
        moved_ = false;
        const Error error{Code::kUnavailable, "the application has moved"};
        if (!follow_to_guardian(error)) return lost(error);
      }
      if (options_.task_output && Clock::now() >= next_task_output_) show_task_output();
    }
  }

 private:
  FollowEnd lost(Error error) {
    progress_.clear();
    return {FollowEnd::How::kLost, 0, std::move(error)};
  }

  // The agent is gone, and the application goes on at its guardian: shows what comes after what was shown.
  bool follow_to_guardian(const Error& error) {
    if (guardian_.empty()) return false;
    progress_.clear();
    complain(fmt::format("{}; going on with agent {}", error.message, guardian_name_));
    const std::string socket = std::exchange(guardian_, {});
    const auto until = Clock::now() + kTakeOver;
    while (Clock::now() < until && signal_count == 0) {
      auto other = Client::connect(socket);
      if (!other) break;
      const wire::Dynamic::Map wanted{{"app", app_}, {"stdout_seen", shown_[1]}, {"stderr_seen", shown_[2]}};
      if (other->request("app.attach", wanted)) {
        successor_ = std::make_unique<Client>(std::move(*other));
        client_ = successor_.get();
        return true;
      }
      (void)other->next_event(kTurn);  // it has not noticed yet
    }
    return false;
  }

  void cancel(const std::string& why) {
    cancelled_ = true;
    progress_.clear();
    complain(why + ": cancelling the application");
    (void)client_->request("app.cancel", {{"app", app_}});
  }

  std::optional<FollowEnd> check_signals() {
    if (signal_count == 0) return std::nullopt;
    const FollowEnd end{FollowEnd::How::kSignal, kSignalled + signal_number, {}};
    // The second signal does not wait for the end of the application.
    if (!options_.cancels || signal_count > 1) {
      progress_.clear();
      return end;
    }
    if (!cancelled_) cancel(signal_number == SIGINT ? "Ctrl-C" : "terminated");
    return std::nullopt;
  }

  std::optional<FollowEnd> check_time() {
    if (timed_out_ || !options_.timeout) return std::nullopt;
    if (Clock::now() - begin_ < std::chrono::microseconds(options_.timeout->us)) return std::nullopt;
    timed_out_ = true;
    if (!options_.cancels) {
      progress_.clear();
      return FollowEnd{FollowEnd::How::kTimedOut, 0, {}};
    }
    cancel("the time is over");
    return std::nullopt;
  }

  // True at the end of the application.
  bool on_event(const client::Event& event) {
    if (event.topic == "app.output" && options_.output) {
      progress_.clear();
      const bool is_error = event.body.int_or("stream", 1) == 2;
      std::FILE* target = is_error ? stderr : stdout;
      if (const Bytes* text = event.body["text"].as_bytes()) {
        std::fwrite(text->data(), 1, text->size(), target);
        shown_[is_error ? 2 : 1] += static_cast<std::int64_t>(text->size());
      }
      std::fflush(target);
    } else if (event.topic == "app.guardian") {
      guardian_ = event.body.text_or("socket", "");
      guardian_name_ = event.body.text_or("name", "");
      moved_ = event.body.bool_or("moved", false);
    } else if (event.topic == "app.progress") {
      progress_.draw(event.body);
    }
    return event.topic == "app.exit";
  }

  void show_task_output() {
    progress_.clear();
    next_task_output_ = Clock::now() + kTaskOutputEvery;
    (void)tasks_.poll(*client_);
  }

  FollowEnd ended(const client::Event& event) {
    progress_.clear();
    if (options_.task_output) drain_task_output();
    if (timed_out_) return {FollowEnd::How::kTimedOut, 0, {}};
    if (signal_count > 0) return {FollowEnd::How::kSignal, kSignalled + signal_number, {}};
    return {FollowEnd::How::kExited, static_cast<int>(event.body.int_or("code", kFailed)), {}};
  }

  void drain_task_output() {
    constexpr int kPartsMax = 10'000;  // an agent that always has more does not hold this for ever
    for (int part = 0; part < kPartsMax; ++part) {
      auto next = tasks_.poll(*client_);
      if (!next || !next->more) return;
    }
  }

  Client* client_;
  std::unique_ptr<Client> successor_;  // at the guardian
  std::string guardian_;               // its socket, when it is on this host
  std::string guardian_name_;
  bool moved_ = false;
  std::array<std::int64_t, 3> shown_{};  // bytes, by stream
  const std::string app_;
  const FollowOptions options_;
  ProgressLine progress_;
  TaskOutput tasks_;
  const Clock::time_point begin_;
  Clock::time_point next_task_output_;
  bool cancelled_ = false;
  bool timed_out_ = false;
};

}  // namespace

FollowEnd follow(Client& client, const std::string& app, const FollowOptions& options) {
  struct sigaction action{};
  action.sa_handler = on_signal;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  return Following(client, app, options).run();
}

}  // namespace shoal::cli
