#include "edge/edge.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "edge/source.h"
#include "protocol/base/hash.h"
#include "protocol/wire/codec.h"

namespace shoal::edge {
namespace {

constexpr std::size_t kPublishRecords = 1'000;  // of one request to the broker
constexpr std::size_t kPublishBytes = 1U << 20;
constexpr std::size_t kNameBytesMax = 100;

struct SavedSources {  // the file sources.msgpack
  std::uint32_t version = 1;
  std::vector<SourceConfig> sources;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.sources);
  }
};

}  // namespace

class Edge::Impl {
 public:
  explicit Impl(EdgeConfig config) : config_(std::move(config)) {}
  ~Impl();
  Result<> start();
  void on_request(Instant now, ClientId client, std::uint64_t request, const std::string& method,
                  const wire::Dynamic& params);
  void on_reply(Instant now, std::uint64_t id, const Result<wire::Dynamic>& result);
  void on_wake(Instant now);
  Instant next_deadline() const;
  int fd() const { return wake_fd_; }
  EdgeCounters counters() const;

  std::vector<Output> outputs;

 private:
  // A source becomes ready in steps, each of which is a request to the broker that is tried until it works.
  enum class Step : std::uint8_t { kOpen, kAddWriter, kRun, kClose, kEnded };
  struct Running {
    SourceConfig config;
    Step step = Step::kOpen;
    std::uint64_t request = 0;  // under way at the broker; 0: none
    Instant not_before;
    std::vector<Reading> readings;  // of that request
    std::string error;              // of the last refusal
    bool removing = false;
    std::unique_ptr<HandOver> hand_over;
    std::unique_ptr<Source> source;
  };

  Result<> add(const wire::Dynamic& params, std::string& name);
  Result<> remove(const wire::Dynamic& params);
  Result<> save() const;
  void drive(Instant now, Running& running);
  void publish(Running& running);
  void ask(Running& running, std::string method, wire::Dynamic::Map params);
  wire::Dynamic row(const Running& running) const;
  std::string writer_of(const Running& running) const {
    return "edge/" + config_.client_id + "/" + running.config.name;
  }
  void trace(std::string event) { outputs.emplace_back(out::Trace{std::move(event)}); }

  const EdgeConfig config_;
  int wake_fd_ = -1;
  std::map<std::string, Running> sources_;
  std::map<std::uint64_t, std::string> requests_;
  std::uint64_t next_id_ = 1;
  std::uint64_t records_ = 0;
  std::uint64_t refused_ = 0;
  bool started_ = false;
};

Edge::Impl::~Impl() {
  for (auto& [name, running] : sources_) {
    if (running.hand_over) running.hand_over->stop();
  }
  for (auto& [name, running] : sources_) running.source.reset();
  if (wake_fd_ >= 0) ::close(wake_fd_);
}

Result<> Edge::Impl::start() {
  std::error_code error;
  std::filesystem::create_directories(config_.dir, error);
  if (error) {
    return fail(Code::kUnavailable, "cannot create the directory " + config_.dir + ": " + error.message() +
                                        "; check the owner and mode of the state directory");
  }
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) return fail(Code::kExhausted, "no descriptor for the edge sources");
  std::ifstream file(config_.dir + "/sources.msgpack", std::ios::binary);
  if (!file) return {};
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  auto saved = wire::decode<SavedSources>(bytes);
  if (!saved || saved->version != 1) {
    return fail(Code::kCorrupt, config_.dir +
                                    "/sources.msgpack is damaged or of a newer version: remove it and add the "
                                    "sources again");
  }
  for (SourceConfig& config : saved->sources) sources_[config.name].config = std::move(config);
  return {};
}

