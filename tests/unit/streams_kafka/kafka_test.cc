// Goal: a stream with a kafka:// URL behaves like any other: every agent writes, groups read, closing closes, and a
// broker that is killed or away costs time but no record; and batches of our encoder are Kafka's own format. Method: a
// real broker (tools/kafka/run.sh), brokers of ours in the in-test cluster, kcat as a witness.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <set>

#include "streams/log/partition_log.h"
#include "tests/unit/streams_broker/cluster.h"

namespace shoal::streams {
namespace {

// One broker for all tests of this program.
class KafkaBroker : public ::testing::Environment {
 public:
  void SetUp() override {
    directory_.emplace();
    const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    ::bind(probe, reinterpret_cast<sockaddr*>(&address), length);
    ::getsockname(probe, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    ::close(probe);
    start();
  }
  void TearDown() override {
    run("stop " + directory_->path());
    directory_.reset();
  }
  static int run(const std::string& arguments) {
    return WEXITSTATUS(std::system((SHOAL_KAFKA_RUN " " + arguments + " > /dev/null").c_str()));
  }
  void start() { status_ = run("start " + directory_->path() + " " + std::to_string(port_)); }
  void kill() { run("kill " + directory_->path()); }

  bool missing() const { return status_ == 3; }
  bool running() const { return status_ == 0; }
  std::string url(const std::string& topic) const { return "kafka://" + address() + "/" + topic; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  const std::string& directory() const { return directory_->path(); }

 private:
  std::optional<TemporaryDirectory> directory_;
  int port_ = 0;
  int status_ = -1;
};

KafkaBroker* kafka() {
  static auto* broker = static_cast<KafkaBroker*>(::testing::AddGlobalTestEnvironment(new KafkaBroker));
  return broker;
}
const auto* const kRegistered = kafka();

class KafkaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kafka()->missing()) GTEST_SKIP() << "a Kafka broker needs java and mvn";
    ASSERT_TRUE(kafka()->running());
  }
  // Real time passes outside the cluster's virtual one: waits for the condition, turning the brokers meanwhile.
  static bool eventually(Cluster& cluster, const std::function<bool()>& condition) {
    for (int i = 0; i < 600; ++i) {
      if (condition()) return true;
      cluster.advance(milliseconds(50));
      cluster.wait_for_disks(50);
    }
    return false;
  }
  static Result<Dynamic> open(Cluster& cluster, std::size_t agent, const std::string& topic,
                              std::int64_t partitions = 1) {
    const auto request = cluster.request(agent, 1, "streams.open",
                                         {{"name", topic}, {"url", kafka()->url(topic)}, {"partitions", partitions}});
    eventually(cluster, [&] { return cluster.answer(request).has_value(); });
    return cluster.answer(request).value_or(fail(Code::kTimeout, "not opened"));
  }
  // Polls until `count` records came.
  static std::vector<std::string> read(Cluster& cluster, std::size_t agent, std::uint64_t client, Map poll,
                                       std::size_t count, bool* closed = nullptr) {
    std::vector<std::string> all;
    bool end = false;
    eventually(cluster, [&] {
      const auto request = cluster.request(agent, client, "streams.poll", poll);
      eventually(cluster, [&] { return cluster.answer(request).has_value(); });
      const auto some = Cluster::values(*cluster.answer(request));
      all.insert(all.end(), some.begin(), some.end());
      end = *cluster.answer(request) && (**cluster.answer(request))["closed"] == Dynamic(true);
      return end || (closed == nullptr && all.size() >= count);
    });
    if (closed != nullptr) *closed = end;
    return all;
  }
  static std::string kcat(const std::string& arguments) {
    std::array<char, 4096> buffer{};
    std::string out;
    std::FILE* pipe = ::popen(("kcat -q -b " + kafka()->address() + " " + arguments + " 2>&1").c_str(), "r");
    while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) out += buffer.data();
    ::pclose(pipe);
    return out;
  }
};

