// Goal: whatever a local process sends or fails to read, the agent's socket stays up, other clients are served, and
// every client is told of exactly once. Method: a server on a socket of its own and clients that write raw bytes.
#include "agent/executor/client_server.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/unit/executor/harness.h"

namespace shoal::executor {
namespace {

using ::testing::HasSubstr;

class ClientServerTest : public ::testing::Test {
 protected:
  explicit ClientServerTest(ClientServerLimits limits = {}) : reactor_(make_reactor()) {
    server_ = std::make_unique<ClientServer>(
        *reactor_,
        [this](ClientEvent&& event) {
          if (const auto* c = std::get_if<ClientConnected>(&event)) connected_.push_back(*c);
          if (auto* f = std::get_if<ClientFrame>(&event)) frames_.push_back(std::move(*f));
          if (const auto* g = std::get_if<ClientGone>(&event)) gone_.push_back(*g);
        },
        limits);
    path_ = dir_.at("agent.sock");
    const auto listening = server_->listen(path_);
    EXPECT_TRUE(listening.has_value()) << listening.error().message;
  }

  bool until(const std::function<bool()>& condition) { return run_until(*reactor_, condition); }

  std::unique_ptr<RawClient> greeted_client(const std::string& role = "driver") {
    auto client = std::make_unique<RawClient>(path_);
    const std::size_t before = connected_.size();
    client->send(hello_frame(role));
    EXPECT_TRUE(until([&] { return connected_.size() > before; }));
    return client;
  }

  // Sends bytes as a greeted client and returns what the agent answered before it hung up.
  std::string answer_to(const std::string& bytes) {
    auto client = greeted_client();
    client->send(bytes);
    EXPECT_TRUE(until([&] { return !client->receive(); })) << "the agent did not hang up";
    const auto reply = client->reply();
    EXPECT_TRUE(reply.has_value());
    return reply ? reply->message : "";
  }