Result<> Edge::Impl::save() const {
  SavedSources saved;
  for (const auto& [name, running] : sources_) {
    if (!running.removing && running.step != Step::kEnded) saved.sources.push_back(running.config);
  }
  const std::string path = config_.dir + "/sources.msgpack";
  const Bytes bytes = wire::encode(saved);
  std::FILE* file = std::fopen((path + ".new").c_str(), "wbe");
  const bool written = file != nullptr && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size() &&
                       std::fflush(file) == 0 && ::fdatasync(::fileno(file)) == 0;
  if (file != nullptr) {
    ::fchmod(::fileno(file), 0600);  // it may hold passwords
    std::fclose(file);
  }
  if (!written || std::rename((path + ".new").c_str(), path.c_str()) != 0) {
    return fail(Code::kUnavailable, "cannot write " + path + ": is the disk full?");
  }
  return {};
}

Result<> Edge::Impl::add(const wire::Dynamic& params, std::string& name) {
  if (sources_.size() >= config_.sources_max) {
    return fail(Code::kExhausted, fmt::format("this agent has {} sources, the most it allows", sources_.size()));
  }
  SourceConfig config;
  config.type = params.text_or("type", "");
  config.stream = params.text_or("stream", "");
  config.name = params.text_or("name", config.type + "-" + config.stream);
  config.stream_options = params["stream_options"];
  if (config.stream_options.is_nil()) config.stream_options = wire::Dynamic::Map{};
  config.options = params;
  if (config.options.as_map() == nullptr) return fail(Code::kInvalid, "edge.add_source needs parameters");
  for (const char* used : {"name", "type", "stream", "stream_options"}) config.options.as_map()->erase(used);
  if (config.stream.empty()) return fail(Code::kInvalid, "a source needs 'stream', the stream that its records go to");
  if (config.stream_options.as_map() == nullptr) return fail(Code::kInvalid, "'stream_options' is a map");
  if (config.name.empty() || config.name.size() > kNameBytesMax) {
    return fail(Code::kInvalid, "a source's name has 1 to 100 bytes");
  }
  if (auto checked = check_source(config); !checked) return checked;
  name = config.name;
  const auto existing = sources_.find(name);
  if (existing != sources_.end() && existing->second.step != Step::kEnded) {
    return fail(Code::kExists, "there is a source '" + name + "' already: remove it first, or give another name");
  }
  sources_.erase(name);
  sources_[name].config = std::move(config);
  auto saved = save();
  if (!saved) sources_.erase(name);
  return saved;
}

Result<> Edge::Impl::remove(const wire::Dynamic& params) {
  const std::string name = params.text_or("name", "");
  const auto it = sources_.find(name);
  if (it == sources_.end() || it->second.removing) return fail(Code::kNotFound, "there is no source '" + name + "'");
  Running& running = it->second;
  running.removing = true;
  if (auto saved = save(); !saved) {
    running.removing = false;
    return saved;
  }
  if (running.hand_over) running.hand_over->stop();
  running.source.reset();
  // Closing waits for a publish that is under way; a source that is no writer yet has nothing to close.
  if (running.step == Step::kOpen || running.step == Step::kEnded) {
    requests_.erase(running.request);
    sources_.erase(it);
  } else {
    running.step = Step::kClose;
  }
  return {};
}

void Edge::Impl::on_request(Instant now, ClientId client, std::uint64_t request, const std::string& method,
                            const wire::Dynamic& params) {
  wire::Dynamic::Map result;
  Result<> done;
  if (method == "edge.sources") {
    wire::Dynamic::Array rows;
    for (const auto& [name, running] : sources_) rows.push_back(row(running));
    result["sources"] = std::move(rows);
  } else if (method == "edge.add_source") {
    std::string name;
    done = add(params, name);
    result["name"] = name;
  } else if (method == "edge.remove_source") {
    done = remove(params);
  } else {
    done = fail(Code::kUnsupported, "there is no request '" + method + "'");
  }
  outputs.emplace_back(out::Reply{client, request,
                                  done ? Result<wire::Dynamic>(wire::Dynamic(std::move(result)))
                                       : Result<wire::Dynamic>(tl::unexpected(done.error()))});
  on_wake(now);
}

