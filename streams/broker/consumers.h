// streams/broker/consumers.h
//
// The reading side of a stream at its owner: consumer groups, their positions on disk, and polls that wait. Decides
// with model/group.h who gets what and reads it from the engine.
#pragma once

#include <list>
#include <map>
#include <string>
#include <vector>

#include "streams/broker/caller.h"
#include "streams/model/group.h"

namespace shoal::streams {

struct PollRequest {
  std::string group;
  std::string mode;
  std::string consumer;
  std::size_t max = 500;
  Duration timeout;
  wire::Dynamic start;  // where a group without a position begins: "earliest", "latest" or an offset
  bool auto_commit = true;
  std::optional<std::int64_t> delivered;  // last delivery that reached the consumer; empty: no answer can get lost
};

// Reads the parameters of streams.poll.
Result<PollRequest> parse_poll(const wire::Dynamic& params, const Origin& origin);

class Consumers {
 public:
  // Positions are kept in the file `path`.
  Consumers(std::string path, std::uint32_t partitions, Services services);
  Result<> load();

  // The stream's state as far as it decides that a poll has reached the end.
  struct Source {
    Engine& engine;
    bool closed = false;  // and the engine's extents are final
  };

  void poll(Instant now, Caller caller, PollRequest request, Source source, std::vector<Answer>& answers);
  // Answers what can be answered; call after appends, closes and deadlines.
  void serve(Instant now, Source source, std::vector<Answer>& answers);
  // Ends all waiting polls with `result`.
  void answer_all(const Result<wire::Dynamic>& result, std::vector<Answer>& answers);
  // What a poll returns when there is nothing.
  static wire::Dynamic nothing();

  Result<> commit(const Origin& origin, const wire::Dynamic& params);
  Result<> leave(const Origin& origin, const wire::Dynamic& params);
  // Signs of life and death. A consumer that is gone leaves its groups.
  void alive(Instant now, const Origin& origin);
  void gone(const Origin& origin);
  void agent_gone(AgentId agent);

  Instant next_deadline() const;
  // Ends leases and writes positions that are due.
  void on_wake(Instant now);
  // Writes positions now.
  Result<> flush();

  wire::Dynamic rows(const std::vector<Extent>& extents) const;
  std::size_t waiting() const { return waiting_.size(); }
  // Agents other than this one that consume here; their signs of life matter.
  bool knows(const Origin& origin) const { return origins_.contains(origin); }
  void check_invariants() const;

 private:
  struct Member {  // a consumer of a group
    Origin origin;
    std::int64_t delivery = 0;  // numbers its answers
  };
  struct Members {
    Group group;
    bool broadcast = false;
    std::map<std::string, Member> by_name;
    std::optional<std::uint64_t> fresh;  // Engine::refresh(): its extents give a new group its position
  };
  struct Waiting {
    Caller caller;
    PollRequest request;
    std::string key;  // of the group
    Instant deadline;
    bool late;  // past its deadline, for want of a position
  };

  Result<std::string> find_or_make(const PollRequest& request);
  Result<> join(Instant now, Members& members, const PollRequest& request, const Origin& origin);
  void settle(Members& members, const PollRequest& request);
  bool answer(Instant now, Waiting& waiting, Source& source, const std::vector<Extent>& extents, std::size_t share,
              std::vector<Answer>& answers);
  void remove_member(Members& members, const std::string& consumer);
  void drop_waiting(const std::string& key, const std::string& consumer, std::vector<Answer>* answers);
  void changed(Instant now);
  bool evict_broadcast();

  const std::string path_;
  const std::uint32_t partitions_;
  Services services_;
  std::map<std::string, Members> groups_;  // by group name, or "group\nconsumer" of a broadcast
  std::map<Origin, Instant> origins_;      // when it was last heard of
  std::list<Waiting> waiting_;
  bool dirty_ = false;
  Instant flush_at_ = Instant::never();
};

}  // namespace shoal::streams