  TempDir dir_;
  std::unique_ptr<agent::Reactor> reactor_;
  std::unique_ptr<ClientServer> server_;
  std::string path_;
  std::vector<ClientConnected> connected_;
  std::vector<ClientFrame> frames_;
  std::vector<ClientGone> gone_;
};

TEST_F(ClientServerTest, GreetsAndPassesFramesOnInOrder) {
  auto client = greeted_client();
  EXPECT_EQ(connected_[0].hello.role, "driver");
  EXPECT_EQ(connected_[0].peer_pid, static_cast<std::uint64_t>(::getpid()));
  client::Submit submit;
  submit.calls.resize(3);
  submit.calls[2].task = TaskId(9);
  client->send(framed(client::Kind::kSubmit, submit) + framed(client::Kind::kOpenGroup, client::Group{"g"}) +
               framed(client::Kind::kBarrier, client::Barrier{5, "g", false}));
  ASSERT_TRUE(until([&] { return frames_.size() == 3; }));
  EXPECT_EQ(std::get<client::Submit>(frames_[0].message).calls[2].task, TaskId(9));
  EXPECT_EQ(std::get<GroupCall>(frames_[1].message).group, "g");
  EXPECT_EQ(std::get<client::Barrier>(frames_[2].message).request, 5U);
}

TEST_F(ClientServerTest, AnswersAreFramesToo) {
  auto client = greeted_client();
  EXPECT_TRUE(server_->send(connected_[0].client, client::Reply{4, 0, "fine", {}, {}}));
  ASSERT_TRUE(until([&] {
    client->receive();
    return client->reply().has_value();
  }));
  EXPECT_EQ(client->reply()->message, "fine");
  EXPECT_FALSE(server_->send(ClientId(999), client::Reply{}));
}

TEST_F(ClientServerTest, FramesMayArriveByteByByte) {
  RawClient client(path_);
  const std::string bytes = hello_frame() + framed(client::Kind::kRelease, client::Release{{DatumId(3)}, {}});
  for (const char byte : bytes) {
    client.send(std::string_view(&byte, 1));
    reactor_->run_once(Instant{0});
  }
  ASSERT_TRUE(until([&] { return frames_.size() == 1; }));
  EXPECT_EQ(std::get<client::Release>(frames_[0].message).data[0], DatumId(3));
}

TEST_F(ClientServerTest, AFrameLargerThanEveryBufferArrivesWhole) {
  auto client = greeted_client();
  client::Register message;
  message.payload = Bytes(std::string(5 << 20, 'p'));
  const std::string bytes = framed(client::Kind::kRegister, message);
  std::size_t sent = 0;
  ASSERT_TRUE(until([&] {
    sent += client->send(std::string_view(bytes).substr(sent));
    return !frames_.empty();
  }));
  EXPECT_EQ(std::get<client::Register>(frames_[0].message).payload, message.payload);
}

TEST_F(ClientServerTest, JunkIsAnsweredAndTheConnectionClosed) {
  EXPECT_THAT(answer_to(std::string("\x05\x00\x00\x00\xc1\xc1\xc1\xc1\xc1", 9)), HasSubstr("not valid msgpack"));
  EXPECT_THAT(answer_to(std::string("\x01\x00\x00\x00\x07", 5)), HasSubstr("not an array"));
  EXPECT_THAT(answer_to("GET / HTTP/1.1\r\n\r\n"), HasSubstr("is this a Shoal program?"));
  EXPECT_THAT(answer_to(std::string("\xff\xff\xff\xff", 4)), HasSubstr("claims 4294967295 bytes"));
  EXPECT_THAT(answer_to(std::string("\x00\x00\x00\x00", 4)), HasSubstr("claims 0 bytes"));
  EXPECT_THAT(answer_to(framed(client::Kind::kWelcome, client::Welcome{})),
              HasSubstr("no client sends messages of kind 64"));
  EXPECT_THAT(answer_to(framed(client::Kind::kSubmit, client::Group{"not a submit"})), HasSubstr("fields of its kind"));
  EXPECT_EQ(server_->counters().broken, 7U);
  ASSERT_TRUE(until([&] { return gone_.size() == 7; }));
  auto next = greeted_client();  // and the next one is served
  EXPECT_EQ(server_->clients(), 1U);
}

TEST_F(ClientServerTest, AClaimOfManyItemsCostsNothing) {
  // An array that claims 2^32-1 items, in a frame of 8 bytes.
  answer_to(std::string("\x08\x00\x00\x00\x92\x03\x91\xdd\xff\xff\xff\xff", 12));
}

TEST_F(ClientServerTest, TheFirstMessageMustBeHelloOfOurVersion) {
  RawClient rude(path_);
  rude.send(framed(client::Kind::kBarrier, client::Barrier{}));
  ASSERT_TRUE(until([&] { return !rude.receive(); }));
  EXPECT_THAT(rude.reply()->message, HasSubstr("must be Hello"));

  RawClient future(path_);
  client::Hello hello;
  hello.version = 7;
  future.send(framed(client::Kind::kHello, hello));
  ASSERT_TRUE(until([&] { return !future.receive(); }));
  EXPECT_THAT(future.reply()->message, HasSubstr("version 7"));
  EXPECT_TRUE(connected_.empty());
  reactor_->run_once(Instant{0});
  EXPECT_TRUE(gone_.empty()) << "nobody heard of them, nobody is told they are gone";
}

TEST_F(ClientServerTest, HangingUpIsToldOnceAfterTheLastFrame) {
  auto client = greeted_client();
  client->send(framed(client::Kind::kOpenGroup, client::Group{"last"}));
  client->hang_up();
  ASSERT_TRUE(until([&] { return !gone_.empty(); }));
  EXPECT_EQ(frames_.size(), 1U);
  EXPECT_EQ(gone_.size(), 1U);
  EXPECT_EQ(gone_[0].client, connected_[0].client);
  EXPECT_EQ(server_->clients(), 0U);
}

TEST_F(ClientServerTest, ClosingFromInsideTheSinkIsSafe) {
  server_ = std::make_unique<ClientServer>(*reactor_, [this](ClientEvent&& event) {
    if (const auto* c = std::get_if<ClientConnected>(&event)) connected_.push_back(*c);
    if (const auto* f = std::get_if<ClientFrame>(&event)) server_->close(f->client, "enough");
    if (const auto* g = std::get_if<ClientGone>(&event)) gone_.push_back(*g);
  });
  ASSERT_TRUE(server_->listen(path_).has_value());
  auto client = greeted_client();
  const std::string frame = framed(client::Kind::kOpenGroup, client::Group{"x"});
  client->send(frame + frame + frame);
  ASSERT_TRUE(until([&] { return gone_.size() == 1; }));
  EXPECT_EQ(gone_[0].reason, "enough");
}

TEST_F(ClientServerTest, AnAdoptedDescriptorIsAClientLikeOthers) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  ASSERT_TRUE(server_->attach(ends[0]).has_value());
  const std::string hello = hello_frame("executor");
  ASSERT_EQ(::write(ends[1], hello.data(), hello.size()), static_cast<ssize_t>(hello.size()));
  ASSERT_TRUE(until([&] { return connected_.size() == 1; }));
  ::close(ends[1]);
  ASSERT_TRUE(until([&] { return gone_.size() == 1; }));
}

TEST_F(ClientServerTest, SocketIsPrivateAndRemovedAtTheEnd) {
  struct stat info{};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  server_.reset();
  EXPECT_NE(::stat(path_.c_str(), &info), 0);
}

TEST_F(ClientServerTest, ASocketInUseIsNotTakenAStaleOneIs) {
  ClientServer second(*reactor_, [](ClientEvent&&) {});
  const auto refused = second.listen(path_);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kExists);
  EXPECT_THAT(refused.error().message, HasSubstr("another agent listens"));

