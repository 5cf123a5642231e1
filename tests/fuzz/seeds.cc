// Writes one valid message of each kind, as a start for the fuzzers: fuzz_seeds DIRECTORY makes a folder per
// target.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "protocol/identity/certificate.h"
#include "protocol/identity/crypto.h"
#include "protocol/identity/token.h"
#include "protocol/link/frames.h"
#include "protocol/wire/address.h"
#include "protocol/wire/client.h"

namespace {

using namespace shoal;

class Writer {
 public:
  explicit Writer(std::filesystem::path root) : root_(std::move(root)) {}
  void write(const std::string& target, const std::string& bytes) {
    std::filesystem::create_directories(root_ / target);
    std::ofstream(root_ / target / ("seed" + std::to_string(++count_)), std::ios::binary) << bytes;
  }
  template <class Kind, class T>
  void write_kind(const std::string& target, Kind kind, const T& message) {
    write(target, std::string(1, static_cast<char>(kind)) + wire::encode(message));
  }

 private:
  std::filesystem::path root_;
  int count_ = 0;
};

identity::CertificateChain sample_chain() {
  const auto root = identity::KeyPair::generate();
  const auto issuer = identity::KeyPair::generate();
  const WallTime now{1'800'000'000'000};
  const auto leave = identity::delegate_issuer(root, issuer.public_key(), {identity::kRoleAgent}, now);
  identity::Certificate certificate;
  certificate.public_key = identity::KeyPair::generate().public_key();
  certificate.curve_key = identity::CurveKeys::generate().public_key;
  certificate.name = "fog-1";
  certificate.roles = {identity::kRoleAgent};
  certificate.labels = {{"region", "fog"}};
  return identity::issue_certificate({issuer, leave}, certificate, now).value();
}

void write_client_messages(Writer& w) {
  using client::Kind;
  const std::string t = "client_message";
  client::Access inner{client::Direction::kIn, client::AccessKind::kDatum, DatumId(3), {}, "", {}, "x"};
  client::Access list{client::Direction::kInOut,
                      client::AccessKind::kCollection,
                      DatumId(4),
                      client::Inline{Bytes("v")},
                      "",
                      {inner, inner},
                      "xs"};
  client::TaskCall call;
  call.task = TaskId(1);
  call.accesses = {inner, list};
  call.options = client::TaskOptions{};
  w.write_kind(t, Kind::kHello, client::Hello{});
  w.write_kind(t, Kind::kRegister, client::Register{});
  w.write_kind(t, Kind::kSubmit, client::Submit{{call, call}});
  w.write_kind(t, Kind::kPutData, client::PutData{DatumId(3), client::Shared{"1.2", 1 << 20}});
  w.write_kind(t, Kind::kWait, client::Wait{1, {DatumId(3)}, {"/tmp/a"}});
  w.write_kind(t, Kind::kRequest,
               client::Request{1, "agents", wire::Dynamic::Map{{"all", true}, {"n", wire::Dynamic::Array{1, 2.5}}}});
  w.write_kind(t, Kind::kReply, client::Reply{});
  w.write_kind(t, Kind::kValues, client::Values{1, {client::ValueResult{}}});
  client::Attempt attempt;
  attempt.arguments = {
      client::Argument{client::Direction::kIn, client::AccessKind::kFile, client::FilePath{"/a"}, {}, "f"}};
  w.write_kind(t, Kind::kRun, client::Run{{attempt}});
  w.write_kind(t, Kind::kDone, client::Done{{client::AttemptResult{}}});
}

void write_link_frames(Writer& w, const identity::CertificateChain& chain, const identity::JoinAsk& ask) {
  using link::FrameKind;
  const std::string t = "link_frame";
  std::string batch(1, static_cast<char>(FrameKind::kBatch));
  link::append_to_batch(batch, "one");
  link::append_to_batch(batch, "");
  w.write(t, batch);
  w.write_kind(t, FrameKind::kGreeting, link::Greeting{1, 1, chain, "tcp://10.0.0.1:7700", 1, 2, 1 << 20});
  w.write_kind(t, FrameKind::kRefusal, link::Refusal{Code::kDenied, "no", false});
  w.write_kind(t, FrameKind::kCredit, link::Credit{12345});
  w.write_kind(t, FrameKind::kJoinAsk, ask);
  w.write_kind(t, FrameKind::kJoinAnswer, link::Answer<identity::JoinGrant>{0, "", {ask.realm, chain, {}, "edge"}});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: fuzz_seeds DIRECTORY\n";
    return 2;
  }
  Writer w(argv[1]);
  const auto chain = sample_chain();
  wire::Envelope envelope;
  envelope.kind = 0x0101;
  envelope.source = {AgentId(1, 2), {RegionId(3, 4), RegionId(5, 6)}};
  envelope.target = {AgentId(7, 8), {RegionId(3, 4)}};
  envelope.body = Bytes("body");
  w.write("envelope", wire::encode(envelope));
  w.write("certificate", wire::encode(chain));
  w.write("certificate", chain.agent.body);
  w.write("certificate", chain.issuer.body);
  identity::TokenBook book(RealmId(1, 2));
  const auto token =
      book.create({AgentId(1, 2), {"tcp://10.0.0.1:7700"}, identity::random_bytes(32)}, "edge", {1'800'000'000'000})
          .value();
  w.write("token", token.text());
  w.write("token", wire::encode(token));
  w.write("token", book.serialize());
  const auto ask =
      identity::make_join_ask(token, identity::KeyPair::generate(), identity::CurveKeys::generate(), "n", {});
  w.write("token", wire::encode(ask));
  w.write("compss_message",
          "<startApplication><lang>PYTHON</lang><className>m</className><hasResult>true</hasResult><orchestrator><host>"
          "http://a:1</host><operation>x</operation></orchestrator><parameters><params paramId=\"0\"><type>STRING_64_T"
          "</type><element><className>java.lang.String</className><value>IzQ=</value></element></params><params><type>"
          "OBJECT_T</type><array><values><element><value>1</value></element></values></array></params></parameters>"
          "</startApplication>");
  w.write(
      "compss_message",
      R"({"lang":"C","className":"/a","parameters":[1,"x",{"type":"INT_T","value":"3"}],"action":{"actionName":"stop"}})");
  w.write("compss_message",
          "<endApplication><jobId>1</jobId><endStatus>OK</endStatus><results><locations>f</locations></results>"
          "</endApplication>");
  write_client_messages(w);
  write_link_frames(w, chain, ask);
  return 0;
}