void Edge::Impl::ask(Running& running, std::string method, wire::Dynamic::Map params) {
  running.request = next_id_++;
  requests_[running.request] = running.config.name;
  params["name"] = running.config.stream;
  outputs.emplace_back(out::Publish{running.request, std::move(method), wire::Dynamic(std::move(params))});
}

void Edge::Impl::drive(Instant now, Running& running) {
  if (running.request != 0 || now < running.not_before) return;
  switch (running.step) {
    case Step::kOpen:
      ask(running, "streams.open", *running.config.stream_options.as_map());
      return;
    case Step::kAddWriter:
      ask(running, "streams.add_writer", {{"writer", writer_of(running)}});
      return;
    case Step::kClose:
      ask(running, "streams.close", {{"writer", writer_of(running)}});
      return;
    case Step::kRun:
      publish(running);
      return;
    case Step::kEnded:
      return;
  }
}

void Edge::Impl::publish(Running& running) {
  if (!running.source) {
    running.hand_over = std::make_unique<HandOver>(config_.handover_records_max, wake_fd_);
    auto source = start_source(running.config, config_.client_id, *running.hand_over);
    if (!source) {
      running.error = source.error().message;
      running.hand_over->report("failed", false, running.error);
      running.step = Step::kEnded;  // stays in the list with its error
      trace(fmt::format("source {} failed: {}", running.config.name, running.error));
      return;
    }
    running.source = std::move(*source);
  }
  if (running.readings.empty()) running.readings = running.hand_over->take(kPublishRecords, kPublishBytes);
  if (running.readings.empty()) {
    if (running.hand_over->status().finished) running.step = Step::kClose;
    if (running.step == Step::kClose) ask(running, "streams.close", {{"writer", writer_of(running)}});
    return;
  }
  wire::Dynamic::Map params;
  wire::Dynamic::Array records;
  for (const Reading& reading : running.readings) {
    wire::Dynamic::Map headers;
    for (const auto& [name, value] : reading.headers) headers[name] = value;
    records.emplace_back(
        wire::Dynamic::Array{wire::Dynamic(reading.value), reading.key ? wire::Dynamic(*reading.key) : wire::Dynamic(),
                             reading.timestamp_ms ? wire::Dynamic(*reading.timestamp_ms) : wire::Dynamic(),
                             wire::Dynamic(std::move(headers))});
  }
  if (const auto& sequence = running.readings.front().sequence) {
    // Numbered by the source: a repetition after a restart is recognised by the stream's owner.
    params["producer"] = static_cast<std::int64_t>(hash64(writer_of(running) + "/" + running.config.stream) >> 1);
    params["epoch"] = 0;
    params["sequence"] = *sequence;
    params["partition"] = 0;
  }
  params["writer"] = writer_of(running);
  params["records"] = std::move(records);
  ask(running, "streams.publish", std::move(params));
}

void Edge::Impl::on_reply(Instant now, std::uint64_t id, const Result<wire::Dynamic>& result) {
  const auto request = requests_.find(id);
  if (request == requests_.end()) return;
  const auto it = sources_.find(request->second);
  requests_.erase(request);
  if (it == sources_.end() || it->second.request != id) return;
  Running& running = it->second;
  running.request = 0;
  const bool was_publish = !running.readings.empty();
  if (!result) {
    ++refused_;
    running.not_before = now + config_.publish_retry;
    if (running.error != result.error().message)
      trace(fmt::format("source {}: {}", running.config.name, result.error().message));
    running.error = result.error().message;
    if (running.removing) {
      running.readings.clear();                                                        // their sender still has them
      if (!was_publish && result.error().code == Code::kNotFound) sources_.erase(it);  // the stream is gone
    }
    return;
  }
  running.error.clear();
  if (was_publish) {
    records_ += running.readings.size();
    running.readings.clear();
    running.hand_over->done();
  } else if (running.step == Step::kOpen) {
    running.step = Step::kAddWriter;
  } else if (running.step == Step::kAddWriter) {
    running.step = Step::kRun;
  } else if (running.step == Step::kClose) {
    running.step = Step::kEnded;
    running.source.reset();
    trace(fmt::format("source {} ended", running.config.name));
    if (running.removing) {
      sources_.erase(it);
    } else if (auto saved = save(); !saved) {
      trace(saved.error().message);
    }
    return;
  }
  drive(now, running);
}

