// Goal: whatever arrives at the HTTP port is answered or closed within its limits, in order, and the routes say what
// they should. Method: a gateway on a real reactor and loopback sockets; junk, halves, too much, many at once.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "agent/gateway/exposition.h"
#include "agent/gateway/gateway.h"
#include "protocol/base/rng.h"

namespace shoal::gateway {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kGet[] = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t found = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) ++found;
  return found;
}

class GatewayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    reactor = std::move(*agent::Reactor::create());
    open({});
  }
  void open(ServerLimits limits) {
    Sources sources;
    sources.metrics = [this](std::function<void(std::string)> done) { waiting = std::move(done); };
    sources.not_ready = [this] { return not_ready; };
    gateway.reset();
    auto opened = Gateway::open(*reactor, "127.0.0.1:0", std::move(sources), {}, limits);
    ASSERT_TRUE(opened) << opened.error().message;
    gateway = std::move(*opened);
  }
  int connect() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const std::string url = gateway->url();
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  // Turns of the loop until `done`, at most ten seconds.
  template <class Done>
  bool run_until(Done&& done) {
    const Instant last = agent::Reactor::now() + seconds(10);
    while (!done()) {
      if (agent::Reactor::now() > last) return false;
      reactor->run_once(agent::Reactor::now() + milliseconds(5));
    }
    return true;
  }
  // What the gateway sends until it closes, or until `times` responses' heads came.
  std::string read_all(int fd, std::size_t times = 1'000'000) {
    std::string text;
    bool closed = false;
    EXPECT_TRUE(run_until([&] {
      char bytes[4096];
      ssize_t got = 0;
      while ((got = ::recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        text.append(bytes, static_cast<std::size_t>(got));
      closed = closed || got == 0 || (got < 0 && errno != EAGAIN);
      return closed || count(text, "HTTP/1.1 ") >= times;
    })) << text;
    return text;
  }
  std::string ask(const std::string& request, std::size_t times = 1'000'000) {
    const int fd = connect();
    EXPECT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
    std::string text = read_all(fd, times);
    ::close(fd);
    return text;
  }
  void expect_alive() { EXPECT_THAT(ask(kGet, 1), StartsWith("HTTP/1.1 200 OK\r\n")); }

  std::unique_ptr<agent::Reactor> reactor;
  std::string not_ready;
  std::function<void(std::string)> waiting;
  std::unique_ptr<Gateway> gateway;
};

TEST_F(GatewayTest, RoutesAnswer) {
  const std::string close = " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  EXPECT_THAT(ask("GET /healthz" + close), EndsWith("{\"status\":\"ok\"}\n"));
  EXPECT_THAT(ask("GET /readyz?verbose" + close), StartsWith("HTTP/1.1 200"));
  not_ready = "the region has no head yet";
  const std::string unready = ask("GET /readyz" + close);
  EXPECT_THAT(unready, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(unready, HasSubstr("the region has no head yet"));
  const std::string missing = ask("GET /nothing\xff" + close);
  EXPECT_THAT(missing, StartsWith("HTTP/1.1 404 Not Found"));
  EXPECT_THAT(missing, HasSubstr("application/json"));
  const std::string wrong =
      ask("POST /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
  EXPECT_THAT(wrong, StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(wrong, HasSubstr("Allow: GET, HEAD"));
  const std::string head = ask("HEAD /healthz" + close);
  EXPECT_THAT(head, HasSubstr("Content-Length: 16"));
  EXPECT_THAT(head, EndsWith("\r\n\r\n"));
}

TEST_F(GatewayTest, AnswersThatComeLaterGoToWhoAskedAndStaleOnesNowhere) {
  const std::string request = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
  const int gone = connect();
  ASSERT_GT(::send(gone, request.data(), request.size(), 0), 0);
  ASSERT_TRUE(run_until([&] { return waiting != nullptr; }));
  auto first = std::exchange(waiting, nullptr);
  linger hard{1, 0};
  ::setsockopt(gone, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
  ::close(gone);
  ASSERT_TRUE(run_until([&] { return gateway->counters().open == 0; }));
  const int fd = connect();
  ASSERT_GT(::send(fd, request.data(), request.size(), 0), 0);
  ASSERT_TRUE(run_until([&] { return waiting != nullptr; }));
  first("of the first\n");
  waiting("of the second\n");
  EXPECT_THAT(read_all(fd, 1), EndsWith("of the second\n"));
  ::close(fd);
}

TEST_F(GatewayTest, PipelinedRequestsAreAnsweredInOrder) {
  std::string many;
  for (int i = 0; i < 500; ++i) many += "GET /p" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n";
  many += "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  const std::string text = ask(many);
  EXPECT_EQ(count(text, "HTTP/1.1 404"), 501U);
  std::size_t at = 0;
  for (int i = 0; i < 500; ++i) {
    at = text.find("at /p" + std::to_string(i) + ";", at);
    ASSERT_NE(at, std::string::npos) << i;
  }
}

TEST_F(GatewayTest, JunkIsRefusedAndTheGatewayLivesOn) {
  for (const std::string& junk :
       {std::string("\x16\x03\x01\x02\x00\x01\x00\x01", 8), std::string("hello\r\n\r\n"), std::string("GET /\r\n\r\n"),
        std::string("GET / HTTP/9.9\r\n\r\n"), std::string("GET / HTTP/1.1\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost a\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n")}) {
    const std::string text = ask(junk);
    EXPECT_TRUE(text.starts_with("HTTP/1.1 400") || text.starts_with("HTTP/1.1 505")) << junk << " → " << text;
  }
  Rng rng(7);
  for (int round = 0; round < 50; ++round) {
    std::string junk(1 + rng.below(3000), '\0');
    for (char& c : junk) c = static_cast<char>(rng.below(256));
    const int fd = connect();
    ASSERT_GT(::send(fd, junk.data(), junk.size(), MSG_NOSIGNAL), 0);
    ::shutdown(fd, SHUT_WR);
    read_all(fd);
    ::close(fd);
  }
  expect_alive();
}

TEST_F(GatewayTest, TooMuchIsRefusedBeforeItIsHeld) {
  EXPECT_THAT(ask("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(20'000, 'x')), StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(ask("GET /" + std::string(9'000, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n"), StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(ask("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"), StartsWith("HTTP/1.1 413"));
  expect_alive();
}

TEST_F(GatewayTest, HalvesAreWaitedForAndNotForEver) {
  const int patient = connect();
  ASSERT_GT(::send(patient, kGet, 10, 0), 0);
  ASSERT_TRUE(run_until([&] { return gateway->counters().open == 1; }));
  ASSERT_GT(::send(patient, kGet + 10, sizeof(kGet) - 11, 0), 0);
  EXPECT_THAT(read_all(patient, 1), StartsWith("HTTP/1.1 200"));
  ::close(patient);
  ServerLimits limits;
  limits.request_time_max = milliseconds(30);
  limits.keep_alive_max = milliseconds(60);
  open(limits);
  const int slow = connect();
  ASSERT_GT(::send(slow, kGet, 10, 0), 0);
  EXPECT_EQ(read_all(slow), "");
  ::close(slow);
  const int silent = connect();
  ASSERT_GT(::send(silent, kGet, sizeof(kGet) - 1, 0), 0);
  EXPECT_EQ(count(read_all(silent), "HTTP/1.1 200"), 1U);
  ::close(silent);
  EXPECT_EQ(gateway->counters().timed_out, 2U);
}

TEST_F(GatewayTest, ConnectionsAreBounded) {
  ServerLimits limits;
  limits.connections_max = 2;
  open(limits);
  const int a = connect();
  const int b = connect();
  ASSERT_TRUE(run_until([&] { return gateway->counters().open == 2; }));
  const int c = connect();
  EXPECT_THAT(read_all(c), StartsWith("HTTP/1.1 503"));
  for (const int fd : {a, b, c}) ::close(fd);
  ASSERT_TRUE(run_until([&] { return gateway->counters().open == 0; }));
  expect_alive();
}

TEST_F(GatewayTest, AddressesAreCheckedAndNamed) {
  const auto open_at = [&](const std::string& address) { return Gateway::open(*reactor, address, {}); };
  for (const char* bad : {"", "9000", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "example.org:80", ":80"}) {
    auto opened = open_at(bad);
    ASSERT_FALSE(opened) << bad;
    EXPECT_EQ(opened.error().code, Code::kInvalid) << bad;
    EXPECT_THAT(opened.error().message, HasSubstr("--http"));
  }
  auto taken = open_at(gateway->url().substr(7));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, Code::kUnavailable);
  EXPECT_THAT(taken.error().message, HasSubstr(gateway->url().substr(7)));
  EXPECT_TRUE(open_at("localhost:0"));
}

TEST(Exposition, EscapesWhatLabelsAndHelpMustNotHold) {
  Exposition out;
  out.family("shoal_x_total", MetricType::kCounter, "two\nlines \\ \"quoted\"");
  out.sample(std::uint64_t{3}, {{"name", "a\"b\\c\nd"}, {"other", ""}});
  out.gauge("shoal_y", "y", 0);
  EXPECT_EQ(
      out.text(),
      "# HELP shoal_x_total two\\nlines \\\\ \"quoted\"\n# TYPE shoal_x_total counter\n"
      "shoal_x_total{name=\"a\\\"b\\\\c\\nd\",other=\"\"} 3\n# HELP shoal_y y\n# TYPE shoal_y gauge\nshoal_y 0\n");
}

}  // namespace
}  // namespace shoal::gateway
