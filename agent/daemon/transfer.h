// agent/daemon/transfer.h
//
// Moves values and objects between agents: the data plane. A value is pulled in parts by whoever needs it, a
// few parts under way at a time, so memory stays bounded and a relay in between never holds more. When a
// holder does not answer or does not have it, the next one is tried from where the last one stopped. The core
// is not involved: it says what to fetch and hears the outcome. One thread uses it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "agent/daemon/value_table.h"
#include "protocol/base/time.h"
#include "protocol/wire/address.h"
#include "protocol/wire/client.h"

namespace shoal::daemon {

struct TransferLimits {
  std::uint32_t part_bytes = 512U << 10;
  std::uint32_t window = 4;               // parts of one fetch under way
  std::size_t active_max = 64;            // fetches at a time; the rest wait
  Duration again = milliseconds(50);      // after which a holder that packs a directory is asked once more
  Duration silence = milliseconds(1500);  // without a part: try the next holder
};

class Transfer {
 public:
  using Done = std::function<void(Result<client::Value>)>;
  // Reads `length` bytes at `offset` of what `key` names on this host. The other fields describe the whole; a directory
  // is read as its archive, and is `pending` while that is being made.
  struct Part {
    std::uint64_t total = 0;
    ValueTable::Form form = ValueTable::Form::kMemory;
    std::string name;  // of a file or directory, without what is before it
    Bytes bytes;
    bool pending = false;
  };
  using ReadPart = std::function<Result<Part>(const std::string& key, std::uint64_t offset, std::uint32_t length)>;
  // Makes a directory of an archive, which it removes; calls `done` from the loop, later.
  using Unpack = std::function<void(const std::string& archive, const std::string& directory,
                                    std::function<void(Instant, Result<>)> done)>;
  using Send = std::function<bool(wire::Envelope)>;  // false: no way to the target now

  Transfer(ValueTable& values, ReadPart read, Unpack unpack, Send send, TransferLimits limits = {});
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // Brings `key` here; `done` is called once, with a value that the caller owns. Fetches of one key share one
  // transfer: only the first caller's value is new, the others get the same.
  void fetch(Instant now, const std::string& key, std::vector<wire::Address> holders, Done done);
  void on_frame(Instant now, const wire::Envelope& envelope);
  void on_wake(Instant now);
  Instant next_deadline() const;

  std::uint64_t bytes_in() const { return bytes_in_; }
  std::uint64_t bytes_out() const { return bytes_out_; }

 private:
  struct Fetch;
  void start(Instant now, Fetch& fetch);
  void ask_more(Instant now, Fetch& fetch);
  void unpack(Fetch& fetch);
  void next_holder(Instant now, Fetch& fetch, const std::string& why);
  void finish(Instant now, std::uint64_t id, Result<client::Value> result);
  void start_waiting(Instant now);

  ValueTable& values_;
  ReadPart read_;
  Unpack unpack_;
  Send send_;
  TransferLimits limits_;
  std::map<std::uint64_t, Fetch> fetches_;
  std::map<std::string, std::uint64_t> by_key_;
  std::deque<std::uint64_t> waiting_;
  std::size_t active_ = 0;
  std::uint64_t last_id_ = 0;
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
};

}  // namespace shoal::daemon
