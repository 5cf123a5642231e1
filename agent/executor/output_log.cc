#include "agent/executor/output_log.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

namespace shoal::executor {

namespace {

constexpr std::size_t kLineMax = 8 << 10;
constexpr std::size_t kTailMax = 2 << 10;
constexpr std::size_t kReadsPerTurn = 8;

// "[7] text" for every line of `text`, "[7!] text" for stderr.
std::string with_task_numbers(const Output& output) {
  const std::string prefix =
      output.app.is_zero() ? std::string() : fmt::format("[{}{}] ", output.task.value(), output.stream == 2 ? "!" : "");
  std::string out;
  out.reserve(output.text.size() + 64);
  std::size_t start = 0;
  while (start < output.text.size()) {
    std::size_t end = output.text.find('\n', start);
    if (end == std::string::npos) end = output.text.size();
    out += prefix;
    out.append(output.text, start, end - start);
    out += '\n';
    start = end + 1;
  }
  return out;
}

}  // namespace

OutputLog::OutputLog(std::string dir, std::uint64_t bytes_max, Sink sink)
    : dir_(std::move(dir)), bytes_max_(bytes_max), sink_(std::move(sink)) {}

std::string OutputLog::path_of(AppId app) const {
  return app.is_zero() ? dir_ + "/executors.log" : dir_ + "/" + app.hex() + ".log";
}

OutputLog::File* OutputLog::open(AppId app) {
  if (const auto found = by_app_.find(app); found != by_app_.end()) {
    files_.splice(files_.begin(), files_, found->second);
    return &files_.front();
  }
  const std::string path = path_of(app);
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    if (!complained_) spdlog::error("cannot write the output of tasks to '{}': {}", path, ::strerror(errno));
    complained_ = true;
    return nullptr;
  }
  struct stat info{};
  ::fstat(fd.get(), &info);
  files_.push_front(File{app, std::move(fd), static_cast<std::uint64_t>(info.st_size)});
  by_app_[app] = files_.begin();
  if (files_.size() > kFilesOpenMax) {
    by_app_.erase(files_.back().app);
    files_.pop_back();
  }
  return &files_.front();
}

void OutputLog::rotate(File& file) {
  const std::string path = path_of(file.app);
  ::rename(path.c_str(), (path + ".1").c_str());
  file.fd = Fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  file.bytes = 0;
}

void OutputLog::write(const Output& output) {
  if (output.text.empty()) return;
  if (File* file = open(output.app); file != nullptr) {
    const std::string text = with_task_numbers(output);
    if (file->bytes > 0 && file->bytes + text.size() > bytes_max_) rotate(*file);
    const ssize_t written = ::write(file->fd.get(), text.data(), text.size());
    if (written > 0) file->bytes += static_cast<std::uint64_t>(written);
    if (written < 0 && !complained_) {
      spdlog::error("cannot write the output of tasks to '{}': {}", path_of(output.app), ::strerror(errno));
      complained_ = true;
    }
  }
  if (sink_) sink_(output);
}

namespace {

// A file of the log, found again by its inode after it was renamed.
struct LogFile {
  Fd fd;
  std::uint64_t inode = 0;
};

LogFile open_log(const std::string& path) {
  LogFile file{Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), 0};
  struct stat info{};
  if (file.fd.valid() && ::fstat(file.fd.get(), &info) == 0) file.inode = info.st_ino;
  return file;
}

std::optional<OutputLog::Line> parse_line(std::string_view line) {
  const auto end = line.find("] ");
  if (!line.starts_with('[') || end == std::string_view::npos) return std::nullopt;
  std::string_view head = line.substr(1, end - 1);
  OutputLog::Line out;
  if (head.ends_with('!')) {
    out.stream = 2;
    head.remove_suffix(1);
  }
  std::uint64_t task = 0;
  const auto [stop, error] = std::from_chars(head.data(), head.data() + head.size(), task);
  if (error != std::errc() || stop != head.data() + head.size()) return std::nullopt;
  out.task = TaskId(task);
  out.text = line.substr(end + 2);
  return out;
}