  // A socket file whose process is gone.
  const std::string stale = dir_.at("stale.sock");
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  stale.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(fd);
  EXPECT_TRUE(second.listen(stale).has_value());
}

TEST_F(ClientServerTest, BadPathsAreRefusedWithAdvice) {
  ClientServer other(*reactor_, [](ClientEvent&&) {});
  const auto refused = other.listen("/" + std::string(200, 'x'));
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("choose a shorter home"));
  std::ofstream(dir_.at("file")) << "precious";
  EXPECT_THAT(other.listen(dir_.at("file")).error().message, HasSubstr("is not a socket"));
  EXPECT_EQ(read_all(dir_.at("file")), "precious");
  EXPECT_FALSE(other.listen(dir_.at("no/such/dir/s")).has_value());
}

class SlowReaderTest : public ClientServerTest {
 protected:
  static ClientServerLimits small() {
    ClientServerLimits limits;
    limits.clients_max = 2;
    limits.output_pause_bytes = 1 << 20;
    limits.output_bytes_max = 4 << 20;
    return limits;
  }
  SlowReaderTest() : ClientServerTest(small()) {}
  client::Reply big() const { return client::Reply{1, 0, std::string(256 << 10, 'b'), {}, {}}; }
};

TEST_F(SlowReaderTest, IsNotReadFromUntilItReads) {
  auto client = greeted_client();
  for (int i = 0; i < 8; ++i) server_->send(connected_[0].client, big());
  reactor_->run_once(Instant{0});
  client->send(framed(client::Kind::kOpenGroup, client::Group{"waits"}));
  for (int i = 0; i < 5; ++i) reactor_->run_once(Instant{0});
  EXPECT_TRUE(frames_.empty());
  ASSERT_TRUE(until([&] {
    client->receive();
    return !frames_.empty();
  }));
  EXPECT_LT(server_->queued_bytes(connected_[0].client), 1U << 20);
}

TEST_F(SlowReaderTest, AnExecutorIsReadFromAllTheSame) {
  auto client = greeted_client("executor");
  for (int i = 0; i < 8; ++i) server_->send(connected_[0].client, big());
  reactor_->run_once(Instant{0});
  client->send(framed(client::Kind::kDone, client::Done{}));
  EXPECT_TRUE(until([&] { return frames_.size() == 1; }));
}

TEST_F(SlowReaderTest, IsDroppedAtTheHardBoundAndOthersGoOn) {
  auto slow = greeted_client();
  auto good = greeted_client();
  for (int i = 0; i < 32 && server_->send(connected_[0].client, big()); ++i) {
  }
  ASSERT_TRUE(until([&] { return gone_.size() == 1; }));
  EXPECT_EQ(gone_[0].client, connected_[0].client);
  EXPECT_EQ(server_->counters().slow, 1U);
  good->send(framed(client::Kind::kOpenGroup, client::Group{"x"}));
  EXPECT_TRUE(until([&] { return frames_.size() == 1; }));
}

TEST_F(SlowReaderTest, MoreClientsThanTheLimitAreTurnedAway) {
  auto first = greeted_client();
  auto second = greeted_client();
  RawClient third(path_);
  EXPECT_TRUE(until([&] { return !third.receive(); }));
  EXPECT_EQ(server_->clients(), 2U);
}

TEST_F(ClientServerTest, LeavesNoDescriptorBehind) {
  server_.reset();
  const std::size_t before = open_descriptors();
  {
    ClientServer server(*reactor_, [](ClientEvent&&) {});
    ASSERT_TRUE(server.listen(dir_.at("again")).has_value());
    RawClient client(dir_.at("again"));
    client.send(hello_frame());
    ASSERT_TRUE(until([&] { return server.clients() == 1; }));
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace shoal::executor
