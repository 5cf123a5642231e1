// Goal: only who may has things done over HTTP, and calls to other servers end, whatever those do.
// Method: a gateway with one controlled path on loopback sockets; the caller against it and against servers that are
// not there, silent, or no servers of HTTP. (Another user's requests need another user: tests/system.)
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "agent/gateway/gateway.h"
#include "agent/gateway/http_caller.h"
#include "protocol/http/client_exchange.h"

namespace shoal::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// A listening socket of loopback that the test answers itself.
struct Listener {
  Listener() {
    fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) std::abort();
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(fd, 8), 0);
    socklen_t size = sizeof(address);
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
  }
  ~Listener() { ::close(fd); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  int fd = -1;
  std::string url;
};

class Served : public ::testing::Test {
 protected:
  void SetUp() override { reactor = std::move(*agent::Reactor::create()); }
  void open(Access access) {
    Control control;
    control.rule = {access, "the_setting", {"Host.Example"}};
    control.handles = [](std::string_view path) { return path == "/do"; };
    control.serve = [this](const http::Request& request) {
      served.push_back(request);
      http::Response response;
      response.status = static_cast<unsigned>(served.size() < failures ? 503 : 200);
      return response;
    };
    gateway.reset();
    Sources sources;
    sources.not_ready = [] { return std::string(); };
    auto opened = Gateway::open(*reactor, "127.0.0.1:0", std::move(sources), std::move(control));
    ASSERT_TRUE(opened) << opened.error().message;
    gateway = std::move(*opened);
  }
  template <class Done>
  bool run_until(Done&& done) {
    const Instant last = agent::Reactor::now() + seconds(10);
    while (!done()) {
      if (agent::Reactor::now() > last) return false;
      reactor->run_once(agent::Reactor::now() + milliseconds(5));
    }
    return true;
  }
  int connect() const {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const std::string url = gateway->url();
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) std::abort();
    EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  std::string ask(const std::string& headers, const std::string& host = "Host: 127.0.0.1:1\r\n") {
    const int fd = connect();
    const std::string text = "PUT /do HTTP/1.1\r\n" + host + headers + "Connection: close\r\nContent-Length: 0\r\n\r\n";
    EXPECT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    std::string answer;
    EXPECT_TRUE(run_until([&] {
      char bytes[4096];
      const ssize_t got = ::recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
      if (got > 0) answer.append(bytes, static_cast<std::size_t>(got));
      return got == 0;
    }));
    ::close(fd);
    return answer;
  }
  // The outcome of a call, within ten seconds.
  std::optional<Result<unsigned>> call(HttpCaller& caller, const std::string& url) {
    std::optional<Result<unsigned>> outcome;
    auto taken =
        caller.call({"PUT", url, "text/plain", "body"}, [&](const Result<unsigned>& status) { outcome = status; });
    EXPECT_TRUE(taken) << taken.error().message;
    EXPECT_TRUE(run_until([&] { return outcome.has_value(); }));
    return outcome;
  }

  std::unique_ptr<agent::Reactor> reactor;
  std::unique_ptr<Gateway> gateway;
  std::vector<http::Request> served;
  std::size_t failures = 0;
};
using ControlTest = Served;
using CallerTest = Served;

CallerLimits hasty() {
  return {4, milliseconds(200), 3, milliseconds(1)};
}