// Takes the whole lines from `offset` on, at most `bytes_max`; returns how far it came.
std::uint64_t take_lines(int fd, std::uint64_t offset, std::size_t bytes_max,
                         const std::function<void(const OutputLog::Line&)>& take) {
  std::string text(bytes_max, '\0');
  const ssize_t got = ::pread(fd, text.data(), text.size(), static_cast<off_t>(offset));
  std::string_view rest(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  while (true) {
    const auto end = rest.find('\n');
    if (end == std::string_view::npos) return offset;
    if (const auto line = parse_line(rest.substr(0, end))) take(*line);
    rest.remove_prefix(end + 1);
    offset += end + 1;
  }
}

}  // namespace

OutputLog::Part OutputLog::read_part(AppId app, const std::string& cursor, std::size_t bytes_max,
                                     const std::function<void(const Line&)>& take) const {
  // "<inode>:<offset>": both are checked, so a made-up cursor reads some other place of the same file at worst.
  std::uint64_t inode = 0;
  std::uint64_t offset = 0;
  const char* const end = cursor.data() + cursor.size();
  const auto head = std::from_chars(cursor.data(), end, inode);
  if (head.ec == std::errc() && head.ptr != end) std::from_chars(head.ptr + 1, end, offset);
  const LogFile before = open_log(path_of(app) + ".1");
  const LogFile now = open_log(path_of(app));
  Part part{cursor, false};
  const bool in_now = now.fd.valid() && now.inode == inode;
  if (before.fd.valid() && !in_now) {
    const std::uint64_t from = before.inode == inode ? offset : 0;
    const std::uint64_t to = take_lines(before.fd.get(), from, bytes_max, take);
    part = {fmt::format("{}:{}", before.inode, to), to > from};
    if (part.more) return part;  // the rest, or the newer file, comes with the next read
  }
  if (!now.fd.valid()) return part;
  const std::uint64_t from = in_now ? offset : 0;
  const std::uint64_t to = take_lines(now.fd.get(), from, bytes_max, take);
  return {fmt::format("{}:{}", now.inode, to), to > from};
}

OutputReader::OutputReader(agent::Reactor& reactor, OutputLog& log, Fd fd, std::uint8_t stream,
                           std::function<OutputOwner()> owner)
    : reactor_(reactor), log_(log), fd_(std::move(fd)), stream_(stream), owner_(std::move(owner)) {
  auto added = reactor_.add(fd_.get(), EPOLLIN, [this](std::uint32_t) {
    for (std::size_t i = 0; i < kReadsPerTurn; ++i) {
      if (!read_once()) break;
    }
    pass_on(false);
  });
  if (!added) spdlog::error("the output of a process is lost: {}", added.error().message);
}

OutputReader::~OutputReader() {
  drain();
  pass_on(true);
  if (fd_.valid()) reactor_.remove(fd_.get());
}

bool OutputReader::read_once() {
  std::array<char, 32 << 10> bytes;
  if (!fd_.valid()) return false;
  const ssize_t got = ::read(fd_.get(), bytes.data(), bytes.size());
  if (got < 0) return errno == EINTR;
  if (got == 0) {
    reactor_.remove(fd_.get());
    fd_.reset();
    return false;
  }
  const std::string_view text(bytes.data(), static_cast<std::size_t>(got));
  pending_.append(text);
  fresh_ = true;
  tail_.append(text.substr(text.size() - std::min(text.size(), kTailMax)));
  if (tail_.size() > kTailMax) tail_.erase(0, tail_.size() - kTailMax);
  return true;
}

bool OutputReader::drain() {
  // Bounded: a child of the task may go on writing for ever.
  for (int i = 0; i < 64 && read_once(); ++i) continue;
  pass_on(true);
  return std::exchange(fresh_, false);
}

void OutputReader::pass_on(bool all) {
  std::size_t whole = pending_.size();
  if (!all && whole < kLineMax) {
    const std::size_t last = pending_.rfind('\n');
    whole = last == std::string::npos ? 0 : last + 1;
  }
  if (whole == 0) return;
  const OutputOwner owner = owner_();
  log_.write(Output{owner.app, owner.task, stream_, pending_.substr(0, whole)});
  pending_.erase(0, whole);
}

std::string last_line(std::string_view tail) {
  while (!tail.empty() && (tail.back() == '\n' || tail.back() == ' ' || tail.back() == '\r')) tail.remove_suffix(1);
  const auto start = tail.rfind('\n');
  return std::string(start == std::string_view::npos ? tail : tail.substr(start + 1));
}

}  // namespace shoal::executor