void Edge::Impl::on_wake(Instant now) {
  started_ = true;
  std::uint64_t count = 0;
  while (::read(wake_fd_, &count, sizeof count) > 0) {
  }
  for (auto& [name, running] : sources_) drive(now, running);
}

Instant Edge::Impl::next_deadline() const {
  if (!started_) return Instant{};
  Instant due = Instant::never();
  for (const auto& [name, running] : sources_) {
    // A refused request is tried again; everything else is announced on the descriptor.
    if (running.request == 0 && !running.error.empty() && running.step != Step::kEnded)
      due = std::min(due, running.not_before);
  }
  return due;
}

wire::Dynamic Edge::Impl::row(const Running& running) const {
  const auto status = running.hand_over ? running.hand_over->status() : HandOver::Status{};
  wire::Dynamic::Map row;
  row["name"] = running.config.name;
  row["type"] = running.config.type;
  row["stream"] = running.config.stream;
  row["url"] = running.config.options.text_or("url", "");
  row["state"] = running.step == Step::kEnded && status.healthy ? "finished"
                 : status.state.empty()                         ? "waiting for its stream"
                                                                : status.state;
  row["healthy"] = status.healthy && running.error.empty();
  row["error"] = running.error.empty() ? status.error : running.error;
  row["records"] = status.appended;
  row["waiting"] = status.waiting;
  row["reconnects"] = status.reconnects;
  if (const auto url = running.config.options.text_or("url", ""); url.find('@') != std::string::npos) {
    // A login in the URL is not for everybody's eyes.
    row["url"] = url.substr(0, url.find("//") + 2) + url.substr(url.rfind('@') + 1);
  }
  return row;
}

EdgeCounters Edge::Impl::counters() const {
  EdgeCounters counters;
  counters.sources = sources_.size();
  for (const auto& [name, running] : sources_) {
    if (running.hand_over && running.hand_over->status().healthy) ++counters.connected;
  }
  counters.records = records_;
  counters.refused = refused_;
  return counters;
}

// ---- Edge ----

Edge::Edge(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Edge::~Edge() = default;

Result<std::unique_ptr<Edge>> Edge::open(EdgeConfig config) {
  auto impl = std::make_unique<Impl>(std::move(config));
  if (auto started = impl->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<Edge>(new Edge(std::move(impl)));
}

bool Edge::handles(const std::string& method) {
  return method.starts_with("edge.");
}

namespace {

template <class Impl>
void move_outputs(Impl& impl, std::vector<Output>& out) {
  out.insert(out.end(), std::make_move_iterator(impl.outputs.begin()), std::make_move_iterator(impl.outputs.end()));
  impl.outputs.clear();
}

}  // namespace

void Edge::on_request(Instant now, ClientId client, std::uint64_t request, const std::string& method,
                      const wire::Dynamic& params, std::vector<Output>& out) {
  impl_->on_request(now, client, request, method, params);
  move_outputs(*impl_, out);
}
void Edge::on_reply(Instant now, std::uint64_t id, const Result<wire::Dynamic>& result, std::vector<Output>& out) {
  impl_->on_reply(now, id, result);
  move_outputs(*impl_, out);
}
void Edge::on_wake(Instant now, std::vector<Output>& out) {
  impl_->on_wake(now);
  move_outputs(*impl_, out);
}
Instant Edge::next_deadline() const {
  return impl_->next_deadline();
}
int Edge::fd() const {
  return impl_->fd();
}
EdgeCounters Edge::counters() const {
  return impl_->counters();
}

}  // namespace shoal::edge