TEST_F(ControlTest, TheOwnerMayAndAWebPageMayNot) {
  open(Access::kOwner);
  EXPECT_THAT(ask(""), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(ask("Origin: http://127.0.0.1:1\r\n"), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(ask("Sec-Fetch-Site: same-origin\r\n"), StartsWith("HTTP/1.1 403"));
  EXPECT_EQ(served.size(), 1U);
}

TEST_F(ControlTest, OnlyByNamesOfThisHost) {
  open(Access::kOwner);
  for (const char* host : {"localhost", "LOCALHOST:80", "[::1]:80", "host.example:80", "10.0.0.1"})
    EXPECT_THAT(ask("", std::string("Host: ") + host + "\r\n"), StartsWith("HTTP/1.1 200")) << host;
  for (const char* host :
       {"evil.example", "127.0.0.1.evil.example", "host.example.evil", "[evil]", "[", "1", "::1", ""})
    EXPECT_THAT(ask("", std::string("Host: ") + host + "\r\n"), StartsWith("HTTP/1.1 403")) << host;
  open(Access::kAnyone);
  EXPECT_THAT(ask("", "Host: somewhere.example\r\n"), StartsWith("HTTP/1.1 200"));
}

TEST_F(ControlTest, SwitchedOffItSaysWhichSettingDoesThat) {
  open(Access::kNobody);
  EXPECT_THAT(ask(""), HasSubstr("the_setting = none"));
  EXPECT_TRUE(served.empty());
}

// The kernel lists the sockets of a connection that ends as root's: they must not pass for root.
TEST_F(ControlTest, APeerThatIsGoneIsNobody) {
  open(Access::kHost);
  const int fd = connect();
  const std::string text = "PUT /do HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
  ASSERT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  ::shutdown(fd, SHUT_WR);
  std::string answer;
  EXPECT_TRUE(run_until([&] {
    char bytes[4096];
    const ssize_t got = ::recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got > 0) answer.append(bytes, static_cast<std::size_t>(got));
    return got == 0;
  }));
  ::close(fd);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 403"));
  EXPECT_TRUE(served.empty());
}

TEST_F(ControlTest, ABodyThatWaitsToBeAskedForIsAskedFor) {
  open(Access::kOwner);
  const int fd = connect();
  const std::string head = "PUT /do HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
  ASSERT_EQ(::send(fd, head.data(), head.size(), MSG_NOSIGNAL), static_cast<ssize_t>(head.size()));
  std::string answer;
  const auto receive = [&](const std::string& until) {
    return run_until([&] {
      char bytes[4096];
      const ssize_t got = ::recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
      if (got > 0) answer.append(bytes, static_cast<std::size_t>(got));
      return answer.find(until) != std::string::npos;
    });
  };
  EXPECT_TRUE(receive("100 Continue\r\n\r\n"));
  ASSERT_EQ(::send(fd, "body", 4, MSG_NOSIGNAL), 4);
  EXPECT_TRUE(receive("HTTP/1.1 200"));
  ::close(fd);
  ASSERT_EQ(served.size(), 1U);
  EXPECT_EQ(served[0].body, "body");
}

TEST_F(CallerTest, TellsAndTriesAgain) {
  open(Access::kOwner);
  failures = 3;
  HttpCaller caller(*reactor, hasty());
  const auto outcome = call(caller, gateway->url() + "/do");
  ASSERT_TRUE(outcome && *outcome) << (*outcome).error().message;
  EXPECT_EQ(**outcome, 200U);
  ASSERT_EQ(served.size(), 3U);
  EXPECT_EQ(served[0].method, "PUT");
  EXPECT_EQ(served[0].body, "body");
  EXPECT_EQ(**call(caller, gateway->url() + "/nothing"), 404U);
}

TEST_F(CallerTest, GivesUpOnWhoIsNotThereSilentOrNoServer) {
  std::string nobody;
  {
    const Listener listener;
    nobody = listener.url;
  }
  HttpCaller caller(*reactor, hasty());
  EXPECT_THAT(call(caller, nobody)->error().message, HasSubstr("refused"));
  const Listener silent;
  EXPECT_THAT(call(caller, silent.url)->error().message, HasSubstr("does not answer"));
  const Listener other;
  ASSERT_TRUE(reactor->add(other.fd, EPOLLIN, [&](std::uint32_t) {
    const int fd = ::accept4(other.fd, nullptr, nullptr, SOCK_CLOEXEC);
    (void)::send(fd, "SSH-2.0-x\r\n", 11, MSG_NOSIGNAL);
    ::close(fd);
  }));
  EXPECT_EQ(call(caller, other.url)->error().code, Code::kCorrupt);
  reactor->remove(other.fd);
}

TEST_F(CallerTest, EndsAtOnceAndRefusesTooMuch) {
  const Listener silent;
  {
    HttpCaller caller(*reactor, {2, seconds(60), 3, seconds(60)});
    std::size_t taken = 0;
    while (caller.call({"PUT", silent.url, "", ""}, [](const Result<unsigned>&) {}) && taken < 10) ++taken;
    EXPECT_LE(taken, 3U);  // one may be under way
    EXPECT_FALSE(caller.call({"PUT", "https://a", "", ""}, [](const Result<unsigned>&) {}));
  }  // and does not wait for the silent one
}

TEST(Url, IsTakenApartOrRefused) {
  const auto target = http::parse_url("http://[::1]:8080/a?b=c#d");
  ASSERT_TRUE(target);
  EXPECT_EQ(target->host, "::1");
  EXPECT_EQ(target->port, "8080");
  EXPECT_EQ(target->authority, "[::1]:8080");
  EXPECT_EQ(target->path, "/a?b=c");
  EXPECT_EQ(http::parse_url("http://a?b")->path, "/?b");
  EXPECT_EQ(http::parse_url("http://a")->port, "80");
  for (const char* bad : {"", "a", "https://a", "http://", "http:///x", "http://a:b/", "http://a:99999", "http://a b",
                          "http://u@a", "http://[::1", "http://a\r\nX: y"})
    EXPECT_FALSE(http::parse_url(bad)) << bad;
}

}  // namespace
}  // namespace shoal::gateway