TEST_F(KafkaTest, WriteReadCloseFromTwoAgents) {
  Cluster cluster(2);
  auto opened = open(cluster, 0, "both", 2);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ((*opened)["partitions"], Dynamic(2));
  ASSERT_TRUE(open(cluster, 1, "both"));
  // Each agent sends on its own: the end waits for the records of those only that are known to write.
  const std::array<const char*, 2> writers = {"w0", "w1"};
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(cluster.call(i, 1, "streams.add_writer", {{"name", "both"}, {"writer", writers[i]}}));
  }
  for (std::size_t i = 0; i < 10; ++i) {
    Map publish = Cluster::records("both", static_cast<int>(i) * 10, 10);
    publish["writer"] = writers[i % 2];
    ASSERT_TRUE(cluster.call(i % 2, 1, "streams.publish", publish));
  }
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(cluster.call(i, 1, "streams.close", {{"name", "both"}, {"writer", writers[i]}}));
  }
  bool closed = false;
  const auto all = read(cluster, 0, 7, {{"name", "both"}, {"group", "g"}, {"timeout_ms", 500}}, 100, &closed);
  EXPECT_TRUE(closed);
  EXPECT_EQ(all.size(), 100U);
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 100U);
  const auto other =
      read(cluster, 1, 7, {{"name", "both"}, {"group", "h"}, {"mode", "shared"}, {"timeout_ms", 500}}, 100, &closed);
  EXPECT_EQ(std::set<std::string>(other.begin(), other.end()).size(), 100U) << "another group, through the other agent";
  cluster.check();
}

TEST_F(KafkaTest, MeetsOtherClients) {
  Cluster cluster(1);
  ASSERT_TRUE(open(cluster, 0, "witness"));
  Array rows;
  rows.push_back(
      Array{Dynamic(Bytes("ours")), Dynamic(Bytes("key")), 1'700'000'000'123, Map{{"h", Dynamic(Bytes("x"))}}});
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", {{"name", "witness"}, {"records", rows}}));
  std::string seen;
  ASSERT_TRUE(eventually(cluster, [&] {
    seen = kcat("-C -t witness -e -o beginning -f '%k=%s %T %h\\n'");
    return !seen.empty();
  }));
  EXPECT_EQ(seen, "key=ours 1700000000123 h=x\n");
  // Whatever is written after an answer to a poll from the end is read by the next one.
  const auto first =
      cluster.request(0, 3, "streams.poll", {{"name", "witness"}, {"offset", "latest"}, {"timeout_ms", 0}});
  ASSERT_TRUE(eventually(cluster, [&] { return cluster.answer(first).has_value(); }));
  ASSERT_TRUE(*cluster.answer(first)) << cluster.answer(first)->error().message;
  EXPECT_TRUE(Cluster::values(*cluster.answer(first)).empty());
  const auto poll = cluster.request(0, 3, "streams.poll", {{"name", "witness"}, {"timeout_ms", 60'000}});
  ASSERT_EQ(std::system(("echo theirs | kcat -P -b " + kafka()->address() + " -t witness").c_str()), 0);
  ASSERT_TRUE(eventually(cluster, [&] { return cluster.answer(poll).has_value(); }));
  EXPECT_EQ(Cluster::values(*cluster.answer(poll)), std::vector<std::string>{"theirs"}) << "a waiting poll is woken";
}

TEST_F(KafkaTest, APollFromAnUnknownEndIsAnErrorAndNotEmpty) {
  Cluster cluster(1);
  ASSERT_TRUE(open(cluster, 0, "unknown"));
  kafka()->kill();
  const auto poll =
      cluster.request(0, 3, "streams.poll", {{"name", "unknown"}, {"offset", "latest"}, {"timeout_ms", 0}});
  ASSERT_TRUE(eventually(cluster, [&] { return cluster.answer(poll).has_value(); }));
  EXPECT_EQ(cluster.answer(poll)->error().code, Code::kUnavailable);
  kafka()->start();
  ASSERT_TRUE(kafka()->running());
}

TEST_F(KafkaTest, AnExistingTopicKeepsItsPartitions) {
  Cluster cluster(2);
  ASSERT_TRUE(open(cluster, 0, "wide", 3));
  cluster.store.clear();
  auto again = open(cluster, 1, "wide", 1);
  ASSERT_TRUE(again);
  EXPECT_EQ((*again)["partitions"], Dynamic(3));
}

TEST_F(KafkaTest, RecordsOfALostConsumerComeAgain) {
  Cluster cluster(1);
  ASSERT_TRUE(open(cluster, 0, "again"));
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("again", 0, 50)));
  Map poll = {{"name", "again"}, {"mode", "shared"}, {"max", 30}, {"timeout_ms", 500}};
  const auto first = read(cluster, 0, 2, poll, 30);
  EXPECT_EQ(first, expected(0, 30));
  cluster.client_gone(0, 2);
  const auto rest = read(cluster, 0, 3, poll, 50);
  EXPECT_EQ(std::set<std::string>(rest.begin(), rest.end()).size(), 50U);
}

TEST_F(KafkaTest, RecordsWaitInTheOutboxWhileKafkaIsDown) {
  Cluster cluster(1);
  ASSERT_TRUE(open(cluster, 0, "down"));
  ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("down", 0, 5)));
  kafka()->kill();
  for (int i = 5; i < 20; ++i) ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("down", i, 1)));
  cluster.stop(0);
  cluster.start(0);
  for (int i = 20; i < 30; ++i) ASSERT_TRUE(cluster.call(0, 1, "streams.publish", Cluster::records("down", i, 1)));
  kafka()->start();
  ASSERT_TRUE(kafka()->running());
  ASSERT_TRUE(eventually(cluster, [&] { return cluster.broker(0).counters().outbox_bytes == 0; }));
  const auto all = read(cluster, 0, 2, {{"name", "down"}, {"timeout_ms", 500}}, 30);
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 30U);
  cluster.check();
}

