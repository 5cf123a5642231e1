// streams/broker/owned_stream.h
//
// A stream at its owner: the engine that holds its records, who writes, whether it is closed, who reads. Its directory
// holds the log, "meta" (info, writers, closed) and "groups"; opening the directory again gives the stream as it was.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "streams/broker/caller.h"
#include "streams/broker/consumers.h"
#include "streams/broker/publish.h"
#include "streams/log/embedded_engine.h"
#include "streams/model/messages.h"
#include "streams/model/stream_info.h"

namespace shoal::streams {

// What a forwarder's control batch asks for; the record's key names it, its value is the writer.
enum class Operation : std::uint8_t { kAddWriter = 1, kClose = 2, kLeaseEnded = 3, kForceClose = 4 };

class OwnedStream {
 public:
  // Makes the engine of a Kafka stream; embedded streams make their own.
  using KafkaFactory = std::function<Result<std::unique_ptr<Engine>>(const StreamInfo&)>;

  static Result<std::unique_ptr<OwnedStream>> create(std::string directory, StreamInfo info, Services services,
                                                     const KafkaFactory& kafka);
  static Result<std::unique_ptr<OwnedStream>> load(std::string directory, Services services, const KafkaFactory& kafka);
  ~OwnedStream();
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;

  const StreamInfo& info() const { return meta_.info; }
  bool closed() const { return meta_.closed; }
  Engine& engine() { return *engine_; }
  Consumers& consumers() { return *consumers_; }

  // -- writing --
  void publish(Instant now, Caller caller, PublishRequest request, std::vector<Answer>& answers);
  // Batches of another agent's outbox, or of this agent's (Kafka). Answered with {"next": message.next}.
  void forward(Instant now, Caller caller, const ForwardMessage& message, std::vector<Answer>& answers);
  Result<> add_writer(const std::string& writer, AgentId agent);
  // Ends one writer; the stream closes with its last one. An unknown writer counts as one that never wrote.
  Result<> close_writer(const std::string& writer, const std::string& reason);
  Result<> force_close(const std::string& reason);
  Result<> apply(Operation operation, const std::string& writer, AgentId agent);
  // Open writers that registered through `agent`.
  std::vector<std::string> writers_of(AgentId agent) const;
  std::set<AgentId> writing_agents() const;

  // -- reading --
  void poll(Instant now, Caller caller, PollRequest request, std::vector<Answer>& answers);

  // -- upkeep --
  // Completed appends and new records: call after appends and when the wake descriptor fired.
  void on_news(Instant now, std::vector<Answer>& answers);
  void on_wake(Instant now, std::vector<Answer>& answers);
  Instant next_deadline() const;
  wire::Dynamic row(Instant now) const;
  Result<> set_info(const StreamInfo& info);
  void check_invariants() const;

  struct Writer {
    AgentId agent;
    bool open = true;
    std::string reason;
    template <class Self, class F>
    static void fields(Self& self, F&& f) {
      f(self.agent, self.open, self.reason);
    }
  };
  struct Gap {  // records that never came, by agent that lost them
    std::uint64_t records = 0;
    std::string cause;
    template <class Self, class F>
    static void fields(Self& self, F&& f) {
      f(self.records, self.cause);
    }
  };

 private:
  struct Meta {  // the file "meta"
    std::uint32_t version = 1;
    StreamInfo info;
    bool closed = false;
    std::string reason;
    std::map<std::string, Writer> writers;
    std::map<AgentId, Gap> gaps;
    template <class Self, class F>
    static void fields(Self& self, F&& f) {
      f(self.version, self.info, self.closed, self.reason, self.writers, self.gaps);
    }
  };
  struct Publishing {  // a publish or a forward whose appends are under way
    Caller caller;
    std::size_t appends = 0;
    std::int64_t next = -1;  // of a forward
    std::vector<std::pair<std::uint32_t, OffsetRange>> parts;
    bool duplicate = true;
    std::optional<Error> error;
  };

  OwnedStream(std::string directory, Services services);
  Result<> open_engine(const KafkaFactory& kafka);
  Result<> save(Sync sync);
  Result<> close_now(const std::string& reason);
  bool append(std::uint64_t publishing, std::uint32_t partition, Bytes batch, OnGap on_gap,
              std::vector<Answer>& answers);
  void collect(std::vector<Answer>& answers);
  void finish(const Publishing& publishing, std::vector<Answer>& answers) const;
  void note_rate(Instant now, std::uint64_t records, std::uint64_t bytes);
  Consumers::Source source();

  const std::string directory_;
  Services services_;
  Meta meta_;
  std::unique_ptr<Engine> engine_;
  EmbeddedEngine* embedded_ = nullptr;  // engine_, if it is one
  std::unique_ptr<Consumers> consumers_;
  std::map<std::uint64_t, Publishing> publishing_;
  std::map<std::uint64_t, std::uint64_t> appends_;  // token → key of publishing_
  std::uint64_t next_key_ = 1;
  std::uint32_t turn_ = 0;
  std::uint64_t fresh_ticket_ = 0;  // after the close
  Instant retain_at_;
  struct Second {
    std::int64_t second = -1;
    std::uint64_t records = 0;
    std::uint64_t bytes = 0;
  };
  std::array<Second, 10> rates_;
};

}  // namespace shoal::streams