TEST_F(KafkaTest, AClusterThatDoesNotAnswerIsAnError) {
  Cluster cluster(1);
  const auto request = cluster.request(0, 1, "streams.open", {{"name", "x"}, {"url", "kafka://127.0.0.1:1/x"}});
  ASSERT_TRUE(eventually(cluster, [&] { return cluster.answer(request).has_value(); }));
  ASSERT_FALSE(*cluster.answer(request));
  EXPECT_EQ(cluster.answer(request)->error().code, Code::kUnavailable);
  EXPECT_NE(cluster.answer(request)->error().message.find("127.0.0.1:1"), std::string::npos);
}

// The broker's own segment file is a sequence of batches like ours: our log opens it and reads what librdkafka wrote,
// in every codec that we have.
TEST_F(KafkaTest, OurLogReadsASegmentThatKafkaWrote) {
  for (const char* codec : {"none", "lz4", "zstd"}) {
    Cluster cluster(1);
    const std::string topic = std::string("codec-") + codec;
    ASSERT_TRUE(open(cluster, 0, topic));
    const std::string compress = std::string(codec) == "none" ? "" : std::string(" -z ") + codec;
    ASSERT_EQ(std::system(("for i in $(seq 1 500); do echo a long enough line of text number $i; done | kcat -P -b " +
                           kafka()->address() + " -t " + topic + compress)
                              .c_str()),
              0);
    TemporaryDirectory copy;
    const std::string segment = "/00000000000000000000.log";
    std::filesystem::copy_file(kafka()->directory() + "/data/" + topic + "-0" + segment, copy.path() + segment);
    auto log = PartitionLog::open(copy.path(), {});
    ASSERT_TRUE(log);
    EXPECT_EQ((*log)->cut_bytes(), 0U) << codec;
    EXPECT_EQ((*log)->end(), 500) << codec;
    auto records = (*log)->read(0, 0, 500, 500, 1 << 20);
    ASSERT_TRUE(records) << records.error().message;
    ASSERT_EQ(records->size(), 500U);
    EXPECT_EQ(records->back().record.value, "a long enough line of text number 500");
  }
}

}  // namespace
}  // namespace shoal::streams
